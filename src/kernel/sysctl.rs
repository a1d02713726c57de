//! Reads and writes `/proc/sys`: read, compare, write, read back. No other file does.

use std::borrow::Cow;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, pread, pwrite, retry_on_intr};

use super::descriptors::is_one_of_the_last;
use crate::setting::{Key, same_value};

/// Values of netconf settings fit; longer ones are read again into a larger buffer. The kernel allocates and clears as much for each
/// read (`proc_sys_call_handler`, fs/proc/proc_sysctl.c), and a repair waits for that.
const SHORT_VALUE_BYTES: usize = 32;
type Buffer = [u8; SHORT_VALUE_BYTES];
/// No value is longer: the kernel gives up to KMALLOC_MAX at once (`proc_sys_call_handler`), and port lists are shorter than this.
const LONG_VALUE_BYTES: usize = 128 * 1024;
/// So many files that were repaired lately stay open: to open one takes longer than the rest of a repair.
const KEPT_OPEN: usize = 64;
/// So many reads must agree before a value other than the written one is taken for the kernel's notation of it.
const AGREEING_READS: u32 = 3;

/// The outcome of one repair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The value before the write, or the errno of its reading.
    pub found: Result<String, Errno>,
    /// `None`: nothing had to be written. The errno if the kernel refused.
    pub write: Option<Result<(), Errno>>,
    /// The value after the write.
    pub now: Option<String>,
    /// Monotonic microseconds at the end of the write (of the reading, if nothing was written).
    pub finished: u64,
    /// How long write(2) took, in microseconds.
    pub write_usec: u64,
}

impl Outcome {
    /// Nothing was written.
    pub fn of_reading(found: Result<String, Errno>) -> Outcome {
        Outcome { found, write: None, now: None, finished: now_usec(), write_usec: 0 }
    }
}

/// What the guard thread is doing, for the watchdog: never locked for longer than it takes to copy a key.
#[derive(Default)]
pub struct Heartbeat {
    /// Counts turns of the guard thread.
    pub turns: AtomicU64,
    /// Since when (monotonic microseconds) the guard thread is inside the kernel for a write or to read interfaces; 0 when it is not.
    pub inside_since: AtomicU64,
    inside: Mutex<Option<Arc<Key>>>,
}

impl Heartbeat {
    /// Notes that the guard thread is inside the kernel during `call`, for a write of `key` (or to read interfaces).
    pub fn inside<T>(&self, key: Option<&Arc<Key>>, call: impl FnOnce() -> T) -> T {
        *self.inside.lock().unwrap_or_else(|e| e.into_inner()) = key.cloned();
        self.inside_since.store(now_usec(), Ordering::Release);
        let result = call();
        self.inside_since.store(0, Ordering::Release);
        result
    }

    /// What the guard thread waits for in the kernel, and for how many microseconds already.
    pub fn waits_for(&self) -> Option<(String, u64)> {
        let since = self.inside_since.load(Ordering::Acquire);
        let key = self.inside.lock().unwrap_or_else(|e| e.into_inner());
        let what = key.as_ref().map_or_else(|| "reading interfaces".into(), |key| format!("writing {key}"));
        (since != 0).then(|| (what, now_usec().saturating_sub(since)))
    }
}

/// Microseconds of CLOCK_MONOTONIC.
pub fn now_usec() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1000
}

/// Microseconds of a processor that the calling thread has used.
pub fn thread_cpu_usec() -> u64 {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    used.tv_sec as u64 * 1_000_000 + used.tv_nsec as u64 / 1000
}

/// Reads and writes below `/proc/sys` of the network namespace that this process is in.
pub struct Sysctl {
    /// Those that stay open come first, then what was repaired lately, the last one last.
    open: Vec<Opened>,
    permanent: usize,
    heartbeat: Arc<Heartbeat>,
}

/// The file of a setting. Once its interface is gone or renamed, it always gives ENOENT (`grab_header`, fs/proc/proc_sysctl.c),
/// whatever has its name then.
struct Opened {
    key: Arc<Key>,
    file: OwnedFd,
    /// Why it is open for reading only.
    read_only: Option<Errno>,
}

