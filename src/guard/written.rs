//! What was written lately, and has to be looked at again.

use std::sync::Arc;

use super::{Guard, Job, Repair, Slot};
use crate::report::record::Cause;

impl Guard {
    /// What was written lately, to be looked at again.
    ///
    /// `devinet_sysctl_forward` stores a value before it tries the RTNL lock, and stores the old one again if it can't have
    /// it: a writer that waits for the lock in that moment undoes our write, and nothing is announced. `devinet_conf_proc`
    /// compares before and after without a lock: of two that write at once, neither may be announced.
    pub fn written(&self) -> Vec<Repair> {
        let again = |(slot, put_back): (&Slot, &Option<Arc<str>>)| {
            let (entry, old, learned) = match slot {
                Slot::Announced(..) => {
                    self.cell(slot).map(|cell| (cell.entry, cell.seen.map(|value| value.to_string()), None))?
                }
                Slot::Other(key) => match self.others.get(key) {
                    Some(other) => (Some(other.entry), other.seen.clone(), other.learned.clone()),
                    None => (None, None, None),
                },
            };
            let wanted = match (entry, put_back) {
                (Some(entry), _) => self.policy.entries()[entry].value.clone()?,
                (None, put_back) => put_back.clone()?,
            };
            let job = Job { old, ..Job::new(entry, Cause::Write) };
            Some(Repair { key: self.key_of(slot)?, wanted, learned, learn: false, slot: slot.clone(), job })
        };
        self.written.iter().filter(|(slot, _)| !self.is_put_off(slot)).filter_map(again).collect()
    }

    /// What was written has been looked at often enough.
    pub fn forget_written(&mut self) {
        self.written.clear();
        self.wrote_all = false;
    }
}
