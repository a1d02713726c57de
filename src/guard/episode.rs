//! A drift of `all.forwarding`: one write changes every interface, and so does the write that mends it.

use std::collections::HashSet;
use std::sync::Arc;

use super::put_off::all_forwarding;
use super::{Guard, Job, Repair, Slot};
use crate::report::record::{Cause, Record};
use crate::setting::{ALL, Attribute, Family, Key, number, same_value};

/// So many looks at `all` in a row that find it right are enough: what is said in between is somebody's who keeps writing.
const LOOKS_MAX: u32 = 8;

/// `all.forwarding` of one family is wrong, or its fan-out is not over: until then, what interfaces say of forwarding is
/// its doing and not theirs, and is judged when the episode is over.
#[derive(Debug)]
pub struct Episode {
    pub cause: Cause,
    /// When it was first heard of, if it was.
    pub received: Option<u64>,
    /// The record of the repair, told when it is known how many interfaces went with it.
    pub record: Option<Record>,
    /// The kernel has begun to tell of our write.
    pub echoed: bool,
    /// What the kernel last said of `all`, or was found there since, is wrong.
    pub said_wrong: bool,
    /// `all` was looked at and holds, and nothing against it has been heard since.
    pub held: bool,
    /// How often in a row it held.
    pub looks: u32,
    /// The kernel opened all interfaces again, in nobody's name.
    pub unasked: bool,
    /// Interfaces that were put back to what they were before, by ifindex.
    pub put_back: HashSet<i32>,
}

impl Episode {
    pub fn new(cause: Cause, received: Option<u64>) -> Episode {
        Episode {
            cause,
            received,
            record: None,
            echoed: false,
            said_wrong: false,
            held: false,
            looks: 0,
            unasked: false,
            put_back: HashSet::new(),
        }
    }
}

impl Guard {
    pub(super) fn suspect_all(&mut self, family: Family, cause: Cause, at: Option<u64>) {
        if self.all_entry(family).is_some() {
            self.episodes[family as usize] = Some(Episode::new(cause, at));
            self.check(all_forwarding(family), cause, at);
        }
    }

    /// Somebody wrote `all.accept_redirects`, or the kernel may have; `None` if what stands there is not known.
    pub fn redirects(&mut self, value: Option<String>) {
        let key = Key::all_accept_redirects();
        if !self.others.contains_key(&key) {
            self.written.remove(&Slot::Other(key)); // not ours any more
        }
        if self.episodes[Family::V4 as usize].is_none() {
            self.redirects = value;
        }
    }

    /// What a write of `all.forwarding` changed on settings that the policy does not name, or names otherwise, to be put
    /// back at once: until then an interface that was closed on purpose stands open.
    pub fn put_backs(&self, family: Family) -> Vec<Repair> {
        let redirects = self.redirects.as_ref().filter(|_| family == Family::V4).and_then(|value| {
            let key = Key::all_accept_redirects();
            if self.others.contains_key(&key) { None } else { self.put_back(Slot::Other(key), value) }
        });
        self.closed(family)
            .filter_map(|(slot, value)| self.put_back(slot, &value.to_string()))
            .chain(redirects)
            .collect()
    }

    /// The interfaces' forwarding that a write of the policy's value to `all.forwarding` makes other than it should be, and
    /// what that is.
    pub(super) fn closed(&self, family: Family) -> impl Iterator<Item = (Slot, i32)> {
        let wanted = self.all_entry(family).and_then(|entry| self.policy.entries()[entry].number);
        self.interfaces.iter().filter_map(move |(ifindex, interface)| {
            let cell = interface.cell(family, Attribute::Forwarding);
            let settled = cell.settled.filter(|settled| {
                let right = cell.entry.is_none_or(|entry| self.wants(entry, *settled));
                right && Some(i64::from(*settled)) != wanted
            })?;
            Some((Slot::Announced(family, Attribute::Forwarding, *ifindex), settled))
        })
    }

    fn put_back(&self, slot: Slot, value: &str) -> Option<Repair> {
        let key = self.key_of(&slot)?;
        let job = Job::new(None, Cause::Write);
        Some(Repair { key, wanted: value.into(), learned: None, learn: false, slot, job })
    }

    /// Everything that our write of `all.forwarding` made the kernel say has been heard: tells of the drift.
    pub fn absorbed(&mut self, family: Family) {
        self.tell_episode(family);
        if self.heard_all_wrong(family) {
            // Somebody wrote in between: the episode goes on, and what stood before it is still what stood before.
            return;
        }
        self.end_unless_in_doubt(family);
    }

    /// Nothing was written: `all` holds, or can't be put right. Where it holds, the episode is over once all that waits has been
    /// heard: what is known of an interface may be what our own write made of it. Says whether what should be closed may
    /// stand open all the same; else [`Guard::idle`] ends it.
    pub(super) fn looked_at_all(&mut self, family: Family, holds: bool) -> bool {
        if !holds {
            self.end_episode(family);
            return false;
        }
        self.episodes[family as usize].as_mut().is_some_and(|episode| {
            (episode.said_wrong, episode.held, episode.looks) = (false, true, episode.looks + 1);
            std::mem::take(&mut episode.unasked)
        })
    }

