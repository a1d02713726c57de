//! Finds the process that wrote a guarded setting, on a thread of its own, while that process still exists.
//!
//! It owns the fanotify events and the processes read so far. It must not hold up a repair: the reporter asks it afterwards.

mod commands;
mod watcher;

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use crate::kernel::fanotify::Groups;
use crate::kernel::process::Process;
use crate::kernel::sysctl::now_usec;
use crate::mailbox::Mailbox;
use crate::policy::Policy;
use crate::report::record::Cause;
use crate::report::writer::{UnknownBecause, Writer};
use crate::setting::{Attribute, Family, Key};
use crate::state::Move;
use crate::text::why;
pub use watcher::INTERFACE_FILES_MAX;
use watcher::{Watcher, watch};

/// Its sources, as records and the status name them.
pub const FANOTIFY: &str = "fanotify";
const PROC: &str = "/proc of writers";
/// An event comes when the write has returned, which is after the guard has heard of it, and often after it has mended it.
const EVENT_AFTER: Duration = Duration::from_millis(50);
/// The guard hears before the event comes; by less than this it may be the other way round.
const HEARD_LATE_USEC: u64 = 1_000;
/// How long before a repair an event may have come, if none has come since: the guard had no processor for so long.
const EVENT_BEFORE_USEC: u64 = 100_000;

/// What the thread has to follow.
pub enum Follow {
    Policy(Arc<Policy>),
    Moves(Vec<Move>),
    /// To be done once all that came before is followed.
    Then(Box<dyn FnOnce() + Send>),
}

/// A write that was seen.
struct Write {
    key: Key,
    at: u64,
    by: Arc<Process>,
    /// A record names it already.
    told: bool,
}

#[derive(Default)]
struct State {
    /// Newest last.
    writes: VecDeque<Write>,
    watched: HashSet<Key>,
    /// When events of writes were last lost, or passed over to save the processor.
    lost_at: Option<u64>,
    /// Sources that the kernel refuses, and those of them that have not been told.
    refused: BTreeSet<&'static str>,
    untold: Vec<(&'static str, String)>,
}

/// What the thread has found out, and the news of it.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    news: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn note_refusal(&self, source: &'static str, error: &io::Error) {
        let mut state = self.state();
        if state.refused.insert(source) {
            state.untold.push((source, why(error)));
        }
    }
}

/// What the thread is to be started with.
pub struct Unstarted {
    watcher: Watcher,
    opens: OwnedFd,
    mailbox: Mailbox<Follow>,
    inbox: Receiver<Follow>,
}

impl Unstarted {
    /// Marks what the policy names, and starts the thread. It wakes for who opens a file, and to follow. Writes do not wake it, for
    /// they come together with the repair, and to wake a thread takes as long as that: whoever has seen that there are some
    /// calls [`WriterTracker::read_writes`].
    ///
    /// # Errors
    /// No thread.
    pub fn start(self, policy: Arc<Policy>) -> io::Result<()> {
        let Unstarted { mut watcher, opens, mailbox, inbox } = self;
        watcher.follow(Follow::Policy(policy)); // before READY, so that nobody writes `all` or `default` unseen
        std::thread::Builder::new().name("writers".into()).spawn(move || watch(watcher, &opens, &mailbox, &inbox))?;
        Ok(())
    }
}

#[derive(Clone)]
struct Thread {
    mailbox: Mailbox<Follow>,
    writes: Arc<OwnedFd>,
}

/// Asks the thread.
#[derive(Clone)]
pub struct WriterTracker {
    /// `None`: there is no fanotify.
    thread: Option<Thread>,
    shared: Arc<Shared>,
}

impl WriterTracker {
    /// One that knows nothing until it is [started](Unstarted::start).
    ///
    /// # Errors
    /// No descriptor.
    pub fn new(groups: Groups) -> io::Result<(WriterTracker, Unstarted)> {
        let (mailbox, inbox) = Mailbox::new()?;
        let shared = Arc::<Shared>::default();
        let opens = groups.opens.as_fd().try_clone_to_owned()?;
        let writes = Arc::new(groups.writes.as_fd().try_clone_to_owned()?);
        let watcher = Watcher::new(groups, shared.clone());
        let thread = Some(Thread { mailbox: mailbox.clone(), writes });
        Ok((WriterTracker { thread, shared }, Unstarted { watcher, opens, mailbox, inbox }))
    }

