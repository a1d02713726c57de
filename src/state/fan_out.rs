//! The fan-out of `all.forwarding`: one write changes every interface, and so does the repair.
//!
//! It owns what is known of a fan-out until its last message was received. Until then, an interface's message is not its own change,
//! and no baseline changes.

use std::collections::HashSet;
use std::sync::Arc;

use super::deferred::all_forwarding;
use super::{Job, Repair, SettingId, State};
use crate::report::record::{Cause, Record};
use crate::setting::{ALL, Attribute, Family, Key, number, same_value};

/// So many looks at `all` in a row that find it right are enough: what is said in between is somebody's who keeps writing.
const LOOKS_MAX: u32 = 8;

/// `all.forwarding` of one family is wrong, or its fan-out is not over: until then, what interfaces say of forwarding is
/// its doing and not theirs, and is judged when the fan-out is over.
#[derive(Debug)]
pub struct FanOut {
    pub cause: Cause,
    /// When it was first heard of, if it was.
    pub received: Option<u64>,
    /// The record of the repair, told when it is known how many interfaces went with it.
    pub record: Option<Record>,
    /// The kernel has begun to tell of our write.
    pub own_write_reported: bool,
    /// What the kernel last said of `all`, or was found there since, is wrong.
    pub reported_wrong: bool,
    /// `all` was looked at and holds, and nothing against it has been heard since.
    pub held: bool,
    /// How often in a row it held.
    pub looks: u32,
    /// The kernel opened all interfaces again, in nobody's name.
    pub reopened: bool,
    /// Interfaces that were put back to what they were before, by ifindex.
    pub written_back: HashSet<i32>,
}

impl FanOut {
    pub fn new(cause: Cause, received: Option<u64>) -> FanOut {
        FanOut {
            cause,
            received,
            record: None,
            own_write_reported: false,
            reported_wrong: false,
            held: false,
            looks: 0,
            reopened: false,
            written_back: HashSet::new(),
        }
    }
}

impl State {
    pub(super) fn suspect_all(&mut self, family: Family, cause: Cause, at: Option<u64>) {
        if self.all_entry(family).is_some() {
            self.fan_outs[family as usize] = Some(FanOut::new(cause, at));
            self.check(all_forwarding(family), cause, at);
        }
    }

    /// Somebody wrote `all.accept_redirects`, or the kernel may have; `None` if what stands there is not known.
    pub fn redirects(&mut self, value: Option<String>) {
        let key = Key::all_accept_redirects();
        if !self.unannounced.contains_key(&key) {
            self.written.remove(&SettingId::Unannounced(key)); // not ours any more
        }
        if self.fan_outs[Family::V4 as usize].is_none() {
            self.redirects = value;
        }
    }

    /// What a write of `all.forwarding` changed on settings that the policy does not name, or names otherwise, to be put
    /// back at once: until then an interface that was closed on purpose stands open.
    pub fn write_backs(&self, family: Family) -> Vec<Repair> {
        let redirects = self.redirects.as_ref().filter(|_| family == Family::V4).and_then(|value| {
            let key = Key::all_accept_redirects();
            if self.unannounced.contains_key(&key) { None } else { self.write_back(SettingId::Unannounced(key), value) }
        });
        self.closed(family)
            .filter_map(|(slot, value)| self.write_back(slot, &value.to_string()))
            .chain(redirects)
            .collect()
    }

    /// The interfaces' forwarding that a write of the policy's value to `all.forwarding` makes other than it should be, and
    /// what that is.
    pub(super) fn closed(&self, family: Family) -> impl Iterator<Item = (SettingId, i32)> {
        let wanted = self.all_entry(family).and_then(|entry| self.policy.entries()[entry].number);
        self.interfaces.iter().filter_map(move |(ifindex, interface)| {
            let cell = interface.cell(family, Attribute::Forwarding);
            let baseline = cell.baseline.filter(|baseline| {
                let right = cell.entry.is_none_or(|entry| self.wants(entry, *baseline));
                right && Some(i64::from(*baseline)) != wanted
            })?;
            Some((SettingId::Announced(family, Attribute::Forwarding, *ifindex), baseline))
        })
    }

    fn write_back(&self, slot: SettingId, value: &str) -> Option<Repair> {
        let key = self.key_of(&slot)?;
        let job = Job::new(None, Cause::Write);
        Some(Repair { key, wanted: value.into(), learned: None, learn: false, slot, job })
    }

    /// Everything that our write of `all.forwarding` made the kernel say has been heard: tells of the drift.
    pub fn fan_out_received(&mut self, family: Family) {
        self.publish_fan_out(family);
        if self.is_all_reported_wrong(family) {
            // Somebody wrote in between: the fan-out goes on, and what stood before it is still what stood before.
            return;
        }
        self.end_unless_in_doubt(family);
    }

    /// Nothing was written: `all` holds, or can't be put right. Where it holds, the fan-out is over once all that waits has been
    /// heard: what is known of an interface may be what our own write made of it. Says whether what should be closed may
    /// stand open all the same; else [`State::idle`] ends it.
    pub(super) fn note_all_checked(&mut self, family: Family, holds: bool) -> bool {
        if !holds {
            self.end_fan_out(family);
            return false;
        }
        self.fan_outs[family as usize].as_mut().is_some_and(|fan_out| {
            (fan_out.reported_wrong, fan_out.held, fan_out.looks) = (false, true, fan_out.looks + 1);
            std::mem::take(&mut fan_out.reopened)
        })
    }

