//! The fan-out of `all.forwarding`: one write changes every interface, and so does the repair.
//!
//! It owns what is known of a fan-out until its last message was received. Until then, an interface's message is not its own
//! change, and no baseline changes.

use std::collections::HashSet;
use std::sync::Arc;

use super::queue::{Job, Repair};
use super::{SettingId, State};
use crate::report::record::{Cause, Record};
use crate::setting::{ALL, Attribute, DEFAULT, Family, Key, number, same_value};

/// So many checks of `all` in a row that find it right are enough: what is received in between comes of a process that writes
/// without end.
const CHECKS_MAX: u32 = 8;
/// While `all.forwarding` is contested, interfaces are judged only when it has not changed for so long, in microseconds.
const CALM: u64 = 10_000;

/// `all.forwarding` of one family is wrong, or its fan-out is not over: until then, interfaces' messages of forwarding come of
/// it, and are judged when it is over.
#[derive(Debug)]
struct FanOut {
    cause: Cause,
    /// When the first notification of it was received, if one was.
    received: Option<u64>,
    /// The record of the repair, published when it is known how many interfaces were restored with it.
    record: Option<Record>,
    /// The kernel has begun to announce our write.
    own_write_reported: bool,
    /// The value of `all` that was last announced or read is wrong.
    reported_wrong: bool,
    /// `all` was checked and holds, and nothing else was announced since.
    held: bool,
    /// How many checks in a row found that it holds.
    checks: u32,
    /// The kernel opened all interfaces again, without a process that wanted that.
    reopened: bool,
    /// Interfaces that were written back to their baseline, by ifindex.
    written_back: HashSet<i32>,
}

impl FanOut {
    fn new(cause: Cause, received: Option<u64>) -> FanOut {
        FanOut {
            cause,
            received,
            record: None,
            own_write_reported: false,
            reported_wrong: false,
            held: false,
            checks: 0,
            reopened: false,
            written_back: HashSet::new(),
        }
    }
}

/// The fan-outs of both families, and when `all.forwarding` was last announced and written.
#[derive(Debug, Default)]
pub struct FanOuts {
    of: [Option<FanOut>; 2],
    /// IPv4's `all.forwarding` was written not long ago, and not everything has been read since: the write of another process
    /// that met ours may still go through ([`State::is_reopened`]).
    wrote_all: bool,
    /// When a change of `all.forwarding` of each family was last announced, and when to check whether it has come to rest.
    all_notified: [u64; 2],
    calm_due: Option<u64>,
}

impl FanOuts {
    pub fn is_on(&self, family: Family) -> bool {
        self.of[family as usize].is_some()
    }

    fn get_mut(&mut self, family: Family) -> Option<&mut FanOut> {
        self.of[family as usize].as_mut()
    }

    /// `all.forwarding` is to be checked, which may begin a fan-out.
    pub fn expect(&mut self, family: Family, cause: Cause, received: Option<u64>) {
        self.of[family as usize].get_or_insert_with(|| FanOut::new(cause, received));
    }

    pub fn note_all_notified(&mut self, family: Family, at: u64) {
        self.all_notified[family as usize] = at;
    }

    pub fn note_written_back(&mut self, family: Family, ifindex: i32) {
        if let Some(fan_out) = self.get_mut(family) {
            fan_out.written_back.insert(ifindex);
        }
    }

    /// `all.forwarding` was repaired; the record is `None` if it has none of its own.
    pub fn note_repair(&mut self, family: Family, cause: Cause, received: Option<u64>, record: Option<Record>) {
        self.expect(family, cause, received);
        if let Some(fan_out) = self.get_mut(family) {
            (fan_out.record, fan_out.own_write_reported) = (record, false);
            (fan_out.held, fan_out.checks) = (false, 0);
        }
    }

    pub fn note_all_written(&mut self, family: Family) {
        self.wrote_all |= family == Family::V4;
    }

    /// No write of another process can have met ours of `all.forwarding` any more.
    pub fn forget_all_written(&mut self) {
        self.wrote_all = false;
    }

    /// Nothing was received of IPv4's `all.forwarding` since it was written: the kernel may have opened all interfaces again.
    pub fn suspect_reopened(&mut self) {
        if std::mem::take(&mut self.wrote_all) {
            self.expect(Family::V4, Cause::Write, None);
            self.of[Family::V4 as usize].iter_mut().for_each(|fan_out| fan_out.reopened = true);
        }
    }

