//! Contested settings: when a setting counts as contested, how many records its repairs get, and how much processor time.
//!
//! It owns the counters of each setting that was repaired in the last minute. Times are monotonic microseconds, costs microseconds of a
//! processor. The limit is on cost, not on the number of repairs.

use std::collections::{BTreeSet, HashMap};

use super::SettingId;
use crate::report::record::{Record, Subject};
use crate::setting::Key;

const SECOND: u64 = 1_000_000;
/// From this many repairs within this long a setting is called contested, or once its repairs have no records of their own.
const REPAIRS: usize = 5;
const WITHIN: u64 = 10 * SECOND;
/// And no longer once no process has changed it for this long.
const QUIET: u64 = 60 * SECOND;
/// So many repairs have a record of their own, and one more every so often; the others are counted in summaries.
const RECORDS: u64 = 250;
const RECORD_EVERY: u64 = 10 * SECOND;
const SUMMARY_EVERY: u64 = 10 * SECOND;
/// Repairs are immediate until they took half a second of a processor, which is earned again at a thirtieth of one: what they
/// cost other threads comes on top.
const SHARE: u64 = 30;
const BURST: u64 = 15 * SECOND;
/// However much one cost, the next is deferred by no more.
const DEFERRED_MAX: u64 = 5 * SECOND;
/// The notifications of a muted setting are received again once no more than this is owed.
const REST: u64 = BURST / 10;
/// Notifications of changes that can't be repaired yet may cost as much as so many repairs, and this much; then they are muted.
const NOTIFIED_REPAIRS: u64 = 10;
const NOTIFIED: u64 = 10_000;

/// A leaky bucket, by the time when it is empty again.
#[derive(Debug, Default)]
struct Bucket {
    empty_at: u64,
}

impl Bucket {
    /// How long it takes to leak what is in it.
    fn owed(&self, now: u64) -> u64 {
        self.empty_at.saturating_sub(now)
    }

    /// Adds what takes `time` to leak, as far as there is room for it.
    fn add(&mut self, now: u64, time: u64, room: u64) {
        self.empty_at = (self.empty_at.max(now) + time).min(now + room);
    }
}

/// One setting that was repaired lately.
#[derive(Debug)]
struct Contest {
    subject: Subject,
    key: Key,
    since: u64,
    repairs: u64,
    /// The last ones, in the places of their numbers.
    times: [u64; REPAIRS],
    contested: bool,
    /// Of [`RECORDS`], each for [`RECORD_EVERY`].
    records: Bucket,
    /// Repairs without a record of their own, and since when.
    unpublished: u64,
    unpublished_since: u64,
    /// Of processor time, each microsecond for [`SHARE`].
    processor: Bucket,
    /// The most that one check or repair took.
    cost: u64,
    /// A repair is deferred.
    waits: bool,
    /// What notifications have cost since the last repair; whether they are filtered out, and when to check instead.
    notified: u64,
    muted: bool,
    check_at: u64,
    timer: u64,
}

impl Contest {
    fn last(&self) -> u64 {
        self.times[(self.repairs as usize + REPAIRS - 1) % REPAIRS]
    }

    fn charge(&mut self, now: u64, cost: u64) {
        self.processor.add(now, cost * SHARE, BURST + DEFERRED_MAX);
    }

    /// No repair before this.
    fn not_before(&self) -> u64 {
        self.processor.empty_at.saturating_sub(BURST)
    }

    fn is_over_budget(&self, now: u64) -> bool {
        self.not_before() > now
    }

    fn summary(&mut self, until: u64) -> Record {
        let (subject, key, since) = (self.subject.clone(), self.key.clone(), self.unpublished_since);
        let count = std::mem::take(&mut self.unpublished);
        Record::StillContested { subject, key, count, since, until, writers: Vec::new() }
    }

    /// When something is to be done next.
    fn due(&self) -> u64 {
        let summary = if self.unpublished > 0 { self.unpublished_since + SUMMARY_EVERY } else { u64::MAX };
        let repair = if self.waits { self.not_before() } else { u64::MAX };
        let check = if self.muted { self.check_at } else { u64::MAX };
        // It is not quiet while a repair waits.
        let quiet = if self.waits { u64::MAX } else { self.last() + QUIET };
        quiet.min(summary).min(repair).min(check)
    }
}

