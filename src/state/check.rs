//! Queues checks: of one setting, of an interface's settings, or of those that belong to no interface.

use super::queue::Job;
use super::schedule::GLOBAL;
use super::{SettingId, State, interface};
use crate::report::record::Cause;
use crate::setting::{Attribute, DEFAULT, Family};

/// Some 100 µs of reading.
const LINKS_A_TURN: usize = 16;

impl State {
    pub(super) fn check_unannounced(&mut self, ifindex: i32, cause: Cause) {
        for key in self.settings.interface(ifindex).map(|interface| interface.unannounced.clone()).unwrap_or_default() {
            self.check(SettingId::Unannounced(key), cause, None);
        }
        self.doubt_baselines_at(ifindex);
    }

    /// The kernel announces these, so they are checked only some time later.
    pub(super) fn check_announced(&mut self, ifindex: i32, cause: Cause) {
        for (family, attribute) in interface::ANNOUNCED {
            if attribute != Attribute::Forwarding || !self.fan_outs.is_on(family) {
                self.check(SettingId::Announced(family, attribute, ifindex), cause, None);
            }
        }
    }

    /// Linux 3.10 changes it with `all` and does not announce that (addrconf_fixup_forwarding).
    pub(super) fn check_default_of_ipv6(&mut self, cause: Cause) {
        self.check(SettingId::Announced(Family::V6, Attribute::Forwarding, DEFAULT), cause, None);
    }

    pub(super) fn check_global(&mut self, cause: Cause) {
        for key in self.settings.global().to_vec() {
            self.check(SettingId::Unannounced(key), cause, None);
        }
    }

    /// Queues a setting to be read, if the policy names it.
    pub(super) fn check(&mut self, id: SettingId, cause: Cause, received: Option<u64>) {
        let old = self.settings.current(&id);
        self.check_knowing(id, cause, received, old);
    }

    /// The same, where its value before is known.
    pub(super) fn check_knowing(&mut self, id: SettingId, cause: Cause, received: Option<u64>, old: Option<String>) {
        let entry = self.settings.entry_of(&id);
        if entry.is_some() {
            self.queue.add(id, Job { received, old, known_good: self.reads.last(), ..Job::new(entry, cause) });
        }
    }

    /// When the next check of a link is due, in monotonic microseconds.
    pub fn links_due(&self) -> Option<u64> {
        self.link_schedule.due()
    }

    /// Checks links that changed, where that is due at `now`: some only, so that the other threads get their turn.
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