    /// When a contested `all.forwarding` will have come to rest.
    pub fn calm_at(&self, family: Family) -> u64 {
        self.all_notified[family as usize] + CALM
    }

    pub fn calm_due(&self) -> Option<u64> {
        self.calm_due
    }

    pub fn wait_for_calm(&mut self, now: u64) {
        self.calm_due.get_or_insert(now + CALM);
    }

    pub fn take_calm(&mut self, now: u64) -> bool {
        self.calm_due.take_if(|due| *due <= now).is_some()
    }
}

impl State {
    /// Applies a message of forwarding to the fan-out of its family: begins one, or notes how far it has come. Says whether the
    /// kernel opened all interfaces again.
    pub(super) fn apply_to_fan_out(&mut self, id: &SettingId, value: i32, cause: Cause, at: Option<u64>) -> bool {
        let SettingId::Announced(family, Attribute::Forwarding, ifindex) = *id else { return false };
        if family == Family::V4 && ifindex != ALL && !self.fan_outs.is_on(family) {
            return false; // IPv4 announces `all` first
        }
        let Some(cell) = self.settings.cell(id).copied() else { return false };
        let changed = cell.current != Some(value);
        let wrong = cell.entry.is_some_and(|entry| !self.wants(entry, value));
        let against_all = self.is_against_all(family, value);
        let reopened = self.is_reopened(id, value, at);
        // What the kernel announces first of a fan-out (inet_forward_change, addrconf_fixup_forwarding).
        let announced_first = if family == Family::V4 { ALL } else { DEFAULT };
        if let Some(fan_out) = self.fan_outs.get_mut(family).filter(|_| ifindex == announced_first) {
            if !against_all {
                fan_out.own_write_reported = true;
            } else if fan_out.own_write_reported && changed {
                // The next drift begins, so the last repair's fan-out is over, though more is to be received.
                fan_out.own_write_reported = false;
                self.publish_fan_out(family);
            }
        }
        if !self.fan_outs.is_on(family) {
            if ifindex == ALL && (wrong || reopened) {
                let fan_out = FanOut { own_write_reported: reopened, ..FanOut::new(cause, at) };
                self.fan_outs.of[family as usize] = Some(fan_out);
            } else if ifindex != ALL && family == Family::V6 && cell.current.is_some() && changed {
                // IPv6 announces `all` last (addrconf_fixup_forwarding): it is checked before this counts as the interface's own.
                self.suspect_all(family, cause, at);
            }
        }
        if let Some(fan_out) = self.fan_outs.get_mut(family) {
            fan_out.held &= !against_all;
            if ifindex == ALL {
                fan_out.reported_wrong = wrong;
                fan_out.reopened |= reopened;
            }
        }
        reopened
    }

    /// Whether the policy wants another value of `all.forwarding`.
    pub(super) fn is_against_all(&self, family: Family, value: i32) -> bool {
        self.all_entry(family).is_some_and(|entry| !self.wants(entry, value))
    }

    /// Whether the kernel announces that it makes every interface what the policy wants of `all`, though `all` was that already.
    ///
    /// A process that writes 0 where 0 is does nothing, but the kernel compares twice (`devinet_sysctl_forward`): if our 1 comes
    /// in between, its write goes through with a change to 1 (`inet_forward_change`), as soon as it has the lock. So interfaces
    /// that were closed are opened, and no process wanted that.
    fn is_reopened(&self, id: &SettingId, value: i32, at: Option<u64>) -> bool {
        let SettingId::Announced(Family::V4, Attribute::Forwarding, ALL) = id else { return false };
        let known = self.settings.cell(id).is_some_and(|cell| {
            cell.current == Some(value) && cell.entry.is_some_and(|entry| self.wants(entry, value))
        });
        // A value that was read is no notification; and the first notification after our own write is of that.
        let fan_out = self.fan_outs.of[Family::V4 as usize].as_ref();
        known && self.fan_outs.wrote_all && at.is_some() && fan_out.is_none_or(|fan_out| fan_out.own_write_reported)
    }

    pub(super) fn suspect_all(&mut self, family: Family, cause: Cause, at: Option<u64>) {
        if self.all_entry(family).is_some() {
            self.fan_outs.of[family as usize] = Some(FanOut::new(cause, at));
            self.check(all_forwarding(family), cause, at);
        }
    }