    /// Ends a fan-out, unless `all` has to be looked at first. IPv4 tells of `all` first, but of two that write at once the
    /// kernel may take neither for a change (`devinet_sysctl_forward` compares before it has the lock), and then all stands
    /// as the drift has left it. IPv6 tells of `all` last (`addrconf_fixup_forwarding`): what was heard of interfaces may be
    /// the beginning of the next drift.
    pub(super) fn end_unless_in_doubt(&mut self, family: Family) {
        let in_doubt = |fan_out: &FanOut| match family {
            Family::V4 => fan_out.reported_wrong || fan_out.reopened,
            Family::V6 => !fan_out.held && fan_out.looks < LOOKS_MAX,
        };
        if self.fan_outs[family as usize].as_ref().is_some_and(in_doubt) {
            self.check(all_forwarding(family), Cause::Write, None);
        } else {
            self.end_fan_out(family);
        }
    }

    /// Whether the last that was heard of `all.forwarding` is not what the policy wants.
    pub fn is_all_reported_wrong(&self, family: Family) -> bool {
        self.is_wrong(&all_forwarding(family))
    }

    /// Whether `value` is what the policy wants of `all.forwarding`, if it wants anything.
    pub fn all_holds(&self, family: Family, value: &str) -> bool {
        self.all_entry(family).is_none_or(|entry| same_value(self.policy.value(entry), value))
    }

    /// Tells of the repair of `all.forwarding`, with the interfaces that lost forwarding with it and have it again.
    pub(super) fn publish_fan_out(&mut self, family: Family) {
        let Some(mut record) = self.fan_outs[family as usize].as_mut().and_then(|fan_out| fan_out.record.take()) else {
            return;
        };
        let all = self.cell(&all_forwarding(family)).and_then(|cell| cell.entry);
        let wanted = all.and_then(|entry| self.policy.entries()[entry].number);
        let mut went_with = 0;
        for (ifindex, interface) in &mut self.interfaces {
            let cell = interface.cell_mut(family, Attribute::Forwarding);
            let back = cell.current.map(i64::from) == wanted;
            let stays = cell.entry.is_some() || cell.baseline.is_none() || cell.baseline == cell.current;
            if back && std::mem::take(&mut cell.went_with_all) && stays && *ifindex > 0 {
                went_with += 1;
            }
        }
        if let Record::Repaired { interfaces, .. } = &mut record {
            *interfaces = went_with;
        }
        self.records.push(record);
    }

    /// Forgets a fan-out in the middle. What stood before it is still what stood before, should the next read find another.
    pub(super) fn abandon_fan_out(&mut self, family: Family) {
        self.publish_fan_out(family);
        if self.fan_outs[family as usize].take().is_some() {
            let interfaces = self.interfaces.values_mut();
            interfaces.for_each(|interface| interface.cell_mut(family, Attribute::Forwarding).went_with_all = false);
        }
    }

    /// From here on interfaces speak for themselves; those that are still wrong are looked at.
    pub(super) fn end_fan_out(&mut self, family: Family) {
        self.publish_fan_out(family);
        let Some(fan_out) = self.fan_outs[family as usize].take() else { return };
        let wanted = self.all_entry(family).and_then(|entry| self.policy.entries()[entry].number);
        let muted = self.contests.is_muted(&all_forwarding(family));
        let mut wrong = Vec::new();
        for (ifindex, interface) in &mut self.interfaces {
            let cell = interface.cell_mut(family, Attribute::Forwarding);
            if let (Some(entry), Some(current)) = (cell.entry, cell.current)
                && self.policy.entries()[entry].number != Some(i64::from(current))
                && *ifindex != ALL
            {
                wrong.push((*ifindex, cell.baseline));
            }
            cell.went_with_all = false;
            // What is not heard any more is not known. And the echo of our write of `all` is older than the look that found an
            // interface closed, or closed it.
            if muted {
                continue;
            }
            if !fan_out.written_back.contains(ifindex) || cell.current.map(i64::from) != wanted {
                cell.baseline = cell.current;
                let slot = SettingId::Announced(family, Attribute::Forwarding, *ifindex);
                let ours = |value: &Arc<str>| number(value) == cell.current.map(i64::from);
                if self
                    .written
                    .get(&slot)
                    .is_some_and(|written_back| written_back.as_ref().is_some_and(|value| !ours(value)))
                {
                    self.written.remove(&slot); // what stands there is somebody else's word
                }
            }
        }
        if !wrong.is_empty() {
            // It may have looked right in passing: a writer that waits for the RTNL lock shows its value before it has it.
            self.check(all_forwarding(family), fan_out.cause, fan_out.received);
        }
        for (ifindex, old) in wrong {
            let slot = SettingId::Announced(family, Attribute::Forwarding, ifindex);
            let old = old.map(|value| value.to_string());
            self.check_knowing(slot, fan_out.cause, fan_out.received, old);
        }
        match family {
            // Where the policy names it, the kernel's change of it is a drift like any other.
            Family::V4 => self.check(SettingId::Unannounced(Key::all_accept_redirects()), Cause::Write, None),
            Family::V6 => self.check_default_of_ipv6(Cause::Write),
        }
    }
}
