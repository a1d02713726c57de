//! A drift of `all.forwarding`: one write changes every interface, and so does the write that mends it.

use super::{Guard, Job, Slot, rank};
use crate::report::record::{Cause, Record};
use crate::setting::{ALL, Attribute, Family, Key};

/// `all.forwarding` of one family is wrong, or its fan-out is not over: until then, what interfaces say of forwarding is
/// its doing and not theirs.
#[derive(Debug, Default)]
pub struct Episode {
    /// The record of the repair, told when it is known how many interfaces went with it.
    pub record: Option<Record>,
}

impl Guard {
    pub(super) fn suspect_all(&mut self, family: Family, cause: Cause, at: Option<u64>) {
        if self.all_entry(family).is_some() {
            self.episodes[family as usize] = Some(Episode::default());
            let slot = Slot::Announced(family, Attribute::Forwarding, ALL);
            self.check(slot, cause, at);
        }
    }

    /// Somebody wrote `all.accept_redirects`.
    pub fn redirects(&mut self, value: String) {
        if self.episodes[Family::V4 as usize].is_none() {
            self.redirects = Some(value);
        }
    }

    /// Everything that our write of `all.forwarding` made the kernel say has been heard: puts back what it changed on
    /// settings that the policy does not name, and tells of the drift.
    pub fn absorbed(&mut self, family: Family) {
        self.tell_episode(family);
        if self.is_wrong(&Slot::Announced(family, Attribute::Forwarding, ALL)) {
            // Somebody wrote in between: the episode goes on, and what stood before it is still what stood before.
            return;
        }
        self.episodes[family as usize] = None;
        let mut put_back = Vec::new();
        for (ifindex, interface) in &self.interfaces {
            let cell = interface.cell(family, Attribute::Forwarding);
            if cell.entry.is_none() && cell.settled.is_some() && cell.settled != cell.seen {
                put_back.push((*ifindex, cell.settled));
            }
        }
        for interface in self.interfaces.values_mut() {
            let cell = interface.cell_mut(family, Attribute::Forwarding);
            if cell.entry.is_some() || cell.settled.is_none() {
                cell.settled = cell.seen;
            }
        }
        for (ifindex, settled) in put_back {
            self.put_back(Slot::Announced(family, Attribute::Forwarding, ifindex), settled.map(|v| v.to_string()));
        }
        if family == Family::V4 {
            let key = Key::all_accept_redirects();
            if self.others.contains_key(&key) {
                self.check(Slot::Other(key), Cause::Write, None);
            } else {
                self.put_back(Slot::Other(key), self.redirects.clone());
            }
        }
    }

    /// Tells of the repair of `all.forwarding`, with the interfaces that lost forwarding with it and have it again.
    pub(super) fn tell_episode(&mut self, family: Family) {
        let Some(mut record) = self.episodes[family as usize].as_mut().and_then(|episode| episode.record.take()) else {
            return;
        };
        let all = self.cell(&Slot::Announced(family, Attribute::Forwarding, ALL)).and_then(|cell| cell.entry);
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

    fn put_back(&mut self, slot: Slot, value: Option<String>) {
        let Some(value) = value else { return };
        let job = Job {
            entry: None,
            put_back: Some(value.into()),
            cause: Cause::Write,
            received: None,
            old: None,
            new: None,
        };
        self.jobs.insert((rank(&slot), slot), job);
    }

    pub(super) fn end_episode(&mut self, family: Family) {
        self.episodes[family as usize] = None;
        for interface in self.interfaces.values_mut() {
            let cell = interface.cell_mut(family, Attribute::Forwarding);
            (cell.settled, cell.went_with_all) = (cell.seen, false);
        }
    }
}
