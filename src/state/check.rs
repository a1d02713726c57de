//! Queues checks: of one setting, of an interface's settings, or of those that belong to no interface.

use super::schedule::GLOBAL;
use super::{Job, SettingId, State, interface, rank};
use crate::report::record::Cause;
use crate::setting::{Attribute, DEFAULT, Family};

/// Some 100 µs of reading.
const LINKS_A_TURN: usize = 16;

impl State {
    pub(super) fn check_unannounced(&mut self, ifindex: i32, cause: Cause) {
        for key in self.interfaces.get(&ifindex).map(|i| i.unannounced.clone()).unwrap_or_default() {
            self.check(SettingId::Unannounced(key), cause, None);
        }
        self.doubt_baselines_at(ifindex);
    }

    /// The kernel tells of these, so they are looked at only some time after.
    pub(super) fn check_announced(&mut self, ifindex: i32, cause: Cause) {
        for (family, attribute) in interface::ANNOUNCED {
            if attribute != Attribute::Forwarding || self.fan_outs[family as usize].is_none() {
                self.check(SettingId::Announced(family, attribute, ifindex), cause, None);
            }
        }
    }

    /// Linux 3.10 changes it in silence with `all` (addrconf_fixup_forwarding).
    pub(super) fn check_default_of_ipv6(&mut self, cause: Cause) {
        self.check(SettingId::Announced(Family::V6, Attribute::Forwarding, DEFAULT), cause, None);
    }

    pub(super) fn check_global(&mut self, cause: Cause) {
        for key in self.global.clone() {
            self.check(SettingId::Unannounced(key), cause, None);
        }
    }

    /// Has a setting read, if the policy names it.
    pub(super) fn check(&mut self, slot: SettingId, cause: Cause, received: Option<u64>) {
        let old = match &slot {
            SettingId::Announced(..) => self.cell(&slot).and_then(|cell| cell.current).map(|value| value.to_string()),
            SettingId::Unannounced(key) => self.unannounced.get(key).and_then(|other| other.current.clone()),
        };
        self.check_knowing(slot, cause, received, old);
    }

    /// The same, where it is known what stood there before.
    pub(super) fn check_knowing(&mut self, slot: SettingId, cause: Cause, received: Option<u64>, old: Option<String>) {
        let entry = self.entry_of(&slot);
        if entry.is_some() {
            let job = Job { received, old, known_good: self.read_at, ..Job::new(entry, cause) };
            self.jobs.entry((rank(&slot), slot)).or_insert(job);
        }
    }

    /// When the next look at a link is due, in monotonic microseconds.
    pub fn links_due(&self) -> Option<u64> {
        self.link_schedule.due()
    }

    /// Has links that changed looked at, where that is due at `now`: of some only, so that others get their turn.
    pub fn check_due_links(&mut self, now: u64) {
        self.link_schedule.start(now);
        for _ in 0..LINKS_A_TURN {
            match self.link_schedule.take(now) {
                None => return,
                Some((GLOBAL, _)) => self.check_global(Cause::Link),
                Some((ifindex, first)) => {
                    self.check_unannounced(ifindex, Cause::Link);
                    if !first {
                        self.check_announced(ifindex, Cause::Link);
                    }
                }
            }
        }
    }

    /// A kernel module was loaded, and may have brought settings: none of an interface.
    pub fn module_came(&mut self) {
        self.check_global(Cause::Module);
        self.link_schedule.mark_changed(GLOBAL, false);
    }
}
