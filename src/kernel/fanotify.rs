//! fanotify(7): marks on guarded files below `/proc/sys`, and the events of processes that open or write them.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags, MarkFlags, MaskFlags};
use rustix::fs::CWD;

use super::descriptors::is_one_of_the_last;
use super::sysctl::{is_absent_error, path};
use crate::setting::Key;

/// At most so many files are watched for writers; each takes a descriptor and two marks. `all`, `default` and what the policy
/// writes out come first, then interfaces in the order in which they appear, three files or more each.
pub const FILES_MAX: usize = 512;

/// A group for each kind of event, so that a thread can wait for opens without being woken by writes: a write comes together with
/// its repair, and with one group `ip_forward` was repaired in 1.6 instead of 1.1 times the least possible time.
#[derive(Debug)]
pub struct Groups {
    pub opens: Fanotify,
    pub writes: Fanotify,
}

/// Creates the fanotify groups. This alone requires CAP_SYS_ADMIN, as long as their events are to have PIDs.
///
/// # Errors
/// The capability is missing, or the kernel has no fanotify.
pub fn open() -> io::Result<Groups> {
    let flags = InitFlags::FAN_CLASS_NOTIF | InitFlags::FAN_CLOEXEC | InitFlags::FAN_NONBLOCK;
    let group = || Fanotify::init(flags, EventFFlags::O_RDONLY | EventFFlags::O_CLOEXEC);
    Ok(Groups { opens: group()?, writes: group()? })
}

impl Groups {
    /// Of the very inode that is open, not of what may have taken its name in between.
    fn mark(&self, what: MarkFlags, file: &File) -> nix::Result<()> {
        self.opens.mark(what, MaskFlags::FAN_OPEN, file, None::<&str>)?;
        self.writes.mark(what, MaskFlags::FAN_MODIFY, file, None::<&str>)
    }
}

/// What one event reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// The process that opened or wrote a file of this setting; 0: it is in another PID namespace than this one or those below.
    Process(i32, Key),
    /// The kernel has dropped events.
    Overflow,
}

/// The marked files.
pub struct Marks {
    groups: Arc<Groups>,
    /// By inode: the setting, by its canonical key, and the descriptor that keeps the inode, and so the mark, while the file exists.
    files: HashMap<u64, (Key, File)>,
    /// Marks of files that went with their interface. They hold their inode, and can't be removed one by one
    /// (fanotify_mark(2) asks for a permission that `proc_sys_permission` refuses then).
    dead: usize,
}

impl Marks {
    pub fn new(groups: Arc<Groups>) -> Marks {
        Marks { groups, files: HashMap::new(), dead: 0 }
    }

    pub fn count(&self) -> usize {
        self.files.len()
    }

    /// Whether a file of this setting is marked. The key is the canonical one.
    pub fn contains(&self, key: &Key) -> bool {
        self.files.values().any(|(known, _)| known == key)
    }

    /// Marks the file of `key`. False: there is no such file, or no room for it.
    ///
    /// # Errors
    /// The kernel refuses it, with its reason.
    pub fn add(&mut self, key: &Key) -> io::Result<bool> {
        match self.try_add(key) {
            Ok(()) => Ok(true),
            // fanotify_mark(2): no more marks are granted, or no more descriptors.
            Err(error) => match error.raw_os_error() {
                Some(libc::ENOSPC | libc::ENOMEM | libc::EMFILE | libc::ENFILE) => Ok(false),
                _ if is_absent_error(&error) => Ok(false),
                _ => Err(error),
            },
        }
    }

    fn try_add(&mut self, key: &Key) -> io::Result<()> {
        let file = File::open(path(key))?;
        if is_one_of_the_last(&file) {
            return Err(Errno::EMFILE.into());
        }
        self.groups.mark(MarkFlags::FAN_MARK_ADD, &file)?;
        self.files.insert(file.metadata()?.ino(), (key.clone().canonical(), file));
        Ok(())
    }

    /// Removes the marks of settings that are gone, or no longer guarded.
    pub fn remove(&mut self, is_gone: impl Fn(&Key) -> bool) {
        for (_, (_, file)) in self.files.extract_if(|_, (key, _)| is_gone(key)) {
            self.dead += usize::from(self.groups.mark(MarkFlags::FAN_MARK_REMOVE, &file).is_err());
        }
        if self.dead > FILES_MAX / 2 {
            self.flush();
            for (_, file) in self.files.values() {
                _ = self.groups.mark(MarkFlags::FAN_MARK_ADD, file);
            }
        }
    }

    /// Removes all marks.
    pub fn clear(&mut self) {
        self.files.clear();
        self.flush();
    }

    fn flush(&mut self) {
        self.dead = 0;
        for group in [&self.groups.opens, &self.groups.writes] {
            _ = group.mark(MarkFlags::FAN_MARK_FLUSH, MaskFlags::empty(), CWD, None::<&str>);
        }
    }

    /// Takes some of the waiting events: writes, or else opens.
    ///
    /// # Errors
    /// EAGAIN: none waits. Another: one event is lost, because its file can't be opened for this process
    /// (`copy_event_to_user`, fs/notify/fanotify/fanotify_user.c).
    pub fn read(&self, writes: bool) -> nix::Result<Vec<Access>> {
        let group = if writes { &self.groups.writes } else { &self.groups.opens };
        let mut accesses = Vec::new();
        for event in group.read_events()? {
            match event.fd() {
                None => accesses.push(Access::Overflow),
                Some(file) => {
                    let known = rustix::fs::fstat(file).ok().and_then(|stat| self.files.get(&stat.st_ino));
                    accesses.extend(known.map(|(key, _)| Access::Process(event.pid(), key.clone())));
                }
            }
        }
        Ok(accesses)
    }
}