impl Opened {
    fn new(key: Arc<Key>) -> Result<Opened, Errno> {
        let (file, read_only) = match open(&key, OFlags::RDWR) {
            Err(refused @ (Errno::ACCESS | Errno::PERM | Errno::ROFS)) => (open(&key, OFlags::RDONLY)?, Some(refused)),
            file => (file?, None),
        };
        Ok(Opened { key, file, read_only })
    }
}

impl Sysctl {
    pub fn new(heartbeat: Arc<Heartbeat>) -> Sysctl {
        Sysctl { open: Vec::new(), permanent: 0, heartbeat }
    }

    /// The value, without white space around it.
    ///
    /// # Errors
    /// The errno. `ENOENT` and `ENAMETOOLONG` mean that there is no such setting now.
    pub fn read(&mut self, key: &Key) -> Result<String, Errno> {
        let buffer = &mut [0; SHORT_VALUE_BYTES];
        match self.position(key) {
            Some(at) => self.read_open(at, buffer),
            None => {
                let file = open(key, OFlags::RDONLY)?;
                let length = pread(&file, &mut buffer[..], 0)?;
                text(&file, buffer, length)
            }
        }
        .map(Cow::into_owned)
    }

    fn position(&self, key: &Key) -> Option<usize> {
        self.open.iter().position(|opened| *opened.key == *key)
    }

    fn read_open<'a>(&mut self, at: usize, buffer: &'a mut Buffer) -> Result<Cow<'a, str>, Errno> {
        let mut length = pread(&self.open[at].file, &mut buffer[..], 0);
        if length.is_err_and(is_absent) {
            // Another interface may have the name now.
            self.open[at] = Opened::new(self.open[at].key.clone())?;
            length = pread(&self.open[at].file, &mut buffer[..], 0);
        }
        text(&self.open[at].file, buffer, length?)
    }

    /// Writes the wanted value, unless the kernel's value is `equal` to it. [`Sysctl::read_back`] is the second half of it.
    pub fn repair(&mut self, key: &Key, wanted: &str, equal: impl Fn(&str) -> bool) -> Outcome {
        let known = self.position(key);
        let at = match known.map_or_else(|| self.open(key), Ok) {
            Ok(at) => at,
            Err(errno) => return Outcome::of_reading(Err(errno)),
        };
        let outcome = self.repair_open(at, wanted, equal);
        if outcome.write.is_some() && at >= self.permanent {
            self.open[at..].rotate_left(1);
            if self.open.len() > self.permanent + KEPT_OPEN {
                self.open.remove(self.permanent);
            }
            if known.is_none() && self.open.last().is_some_and(|newest| is_one_of_the_last(&newest.file)) {
                // The rest is for D-Bus, the policy's files, and READY=1.
                self.open.drain(self.permanent..self.open.len() - 1);
            }
        } else if outcome.write.is_none() && known.is_none() {
            self.open.truncate(at);
        }
        outcome
    }

    fn repair_open(&mut self, at: usize, wanted: &str, equal: impl Fn(&str) -> bool) -> Outcome {
        let buffer = &mut [0; SHORT_VALUE_BYTES];
        let found = self.read_open(at, buffer);
        let must_write = match &found {
            Ok(value) => !equal(value),
            // EIO: a setting that has no value yet (ipv6's stable_secret) may be given one.
            Err(errno) => *errno == Errno::IO,
        };
        let before = now_usec();
        let write = must_write.then(|| self.write(at, wanted));
        let finished = now_usec();
        // Nothing is allocated for the record before the write.
        let mut found = found.map(Cow::into_owned);
        if write.is_some_and(|written| written.is_err_and(is_absent)) {
            // It is gone since; or it exists, and what the value names does not (tcp_congestion_control).
            found = self.read_open(at, buffer).map(Cow::into_owned);
        }
        Outcome { found, write, now: None, finished, write_usec: finished - before }
    }

    /// Reads what a repair has written.
    ///
    /// With `learn`, a value that the kernel shows after each of several accepted writes is taken for its notation of what was
    /// written; without, it is another process's.
    pub fn read_back(&mut self, key: &Key, wanted: &str, learn: bool, outcome: &mut Outcome) {
        let Some(at) = self.position(key).filter(|_| outcome.write == Some(Ok(()))) else { return };
        let buffer = &mut [0; SHORT_VALUE_BYTES];
        match self.read_open(at, buffer) {
            // It is gone since the write.
            Err(errno) if is_absent(errno) => outcome.found = Err(errno),
            now => outcome.now = now.ok().map(Cow::into_owned),
        }
        for _ in 1..AGREEING_READS {
            let other = outcome.now.as_ref().is_some_and(|now| !same_value(wanted, now));
            if !learn || !other || self.write(at, wanted).is_err() {
                break;
            }
            let again = self.read_open(at, buffer).ok();
            if again.as_deref() != outcome.now.as_deref() {
                outcome.now = None;
            }
        }
    }

    fn write(&mut self, at: usize, value: &str) -> Result<(), Errno> {
        if self.open[at].read_only.is_some() {
            // It may be writable by now: /proc/sys is mounted read-only in many containers, and may be remounted.
            self.open[at] = Opened::new(self.open[at].key.clone())?;
        }
        let Opened { key, file, read_only } = &self.open[at];
        read_only.map_or(Ok(()), Err)?;
        self.heartbeat.inside(Some(key), || retry_on_intr(|| pwrite(file, value.as_bytes(), 0))).map(drop)
    }

    fn open(&mut self, key: &Key) -> Result<usize, Errno> {
        let key = Arc::new(key.clone());
        let opened = match Opened::new(key.clone()) {
            // This repair is more important than the speed of later ones.
            Err(Errno::MFILE | Errno::NFILE) if self.open.len() > self.permanent => {
                self.open.truncate(self.permanent);
                Opened::new(key)?
            }
            opened => opened?,
        };
        self.open.push(opened);
        Ok(self.open.len() - 1)
    }

    /// Keeps `key` open, if it can be opened, for faster repairs.
    pub fn keep(&mut self, key: &Key) {
        if let Ok(opened) = Opened::new(Arc::new(key.clone())) {
            self.open.insert(self.permanent, opened);
            self.permanent += 1;
        }
    }
}