    /// Whether a fan-out is over as soon as nothing is left to be received ([`State::idle`]).
    pub fn awaits_idle(&self) -> bool {
        let held = |family: &Family| self.fan_outs.of[*family as usize].as_ref().is_some_and(|fan_out| fan_out.held);
        Family::BOTH.into_iter().filter(held).any(|family| !self.queue.contains(&all_forwarding(family)))
    }

    /// Nothing is left to be received. Says whether everything has to be read again all the same, and why.
    pub fn idle(&mut self) -> Option<Cause> {
        for family in Family::BOTH {
            if self.fan_outs.is_on(family) && !self.queue.contains(&all_forwarding(family)) {
                // It holds, or the process that broke it has repaired it before it could be checked.
                self.publish_fan_out(family);
                self.end_unless_in_doubt(family);
                if family == Family::V4 {
                    self.doubt_redirects();
                }
            }
        }
        self.reads.take_request()
    }

    /// What a write of `all.forwarding` changed on settings that the policy does not name, or names otherwise, to be written
    /// back at once: until then an interface that was closed on purpose is open.
    pub fn write_backs(&self, family: Family) -> Vec<Repair> {
        let redirects = self.redirects_baseline().filter(|_| family == Family::V4).and_then(|value| {
            let key = Key::all_accept_redirects();
            if self.settings.is_guarded(&key) { None } else { self.write_back(SettingId::Unannounced(key), value) }
        });
        self.closed(family).filter_map(|(id, value)| self.write_back(id, &value.to_string())).chain(redirects).collect()
    }

    /// The interfaces' forwarding that a write of the policy's value to `all.forwarding` makes other than it should be, and
    /// what it should be.
    fn closed(&self, family: Family) -> impl Iterator<Item = (SettingId, i32)> {
        let wanted = self.all_entry(family).and_then(|entry| self.policy.entries()[entry].number);
        self.settings.interfaces().filter_map(move |(ifindex, interface)| {
            let cell = interface.cell(family, Attribute::Forwarding);
            let baseline = cell.baseline.filter(|baseline| {
                let right = cell.entry.is_none_or(|entry| self.wants(entry, *baseline));
                right && Some(i64::from(*baseline)) != wanted
            })?;
            Some((SettingId::Announced(family, Attribute::Forwarding, ifindex), baseline))
        })
    }

    fn write_back(&self, id: SettingId, value: &str) -> Option<Repair> {
        let key = self.settings.key_of(&id)?;
        let job = Job::new(None, Cause::Write);
        Some(Repair { key, wanted: value.into(), learned: None, learn: false, id, job })
    }

    /// Everything that the kernel announced of our write of `all.forwarding` was received: publishes the record of the drift.
    pub fn fan_out_received(&mut self, family: Family) {
        self.publish_fan_out(family);
        if self.is_all_reported_wrong(family) {
            // Another process wrote in between: the fan-out goes on, and the baselines stay.
            return;
        }
        self.end_unless_in_doubt(family);
    }

    /// Nothing was written: `all` holds, or can't be repaired. Where it holds, the fan-out is over once everything that is left
    /// has been received: what is known of an interface may be what our own write made of it. Says whether an interface that should
    /// be closed may be open all the same; else [`State::idle`] ends it.
    pub(super) fn note_all_checked(&mut self, family: Family, holds: bool) -> bool {
        if !holds {
            self.end_fan_out(family);
            return false;
        }
        self.fan_outs.get_mut(family).is_some_and(|fan_out| {
            (fan_out.reported_wrong, fan_out.held, fan_out.checks) = (false, true, fan_out.checks + 1);
            std::mem::take(&mut fan_out.reopened)
        })
    }

    /// Ends a fan-out, unless `all` has to be checked first. IPv4 announces `all` first, but of two processes that write at once
    /// the kernel may take neither for a change (`devinet_sysctl_forward` compares before it has the lock), and then everything stays
    /// as the drift has left it. IPv6 announces `all` last (`addrconf_fixup_forwarding`): what was received of interfaces may be
    /// the beginning of the next drift.
    fn end_unless_in_doubt(&mut self, family: Family) {
        let in_doubt = |fan_out: &mut FanOut| match family {
            Family::V4 => fan_out.reported_wrong || fan_out.reopened,
            Family::V6 => !fan_out.held && fan_out.checks < CHECKS_MAX,
        };
        if self.fan_outs.get_mut(family).is_some_and(in_doubt) {
            self.check(all_forwarding(family), Cause::Write, None);
        } else {
            self.end_fan_out(family);
        }
    }