    /// What becomes readable when somebody writes a setting.
    pub fn writes(&self) -> Option<BorrowedFd<'_>> {
        self.thread.as_ref().map(|thread| thread.writes.as_fd())
    }

    /// There are writes to be read. Never waits.
    pub fn read_writes(&self) {
        self.thread.iter().for_each(|thread| thread.mailbox.wake());
    }

    /// Knows nothing.
    pub fn absent() -> WriterTracker {
        WriterTracker { thread: None, shared: Arc::default() }
    }

    /// Never waits.
    pub fn follow(&self, follow: Follow) {
        match (&self.thread, follow) {
            (Some(thread), follow) => thread.mailbox.send(follow),
            (None, Follow::Then(act)) => act(),
            (None, _) => {}
        }
    }

    /// Who wrote `key`, which the guard heard of at `received` and mended at `finished` (monotonic microseconds). Waits
    /// until 50 ms after that for an event that is still to come.
    pub fn find_writer(&self, key: &Key, cause: Cause, received: Option<u64>, finished: u64) -> Writer {
        let key = &key.clone().canonical();
        match cause {
            Cause::Start | Cause::Reload => return Writer::BeforeStart,
            _ if self.thread.is_none() => return Writer::Unknown(UnknownBecause::NoFanotify),
            Cause::Write | Cause::Overrun => {}
            Cause::Module => return Writer::Unknown(UnknownBecause::Module),
            // A new interface's settings come with its netconf message.
            Cause::Link if received.is_some() => return Writer::Unknown(UnknownBecause::Inherited),
            _ => return Writer::Unknown(UnknownBecause::Unheard),
        }
        let deadline = finished + EVENT_AFTER.as_micros() as u64;
        let heard = received.unwrap_or(finished).saturating_sub(HEARD_LATE_USEC);
        let mut state = self.shared.state();
        loop {
            let now = now_usec();
            if state.lost_at.is_some_and(|lost| lost >= heard) {
                return Writer::Unknown(UnknownBecause::Flood);
            }
            if let Some(write) = state
                .writes
                .iter_mut()
                .find(|write| write.at >= heard && write.key == *key && (!write.told || now >= deadline))
            {
                write.told = true;
                return Writer::Process(write.by.clone());
            }
            if !state.watched.contains(key) || cause != Cause::Write || now >= deadline {
                break;
            }
            let wait = Duration::from_micros(deadline - now);
            state = self.shared.news.wait_timeout(state, wait).unwrap_or_else(|e| e.into_inner()).0;
        }
        let since = heard.saturating_sub(EVENT_BEFORE_USEC);
        let mut late = state.writes.iter_mut().rev().filter(|write| write.at >= since && !write.told);
        if let Some(write) = late.find(|write| write.key == *key) {
            write.told = true;
            return Writer::Process(write.by.clone());
        }
        // A write of `all` or `default` changes interfaces as well (inet_forward_change, devinet_copy_dflt_conf).
        let other = whose_write_changes(key);
        if let Some(write) =
            state.writes.iter().rev().find(|write| write.at >= since && Some(&write.key) == other.as_ref())
        {
            return Writer::Process(write.by.clone());
        }
        Writer::Unknown(match cause {
            Cause::Overrun => UnknownBecause::Unheard,
            _ if state.refused.contains(FANOTIFY) => UnknownBecause::Refused,
            _ if state.watched.contains(key) => UnknownBecause::Unseen,
            _ => UnknownBecause::Unwatched,
        })
    }

    /// Sources that the kernel has been found to refuse since this was last asked, and why.
    pub fn take_refusals(&self) -> Vec<(&'static str, String)> {
        std::mem::take(&mut self.shared.state().untold)
    }

    /// Everybody who was seen writing `key` since `since`, each command once, the last first.
    pub fn writers(&self, key: &Key, since: u64) -> Vec<Arc<Process>> {
        let key = &key.clone().canonical();
        let mut writers: Vec<Arc<Process>> = Vec::new();
        for write in self.shared.state().writes.iter().rev().filter(|write| write.at >= since && write.key == *key) {
            if !writers.iter().any(|known| known.does_the_same(&write.by)) {
                writers.push(write.by.clone());
            }
        }
        writers
    }
}

/// Another key whose write may have changed `key`.
fn whose_write_changes(key: &Key) -> Option<Key> {
    if *key == Key::all_accept_redirects() {
        return Some(Key::conf(Family::V4, "all".as_ref(), Attribute::Forwarding));
    }
    match key.place()?.announced() {
        Some((family, Attribute::Forwarding)) => Some(Key::conf(family, "all".as_ref(), Attribute::Forwarding)),
        _ => key.follows(),
    }
    .filter(|other| other != key)
}
