//! inotify(7): writes to settings that the kernel does not announce, through this procfs.

use std::collections::{HashMap, HashSet};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::fs::{Mode, OFlags, fstat, open};
use rustix::io::Errno;

use super::descriptors::is_one_of_the_last;
use super::sysctl::{is_absent, path};
use crate::setting::Key;

/// At most so many settings are watched: each takes a descriptor, and the usual limit is 1,024.
const WATCHES_MAX: usize = 400;
/// One event takes 16 bytes. The rest waits for the next call.
const EVENT_BUFFER_BYTES: usize = 16 << 10;

struct Watched {
    key: Key,
    /// Holds the inode that the watch belongs to: the kernel may drop one that is not open, and make another.
    file: OwnedFd,
    /// Its watch is given up for a setting that does not yield.
    yields: bool,
}

/// The watched settings.
pub struct Writes {
    fd: OwnedFd,
    watched: HashMap<i32, Watched>,
    watches: HashMap<Key, i32>,
    /// Less than [`WATCHES_MAX`] once the kernel grants no more.
    room: usize,
    /// The kernel has refused to watch an existing setting.
    is_refused: bool,
    buffer: Box<[MaybeUninit<u8>]>,
}

impl Writes {
    /// # Errors
    /// No inotify instance left (`fs.inotify.max_user_instances`).
    pub fn new() -> io::Result<Writes> {
        Ok(Writes {
            fd: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?,
            watched: HashMap::new(),
            watches: HashMap::new(),
            room: WATCHES_MAX,
            is_refused: false,
            buffer: vec![MaybeUninit::uninit(); EVENT_BUFFER_BYTES].into(),
        })
    }

    pub fn watches(&self, key: &Key) -> bool {
        self.watches.contains_key(key)
    }

    /// Watches `key` for writes from now on, if it exists and there is room. It is called before each reading, because a setting
    /// that was created again (a rename, a module) has another inode. For one that is still watched it costs an fstat(2).
    ///
    /// # Errors
    /// The kernel grants no more watches or descriptors, or refuses one; each is reported once.
    pub fn watch(&mut self, key: &Key, yields: bool) -> io::Result<()> {
        if let Some(watched) = self.watches.get(key).and_then(|watch| self.watched.get_mut(watch)) {
            // ENOENT once the setting is not registered any more (proc_sys_getattr).
            if fstat(&watched.file).is_ok() {
                watched.yields = yields;
                return Ok(());
            }
            self.unwatch(key);
        }
        if self.watched.len() >= self.room && (yields || !self.make_room()) {
            return Ok(());
        }
        match self.add(key, yields) {
            Err(error @ (Errno::NOSPC | Errno::NOMEM | Errno::MFILE | Errno::NFILE)) => {
                self.room = self.watched.len();
                Err(error.into())
            }
            Err(error) if !is_absent(error) && !std::mem::replace(&mut self.is_refused, true) => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn add(&mut self, key: &Key, yields: bool) -> Result<(), Errno> {
        let file = open(path(key), OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        if is_one_of_the_last(&file) {
            return Err(Errno::MFILE);
        }
        // By the descriptor, so that both are of one inode.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let watch = inotify::add_watch(&self.fd, path, WatchFlags::MODIFY)?;
        self.watches.insert(key.clone(), watch);
        self.watched.insert(watch, Watched { key: key.clone(), file, yields });
        Ok(())
    }

    fn make_room(&mut self) -> bool {
        let yielding = self.watched.values().find(|watched| watched.yields).map(|watched| watched.key.clone());
        yielding.inspect(|key| self.unwatch(key)).is_some()
    }

    pub fn unwatch(&mut self, key: &Key) {
        if let Some(watch) = self.watches.remove(key) {
            self.watched.remove(&watch);
            _ = inotify::remove_watch(&self.fd, watch);
        }
    }

    /// The settings that were written since the last call, each once; all of them if the kernel has dropped events.
    pub fn take(&mut self) -> Vec<Key> {
        let mut written = HashSet::new();
        let mut reader = inotify::Reader::new(&self.fd, &mut self.buffer);
        while let Ok(event) = reader.next() {
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                written.extend(self.watched.keys().copied());
            } else if event.events().contains(ReadFlags::MODIFY) {
                written.insert(event.wd());
            }
            if reader.is_buffer_empty() {
                break;
            }
        }
        // A watch that is not known any more was of a setting that is gone.
        written.iter().filter_map(|watch| Some(self.watched.get(watch)?.key.clone())).collect()
    }
}

impl AsFd for Writes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
