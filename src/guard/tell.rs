//! What the guard has to tell: records of repairs and failures, and what has changed over a sleep.

use super::episode::Episode;
use super::{Guard, Move, Repair, Slot};
use crate::report::record::{Record, Subject};
use crate::report::writer::Blame;
use crate::setting::{ALL, Attribute};

/// No more changed settings are remembered over a sleep.
const CHANGED_MAX: usize = 1000;

impl Guard {
    pub(super) fn repaired(&mut self, repair: &Repair, found: Option<String>, finished: u64) {
        let Some(subject) = self.subject(repair) else { return };
        self.repairs += 1;
        self.last = Some((subject.key.clone(), subject.cause));
        if self.changed.len() < CHANGED_MAX {
            self.changed.insert(subject.key.clone());
        }
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
            writer: Blame::Nobody,
        };
        match repair.slot {
            Slot::Announced(family, Attribute::Forwarding, ALL) => {
                self.tell_episode(family);
                let (cause, received) = (repair.job.cause, repair.job.received);
                let episode = self.episodes[family as usize].get_or_insert(Episode::new(cause, received));
                (episode.record, episode.echoed) = (own_record.then_some(record), false);
                (episode.held, episode.looks) = (false, 0);
            }
            _ => self.records.extend(own_record.then_some(record)),
        }
    }

    pub(super) fn fail(&mut self, repair: &Repair, found: Option<String>, errno: Option<i32>) {
        let known = self.failed.insert(repair.slot.clone(), errno.unwrap_or(0)) == Some(errno.unwrap_or(0));
        let ignored = repair.job.entry.is_some_and(|entry| self.policy.entries()[entry].ignore_failure);
        if !known && !ignored {
            self.records.extend(self.subject(repair).map(|subject| Record::RepairFailed { subject, found, errno }));
        }
    }

    /// `None` for what is put back: that is no drift, and nobody's news.
    fn subject(&self, repair: &Repair) -> Option<Subject> {
        let entry = repair.job.entry?;
        Some(Subject {
            key: self.policy.name(&repair.key, entry),
            ours: repair.wanted.clone(),
            source: self.policy.entries()[entry].source.clone(),
            cause: repair.job.cause,
        })
    }

    /// Forgets what has been repaired so far: the node goes to sleep.
    pub fn note(&mut self) {
        self.changed.clear();
    }

    /// What has been repaired since [`Guard::note`].
    pub fn take_changes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.changed).into_iter().collect()
    }

    pub fn take_records(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.records)
    }

    /// What came and went since this was last asked.
    pub fn take_moves(&mut self) -> Vec<Move> {
        std::mem::take(&mut self.moves)
    }
}
