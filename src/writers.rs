//! Finds the process that wrote a guarded setting, on a thread of its own, while that process still exists.
//!
//! It owns the fanotify events and the processes read so far. It must not hold up a repair: the reporter asks it afterwards.

mod watcher;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

use crate::kernel::fanotify::Groups;
use crate::kernel::process::Process;
use crate::kernel::sysctl::now_usec;
use crate::mailbox::Mailbox;
use crate::policy::Policy;
use crate::report::record::{Cause, Record};
use crate::report::writer::{UnknownBecause, Writer, name};
use crate::setting::{Attribute, Family, Key};
use crate::state::Move;
pub use watcher::INTERFACE_FILES_MAX;
use watcher::Watcher;

/// Its sources, as records and the status name them.
pub const FANOTIFY: &str = "fanotify";
const PROC: &str = "/proc of writers";
/// The event comes when the write has returned, which is after the guard has received the notification, and often after the repair.
const EVENT_AFTER: Duration = Duration::from_millis(50);
/// The notification is received before the event; by less than this it may be the other way round.
const RECEIVED_LATE_USEC: u64 = 1_000;
/// How long before the repair the event may have come, if none has come since: the guard had no processor for so long.
const EVENT_BEFORE_USEC: u64 = 100_000;
/// How long the thread reads no events after its budget is spent.
const PAUSE: Duration = Duration::from_millis(1);
/// A record about several writers names the last of them.
const NAMED_MAX: usize = 3;

/// What the thread has to follow.
pub enum Follow {
    Policy(Arc<Policy>),
    Moves(Vec<Move>),
    /// Is called once all that came before is followed.
    Then(Box<dyn FnOnce() + Send>),
}

/// A write that was seen.
struct Write {
    /// The canonical one.
    key: Key,
    at: u64,
    by: Arc<Process>,
    is_recorded: bool,
}

struct Shared {
    groups: Arc<Groups>,
    mailbox: Mailbox<Follow>,
    watcher: Mutex<Watcher>,
    /// Events were read.
    news: Condvar,
}

impl Shared {
    fn watcher(&self) -> MutexGuard<'_, Watcher> {
        self.watcher.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread. Opens wake it, because a writer may be gone within some ten microseconds; writes do not, because waking a thread
    /// takes as long as the repair: the guard thread calls [`WriterTracker::read_writes`] after it.
    fn run(&self, inbox: &Receiver<Follow>) -> ! {
        loop {
            let sources = [self.groups.opens.as_fd(), self.mailbox.event_fd()];
            let mut sources = sources.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
            // It fails for want of memory alone, and then the pause keeps the loop from being a busy one.
            if poll(&mut sources, None).is_err() || self.watcher().is_spent() {
                std::thread::sleep(PAUSE);
            }
            self.mailbox.clear();
            let mut watcher = self.watcher();
            watcher.read_events();
            self.news.notify_all();
            inbox.try_iter().for_each(|follow| watcher.follow(follow));
        }
    }
}

/// Asks the thread. The default knows nothing: there is no fanotify.
#[derive(Clone, Default)]
pub struct WriterTracker(Option<Arc<Shared>>);

impl WriterTracker {
    /// Marks what the policy names, and starts the thread.
    ///
    /// # Errors
    /// No descriptor, or no thread.
    pub fn start(groups: Groups, policy: Arc<Policy>) -> io::Result<WriterTracker> {
        let (mailbox, inbox) = Mailbox::new()?;
        let groups = Arc::new(groups);
        let watcher = Mutex::new(Watcher::new(groups.clone()));
        let shared = Arc::new(Shared { groups, mailbox, watcher, news: Condvar::new() });
        shared.watcher().follow(Follow::Policy(policy)); // before READY, so that no write of `all` or `default` is missed
        let thread = shared.clone();
        std::thread::Builder::new().name("writers".into()).spawn(move || thread.run(&inbox))?;
        Ok(WriterTracker(Some(shared)))
    }

