//! The repair of `all.forwarding` before its message is heard.

use std::sync::Arc;

use super::put_off::all_forwarding;
use super::{Guard, Repair, Slot, rank};
use crate::report::record::Cause;
use crate::setting::{ALL, Attribute, Family, Key};

impl Guard {
    /// IPv4's `all.forwarding` and its value, where it is repaired as soon as it is wrong: nothing else is to be done, and nobody
    /// keeps changing it too fast.
    pub fn foresee_all(&self) -> Option<(Key, Arc<str>)> {
        let slot = all_forwarding(Family::V4);
        let undisturbed = self.jobs.is_empty() && self.waiting.is_empty() && self.episodes.iter().all(Option::is_none);
        if !undisturbed || self.failed.contains_key(&slot) || !self.contests.is_prompt(&slot) {
            return None;
        }
        let entry = self.all_entry(Family::V4)?;
        Some((self.key_of(&slot)?, self.policy.entries()[entry].value.clone()?))
    }

    /// Whether a write leaves nothing to be done at once: what is announced nowhere, or of IPv6, may take other settings with it.
    pub fn may_rest(&self, repair: &Repair) -> bool {
        !self.is_busy()
            && match repair.slot {
                Slot::Announced(Family::V4, Attribute::Forwarding, ALL) => self.opens_nothing(Family::V4),
                Slot::Announced(family, ..) => family == Family::V4,
                Slot::Other(_) => false,
            }
    }

    /// The repair of it that is done already, whether it has been asked for, was put off, or neither.
    pub fn repair_of_all(&mut self, received: u64) -> Option<Repair> {
        let slot = all_forwarding(Family::V4);
        let queued = (rank(&slot), slot.clone());
        let job = self.jobs.remove(&queued).or_else(|| self.waiting.remove(&queued)).or_else(|| {
            self.check(slot.clone(), Cause::Write, Some(received));
            self.jobs.remove(&queued)
        })?;
        self.repair(slot, job)
    }

    /// Whether a value that was read of it at `since` stood there in passing, now that all is heard: who has to wait for the RTNL
    /// lock stores his value and takes it back (`devinet_sysctl_forward`), and what he does once he has the lock is another
    /// drift. Of a change, be it his or ours, the kernel would have told.
    pub fn was_in_passing(&self, since: u64) -> bool {
        let slot = all_forwarding(Family::V4);
        self.all_heard[Family::V4 as usize] < since && !self.is_to_come(slot.clone()) && !self.contests.is_muted(&slot)
    }
}
