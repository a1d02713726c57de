//! Applies events to the state: netconf messages, links that appear or change, and writes of unannounced settings.

use super::queue::{Job, Repair};
use super::schedule::GLOBAL;
use super::settings::Placed;
use super::{SettingId, State, interface};
use crate::kernel::message::Link;
use crate::kernel::netconf::{self, NetconfMessage};
use crate::report::decision::Verdict;
use crate::report::record::Cause;
use crate::setting::{ALL, Attribute, DEFAULT, Family, Key};

impl State {
    /// Whether the policy names anything of IPv6 that netconf messages announce.
    pub fn guards_ipv6(&self) -> bool {
        self.policy.guards_forwarding(Family::V6)
    }

    /// Whether an interface has, or is about to have, other settings than are known: under another name, or made anew because of
    /// its MTU.
    pub fn gives_other_settings(&self, link: &Link) -> bool {
        let known = self.settings.interface(link.ifindex);
        known.is_some_and(|known| known.complete && (known.name != link.name || known.has_other_mtu(link)))
    }

    /// An interface's name and state, received at `at` (monotonic microseconds). `complete`: they come of the kernel's link
    /// message, which is the last when an interface is made; without it only a netconf message was received so far.
    pub fn apply_link(&mut self, link: &Link, complete: bool, at: u64) {
        let other_settings = complete && self.gives_other_settings(link);
        let Placed { renamed, lost, arrival, .. } = self.place(link, complete);
        let Some((first, came_up)) = arrival else { return };
        let other_settings = other_settings || renamed || lost;
        for (family, attribute) in interface::ANNOUNCED {
            // Linux 3.10 sends no netconf message for a new interface (net/ipv4/devinet.c before 4.9).
            let id = SettingId::Announced(family, attribute, link.ifindex);
            let unannounced = first && self.settings.cell(&id).is_some_and(|cell| cell.current.is_none());
            if unannounced || other_settings {
                self.check(id, Cause::Link, unannounced.then_some(at));
            }
        }
        if first || other_settings && !renamed {
            self.settings.note_here(link.name);
        }
        if first || other_settings || came_up {
            self.link_schedule.mark_changed(link.ifindex, first || other_settings);
            self.link_schedule.mark_changed(GLOBAL, false);
        }
    }

    /// Puts a link where it belongs, under the name that it has now.
    pub(super) fn place(&mut self, link: &Link, complete: bool) -> Placed {
        let mut placed = self.settings.place(&self.policy, link, complete);
        if let Some(old) = placed.old {
            self.forget_baselines(old.as_ref());
        }
        self.forget_unannounced(std::mem::take(&mut placed.dropped));
        placed
    }

    /// Settings that an interface had under a name that it no longer has.
    pub(super) fn forget_unannounced(&mut self, keys: Vec<Key>) {
        for id in keys.into_iter().map(SettingId::Unannounced) {
            self.outcomes.forget(&id);
            self.forget_contest(&id);
        }
    }

    pub fn remove_link(&mut self, ifindex: i32) {
        self.link_schedule.forget(ifindex);
        if let Some((name, unannounced)) = self.settings.remove(ifindex) {
            self.forget_baselines(name.as_ref());
            self.forget_unannounced(unannounced);
        }
        for (family, attribute) in interface::ANNOUNCED {
            self.forget_contest(&SettingId::Announced(family, attribute, ifindex));
        }
        self.outcomes.forget_interface(ifindex);
        self.queue.forget_interface(ifindex);
    }

    /// A netconf message, received at `at` (monotonic microseconds). Its interface must be known.
    pub fn apply_netconf(&mut self, message: &NetconfMessage, at: u64) {
        let registration = message.settings > 1;
        self.apply_message(message, if registration { Cause::Link } else { Cause::Write }, Some(at));
        // Settings made anew from default, as when the MTU was below the family's least: the others are not announced.
        let made_anew = message.ifindex.filter(|_| registration).and_then(|ifindex| {
            let known = self.settings.interface(ifindex).filter(|known| known.complete)?;
            Some((ifindex, known.name))
        });
        if let Some((ifindex, name)) = made_anew {
            self.settings.note_here(name);
            self.check_unannounced(ifindex, Cause::Link);
        }
        match (message.settings, message.other) {
            (1, Some(attribute)) => self.apply_unannounced(message, attribute, at),
            // Of IPv6's force_forwarding Linux 6.18 announces no more than the interface (inet6_netconf_fill_devconf).
            (0, None) => self.apply_unannounced(message, netconf::NETCONFA_FORCE_FORWARDING, at),
            _ => {}
        }
    }

    /// The kernel announces that a setting was changed whose value has to be read.
    fn apply_unannounced(&mut self, message: &NetconfMessage, attribute: u16, at: u64) {
        let (Some(family), Some(ifindex)) = (family_of(message), message.ifindex) else { return };
        let Some(name) = netconf::name_of(family, attribute) else { return };
        let Some(interface) = self.name(ifindex) else { return };
        let key = Key::in_table(family.folder(), "conf", interface.as_ref(), name);
        if let Some(leader) = key.follows() {
            // The kernel announces `all` last (addrconf_sysctl_ignore_routes_with_linkdown), and one drift is one repair.
            self.check(SettingId::Unannounced(leader), Cause::Write, Some(at));
        }
        if self.settings.is_guarded(&key) || matches!(ifindex, ALL | DEFAULT) {
            self.note_written(key, at, false);
        }
    }