    /// Whether the last known value of `all.forwarding` is not the policy's.
    pub fn is_all_reported_wrong(&self, family: Family) -> bool {
        self.is_wrong(&all_forwarding(family))
    }

    /// Whether `value` is the policy's of `all.forwarding`, if it names that.
    pub fn all_holds(&self, family: Family, value: &str) -> bool {
        self.all_entry(family).is_none_or(|entry| same_value(self.policy.value(entry), value))
    }

    /// Publishes the record of a repair of `all.forwarding`, with the number of interfaces that lost forwarding with it and have
    /// it again.
    pub(super) fn publish_fan_out(&mut self, family: Family) {
        let Some(mut record) = self.fan_outs.get_mut(family).and_then(|fan_out| fan_out.record.take()) else { return };
        let wanted = self.all_entry(family).and_then(|entry| self.policy.entries()[entry].number);
        let mut restored = 0;
        for (ifindex, cell) in self.settings.cells_mut(family, Attribute::Forwarding) {
            let back = cell.current.map(i64::from) == wanted;
            let stays = cell.entry.is_some() || cell.baseline.is_none() || cell.baseline == cell.current;
            if back && std::mem::take(&mut cell.went_with_all) && stays && ifindex > 0 {
                restored += 1;
            }
        }
        if let Record::Repaired { interfaces, .. } = &mut record {
            *interfaces = restored;
        }
        self.output.publish(record);
    }

    /// Forgets all fan-outs in the middle. Baselines stay, should the next full read find another fan-out.
    pub(super) fn abandon_fan_outs(&mut self) {
        for family in Family::BOTH {
            self.publish_fan_out(family);
            if self.fan_outs.of[family as usize].take().is_some() {
                let cells = self.settings.cells_mut(family, Attribute::Forwarding);
                cells.for_each(|(_, cell)| cell.went_with_all = false);
            }
        }
        self.fan_outs.wrote_all = false;
    }

    /// From here on interfaces' messages are their own; those that are still wrong are checked.
    pub(super) fn end_fan_out(&mut self, family: Family) {
        self.publish_fan_out(family);
        let Some(fan_out) = self.fan_outs.of[family as usize].take() else { return };
        let wanted = self.all_entry(family).and_then(|entry| self.policy.entries()[entry].number);
        let muted = self.contests.is_muted(&all_forwarding(family));
        let mut wrong = Vec::new();
        for (ifindex, cell) in self.settings.cells_mut(family, Attribute::Forwarding) {
            if let (Some(entry), Some(current)) = (cell.entry, cell.current)
                && self.policy.entries()[entry].number != Some(i64::from(current))
                && ifindex != ALL
            {
                wrong.push((ifindex, cell.baseline));
            }
            cell.went_with_all = false;
            // What is not received any more is not known. And the notification of our write of `all` is older than the check that
            // found an interface closed, or closed it.
            if muted {
                continue;
            }
            if !fan_out.written_back.contains(&ifindex) || cell.current.map(i64::from) != wanted {
                cell.baseline = cell.current;
                let id = SettingId::Announced(family, Attribute::Forwarding, ifindex);
                let current = cell.current.map(i64::from);
                // Another process wrote what is there.
                self.outcomes.forget_written_back(&id, |ours: &Arc<str>| number(ours) != current);
            }
        }
        if !wrong.is_empty() {
            // It may have been right in passing: a process that waits for the RTNL lock shows its value before it has it.
            self.check(all_forwarding(family), fan_out.cause, fan_out.received);
        }
        for (ifindex, old) in wrong {
            let id = SettingId::Announced(family, Attribute::Forwarding, ifindex);
            let old = old.map(|value| value.to_string());
            self.check_knowing(id, fan_out.cause, fan_out.received, old);
        }
        match family {
            // Where the policy names it, the kernel's change of it is a drift like any other.
            Family::V4 => self.check(SettingId::Unannounced(Key::all_accept_redirects()), Cause::Write, None),
            Family::V6 => self.check_default_of_ipv6(Cause::Write),
        }
    }
}

pub(super) fn all_forwarding(family: Family) -> SettingId {
    SettingId::Announced(family, Attribute::Forwarding, ALL)
}
