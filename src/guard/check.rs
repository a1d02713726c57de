//! Has settings looked at: one of them, those of an interface, or those of none.

use super::{Guard, Job, Slot, interface, rank};
use crate::report::record::Cause;
use crate::setting::{Attribute, DEFAULT, Family};

impl Guard {
    pub(super) fn check_others(&mut self, ifindex: i32, cause: Cause) {
        for key in self.interfaces.get(&ifindex).map(|i| i.others.clone()).unwrap_or_default() {
            self.check(Slot::Other(key), cause, None);
        }
        self.doubt_baselines_at(ifindex);
    }

    /// The kernel tells of these, so they are looked at only some time after.
    pub(super) fn check_announced(&mut self, ifindex: i32, cause: Cause) {
        for (family, attribute) in interface::ANNOUNCED {
            if attribute != Attribute::Forwarding || self.episodes[family as usize].is_none() {
                self.check(Slot::Announced(family, attribute, ifindex), cause, None);
            }
        }
    }

    /// Linux 3.10 changes it in silence with `all` (addrconf_fixup_forwarding).
    pub(super) fn check_default_of_ipv6(&mut self, cause: Cause) {
        self.check(Slot::Announced(Family::V6, Attribute::Forwarding, DEFAULT), cause, None);
    }

    pub(super) fn check_elsewhere(&mut self, cause: Cause) {
        for key in self.elsewhere.clone() {
            self.check(Slot::Other(key), cause, None);
        }
    }

    /// Has a setting read, if the policy names it.
    pub(super) fn check(&mut self, slot: Slot, cause: Cause, received: Option<u64>) {
        let old = match &slot {
            Slot::Announced(..) => self.cell(&slot).and_then(|cell| cell.seen).map(|value| value.to_string()),
            Slot::Other(key) => self.others.get(key).and_then(|other| other.seen.clone()),
        };
        self.check_knowing(slot, cause, received, old);
    }

    /// The same, where it is known what stood there before.
    pub(super) fn check_knowing(&mut self, slot: Slot, cause: Cause, received: Option<u64>, old: Option<String>) {
        let entry = self.entry_of(&slot);
        if entry.is_some() {
            let job = Job { received, old, known_good: self.read_at, ..Job::new(entry, cause) };
            self.jobs.entry((rank(&slot), slot)).or_insert(job);
        }
    }
}
