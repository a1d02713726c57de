//! A bus that is not there: nothing wakes the service until its socket may have come.

use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::fs::inotify::WatchFlags;
use tokio::sync::Notify;
use tokio::time::sleep;
use zbus::address::Transport;
use zbus::address::transport::UnixSocket;

use crate::paths::{Folders, Paths, note};
use crate::policy::files::chase;

/// What can put a socket at a path, or have the path lead elsewhere.
const EVENTS: WatchFlags =
    WatchFlags::CREATE.union(WatchFlags::MOVED_TO).union(WatchFlags::DELETE_SELF).union(WatchFlags::MOVE_SELF);
/// Between tries.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_LAST: Duration = Duration::from_secs(5);
/// What has just been bound need not listen yet, but who made it does that next: these tries are enough, and more need a reason.
const RETRY_ABSENT: Duration = Duration::from_secs(2);

/// When to try again.
pub struct Search {
    retry: Duration,
    /// Where the socket will be, since before the last try. `None`: it has no place among the files, or can't be watched.
    place: Option<Paths>,
}

impl Default for Search {
    fn default() -> Search {
        Search { retry: RETRY_FIRST, place: None }
    }
}

impl Search {
    /// The bus is there.
    pub fn end(&mut self) {
        *self = Search::default();
    }

    /// Waits until the next try is due: soon, as long as there is hope. One that is `absent` then has to come first, and what
    /// comes unseen (a file system mounted over its folder) is found after an audit.
    pub async fn wait(&mut self, absent: bool, audited: &Notify) {
        match self.place.as_mut().filter(|_| absent && self.retry >= RETRY_ABSENT) {
            Some(place) => {
                tokio::select! {
                    _ = place.touched() => self.retry = RETRY_FIRST,
                    () = audited.notified() => {}
                }
                self.watch();
            }
            None => {
                self.watch();
                sleep(self.retry).await;
                self.retry = (self.retry * 2).min(RETRY_LAST);
            }
        }
    }

    /// Follows the path to the socket anew. The descriptor stays: to close one takes the kernel milliseconds.
    fn watch(&mut self) {
        let place = self.place.take().or_else(|| Paths::new(EVENTS).ok()).zip(folders());
        let watched = place.and_then(|(mut paths, folders)| paths.watch(folders).ok().map(|()| paths));
        self.place = watched.filter(|paths| paths.refused.is_none());
    }
}

fn folders() -> Option<Folders> {
    let address = zbus::Address::system().ok()?;
    let Transport::Unix(unix) = address.transport() else { return None };
    let UnixSocket::File(path) = unix.path() else { return None };
    let mut folders = Folders::new();
    note(&mut folders, chase(Path::new("/"), path).steps);
    Some(folders)
}

/// Whether nobody listens there (connect(2): ENOENT, ECONNREFUSED). A bus that hangs, or refuses, is another thing.
pub fn is_absent(error: &zbus::Error) -> bool {
    let zbus::Error::Connection(error, _) = error else { return false };
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}