    /// Ends an episode, unless `all` has to be looked at first. IPv4 tells of `all` first, but of two that write at once the
    /// kernel may take neither for a change (`devinet_sysctl_forward` compares before it has the lock), and then all stands
    /// as the drift has left it. IPv6 tells of `all` last (`addrconf_fixup_forwarding`): what was heard of interfaces may be
    /// the beginning of the next drift.
    pub(super) fn end_unless_in_doubt(&mut self, family: Family) {
        let in_doubt = |episode: &Episode| match family {
            Family::V4 => episode.said_wrong || episode.unasked,
            Family::V6 => !episode.held && episode.looks < LOOKS_MAX,
        };
        if self.episodes[family as usize].as_ref().is_some_and(in_doubt) {
            self.check(all_forwarding(family), Cause::Write, None);
        } else {
            self.end_episode(family);
        }
    }

    /// Whether the last that was heard of `all.forwarding` is not what the policy wants.
    pub fn heard_all_wrong(&self, family: Family) -> bool {
        self.is_wrong(&all_forwarding(family))
    }

    /// Whether `value` is what the policy wants of `all.forwarding`, if it wants anything.
    pub fn all_holds(&self, family: Family, value: &str) -> bool {
        self.all_entry(family).is_none_or(|entry| same_value(self.policy.value(entry), value))
    }

    /// Tells of the repair of `all.forwarding`, with the interfaces that lost forwarding with it and have it again.
    pub(super) fn tell_episode(&mut self, family: Family) {
        let Some(mut record) = self.episodes[family as usize].as_mut().and_then(|episode| episode.record.take()) else {
            return;
        };
        let all = self.cell(&all_forwarding(family)).and_then(|cell| cell.entry);
        let wanted = all.and_then(|entry| self.policy.entries()[entry].number);
        let mut went_with = 0;
        for (ifindex, interface) in &mut self.interfaces {
            let cell = interface.cell_mut(family, Attribute::Forwarding);
            let back = cell.seen.map(i64::from) == wanted;
            let stays = cell.entry.is_some() || cell.settled.is_none() || cell.settled == cell.seen;
            if back && std::mem::take(&mut cell.went_with_all) && stays && *ifindex > 0 {
                went_with += 1;
            }
        }
        if let Record::Repaired { interfaces, .. } = &mut record {
            *interfaces = went_with;
        }
        self.records.push(record);
    }

    /// Forgets an episode in the middle. What stood before it is still what stood before, should the next read find another.
    pub(super) fn leave_episode(&mut self, family: Family) {
        self.tell_episode(family);
        if self.episodes[family as usize].take().is_some() {
            let interfaces = self.interfaces.values_mut();
            interfaces.for_each(|interface| interface.cell_mut(family, Attribute::Forwarding).went_with_all = false);
        }
    }

    /// From here on interfaces speak for themselves; those that are still wrong are looked at.
    pub(super) fn end_episode(&mut self, family: Family) {
        self.tell_episode(family);
        let Some(episode) = self.episodes[family as usize].take() else { return };
        let wanted = self.all_entry(family).and_then(|entry| self.policy.entries()[entry].number);
        let muted = self.contests.is_muted(&all_forwarding(family));
        let mut wrong = Vec::new();
        for (ifindex, interface) in &mut self.interfaces {
            let cell = interface.cell_mut(family, Attribute::Forwarding);
            if let (Some(entry), Some(seen)) = (cell.entry, cell.seen)
                && self.policy.entries()[entry].number != Some(i64::from(seen))
                && *ifindex != ALL
            {
                wrong.push((*ifindex, cell.settled));
            }
            cell.went_with_all = false;
            // What is not heard any more is not known. And the echo of our write of `all` is older than the look that found an
            // interface closed, or closed it.
            if muted {
                continue;
            }
            if !episode.put_back.contains(ifindex) || cell.seen.map(i64::from) != wanted {
                cell.settled = cell.seen;
                let slot = Slot::Announced(family, Attribute::Forwarding, *ifindex);
                let ours = |value: &Arc<str>| number(value) == cell.seen.map(i64::from);
                if self.written.get(&slot).is_some_and(|put_back| put_back.as_ref().is_some_and(|value| !ours(value))) {
                    self.written.remove(&slot); // what stands there is somebody else's word
                }
            }
        }
        if !wrong.is_empty() {
            // It may have looked right in passing: a writer that waits for the RTNL lock shows its value before it has it.
            self.check(all_forwarding(family), episode.cause, episode.received);
        }
        for (ifindex, old) in wrong {
            let slot = Slot::Announced(family, Attribute::Forwarding, ifindex);
            let old = old.map(|value| value.to_string());
            self.check_knowing(slot, episode.cause, episode.received, old);
        }
        match family {
            // Where the policy names it, the kernel's change of it is a drift like any other.
            Family::V4 => self.check(Slot::Other(Key::all_accept_redirects()), Cause::Write, None),
            Family::V6 => self.check_default_of_ipv6(Cause::Write),
        }
    }
}
