//! Applies events to the state: netconf messages, links that appear or change, and writes of unannounced settings.

use std::collections::HashMap;

use super::deferred::all_forwarding;
use super::fan_out::FanOut;
use super::interface::{self, Interface, Unannounced};
use super::schedule::GLOBAL;
use super::{Job, Move, Repair, SettingId, State, rank};
use crate::kernel::message::Link;
use crate::kernel::name::Name;
use crate::kernel::netconf::{self, NetconfMessage};
use crate::report::decision::Verdict;
use crate::report::record::Cause;
use crate::setting::{ALL, Attribute, DEFAULT, Family, Key};

impl State {
    /// How many interfaces there are, `all` and `default` included.
    pub fn known(&self) -> usize {
        self.interfaces.len()
    }

    pub fn knows(&self, ifindex: i32) -> bool {
        self.interfaces.contains_key(&ifindex)
    }

    /// Whether these, which are sorted, are all interfaces that there are.
    pub fn knows_just(&self, indices: &[i32]) -> bool {
        self.interfaces.range(1..).map(|(ifindex, _)| ifindex).eq(indices)
    }

    pub fn name(&self, ifindex: i32) -> Option<Name> {
        self.interfaces.get(&ifindex).map(|interface| interface.name)
    }

    /// Whether the policy names anything of IPv6 that netconf messages tell of.
    pub fn guards_ipv6(&self) -> bool {
        self.policy.guards_forwarding(Family::V6)
    }

    /// Whether this says that an interface has, or is about to have, other settings than are known: under another name, or made
    /// anew because of its MTU.
    pub fn gives_other_settings(&self, link: &Link) -> bool {
        let known = self.interfaces.get(&link.ifindex);
        known.is_some_and(|known| known.complete && (known.name != link.name || known.has_other_mtu(link)))
    }

    /// An interface's name and state, received at `at` (monotonic microseconds). `complete`: the kernel's link message said so,
    /// which comes last when an interface is made; without it only a netconf message has come so far.
    pub fn apply_link(&mut self, link: &Link, complete: bool, at: u64) {
        let other_settings = complete && self.gives_other_settings(link);
        let (renamed, arrival) = self.place(link, complete);
        let Some((first, came_up)) = arrival else { return };
        let other_settings = other_settings || renamed;
        for (family, attribute) in interface::ANNOUNCED {
            // Linux 3.10 sends no netconf message for a new interface (net/ipv4/devinet.c before 4.9).
            let slot = SettingId::Announced(family, attribute, link.ifindex);
            let unheard = first && self.cell(&slot).is_some_and(|cell| cell.current.is_none());
            if unheard || other_settings {
                self.check(slot, Cause::Link, unheard.then_some(at));
            }
        }
        if first || other_settings && !renamed {
            self.moves.push(Move::Here(link.name));
        }
        if first || other_settings || came_up {
            self.link_schedule.mark_changed(link.ifindex, first || other_settings);
            self.link_schedule.mark_changed(GLOBAL, false);
        }
    }

    /// Puts a link where it belongs, under the name that it has now. Says whether it had another before, and where it is
    /// `complete`, what [`Interface::arrive`] says.
    pub(super) fn place(&mut self, link: &Link, complete: bool) -> (bool, Option<(bool, bool)>) {
        let interface = self.interfaces.entry(link.ifindex).or_insert_with(|| Interface::new(link.name).into());
        let (renamed, mut old) = (interface.name != link.name, None);
        if renamed || interface.is_new {
            drop_unannounced(interface, &mut self.unannounced, &mut self.gone);
            if renamed {
                self.moves.push(Move::Gone(interface.name));
                self.moves.push(Move::Here(link.name));
            }
            if renamed && interface.complete {
                old = Some(interface.name);
            }
            interface.name = link.name;
            interface.apply(&self.policy, &mut self.unannounced);
            interface.is_new = false;
            self.counts = None;
        }
        interface.take_mtu(link);
        let arrival = complete.then(|| interface.arrive(link.up));
        if let Some(old) = old {
            self.forget_baselines(old.as_ref());
        }
        (renamed, arrival)
    }