/// The settings that were repaired within the last minute.
#[derive(Debug, Default)]
pub struct Contests {
    settings: HashMap<SettingId, Contest>,
    timers: BTreeSet<(u64, SettingId)>,
    mutes_changed: bool,
    /// The names of those that are called contested.
    called: Vec<String>,
}

/// What is due at some time.
#[derive(Debug, PartialEq)]
pub enum Due {
    /// A repair need not wait any longer, or the setting's notifications are filtered out.
    Check(SettingId),
    Publish(Record),
}

impl Contests {
    /// A setting was repaired at `now`. Says whether that has a record of its own, and gives the one that calls it contested.
    pub fn repaired(&mut self, id: &SettingId, subject: &Subject, key: &Key, now: u64) -> (bool, Option<Record>) {
        let contest = self.settings.entry(id.clone()).or_insert_with(|| {
            let timer = now + QUIET;
            self.timers.insert((timer, id.clone()));
            Contest {
                subject: subject.clone(),
                key: key.clone(),
                since: now,
                repairs: 0,
                times: [0; REPAIRS],
                contested: false,
                records: Bucket::default(),
                unpublished: 0,
                unpublished_since: 0,
                processor: Bucket::default(),
                cost: 0,
                waits: false,
                notified: 0,
                muted: false,
                check_at: 0,
                timer,
            }
        });
        if contest.contested && contest.subject.key != subject.key {
            self.called
                .iter_mut()
                .filter(|name| **name == contest.subject.key)
                .for_each(|name| name.clone_from(&subject.key));
        }
        contest.subject.clone_from(subject);
        contest.key.clone_from(key);
        contest.times[contest.repairs as usize % REPAIRS] = now;
        contest.repairs += 1;
        contest.notified = 0;
        let oldest = contest.times[contest.repairs as usize % REPAIRS];
        let own = contest.records.owed(now) + RECORD_EVERY <= RECORDS * RECORD_EVERY;
        let is_often = contest.repairs >= REPAIRS as u64 && now - oldest <= WITHIN;
        let mut record = None;
        if !contest.contested && (is_often || !own) {
            let (repairs, since, usec) = match is_often {
                true => (REPAIRS as u64, oldest, WITHIN),
                false => (contest.repairs, contest.since, now - contest.since),
            };
            contest.contested = true;
            self.called.push(subject.key.clone());
            record = Some(Record::Contested {
                subject: subject.clone(),
                key: key.clone(),
                repairs,
                since,
                usec,
                writers: Vec::new(),
                conflicts: Vec::new(),
            });
        }
        if own {
            contest.records.add(now, RECORD_EVERY, RECORDS * RECORD_EVERY);
        } else {
            if contest.unpublished == 0 {
                contest.unpublished_since = now;
            }
            contest.unpublished += 1;
            self.arm(id);
        }
        (own, record)
    }

    /// The check of a setting, and a repair if it needed one, took this much processor time.
    pub fn charge(&mut self, id: &SettingId, now: u64, cost: u64) {
        let Some(contest) = self.settings.get_mut(id) else { return };
        contest.charge(now, cost);
        contest.cost = contest.cost.max(cost);
        if contest.is_over_budget(now) {
            let pace = (contest.cost * SHARE).min(DEFERRED_MAX);
            contest.check_at = contest.not_before().max(now + pace);
            self.arm(id);
        } else if contest.processor.owed(now) <= REST {
            self.mutes_changed |= std::mem::take(&mut contest.muted);
        }
    }

    /// What followed a repair took this much processor time.
    pub fn charge_rest(&mut self, id: &SettingId, now: u64, cost: u64) {
        if let Some(contest) = self.settings.get_mut(id) {
            contest.charge(now, cost);
        }
    }

    /// Receiving notifications of a setting whose repair is deferred took this much processor time.
    pub fn charge_notifications(&mut self, id: &SettingId, now: u64, cost: u64) {
        let Some(contest) = self.settings.get_mut(id) else { return };
        contest.charge(now, cost);
        contest.notified += cost;
        let costs_too_much = contest.notified > NOTIFIED + NOTIFIED_REPAIRS * contest.cost;
        if costs_too_much && contest.is_over_budget(now) && id.is_announced() && !contest.muted {
            (contest.muted, self.mutes_changed) = (true, true);
            self.arm(id);
        }
    }

    /// Whether a repair has to wait. If so, [`Due::Check`] says when it need not wait any longer.
    pub fn waits(&mut self, id: &SettingId, now: u64) -> bool {
        let Some(contest) = self.settings.get_mut(id) else { return false };
        contest.waits = contest.is_over_budget(now);
        let waits = contest.waits;
        if waits {
            self.arm(id);
        }
        waits
    }

