//! fanotify(7): marks on guarded files below `/proc/sys`, and the events of processes that open or write them.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

use nix::errno::Errno;
use nix::sys::fanotify::{EventFFlags, Fanotify, FanotifyEvent, InitFlags, MarkFlags, MaskFlags};
use rustix::fs::CWD;

use super::descriptors::is_one_of_the_last;
use super::sysctl::{path, says_absent};
use crate::setting::Key;

/// So many files are watched for writers: each is a descriptor and a mark. `all`, `default` and what the policy writes out
/// come first, then interfaces as they come, three files or more each.
pub const FILES_MAX: usize = 512;
/// Events that can't be had (the file went with its interface) are passed over, as many in a row.
const ERRORS_MAX: u32 = 64;

/// Two groups, because who waits for one should not be woken by the other: a file is opened before the write that has to be
/// mended, and written in it.
#[derive(Debug)]
pub struct Groups {
    pub opens: Fanotify,
    pub writes: Fanotify,
}

/// Makes the fanotify groups. It takes CAP_SYS_ADMIN to be told of PIDs, here and never again.
///
/// # Errors
/// No capability, or a kernel without fanotify.
pub fn open() -> io::Result<Groups> {
    let flags = InitFlags::FAN_CLASS_NOTIF | InitFlags::FAN_CLOEXEC | InitFlags::FAN_NONBLOCK;
    let group = || Fanotify::init(flags, EventFFlags::O_RDONLY | EventFFlags::O_CLOEXEC);
    Ok(Groups { opens: group()?, writes: group()? })
}

/// What one event tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessEvent {
    /// A process has opened a file, or written it; 0: it is in another PID namespace than this one or those below.
    Process { pid: i32, key: Key, written: bool },
    /// More happened than the kernel keeps: who did it is not known.
    Overflow { writes: bool },
    /// The kernel does not let this process have an event, by this errno.
    Refused(i32),
}

/// The marked files.
pub struct Marks {
    groups: Groups,
    /// With the descriptor that keeps the inode, and so the mark, for as long as the file is there.
    files: HashMap<Key, (u64, File)>,
    keys: HashMap<u64, Key>,
    /// Marks of files that went with their interface. They hold their inode, and can't be removed one by one
    /// (fanotify_mark(2) asks for a permission that `proc_sys_permission` refuses then).
    dead: usize,
}

impl Marks {
    pub fn new(groups: Groups) -> Marks {
        Marks { groups, files: HashMap::new(), keys: HashMap::new(), dead: 0 }
    }

    pub fn count(&self) -> usize {
        self.files.len()
    }

    /// Marks the file of `key`, whatever was marked under this name before. False: there is no such file, or no room.
    ///
    /// # Errors
    /// The kernel refuses it, with its reason.
    pub fn add(&mut self, key: &Key) -> io::Result<bool> {
        self.remove(key);
        match self.try_add(key) {
            Ok(()) => Ok(true),
            Err(error) => match error.raw_os_error() {
                // fanotify_mark(2): no more marks are granted, or no more descriptors.
                None | Some(libc::ENOSPC | libc::ENOMEM | libc::EMFILE | libc::ENFILE) => Ok(false),
                Some(_) if says_absent(&error) => Ok(false),
                _ => Err(error),
            },
        }
    }

    fn try_add(&mut self, key: &Key) -> io::Result<()> {
        let file = File::open(path(key))?;
        if is_one_of_the_last(&file) {
            return Err(io::ErrorKind::Other.into());
        }
        let inode = file.metadata()?.ino();
        self.mark(MarkFlags::FAN_MARK_ADD, &file)?;
        self.keys.insert(inode, key.clone());
        self.files.insert(key.clone(), (inode, file));
        Ok(())
    }

    /// The very inode that is held, not what may have taken its name in between.
    fn mark(&self, what: MarkFlags, file: &File) -> nix::Result<()> {
        self.groups.opens.mark(what, MaskFlags::FAN_OPEN, file, None::<&str>)?;
        self.groups.writes.mark(what, MaskFlags::FAN_MODIFY, file, None::<&str>)
    }

    /// The file of `key` went, or is no longer guarded.
    pub fn remove(&mut self, key: &Key) {
        let Some((inode, file)) = self.files.remove(key) else { return };
        self.keys.remove(&inode);
        if self.mark(MarkFlags::FAN_MARK_REMOVE, &file).is_err() {
            self.dead += 1;
        }
        if self.dead > FILES_MAX / 2 {
            self.flush();
            for (_, file) in self.files.values() {
                _ = self.mark(MarkFlags::FAN_MARK_ADD, file);
            }
        }
    }

    /// Removes all marks.
    pub fn clear(&mut self) {
        self.files.clear();
        self.keys.clear();
        self.flush();
    }

    fn flush(&mut self) {
        self.dead = 0;
        for group in [&self.groups.opens, &self.groups.writes] {
            _ = group.mark(MarkFlags::FAN_MARK_FLUSH, MaskFlags::empty(), CWD, None::<&str>);
        }
    }

    /// Some of the events that wait: of those who write, or of those who open.
    pub fn read(&self, writes: bool) -> Vec<AccessEvent> {
        let group = if writes { &self.groups.writes } else { &self.groups.opens };
        for _ in 0..ERRORS_MAX {
            match group.read_events() {
                Ok(events) => return events.iter().filter_map(|event| self.touch(event, writes)).collect(),
                Err(Errno::EAGAIN) => return Vec::new(),
                // The file of the first event can't be opened; the event is gone (fanotify's copy_event_to_user).
                Err(errno @ (Errno::EACCES | Errno::EPERM)) => return vec![AccessEvent::Refused(errno as i32)],
                Err(_) => {}
            }
        }
        vec![AccessEvent::Overflow { writes }]
    }

    fn touch(&self, event: &FanotifyEvent, writes: bool) -> Option<AccessEvent> {
        let Some(file) = event.fd() else { return Some(AccessEvent::Overflow { writes }) };
        let inode = rustix::fs::fstat(file).ok()?.st_ino;
        let key = self.keys.get(&inode)?.clone();
        Some(AccessEvent::Process { pid: event.pid(), key, written: event.mask().contains(MaskFlags::FAN_MODIFY) })
    }
}