    pub fn remove_link(&mut self, ifindex: i32) {
        self.link_schedule.forget(ifindex);
        let gone = self.interfaces.remove(&ifindex);
        if let Some(interface) = &gone {
            self.forget_baselines(interface.name.as_ref());
        }
        self.moves.extend(gone.as_ref().map(|interface| Move::Gone(interface.name)));
        for key in gone.into_iter().flat_map(|interface| interface.unannounced) {
            self.unannounced.remove(&key);
            self.failed.remove(&SettingId::Unannounced(key.clone()));
            self.forget_contest(&SettingId::Unannounced(key.clone()));
            self.gone.push(key);
        }
        for (family, attribute) in interface::ANNOUNCED {
            self.forget_contest(&SettingId::Announced(family, attribute, ifindex));
        }
        self.failed.retain(|slot, _| !matches!(slot, SettingId::Announced(_, _, index) if *index == ifindex));
        self.written.retain(|slot, _| !matches!(slot, SettingId::Announced(_, _, index) if *index == ifindex));
        self.counts = None;
        self.jobs.retain(|(_, slot), _| !matches!(slot, SettingId::Announced(_, _, index) if *index == ifindex));
    }

    /// A netconf message, received at `at` (monotonic microseconds). Its interface must be known.
    pub fn apply_netconf(&mut self, message: &NetconfMessage, at: u64) {
        let registration = message.settings > 1;
        self.apply_message(message, if registration { Cause::Link } else { Cause::Write }, Some(at));
        // Settings made anew from default, as when the MTU was below the family's least: of the others nothing is said.
        let made_anew = |ifindex| registration && self.interfaces.get(&ifindex).is_some_and(|known| known.complete);
        if let Some(ifindex) = message.ifindex.filter(|ifindex| made_anew(*ifindex)) {
            self.moves.extend(self.interfaces.get(&ifindex).map(|known| Move::Here(known.name)));
            self.check_unannounced(ifindex, Cause::Link);
        }
        match (message.settings, message.other) {
            (1, Some(attribute)) => self.apply_unannounced(message, attribute, at),
            // Of IPv6's force_forwarding Linux 6.18 says no more than whose it is (inet6_netconf_fill_devconf).
            (0, None) => self.apply_unannounced(message, netconf::NETCONFA_FORCE_FORWARDING, at),
            _ => {}
        }
    }

    /// The kernel tells that a setting was changed whose value is read.
    fn apply_unannounced(&mut self, message: &NetconfMessage, attribute: u16, at: u64) {
        let (Some(family), Some(ifindex)) = (family_of(message), message.ifindex) else { return };
        let Some(name) = netconf::name_of(family, attribute) else { return };
        let Some(interface) = self.interfaces.get(&ifindex).filter(|_| !self.unannounced.is_empty()) else { return };
        let key = Key::in_table(family.folder(), "conf", interface.name.as_ref(), name);
        if let Some(leader) = key.follows() {
            // The kernel tells of `all` last (addrconf_sysctl_ignore_routes_with_linkdown), and one drift is one repair.
            self.check(SettingId::Unannounced(leader), Cause::Write, Some(at));
        }
        if self.unannounced.contains_key(&key) || matches!(ifindex, ALL | DEFAULT) {
            self.note_written(key, at, false);
        }
    }

