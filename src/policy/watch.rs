//! Tells when a policy file may have changed, by inotify(7) on the folders, on link targets and on the parents of what is missing.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::conflicts;
use super::files::{Writers, chase, list};
use super::tuned::Tuned;

/// What can make a file say something else, or be another file.
const FILE_EVENTS: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF);
const EVENT_BUFFER_BYTES: usize = 4096;
/// So many buffers are more than a full queue (fs.inotify.max_queued_events, 16,384).
const BUFFERS_MAX: usize = 256;

/// Which names in a watched folder matter.
#[derive(Debug)]
enum Names {
    All,
    Some(HashSet<OsString>),
}

/// The watches for one root.
pub struct Watch {
    fd: AsyncFd<OwnedFd>,
    root: PathBuf,
    names: HashMap<i32, Names>,
    buffer: Box<[MaybeUninit<u8>; EVENT_BUFFER_BYTES]>,
}

impl Watch {
    /// Watches for changes below `root` from now on.
    ///
    /// # Errors
    /// No inotify instance left (`fs.inotify.max_user_instances`), or as [`Watch::renew`].
    pub fn new(root: &Path) -> io::Result<Watch> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let mut watch = Watch {
            fd: register(fd)?,
            root: root.to_path_buf(),
            names: HashMap::new(),
            buffer: Box::new([MaybeUninit::uninit(); EVENT_BUFFER_BYTES]),
        };
        watch.renew()?;
        Ok(watch)
    }

    /// Follows the paths anew, since links and folders may lead elsewhere now. To be called before the policy is read
    /// again, so that no change falls between.
    ///
    /// # Errors
    /// The kernel grants no more watches, with the remedy.
    pub fn renew(&mut self) -> io::Result<()> {
        let mut folders = HashMap::<PathBuf, Names>::new();
        for folder in super::FOLDERS.iter().chain(&conflicts::FOLDERS) {
            let chased = chase(&self.root, Path::new(folder));
            note(&mut folders, chased.steps);
            if let Some(end) = chased.end {
                folders.insert(end, Names::All);
            }
        }
        let mut files = list(&self.root, &super::FOLDERS, Writers::Any, &mut Vec::new());
        files.extend(list(&self.root, &conflicts::FOLDERS, Writers::Any, &mut Vec::new()));
        files.push(conflicts::LEGACY_FILE.into());
        files.extend(Tuned::read(&self.root).paths);
        for file in files {
            note(&mut folders, chase(&self.root, &file).steps);
        }
        let mut names = HashMap::new();
        for (path, wanted) in folders {
            let watch = match inotify::add_watch(self.fd.get_ref(), &path, FILE_EVENTS) {
                Ok(watch) => watch,
                Err(Errno::NOSPC) => {
                    return Err(io::Error::other("no watches left; raise fs.inotify.max_user_watches"));
                }
                Err(error @ (Errno::NOMEM | Errno::PERM)) => return Err(error.into()),
                Err(_) => continue, // what is not there, or can't be read, has a parent that is watched
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

    /// Waits until something that matters is touched.
    ///
    /// # Errors
    /// The inotify descriptor can't be read any more.
    pub async fn touched(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.fd.readable().await?;
            match read_events(self.fd.get_ref(), &mut self.buffer[..], &self.names) {
                Ok(true) => return Ok(()),
                // A file that is written without end beside those that matter must not have the event loop for itself.
                Ok(false) => tokio::task::yield_now().await,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) => return Err(error),
            }
        }
    }

    /// Forgets what has been said so far: it will be read anyway. What comes without end is not waited for.
    pub fn drain(&mut self) {
        for _ in 0..BUFFERS_MAX {
            if read_events(self.fd.get_ref(), &mut self.buffer[..], &self.names).is_err() {
                return;
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

fn note(folders: &mut HashMap<PathBuf, Names>, steps: Vec<(PathBuf, OsString)>) {
    for (folder, name) in steps {
        if let Names::Some(names) = folders.entry(folder).or_insert_with(|| Names::Some(HashSet::new())) {
            names.insert(name);
        }
    }
}

/// Reads one buffer of events, and says whether any of them matters.
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