    /// When a repair that waits need not wait any longer.
    pub fn not_before(&self, id: &SettingId) -> Option<u64> {
        self.settings.get(id).map(Contest::not_before)
    }

    /// When [`Contests::take_due`] has something to do.
    pub fn due(&self) -> Option<u64> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// The next of what is due at `now`.
    pub fn take_due(&mut self, now: u64) -> Option<Due> {
        while let Some((_, id)) = self.timers.first().filter(|(due, _)| *due <= now).cloned() {
            self.timers.pop_first();
            let Some(contest) = self.settings.get_mut(&id) else { continue };
            if !contest.waits && contest.last() + QUIET <= now {
                self.mutes_changed |= contest.muted;
                let contest = self.settings.remove(&id)?;
                if contest.contested {
                    self.called.retain(|name| *name != contest.subject.key);
                    let usec = contest.last() - contest.since;
                    let Contest { subject, repairs, .. } = contest;
                    return Some(Due::Publish(Record::ContestOver { subject, repairs, usec }));
                }
                continue;
            }
            let mut due = None;
            if contest.unpublished > 0 && contest.unpublished_since + SUMMARY_EVERY <= now {
                due = Some(Due::Publish(contest.summary(now)));
            } else if contest.waits && contest.not_before() <= now || contest.muted && contest.check_at <= now {
                (contest.waits, contest.check_at) = (false, now + DEFERRED_MAX);
                due = Some(Due::Check(id.clone()));
            }
            contest.timer = contest.due();
            self.timers.insert((contest.timer, id));
            if due.is_some() {
                return due;
            }
        }
        None
    }

    /// The summaries that are still to be published, of repairs without a record of their own.
    pub fn unpublished(&mut self, now: u64) -> Vec<Record> {
        let unpublished = self.settings.values_mut().filter(|contest| contest.unpublished > 0);
        unpublished.map(|contest| contest.summary(now)).collect()
    }

    /// Sets the timer of a setting, unless it fires sooner anyway.
    fn arm(&mut self, id: &SettingId) {
        let Some(contest) = self.settings.get_mut(id) else { return };
        let due = contest.due();
        if due < contest.timer {
            self.timers.remove(&(contest.timer, id.clone()));
            self.timers.insert((due, id.clone()));
            contest.timer = due;
        }
    }

    /// The settings whose notifications are filtered out, if these are others than the last time.
    pub fn take_mutes(&mut self) -> Option<Vec<SettingId>> {
        let muted = || self.settings.iter().filter(|(_, contest)| contest.muted).map(|(id, _)| id.clone()).collect();
        std::mem::take(&mut self.mutes_changed).then(muted)
    }

    /// Whether another process changed a setting back lately: what is read may be its value.
    pub fn is_repaired_again(&self, id: &SettingId) -> bool {
        self.settings.get(id).is_some_and(|contest| contest.repairs > 1)
    }

    /// Whether a contested setting has not come to rest at `now`, which it may do at `calm`.
    pub fn is_in_turmoil(&self, id: &SettingId, calm: u64, now: u64) -> bool {
        self.is_contested(id) && self.settings.get(id).is_some_and(|contest| contest.muted || now < calm)
    }

    pub fn is_muted(&self, id: &SettingId) -> bool {
        self.settings.get(id).is_some_and(|contest| contest.muted)
    }

    pub fn is_contested(&self, id: &SettingId) -> bool {
        self.settings.get(id).is_some_and(|contest| contest.contested)
    }

    /// The settings that are called contested, by the policy's names.
    pub fn called(&self) -> &[String] {
        &self.called
    }

    /// Gives the summary that is still to be published.
    #[must_use]
    pub fn forget(&mut self, id: &SettingId) -> Option<Record> {
        let mut contest = self.settings.remove(id)?;
        self.timers.remove(&(contest.timer, id.clone()));
        self.mutes_changed |= contest.muted;
        self.called.retain(|name| *name != contest.subject.key);
        (contest.unpublished > 0).then(|| contest.summary(contest.last()))
    }

    /// The same of all settings.
    #[must_use]
    pub fn forget_all(&mut self) -> Vec<Record> {
        let ids: Vec<SettingId> = self.settings.keys().cloned().collect();
        ids.iter().filter_map(|id| self.forget(id)).collect()
    }
}

#[cfg(test)]
mod tests;
