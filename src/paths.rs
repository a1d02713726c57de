//! Notifies the event loop when files in watched folders are created, changed or removed, by inotify(7).

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::kernel::sysctl::is_absent;

const EVENT_BUFFER_BYTES: usize = 4096;

/// Which names in a watched folder matter.
#[derive(Debug)]
pub enum Names {
    All,
    Some(HashSet<OsString>),
}

/// Folders, and the names that matter in each.
pub type Folders = HashMap<PathBuf, Names>;

/// The folders that are watched.
pub struct Paths {
    fd: AsyncFd<OwnedFd>,
    events: WatchFlags,
    names: HashMap<i32, Names>,
    /// An existing folder that the kernel does not let this process watch, and why.
    pub refused: Option<(PathBuf, io::Error)>,
    buffer: Box<[MaybeUninit<u8>; EVENT_BUFFER_BYTES]>,
}

impl Paths {
    /// Watches nothing yet. Later folders are watched for these events.
    ///
    /// # Errors
    /// No inotify instance left (`fs.inotify.max_user_instances`).
    pub fn new(events: WatchFlags) -> io::Result<Paths> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let buffer = Box::new([MaybeUninit::uninit(); EVENT_BUFFER_BYTES]);
        Ok(Paths { fd: register(fd)?, events, names: HashMap::new(), refused: None, buffer })
    }

    /// Watches these from now on, and no others. One that the kernel refuses is in `refused`.
    ///
    /// # Errors
    /// The kernel grants no more watches, with the remedy.
    pub fn watch(&mut self, folders: Folders) -> io::Result<()> {
        let mut names = HashMap::new();
        self.refused = None;
        for (path, wanted) in folders {
            let watch = match inotify::add_watch(self.fd.get_ref(), &path, self.events) {
                Ok(watch) => watch,
                Err(Errno::NOSPC) => {
                    return Err(io::Error::other("no watches left; raise fs.inotify.max_user_watches"));
                }
                Err(Errno::NOMEM) => return Err(Errno::NOMEM.into()),
                // If it does not exist, a parent of it is watched.
                Err(error) if is_absent(Errno::from_raw_os_error(error.raw_os_error())) => continue,
                Err(error) => {
                    self.refused = Some((path, error.into()));
                    continue;
                }
            };
            match (names.remove(&watch), wanted) {
                (Some(Names::Some(mut earlier)), Names::Some(more)) => {
                    earlier.extend(more);
                    names.insert(watch, Names::Some(earlier));
                }
                (Some(Names::All), _) => _ = names.insert(watch, Names::All),
                (_, wanted) => _ = names.insert(watch, wanted),
            }
        }
        for watch in self.names.keys().filter(|watch| !names.contains_key(watch)) {
            _ = inotify::remove_watch(self.fd.get_ref(), *watch);
        }
        self.names = names;
        Ok(())
    }

    /// Waits until a file that matters has changed.
    ///
    /// # Errors
    /// The inotify descriptor can't be read any more.
    pub async fn touched(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.fd.readable().await?;
            match read_events(self.fd.get_ref(), &mut self.buffer[..], &self.names) {
                Ok(true) => return Ok(()),
                // A file that is written without end beside those that matter must not occupy the event loop.
                Ok(false) => tokio::task::yield_now().await,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Has the event loop wait for a descriptor.
///
/// # Errors
/// epoll(7) takes no more.
pub fn register(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open for as long as it lives, always the same descriptor, and the AsyncFd owns it.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(Into::into)
}

/// Adds folders, and the name in each that matters.
pub fn note(folders: &mut Folders, steps: Vec<(PathBuf, OsString)>) {
    for (folder, name) in steps {
        if let Names::Some(names) = folders.entry(folder).or_insert_with(|| Names::Some(HashSet::new())) {
            names.insert(name);
        }
    }
}

/// Reads one buffer of events. Returns whether any of them matters.
fn read_events(fd: &OwnedFd, buffer: &mut [MaybeUninit<u8>], names: &HashMap<i32, Names>) -> io::Result<bool> {
    let mut reader = inotify::Reader::new(fd, buffer);
    let mut matters = false;
    loop {
        let event = reader.next()?;
        let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
        matters |= match (names.get(&event.wd()), name) {
            _ if event.events().contains(ReadFlags::QUEUE_OVERFLOW) => true,
            (None, _) => false,
            (Some(Names::All), _) => true,
            (Some(Names::Some(names)), Some(name)) => names.contains(name),
            (Some(Names::Some(_)), None) => {
                event.events().intersects(ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::IGNORED)
            }
        };
        if reader.is_buffer_empty() {
            return Ok(matters);
        }
    }
}