/// Whether an error means that there is no such setting now: no such interface, no such family, module not loaded.
pub fn is_absent(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::NODEV | Errno::NXIO | Errno::NOTDIR | Errno::NAMETOOLONG)
}

/// The same of an error of the library's.
pub fn is_absent_error(error: &io::Error) -> bool {
    Errno::from_io_error(error).is_some_and(is_absent)
}

/// Has a folder for each interface that has IPv4 settings.
pub const CONF_FOLDER: &str = "/proc/sys/net/ipv4/conf";

/// The interfaces that have IPv4 settings. Unlike a dump it never waits for the RTNL lock.
///
/// # Errors
/// [`CONF_FOLDER`] can't be read, with the kernel's reason.
pub fn interfaces() -> io::Result<Vec<OsString>> {
    let names = std::fs::read_dir(CONF_FOLDER)?.map(|entry| Ok(entry?.file_name()));
    names.filter(|name| !matches!(name, Ok(name) if name == "all" || name == "default")).collect()
}

pub(super) fn path(key: &Key) -> PathBuf {
    Path::new("/proc/sys").join(key.path())
}

fn open(key: &Key, access: OFlags) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path(key), access | OFlags::CLOEXEC, Mode::empty())
}

/// The text of the `length` bytes that were read, or of a second read where there may be more.
fn text<'a>(file: &OwnedFd, buffer: &'a Buffer, length: usize) -> Result<Cow<'a, str>, Errno> {
    if length < buffer.len() {
        return Ok(String::from_utf8_lossy(buffer[..length].trim_ascii()));
    }
    let mut long = vec![0; LONG_VALUE_BYTES];
    let length = pread(file, &mut long[..], 0)?;
    Ok(Cow::Owned(String::from_utf8_lossy(long[..length].trim_ascii()).into_owned()))
}
