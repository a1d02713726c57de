//! The queue of checks, in the order of repairs, and the repairs that come of them.
//!
//! It owns the checks that are due and those that are deferred, because their settings are contested.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::sync::Arc;

use super::SettingId;
use crate::report::record::Cause;
use crate::setting::{ALL, DEFAULT, Key, same_value};

/// The order of repairs: `accept_ra` before forwarding, since forwarding takes the routes of an interface that does not
/// have it at 2; then `all`, whose fan-out undoes the rest; then `default`; then interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    AcceptRa,
    All,
    Default,
    Interface,
    Global,
}

fn rank(id: &SettingId) -> Rank {
    match id {
        SettingId::Announced(_, _, ALL) => Rank::All,
        SettingId::Announced(_, _, DEFAULT) => Rank::Default,
        SettingId::Announced(..) => Rank::Interface,
        SettingId::Unannounced(key) => match key.place() {
            Some(place) if place.name == "accept_ra" => Rank::AcceptRa,
            Some(place) if place.interface == OsStr::new("all") => Rank::All,
            Some(place) if place.interface == OsStr::new("default") => Rank::Default,
            Some(_) => Rank::Interface,
            None => Rank::Global,
        },
    }
}

/// Why a setting has to be checked, and what is known of it.
#[derive(Clone, Debug)]
pub struct Job {
    /// The entry that decides it; `None` to write back what our own write changed.
    pub(super) entry: Option<usize>,
    pub(super) cause: Cause,
    /// Monotonic microseconds when the notification was received, if one was.
    pub(super) received: Option<u64>,
    pub(super) old: Option<String>,
    pub(super) new: Option<String>,
    /// What to write back where there is no entry.
    pub(super) written_back: Option<Arc<str>>,
    /// The setting that this one follows was checked before it.
    pub(super) after_leader: bool,
    /// When everything had been read last.
    pub(super) known_good: Option<u64>,
}

impl Job {
    pub(super) fn new(entry: Option<usize>, cause: Cause) -> Job {
        Job {
            entry,
            cause,
            received: None,
            old: None,
            new: None,
            written_back: None,
            after_leader: false,
            known_good: None,
        }
    }
}

/// A request to read, compare, write and read back one setting.
#[derive(Clone, Debug)]
pub struct Repair {
    pub key: Key,
    pub wanted: Arc<str>,
    /// How the kernel prints `wanted`, learned earlier.
    pub learned: Option<Arc<str>>,
    /// Whether it may be learned now.
    pub learn: bool,
    pub(super) id: SettingId,
    pub(super) job: Job,
}

impl Repair {
    /// The setting, if the policy guards it and it is not only written back.
    pub fn guarded(&self) -> Option<SettingId> {
        self.job.entry.map(|_| self.id.clone())
    }

    /// Whether `value` is what is wanted.
    pub fn holds(&self, value: &str) -> bool {
        same_value(&self.wanted, value) || self.learned.as_deref() == Some(value)
    }
}

type Jobs = BTreeMap<(Rank, SettingId), Job>;

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Queue {
    due: Jobs,
    deferred: Jobs,
    /// The contested setting whose repair was deferred last, since this was last asked.
    last_deferred: Option<SettingId>,
}

impl Queue {
    pub fn is_empty(&self) -> bool {
        self.due.is_empty()
    }

    /// Whether a setting is still to be checked.
    pub fn contains(&self, id: &SettingId) -> bool {
        let place = (rank(id), id.clone());
        self.due.contains_key(&place) || self.deferred.contains_key(&place)
    }

    pub fn is_deferred(&self, id: &SettingId) -> bool {
        self.deferred.contains_key(&(rank(id), id.clone()))
    }

    /// Queues a check, unless one of the same setting is queued, and gives that which is.
    pub fn add(&mut self, id: SettingId, job: Job) -> &mut Job {
        self.due.entry((rank(&id), id)).or_insert(job)
    }

    /// Queues a check instead of any other of the same setting.
    pub fn replace(&mut self, id: SettingId, job: Job) {
        self.due.insert((rank(&id), id), job);
    }

    pub fn remove(&mut self, id: SettingId) {
        self.due.remove(&(rank(&id), id));
    }

    pub fn pop(&mut self) -> Option<(SettingId, Job)> {
        self.due.pop_first().map(|((_, id), job)| (id, job))
    }

    /// Keeps a check until [`Queue::resume`], because the setting `contested` is contested.
    pub fn defer(&mut self, id: &SettingId, job: &Job, contested: SettingId) {
        self.last_deferred = Some(contested);
        self.deferred.entry((rank(id), id.clone())).or_insert_with(|| job.clone());
    }

    pub fn take_last_deferred(&mut self) -> Option<SettingId> {
        self.last_deferred.take()
    }

    /// A deferred check is due again. False: none was deferred.
    pub fn resume(&mut self, id: &SettingId) -> bool {
        let Some((place, job)) = self.deferred.remove_entry(&(rank(id), id.clone())) else { return false };
        self.due.entry(place).or_insert(job);
        true
    }

    /// All deferred checks are due again; those that still have to wait are deferred once more.
    pub fn resume_all(&mut self) {
        self.due.append(&mut self.deferred);
    }

    pub fn forget_deferred(&mut self, id: &SettingId) {
        self.deferred.remove(&(rank(id), id.clone()));
    }

    pub fn forget_interface(&mut self, ifindex: i32) {
        self.due.retain(|(_, id), _| !id.is_of(ifindex));
    }

    pub fn clear(&mut self) {
        self.due.clear();
        self.deferred.clear();
    }
}