    /// Becomes readable when a process writes a setting.
    pub fn writes(&self) -> Option<BorrowedFd<'_>> {
        self.0.as_ref().map(|shared| shared.groups.writes.as_fd())
    }

    /// Has the thread read the waiting writes. Never waits.
    pub fn read_writes(&self) {
        self.0.iter().for_each(|shared| shared.mailbox.wake());
    }

    /// Never waits.
    pub fn follow(&self, follow: Follow) {
        match (&self.0, follow) {
            (Some(shared), follow) => shared.mailbox.send(follow),
            (None, Follow::Then(act)) => act(),
            (None, _) => {}
        }
    }

    /// Fills the writers into records, and adds the sources that the kernel has refused. It may wait 50 ms for each repair.
    pub fn name_writers(&self, records: &mut Vec<Record>) {
        for record in records.iter_mut() {
            match record {
                Record::Repaired { subject, key, received, finished, writer, .. } => {
                    *writer = self.find_writer(key, subject.cause, *received, *finished);
                }
                Record::Contested { key, since, writers, .. } | Record::StillContested { key, since, writers, .. } => {
                    *writers = self.last_writers(key, *since).iter().map(|by| name(by)).collect();
                }
                _ => {}
            }
        }
        if let Some(shared) = &self.0 {
            let refused = std::mem::take(&mut shared.watcher().unrecorded).into_iter();
            records.extend(refused.map(|(source, reason)| Record::SourceLost { source, reason }));
        }
    }

    /// The process that wrote `key`, whose notification was received at `received` and whose repair was over at `finished`
    /// (monotonic microseconds). Waits until 50 ms after that for an event that is still to come.
    fn find_writer(&self, key: &Key, cause: Cause, received: Option<u64>, finished: u64) -> Writer {
        if matches!(cause, Cause::Start | Cause::Reload) {
            return Writer::BeforeStart;
        }
        let Some(shared) = &self.0 else { return Writer::Unknown(UnknownBecause::NoFanotify) };
        match cause {
            Cause::Write | Cause::Overrun => {}
            Cause::Module => return Writer::Unknown(UnknownBecause::Module),
            // A new interface's settings come with its netconf message.
            Cause::Link if received.is_some() => return Writer::Unknown(UnknownBecause::Inherited),
            _ => return Writer::Unknown(UnknownBecause::Unnoticed),
        }
        let key = &key.clone().canonical();
        let received = received.unwrap_or(finished).saturating_sub(RECEIVED_LATE_USEC);
        let deadline = finished + EVENT_AFTER.as_micros() as u64;
        let record = |write: &mut Write| {
            write.is_recorded = true;
            Writer::Process(write.by.clone())
        };
        let mut watcher = shared.watcher();
        loop {
            let now = now_usec();
            if watcher.lost_at.is_some_and(|lost| lost >= received) {
                return Writer::Unknown(UnknownBecause::Flood);
            }
            let mut since = watcher.writes.iter_mut().filter(|write| write.at >= received && write.key == *key);
            if let Some(write) = since.find(|write| !write.is_recorded || now >= deadline) {
                return record(write);
            }
            if !watcher.marks.contains(key) || cause != Cause::Write || now >= deadline {
                break;
            }
            let wait = Duration::from_micros(deadline - now);
            watcher = shared.news.wait_timeout(watcher, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
        let earliest = received.saturating_sub(EVENT_BEFORE_USEC);
        let mut recent = watcher.writes.iter_mut().rev().filter(|write| write.at >= earliest);
        if let Some(write) = recent.find(|write| write.key == *key && !write.is_recorded) {
            return record(write);
        }
        // A write of `all` or `default` changes interfaces as well (inet_forward_change, devinet_copy_dflt_conf).
        let leader = leader_of(key);
        let mut recent = watcher.writes.iter().rev().filter(|write| write.at >= earliest);
        if let Some(write) = recent.find(|write| Some(&write.key) == leader.as_ref()) {
            return Writer::Process(write.by.clone());
        }
        Writer::Unknown(match cause {
            Cause::Overrun => UnknownBecause::Unnoticed,
            _ if watcher.refused.contains(FANOTIFY) => UnknownBecause::Refused,
            _ if watcher.marks.contains(key) => UnknownBecause::Unseen,
            _ => UnknownBecause::Unwatched,
        })
    }

    /// The last processes that were seen to write `key` since `since`, each command once, the last first.
    fn last_writers(&self, key: &Key, since: u64) -> Vec<Arc<Process>> {
        let key = &key.clone().canonical();
        let mut writers: Vec<Arc<Process>> = Vec::new();
        let Some(shared) = &self.0 else { return writers };
        for write in shared.watcher().writes.iter().rev().filter(|write| write.at >= since && write.key == *key) {
            if writers.len() < NAMED_MAX && !writers.iter().any(|known| known.does_the_same(&write.by)) {
                writers.push(write.by.clone());
            }
        }
        writers
    }
}

/// The key whose write may have changed `key`, which is the canonical one.
fn leader_of(key: &Key) -> Option<Key> {
    if *key == Key::all_accept_redirects() {
        return Some(Key::conf(Family::V4, "all".as_ref(), Attribute::Forwarding));
    }
    match key.place()?.announced() {
        Some((family, Attribute::Forwarding)) => Some(Key::conf(family, "all".as_ref(), Attribute::Forwarding)),
        _ => key.follows(),
    }
    .filter(|leader| leader != key)
}
