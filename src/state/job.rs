//! A check that is queued, and the repair that comes of it.

use std::sync::Arc;

use super::SettingId;
use crate::report::record::Cause;
use crate::setting::{Key, same_value};

/// Why a setting has to be looked at, and what is known of it.
#[derive(Clone, Debug)]
pub struct Job {
    /// The entry that decides it; `None` to put back what our own write changed.
    pub(super) entry: Option<usize>,
    pub(super) cause: Cause,
    /// Monotonic microseconds when the message came that told of it.
    pub(super) received: Option<u64>,
    pub(super) old: Option<String>,
    pub(super) new: Option<String>,
    /// What to put back where there is no entry.
    pub(super) written_back: Option<Arc<str>>,
    /// The setting that this one goes with was looked at before it.
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
    /// The kernel's way to say `wanted`, learned earlier.
    pub learned: Option<Arc<str>>,
    /// Whether it may be learned now.
    pub learn: bool,
    pub(super) slot: SettingId,
    pub(super) job: Job,
}

impl Repair {
    /// The setting that the policy guards, if it is not only put back.
    pub fn guarded(&self) -> Option<SettingId> {
        self.job.entry.map(|_| self.slot.clone())
    }

    /// Whether `value` is what is wanted.
    pub fn holds(&self, value: &str) -> bool {
        same_value(&self.wanted, value) || self.learned.as_deref() == Some(value)
    }
}
