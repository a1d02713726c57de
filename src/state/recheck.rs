//! The settings that were written lately and are to be read again.

use std::sync::Arc;

use super::{Job, Repair, SettingId, State};
use crate::report::record::Cause;

impl State {
    /// What was written lately, to be looked at again.
    ///
    /// `devinet_sysctl_forward` stores a value before it tries the RTNL lock, and stores the old one again if it can't have
    /// it: a writer that waits for the lock in that moment undoes our write, and nothing is announced. `devinet_conf_proc`
    /// compares before and after without a lock: of two that write at once, neither may be announced.
    pub fn written(&self) -> Vec<Repair> {
        let again = |(slot, written_back): (&SettingId, &Option<Arc<str>>)| {
            let (entry, old, learned) = match slot {
                SettingId::Announced(..) => {
                    self.cell(slot).map(|cell| (cell.entry, cell.current.map(|value| value.to_string()), None))?
                }
                SettingId::Unannounced(key) => match self.unannounced.get(key) {
                    Some(other) => (Some(other.entry), other.current.clone(), other.learned.clone()),
                    None => (None, None, None),
                },
            };
            let wanted = match (entry, written_back) {
                (Some(entry), _) => self.policy.entries()[entry].value.clone()?,
                (None, written_back) => written_back.clone()?,
            };
            let job = Job { old, ..Job::new(entry, Cause::Write) };
            Some(Repair { key: self.key_of(slot)?, wanted, learned, learn: false, slot: slot.clone(), job })
        };
        self.written.iter().filter(|(slot, _)| !self.is_deferred(slot)).filter_map(again).collect()
    }

    /// What was written has been looked at often enough.
    pub fn forget_written(&mut self) {
        self.written.clear();
        self.wrote_all = false;
    }
}
