//! Tells of writes to settings whose changes the kernel does not announce, through this instance of procfs (inotify(7)).

use std::collections::{HashMap, HashSet};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::fs::{Mode, OFlags, fstat, open};
use rustix::io::Errno;

use super::descriptors::is_one_of_the_last;
use super::sysctl::path;
use crate::setting::Key;

/// No more settings are watched: each takes a descriptor, of which a process has 1,024 where nobody asked for more.
const WATCHES_MAX: usize = 400;
/// One event takes 16 bytes. What does not fit waits for the next turn.
const EVENT_BUFFER_BYTES: usize = 16 << 10;
/// Somebody writes without end where this many events in a row come faster than [`FLOOD_GAP_USEC`]: then they wait for a
/// moment, in which the kernel makes one of many.
const FLOOD_EVENTS: u32 = 100;
const FLOOD_GAP_USEC: u64 = 1_000;
const FLOOD_PAUSE_USEC: u64 = 10_000;

struct Watched {
    key: Key,
    /// Holds the inode that the watch belongs to: the kernel may drop one that nobody has open and make another.
    file: OwnedFd,
    /// It makes room for one that does not yield.
    yields: bool,
}

/// The watched settings.
pub struct Writes {
    fd: OwnedFd,
    watched: HashMap<i32, Watched>,
    watches: HashMap<Key, i32>,
    /// Less than [`WATCHES_MAX`] once the kernel grants no more.
    room: usize,
    buffer: Box<[MaybeUninit<u8>]>,
    /// When events were taken last (monotonic microseconds), and how many times they came as in a flood.
    taken: u64,
    in_a_row: u32,
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
            buffer: vec![MaybeUninit::uninit(); EVENT_BUFFER_BYTES].into(),
            taken: 0,
            in_a_row: 0,
        })
    }

    pub fn watches(&self, key: &Key) -> bool {
        self.watches.contains_key(key)
    }

    /// Tells of writes to `key` from now on, if there is such a setting and room for it. To be called before each reading: a
    /// setting that was made anew (a rename, a module) has another inode. One that is still watched costs an fstat(2).
    ///
    /// # Errors
    /// The kernel grants no more watches or descriptors; said once.
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
            _ => Ok(()), // not there, or not for us to read
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

    /// Until when a flood of events has to wait, if there is one. All times are monotonic microseconds.
    pub fn waits_until(&self, now: u64) -> Option<u64> {
        (self.in_a_row >= FLOOD_EVENTS).then_some(self.taken + FLOOD_PAUSE_USEC).filter(|until| *until > now)
    }

    /// The settings that were written since the last time, each once; all of them if the kernel lost count.
    pub fn take(&mut self, now: u64) -> Vec<Key> {
        let paused = if self.in_a_row >= FLOOD_EVENTS { FLOOD_PAUSE_USEC } else { 0 };
        let goes_on = now.saturating_sub(self.taken) < FLOOD_GAP_USEC + paused;
        self.in_a_row = if goes_on { (self.in_a_row + 1).min(FLOOD_EVENTS) } else { 0 };
        self.taken = now;
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
        // A watch that is not known any more was of a setting that went.
        written.iter().filter_map(|watch| Some(self.watched.get(watch)?.key.clone())).collect()
    }
}

impl AsFd for Writes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_writes_waits_and_a_batch_does_not() {
        let mut writes = Writes::new().unwrap();
        let mut now = 1_000_000;
        let mut batch = |writes: &mut Writes, events| {
            now += 5_000;
            for _ in 0..events {
                now += 100;
                assert_eq!(writes.waits_until(now), None);
                assert_eq!(writes.take(now), []);
            }
            now
        };
        for _ in 0..10 {
            batch(&mut writes, 60);
        }
        let last = batch(&mut writes, FLOOD_EVENTS + 1);
        assert_eq!(writes.waits_until(last), Some(last + FLOOD_PAUSE_USEC));
        assert_eq!(writes.waits_until(last + FLOOD_PAUSE_USEC), None);
        let next = last + FLOOD_PAUSE_USEC + 100;
        writes.take(next);
        assert_eq!(writes.waits_until(next), Some(next + FLOOD_PAUSE_USEC), "it goes on");
        let later = next + FLOOD_PAUSE_USEC + FLOOD_GAP_USEC;
        writes.take(later);
        assert_eq!(writes.waits_until(later), None, "it is over");
    }
}