    pub(super) fn apply_message(&mut self, message: &NetconfMessage, cause: Cause, at: Option<u64>) {
        let Some(ifindex) = message.ifindex else { return };
        let Some(family) = family_of(message) else { return };
        if let Some(value) = message.forwarding {
            if ifindex == ALL {
                self.fan_outs.note_all_notified(family, at.unwrap_or_default());
            }
            self.apply_value(family, Attribute::Forwarding, ifindex, value, cause, at);
            if (family, ifindex) == (Family::V6, ALL) && at.is_some() && !self.fan_outs.is_on(family) {
                self.check_default_of_ipv6(cause);
            }
        }
        if let Some(value) = message.rp_filter.filter(|_| family == Family::V4) {
            self.apply_value(family, Attribute::RpFilter, ifindex, value, cause, at);
        }
    }

    fn apply_value(
        &mut self,
        family: Family,
        attribute: Attribute,
        ifindex: i32,
        value: i32,
        cause: Cause,
        at: Option<u64>,
    ) {
        let id = SettingId::Announced(family, attribute, ifindex);
        let Some(cell) = self.settings.cell(&id).copied() else { return };
        let (before, changed) = (cell.current, cell.current != Some(value));
        let wrong = cell.entry.is_some_and(|entry| !self.wants(entry, value));
        let right = cell.entry.is_some() && !wrong;
        let is_known_and_right = !changed && cell.baseline == before && right;
        if is_known_and_right && at.is_none() && self.queue.is_empty() && !self.fan_outs.is_on(family) {
            return; // as most of a full read
        }
        let reopened = self.apply_to_fan_out(&id, value, cause, at);
        let in_fan_out = attribute == Attribute::Forwarding && self.fan_outs.is_on(family);
        let excluded = || self.settings.key_of(&id).is_some_and(|key| self.policy.excludes(&key));
        let keeps_closed = in_fan_out && cell.baseline.is_none() && (right || excluded());
        let went_with_all = in_fan_out && self.is_against_all(family, value);
        if before.is_none() {
            self.settings.recount();
        }
        if cell.entry.is_none() && !in_fan_out {
            self.outcomes.forget_written(&id); // another process wrote a setting that the policy does not name
        }
        if let Some(cell) = self.settings.cell_mut(&id) {
            cell.current = Some(value);
            cell.went_with_all |= went_with_all;
            if !in_fan_out || keeps_closed {
                cell.baseline = Some(value);
            }
        }
        if id == SettingId::Announced(Family::V4, Attribute::Forwarding, ALL) && cell.entry.is_none() && changed {
            // The kernel's change of it is announced nowhere (inet_forward_change).
            self.check(SettingId::Unannounced(Key::all_accept_redirects()), cause, at);
        }
        if attribute == Attribute::RpFilter && ifindex == DEFAULT && changed && before.is_some() {
            // A write to default changes interfaces without a notification (devinet_copy_dflt_conf).
            self.reads.request(cause);
        }
        let is_judged = !in_fan_out || ifindex == ALL;
        if self.notes_decisions() && at.is_some() && !(wrong && is_judged) {
            let verdict = match cell.entry {
                Some(_) if wrong => Verdict::AllFirst,
                Some(_) => Verdict::Holds,
                None if self.settings.key_of(&id).is_some_and(|key| self.policy.excludes(&key)) => Verdict::Excluded,
                None => Verdict::NotNamed,
            };
            self.note_decision(&id, Some(value), verdict);
        }
        if wrong && is_judged {
            let job = Job {
                received: at,
                old: before.map(|value| value.to_string()),
                known_good: self.reads.last(),
                ..Job::new(cell.entry, cause)
            };
            self.queue.add(id, job).new = Some(value.to_string());
        } else if cell.entry.is_some() {
            if right {
                self.outcomes.end_failure(&id);
            }
            self.queue.remove(id);
        }
        if reopened {
            self.check(SettingId::Announced(family, Attribute::Forwarding, ALL), cause, at);
        }
    }

    /// A process wrote a setting whose value is read then, as was noticed at `at` (monotonic microseconds). `own`: it may have been
    /// fwdguard alone, which knows what its writes change.
    pub fn note_written(&mut self, key: Key, at: u64, own: bool) {
        if let Some(other) = key.other_name() {
            self.note_written_name(other, at, own);
        }
        self.note_written_name(key, at, own);
    }

    fn note_written_name(&mut self, key: Key, at: u64, own: bool) {
        if !own {
            self.check_followers(&key, at);
        }
        if self.is_baseline(&key) {
            self.doubt_baseline(key);
            return;
        }
        let id = SettingId::Unannounced(key);
        // One that the kernel did not keep waits for audits: this may be our own write, and the next would be, too.
        if self.outcomes.failure(&id) != Some(None) {
            self.check(id, Cause::Write, Some(at));
        }
    }

    /// `None` for a setting whose changes are announced, or that the policy does not name; else whether it is one of the many that
    /// a pattern makes of interfaces, and so the first to go without a watch.
    pub fn watch_yields(&self, repair: &Repair) -> Option<bool> {
        if matches!(repair.id, SettingId::Announced(..)) {
            return None;
        }
        // Also where it is only written back: it may never have been checked.
        let entry = self.settings.entry_of(&repair.id)?;
        let of_pattern = self.policy.entries()[entry].sets().is_none();
        Some(
            of_pattern
                && repair.key.place().is_some_and(|place| place.interface != "all" && place.interface != "default"),
        )
    }
}

fn family_of(message: &NetconfMessage) -> Option<Family> {
    Family::BOTH.into_iter().find(|family| family.number() == message.family)
}