    pub(super) fn apply_message(&mut self, message: &NetconfMessage, cause: Cause, at: Option<u64>) {
        let Some(ifindex) = message.ifindex else { return };
        let Some(family) = family_of(message) else { return };
        if let Some(value) = message.forwarding {
            if ifindex == ALL {
                self.all_notified[family as usize] = at.unwrap_or_default();
            }
            self.apply_value(family, Attribute::Forwarding, ifindex, value, cause, at);
            if (family, ifindex) == (Family::V6, ALL) && at.is_some() && self.fan_outs[Family::V6 as usize].is_none() {
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
        let slot = SettingId::Announced(family, attribute, ifindex);
        let Some(cell) = self.cell(&slot).copied() else { return };
        let (before, changed) = (cell.current, cell.current != Some(value));
        let is_known_and_right =
            !changed && cell.baseline == before && cell.entry.is_some_and(|e| self.wants(e, value));
        if is_known_and_right && at.is_none() && self.jobs.is_empty() && self.fan_outs[family as usize].is_none() {
            return; // as most of what a full read says
        }
        // What the kernel says first of a fan-out (inet_forward_change, addrconf_fixup_forwarding).
        let first_said = if family == Family::V4 { ALL } else { DEFAULT };
        let against_all =
            attribute == Attribute::Forwarding && self.all_entry(family).is_some_and(|entry| !self.wants(entry, value));
        let reopened = self.is_reopened(&slot, value, at);
        if attribute == Attribute::Forwarding
            && ifindex == first_said
            && let Some(fan_out) = &mut self.fan_outs[family as usize]
        {
            if !against_all {
                fan_out.own_write_reported = true;
            } else if fan_out.own_write_reported && changed {
                // The next drift begins, so the last repair's fan-out is over, though more waits to be heard.
                fan_out.own_write_reported = false;
                self.publish_fan_out(family);
            }
        }
        let wrong = cell.entry.is_some_and(|entry| !self.wants(entry, value));
        if attribute == Attribute::Forwarding && self.fan_outs[family as usize].is_none() {
            if ifindex == ALL && (wrong || reopened) {
                self.fan_outs[family as usize] =
                    Some(FanOut { own_write_reported: reopened, ..FanOut::new(cause, at) });
            } else if ifindex != ALL && family == Family::V6 && before.is_some() && changed {
                // IPv6 tells of `all` last (addrconf_fixup_forwarding): ask before taking this for the interface's own.
                self.suspect_all(family, cause, at);
            }
        }
        let in_fan_out = attribute == Attribute::Forwarding && self.fan_outs[family as usize].is_some();
        if let Some(fan_out) = self.fan_outs[family as usize].as_mut().filter(|_| in_fan_out) {
            fan_out.held &= !against_all;
            if ifindex == ALL {
                fan_out.reported_wrong = wrong;
                fan_out.reopened |= reopened;
            }
        }
        let excluded = || self.key_of(&slot).is_some_and(|key| self.policy.excludes(&key));
        let right = cell.entry.is_some() && !wrong;
        let keep_closed = in_fan_out && cell.baseline.is_none() && (right || excluded());
        if before.is_none() {
            self.counts = None;
        }
        if cell.entry.is_none() && !in_fan_out {
            self.written.remove(&slot); // somebody else's word on a setting that the policy does not name
        }
        if let Some(cell) = self.cell_mut(&slot) {
            cell.current = Some(value);
            cell.went_with_all |= in_fan_out && against_all;
            if !in_fan_out || keep_closed {
                cell.baseline = Some(value);
            }
        }
        if slot == SettingId::Announced(Family::V4, Attribute::Forwarding, ALL) && cell.entry.is_none() && changed {
            // The kernel's change of it is announced nowhere (inet_forward_change).
            self.check(SettingId::Unannounced(Key::all_accept_redirects()), cause, at);
        }
        if attribute == Attribute::RpFilter && ifindex == DEFAULT && changed && before.is_some() {
            // A write to default changes interfaces in silence (devinet_copy_dflt_conf).
            self.reread = Some(cause);
        }
        if self.decisions.is_some() && at.is_some() && !(wrong && (!in_fan_out || ifindex == ALL)) {
            let verdict = match cell.entry {
                Some(_) if wrong => Verdict::AllFirst,
                Some(_) => Verdict::Holds,
                None if self.key_of(&slot).is_some_and(|key| self.policy.excludes(&key)) => Verdict::Excluded,
                None => Verdict::NotNamed,
            };
            self.note_decision(&slot, Some(value), verdict);
        }
        if wrong && (!in_fan_out || ifindex == ALL) {
            let job = Job {
                received: at,
                old: before.map(|v| v.to_string()),
                new: Some(value.to_string()),
                known_good: self.read_at,
                ..Job::new(cell.entry, cause)
            };
            self.jobs.entry((rank(&slot), slot)).or_insert(job).new = Some(value.to_string());
        } else if cell.entry.is_some() && !self.jobs.is_empty() {
            self.jobs.remove(&(rank(&slot), slot));
        }
        if reopened {
            self.check(all_forwarding(family), cause, at);
        }
    }

    /// Whether the kernel says that it makes every interface what the policy wants of `all`, though `all` was that already.
    ///
    /// A writer of 0 that finds 0 there does nothing, but looks twice (`devinet_sysctl_forward`): if our 1 comes in between,
    /// it goes through with a change to 1 (`inet_forward_change`), as soon as it has the lock. So interfaces that were closed
    /// stand open, and nobody wanted that.
    fn is_reopened(&self, slot: &SettingId, value: i32, at: Option<u64>) -> bool {
        let SettingId::Announced(Family::V4, Attribute::Forwarding, ALL) = slot else { return false };
        let known = self.cell(slot).is_some_and(|cell| {
            cell.current == Some(value) && cell.entry.is_some_and(|entry| self.wants(entry, value))
        });
        // Read, not heard, it is no news; and the first after our own write is the kernel's word on that.
        known
            && self.wrote_all
            && at.is_some()
            && self.fan_outs[Family::V4 as usize].as_ref().is_none_or(|fan_out| fan_out.own_write_reported)
    }

    /// Whether something is left to do, or to be read again.
    pub fn is_in_doubt(&self) -> bool {
        self.reread.is_some() || self.is_busy() || self.awaits_idle()
    }

    /// Nothing waits to be heard. Says whether everything has to be read again all the same, and why.
    pub fn idle(&mut self) -> Option<Cause> {
        for family in Family::BOTH {
            if self.fan_outs[family as usize].is_some() && !self.is_to_come(all_forwarding(family)) {
                // It holds, or whoever broke it has mended it before it could be looked at.
                self.publish_fan_out(family);
                self.end_unless_in_doubt(family);
                self.redirects_in_doubt |= family == Family::V4;
            }
        }
        self.reread.take()
    }

    /// Whether `all.accept_redirects` has to be read: who mends `all.forwarding` himself has the kernel set it.
    pub fn redirects_in_doubt(&mut self) -> bool {
        std::mem::take(&mut self.redirects_in_doubt)
    }

    /// Somebody wrote a setting whose value is read then, as was noticed at `at` (monotonic microseconds). `own`: it may have been
    /// the guard alone, which knows what its writes change.
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
        let slot = SettingId::Unannounced(key);
        // One that the kernel did not keep waits for audits: this may be our own write, and the next would be, too.
        if self.failed.get(&slot) != Some(&None) {
            self.check(slot, Cause::Write, Some(at));
        }
    }

    /// Settings whose changes are not announced and that are not guarded any more, since the last time.
    pub fn take_gone(&mut self) -> Vec<Key> {
        let mut gone = std::mem::take(&mut self.gone);
        gone.retain(|key| {
            !self.unannounced.contains_key(key) && !self.is_known_baseline(key) && self.followers(key).next().is_none()
        });
        gone
    }

    /// `None` for a setting whose changes are announced, or that is only put back; else whether it is one of the many that
    /// a pattern makes of interfaces, and so the first to go without a watch.
    pub fn watch_yields(&self, repair: &Repair) -> Option<bool> {
        let entry = repair.job.entry.filter(|_| matches!(repair.slot, SettingId::Unannounced(_)))?;
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

pub(super) fn drop_unannounced(
    interface: &mut Interface,
    unannounced: &mut HashMap<Key, Unannounced>,
    gone: &mut Vec<Key>,
) {
    for key in interface.unannounced.drain(..) {
        unannounced.remove(&key);
        gone.push(key);
    }
}
