//! Contested settings: when a setting counts as contested, how many records its repairs get, and how much processor time.
//!
//! It owns the counters of each setting that was repaired in the last minute. Times are monotonic microseconds, costs microseconds of a
//! processor. The limit is on cost, not on the number of repairs.

use std::collections::{BTreeSet, HashMap};

use super::SettingId;
use crate::report::record::{Record, Subject};
use crate::setting::Key;

const SECOND: u64 = 1_000_000;
/// From this many repairs within this long a setting is called contested.
const REPAIRS: usize = 5;
const WITHIN: u64 = 10 * SECOND;
/// And no longer once nobody has changed it for this long.
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
/// A muted setting is listened to again once no more than this is owed.
const REST: u64 = BURST / 10;
/// Listening to changes that can't be repaired yet may cost as many repairs, and this much; then they are muted.
const HEARD_REPAIRS: u64 = 10;
const HEARD: u64 = 10_000;

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
    untold: u64,
    untold_since: u64,
    /// Of processor time, each microsecond for [`SHARE`].
    processor: Bucket,
    /// The most that one check or repair took.
    cost: u64,
    /// A repair is deferred.
    waits: bool,
    /// What hearing has cost since the last repair; nothing is heard any more, and when to look instead.
    heard: u64,
    muted: bool,
    look_at: u64,
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
        let (subject, key, since) = (self.subject.clone(), self.key.clone(), self.untold_since);
        let count = std::mem::take(&mut self.untold);
        Record::StillContested { subject, key, count, since, until, writers: Vec::new() }
    }

    /// When something is to be done next.
    fn due(&self) -> u64 {
        let summary = if self.untold > 0 { self.untold_since + SUMMARY_EVERY } else { u64::MAX };
        let repair = if self.waits { self.not_before() } else { u64::MAX };
        let look = if self.muted { self.look_at } else { u64::MAX };
        (self.last() + QUIET).min(summary).min(repair).min(look)
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

/// What has to be done at some time.
#[derive(Debug, PartialEq)]
pub enum Due {
    /// A repair need not wait any longer, or nothing is heard of the setting: look.
    Look(SettingId),
    Tell(Record),
}

impl Contests {
    /// A setting was put right at `now`. Says whether that has a record of its own, and gives the one that calls it contested.
    pub fn repaired(&mut self, slot: &SettingId, subject: &Subject, key: &Key, now: u64) -> (bool, Option<Record>) {
        let contest = self.settings.entry(slot.clone()).or_insert_with(|| {
            let timer = now + QUIET;
            self.timers.insert((timer, slot.clone()));
            Contest {
                subject: subject.clone(),
                key: key.clone(),
                since: now,
                repairs: 0,
                times: [0; REPAIRS],
                contested: false,
                records: Bucket::default(),
                untold: 0,
                untold_since: 0,
                processor: Bucket::default(),
                cost: 0,
                waits: false,
                heard: 0,
                muted: false,
                look_at: 0,
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
        contest.heard = 0;
        let oldest = contest.times[contest.repairs as usize % REPAIRS];
        let mut record = None;
        if !contest.contested && contest.repairs >= REPAIRS as u64 && now - oldest <= WITHIN {
            contest.contested = true;
            self.called.push(subject.key.clone());
            record = Some(Record::Contested {
                subject: subject.clone(),
                key: key.clone(),
                repairs: REPAIRS as u64,
                since: oldest,
                writers: Vec::new(),
                conflicts: Vec::new(),
            });
        }
        let own = contest.records.owed(now) + RECORD_EVERY <= RECORDS * RECORD_EVERY;
        if own {
            contest.records.add(now, RECORD_EVERY, RECORDS * RECORD_EVERY);
        } else {
            if contest.untold == 0 {
                contest.untold_since = now;
            }
            contest.untold += 1;
            self.arm(slot);
        }
        (own, record)
    }

    /// A look at a setting, and a repair if it needed one, have cost this much.
    pub fn charge(&mut self, slot: &SettingId, now: u64, cost: u64) {
        let Some(contest) = self.settings.get_mut(slot) else { return };
        contest.charge(now, cost);
        contest.cost = contest.cost.max(cost);
        if contest.is_over_budget(now) {
            let pace = (contest.cost * SHARE).min(DEFERRED_MAX);
            contest.look_at = contest.not_before().max(now + pace);
            self.arm(slot);
        } else if contest.processor.owed(now) <= REST {
            self.mutes_changed |= std::mem::take(&mut contest.muted);
        }
    }

    /// What had to be done after a repair has cost this much.
    pub fn charge_rest(&mut self, slot: &SettingId, now: u64, cost: u64) {
        if let Some(contest) = self.settings.get_mut(slot) {
            contest.charge(now, cost);
        }
    }

    /// Hearing of a setting whose repair waits has cost this much.
    pub fn charge_hearing(&mut self, slot: &SettingId, now: u64, cost: u64) {
        let Some(contest) = self.settings.get_mut(slot) else { return };
        contest.charge(now, cost);
        contest.heard += cost;
        let costs_too_much = contest.heard > HEARD + HEARD_REPAIRS * contest.cost;
        if costs_too_much && contest.is_over_budget(now) && slot.is_announced() && !contest.muted {
            (contest.muted, self.mutes_changed) = (true, true);
            self.arm(slot);
        }
    }

    /// Whether a repair has to wait. If so, [`Due::Look`] says when it need not wait any longer.
    pub fn waits(&mut self, slot: &SettingId, now: u64) -> bool {
        let Some(contest) = self.settings.get_mut(slot) else { return false };
        contest.waits = contest.is_over_budget(now);
        let waits = contest.waits;
        if waits {
            self.arm(slot);
        }
        waits
    }

    /// When a repair that waits need not wait any longer.
    pub fn not_before(&self, slot: &SettingId) -> Option<u64> {
        self.settings.get(slot).map(Contest::not_before)
    }

    /// When [`Contests::take_due`] has something to do.
    pub fn due(&self) -> Option<u64> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// The next thing that is due at `now`.
    pub fn take_due(&mut self, now: u64) -> Option<Due> {
        while let Some((_, slot)) = self.timers.first().filter(|(due, _)| *due <= now).cloned() {
            self.timers.pop_first();
            let Some(contest) = self.settings.get_mut(&slot) else { continue };
            if contest.last() + QUIET <= now {
                self.mutes_changed |= contest.muted;
                let contest = self.settings.remove(&slot)?;
                if contest.contested {
                    self.called.retain(|name| *name != contest.subject.key);
                    let usec = contest.last() - contest.since;
                    let Contest { subject, repairs, .. } = contest;
                    return Some(Due::Tell(Record::ContestOver { subject, repairs, usec }));
                }
                continue;
            }
            let mut due = None;
            if contest.untold > 0 && contest.untold_since + SUMMARY_EVERY <= now {
                due = Some(Due::Tell(contest.summary(now)));
            } else if contest.waits && contest.not_before() <= now || contest.muted && contest.look_at <= now {
                (contest.waits, contest.look_at) = (false, now + DEFERRED_MAX);
                due = Some(Due::Look(slot.clone()));
            }
            contest.timer = contest.due();
            self.timers.insert((contest.timer, slot));
            if due.is_some() {
                return due;
            }
        }
        None
    }

    /// What is still to be told of repairs without a record of their own.
    pub fn untold(&mut self, now: u64) -> Vec<Record> {
        let untold = self.settings.values_mut().filter(|contest| contest.untold > 0);
        untold.map(|contest| contest.summary(now)).collect()
    }

    /// Sets the timer of a setting, unless it fires sooner anyway.
    fn arm(&mut self, slot: &SettingId) {
        let Some(contest) = self.settings.get_mut(slot) else { return };
        let due = contest.due();
        if due < contest.timer {
            self.timers.remove(&(contest.timer, slot.clone()));
            self.timers.insert((due, slot.clone()));
            contest.timer = due;
        }
    }

    /// The settings of which nothing shall be heard, if these are others than the last time.
    pub fn take_mutes(&mut self) -> Option<Vec<SettingId>> {
        let muted =
            || self.settings.iter().filter(|(_, contest)| contest.muted).map(|(slot, _)| slot.clone()).collect();
        std::mem::take(&mut self.mutes_changed).then(muted)
    }

    /// Whether somebody changed a setting back lately: what is read there may be their value.
    pub fn is_repaired_again(&self, slot: &SettingId) -> bool {
        self.settings.get(slot).is_some_and(|contest| contest.repairs > 1)
    }

    /// Whether a contested setting has not come to rest at `now`, which it may do at `calm`.
    pub fn is_in_turmoil(&self, slot: &SettingId, calm: u64, now: u64) -> bool {
        self.is_contested(slot) && self.settings.get(slot).is_some_and(|contest| contest.muted || now < calm)
    }

    pub fn is_muted(&self, slot: &SettingId) -> bool {
        self.settings.get(slot).is_some_and(|contest| contest.muted)
    }

    pub fn is_contested(&self, slot: &SettingId) -> bool {
        self.settings.get(slot).is_some_and(|contest| contest.contested)
    }

    /// The settings that are called contested, by the policy's names.
    pub fn called(&self) -> &[String] {
        &self.called
    }

    /// Gives what is still to be told of its repairs.
    #[must_use]
    pub fn forget(&mut self, slot: &SettingId) -> Option<Record> {
        let mut contest = self.settings.remove(slot)?;
        self.timers.remove(&(contest.timer, slot.clone()));
        self.mutes_changed |= contest.muted;
        self.called.retain(|name| *name != contest.subject.key);
        (contest.untold > 0).then(|| contest.summary(contest.last()))
    }

    /// The same of all settings.
    #[must_use]
    pub fn forget_all(&mut self) -> Vec<Record> {
        let slots: Vec<SettingId> = self.settings.keys().cloned().collect();
        slots.iter().filter_map(|slot| self.forget(slot)).collect()
    }
}

#[cfg(test)]
mod tests;
