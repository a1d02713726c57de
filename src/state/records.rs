//! Makes records of repairs and failures, and remembers what changed over a sleep.

use std::collections::BTreeMap;

use rustix::io::Errno;

use super::fan_out::FanOut;
use super::resume::BEFORE_HYPERVISOR;
use super::{Job, Move, Repair, SettingId, State};
use crate::report::record::{Record, Subject};
use crate::report::writer::Writer;
use crate::setting::{ALL, Attribute};

/// No more changed settings are remembered over a sleep.
const CHANGED_MAX: usize = 1000;

/// The settings that have been repaired, and when last.
#[derive(Default)]
pub struct Changes {
    settings: BTreeMap<String, u64>,
    /// When it was last tried to make room.
    swept: u64,
}

impl Changes {
    fn add(&mut self, key: &str, now: u64) {
        if let Some(last) = self.settings.get_mut(key) {
            *last = now;
            return;
        }
        let before = now.saturating_sub(BEFORE_HYPERVISOR.as_micros() as u64);
        if self.settings.len() >= CHANGED_MAX && self.swept <= before {
            self.swept = now;
            self.forget_until(before); // in the middle of a sleep, they are all younger
        }
        if self.settings.len() < CHANGED_MAX {
            self.settings.insert(key.into(), now);
        }
    }

    fn forget_until(&mut self, since: u64) {
        self.settings.retain(|_, last| *last >= since);
    }
}

impl State {
    pub(super) fn repaired(&mut self, repair: &Repair, found: Option<String>, finished: u64) {
        let Some(subject) = self.subject(repair) else { return };
        self.repairs += 1;
        self.last = Some((subject.key.clone(), subject.cause));
        let last_good = self.last_good(repair, &subject.key);
        self.changed.add(&subject.key, finished);
        let (own_record, contested) = self.contests.repaired(&repair.slot, &subject, &repair.key, finished);
        self.records.extend(contested);
        let record = Record::Repaired {
            subject,
            old: repair.job.old.clone(),
            new: found.or(repair.job.new.clone()).unwrap_or_default(),
            key: repair.key.clone(),
            received: repair.job.received,
            finished,
            interfaces: 0,
            last_good,
            writer: Writer::BeforeStart,
        };
        match repair.slot {
            SettingId::Announced(family, Attribute::Forwarding, ALL) => {
                self.publish_fan_out(family);
                let (cause, received) = (repair.job.cause, repair.job.received);
                let fan_out = self.fan_outs[family as usize].get_or_insert(FanOut::new(cause, received));
                (fan_out.record, fan_out.own_write_reported) = (own_record.then_some(record), false);
                (fan_out.held, fan_out.looks) = (false, 0);
            }
            _ => self.records.extend(own_record.then_some(record)),
        }
    }

    /// When a setting that was found wrong was last known to hold.
    fn last_good(&self, repair: &Repair, name: &str) -> Option<u64> {
        let Job { received, old, known_good, .. } = &repair.job;
        let read = known_good.filter(|_| received.is_none())?;
        let held = old.as_ref().is_some_and(|old| repair.holds(old)) && !self.failed.contains_key(&repair.slot);
        // Of what was repaired under another policy nothing follows.
        let repaired = self.changed.settings.get(name).copied().filter(|at| *at >= read);
        repaired.or(held.then_some(read))
    }

    pub(super) fn fail(&mut self, repair: &Repair, found: Option<String>, errno: Option<Errno>) {
        let known = self.failed.insert(repair.slot.clone(), errno) == Some(errno);
        let ignored = repair.job.entry.is_some_and(|entry| self.policy.entries()[entry].ignore_failure);
        if !known && !ignored {
            self.records.extend(self.subject(repair).map(|subject| Record::RepairFailed { subject, found, errno }));
        }
    }

    /// `None` for what is put back: that is no drift, and nobody's news.
    fn subject(&self, repair: &Repair) -> Option<Subject> {
        let index = repair.job.entry?;
        let entry = &self.policy.entries()[index];
        Some(Subject {
            key: self.policy.name(&repair.key, index),
            rule: entry.name.clone(),
            ours: repair.wanted.clone(),
            source: entry.source.clone(),
            cause: repair.job.cause,
        })
    }

    /// Forgets what has been repaired before `since` (monotonic microseconds): it is not of the sleep that begins.
    pub fn mark_sleep(&mut self, since: u64) {
        self.changed.forget_until(since);
    }

    /// What has been repaired since [`State::mark_sleep`] said, or since this was last asked.
    pub fn take_changes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.changed.settings).into_keys().collect()
    }

    pub fn take_records(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.records)
    }

    /// What came and went since this was last asked.
    pub fn take_moves(&mut self) -> Vec<Move> {
        std::mem::take(&mut self.moves)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_counted_once_and_those_of_before_are_forgotten() {
        let mut changes = Changes::default();
        for (key, at) in [("a", 1), ("b", 2), ("a", 5), ("c", 6)] {
            changes.add(key, at);
        }
        changes.forget_until(5);
        assert!(changes.settings.keys().eq(["a", "c"]), "{:?}", changes.settings);
    }

    #[test]
    fn what_is_long_over_makes_room() {
        let minute = BEFORE_HYPERVISOR.as_micros() as u64;
        let mut changes = Changes::default();
        for n in 0..2 * CHANGED_MAX as u64 {
            changes.add(&n.to_string(), 2 * minute + n);
        }
        assert_eq!(changes.settings.len(), CHANGED_MAX, "all of one sleep");
        for n in 0..10 {
            changes.add(&format!("late {n}"), 4 * minute + n);
        }
        assert_eq!(changes.settings.len(), 10);
    }
}
