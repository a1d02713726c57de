//! Makes records of repairs and failures, the summary of the status line, and what `run -v` logs of decisions.
//!
//! It owns what is published next, and what changed over a sleep.

use std::collections::BTreeMap;
use std::fmt::Display;

use rustix::io::Errno;

use super::queue::{Job, Repair};
use super::resume::BEFORE_HYPERVISOR;
use super::{SettingId, State};
use crate::kernel::sysctl::{Outcome, is_absent};
use crate::report::decision::{Decision, Verdict};
use crate::report::record::{Cause, Record, Subject};
use crate::report::writer::Writer;
use crate::setting::{ALL, Attribute, Key};

/// No more changed settings are remembered over a sleep.
const CHANGED_MAX: usize = 1000;

/// The settings that have been repaired, and when last.
#[derive(Default)]
struct Changes {
    settings: BTreeMap<String, u64>,
    /// When old ones were last removed to make room.
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

/// The numbers of the status line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub settings: usize,
    pub interfaces: usize,
    pub repairs: u64,
    /// Settings that could not be repaired.
    pub failing: usize,
    /// The last repair: setting and cause.
    pub last: Option<(String, Cause)>,
    /// A contested setting, and how many more there are.
    pub contested: Option<(String, usize)>,
}

impl Summary {
    /// Whether it differs from `last` in more than the number of repairs.
    pub fn shows_more_than(&self, last: &Summary) -> bool {
        let Summary { settings, interfaces, repairs: _, failing, last: _, contested } = self;
        (settings, interfaces, failing, contested) != (&last.settings, &last.interfaces, &last.failing, &last.contested)
    }
}

/// See the module's documentation.
#[derive(Default)]
pub struct Output {
    records: Vec<Record>,
    /// What was decided, where it is logged ([`State::note_decisions`]).
    decisions: Option<Vec<Decision>>,
    changed: Changes,
    repairs: u64,
    last: Option<(String, Cause)>,
}

impl Output {
    pub fn publish(&mut self, record: Record) {
        self.records.push(record);
    }

    pub fn publish_all(&mut self, records: impl IntoIterator<Item = Record>) {
        self.records.extend(records);
    }
}

impl State {
    pub(super) fn repaired(&mut self, repair: &Repair, found: Option<String>, finished: u64) {
        let Some(subject) = self.subject(repair) else { return };
        self.output.repairs += 1;
        self.output.last = Some((subject.key.clone(), subject.cause));
        let last_good = self.last_good(repair, &subject.key);
        self.output.changed.add(&subject.key, finished);
        let (own_record, contested) = self.contests.repaired(&repair.id, &subject, &repair.key, finished);
        self.output.publish_all(contested);
        let record = own_record.then(|| Record::Repaired {
            subject,
            old: repair.job.old.clone(),
            new: found.or(repair.job.new.clone()).unwrap_or_default(),
            key: repair.key.clone(),
            received: repair.job.received,
            finished,
            interfaces: 0,
            last_good,
            writer: Writer::BeforeStart,
        });
        match repair.id {
            SettingId::Announced(family, Attribute::Forwarding, ALL) => {
                self.publish_fan_out(family);
                self.fan_outs.note_repair(family, repair.job.cause, repair.job.received, record);
            }
            _ => self.output.publish_all(record),
        }
    }

    /// When a setting that was found wrong was last known to hold.
    fn last_good(&self, repair: &Repair, name: &str) -> Option<u64> {
        let Job { received, old, known_good, .. } = &repair.job;
        let read = known_good.filter(|_| received.is_none())?;
        let held = old.as_ref().is_some_and(|old| repair.holds(old)) && self.outcomes.failure(&repair.id).is_none();
        // Of what was repaired under another policy nothing follows.
        let repaired = self.output.changed.settings.get(name).copied().filter(|at| *at >= read);
        repaired.or(held.then_some(read))
    }

    pub(super) fn fail(&mut self, repair: &Repair, found: Option<String>, errno: Option<Errno>, now: u64) {
        let ignored = repair.job.entry.is_some_and(|entry| self.policy.entries()[entry].ignore_failure);
        if self.outcomes.note_failure(&repair.id, errno, ignored, now) {
            let subject = self.subject(repair);
            self.output.publish_all(subject.map(|subject| Record::RepairFailed { subject, found, errno }));
        }
    }

    /// `None` for what is written back: that is no drift of its own.
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

    /// A setting as the policy's entry writes it, or else as the kernel does.
    pub(super) fn name_of(&self, key: &Key, entry: Option<usize>) -> String {
        entry.map_or_else(|| key.to_string(), |entry| self.policy.name(key, entry))
    }

    /// Forgets what has been repaired before `since` (monotonic microseconds): it is not of the sleep that begins.
    pub fn mark_sleep(&mut self, since: u64) {
        self.output.changed.forget_until(since);
    }

    /// What has been repaired since the last [`State::mark_sleep`], or since this was last asked.
    pub fn take_changes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.output.changed.settings).into_keys().collect()
    }

    pub fn take_records(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.output.records)
    }

    /// Cheap, unless something came, went or changed its policy.
    pub fn summary(&mut self) -> Summary {
        let (settings, interfaces) = self.settings.counts();
        Summary {
            settings,
            interfaces,
            repairs: self.output.repairs,
            failing: self.outcomes.failing(),
            last: self.output.last.clone(),
            contested: self.contests.called().split_first().map(|(first, more)| (first.clone(), more.len())),
        }
    }

    /// Notes each decision from now on, until [`State::take_decisions`].
    pub fn note_decisions(&mut self) {
        self.output.decisions = Some(Vec::new());
    }

    pub fn take_decisions(&mut self) -> Vec<Decision> {
        self.output.decisions.as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub(super) fn notes_decisions(&self) -> bool {
        self.output.decisions.is_some()
    }

    pub(super) fn note_decision(&mut self, id: &SettingId, found: Option<impl Display>, verdict: Verdict) {
        if !self.notes_decisions() {
            return;
        }
        let entry = self.settings.entry_of(id);
        let Some(key) = self.settings.key_of(id) else { return };
        let decision = Decision {
            key: self.name_of(&key, entry),
            found: found.map(|found| found.to_string()),
            wanted: entry.and_then(|entry| self.policy.entries()[entry].value.clone()),
            verdict,
        };
        self.output.decisions.get_or_insert_default().push(decision);
    }

    /// The same of what came of a repair, be it of a guarded setting or to write back what our own write changed.
    pub(super) fn note_outcome(&mut self, repair: &Repair, outcome: &Outcome) {
        if !self.notes_decisions() {
            return;
        }
        let verdict = match (&outcome.found, &outcome.write) {
            (Err(errno), _) if is_absent(*errno) => Verdict::Absent,
            (_, Some(Ok(()))) => Verdict::Written { cause: repair.job.cause, usec: outcome.write_usec },
            (_, Some(Err(errno))) | (Err(errno), None) => Verdict::Failed(*errno),
            (Ok(_), None) => Verdict::Holds,
        };
        let decision = Decision {
            key: self.name_of(&repair.key, repair.job.entry),
            found: outcome.found.clone().ok(),
            wanted: Some(repair.wanted.clone()),
            verdict,
        };
        self.output.decisions.get_or_insert_default().push(decision);
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
