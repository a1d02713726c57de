//! Jobs that have to wait, because somebody keeps changing their settings back.

use super::contest::Due;
use super::episode::Episode;
use super::{Guard, Job, Rank, Slot, rank};
use crate::kernel::mute::Muted;
use crate::kernel::netconf;
use crate::report::decision::Verdict;
use crate::report::record::Cause;
use crate::setting::{ALL, Attribute, Family};

/// While `all.forwarding` is contested, interfaces are judged only when it has stood still for so long, in microseconds.
const CALM: u64 = 10_000;

impl Guard {
    /// A repair, or a look that needed none, has cost this much of the guard thread's processor.
    pub fn charge(&mut self, slot: &Slot, now: u64, cost: u64) {
        self.contests.charge(slot, now, cost);
    }

    /// The guard stops: has told what has not been told yet.
    pub fn stop(&mut self, now: u64) {
        let untold = self.contests.untold(now);
        self.records.extend(untold);
    }

    /// What was done since the last repair, of `charged`, has cost this much; or hearing of one whose repair waits has.
    pub fn charge_turn(&mut self, charged: Option<&Slot>, now: u64, cost: u64) {
        match (self.heard_in_vain.take(), charged) {
            (Some(slot), _) => self.contests.charge_hearing(&slot, now, cost),
            (None, Some(slot)) => self.contests.charge_rest(slot, now, cost),
            (None, None) => {}
        }
    }

    /// When [`Guard::tick`] has something to do.
    pub fn contest_due(&self) -> Option<u64> {
        self.contests.due().into_iter().chain(self.calm_due).min()
    }

    /// Does what is due at `now`: looks that waited, and what is told of contested settings.
    pub fn tick(&mut self, now: u64) {
        if self.calm_due.take_if(|due| *due <= now).is_some() {
            // What has to wait on comes back here.
            self.jobs.append(&mut self.waiting);
        }
        while let Some(due) = self.contests.take_due(now) {
            match due {
                Due::Tell(record) => self.records.push(record),
                Due::Look(slot) => {
                    let muted = slot == all_forwarding(Family::V4) && self.contests.is_muted(&slot);
                    if muted && std::mem::take(&mut self.wrote_all) {
                        // What the kernel has opened in nobody's name since was not heard of.
                        let episode = &mut self.episodes[Family::V4 as usize];
                        episode.get_or_insert(Episode::new(Cause::Write, None)).unasked = true;
                    }
                    match self.waiting.remove_entry(&(rank(&slot), slot.clone())) {
                        Some((slot, job)) => _ = self.jobs.entry(slot).or_insert(job),
                        None => self.check(slot, Cause::Write, None),
                    }
                }
            }
        }
    }

    /// The settings of which nothing shall be heard, because hearing of them costs too much, if these are others than the
    /// last time this was asked.
    pub fn take_mutes(&mut self) -> Option<Vec<Slot>> {
        let muted = self.contests.take_mutes();
        muted.iter().flatten().for_each(|slot| self.decided(slot, None::<&str>, Verdict::Muted));
        muted
    }

    /// What tells of changes of a setting, if netconf messages do.
    pub fn told_of_by(&self, slot: &Slot) -> Option<Muted> {
        let key = match slot {
            Slot::Announced(family, attribute, ifindex) => {
                return Some((*family, netconf::announced_by(*attribute), *ifindex));
            }
            Slot::Other(key) => key,
        };
        let ((family, attribute), name) = (netconf::attribute_of(key)?, key.place()?.interface);
        let ifindex =
            self.interfaces.iter().find(|(_, interface)| *interface.name == *name).map(|(ifindex, _)| *ifindex)?;
        Some((family, attribute, ifindex))
    }

    /// Whether a setting is still to be looked at.
    pub(super) fn is_to_come(&self, slot: Slot) -> bool {
        let job = (rank(&slot), slot);
        self.jobs.contains_key(&job) || self.waiting.contains_key(&job)
    }

    /// Puts a job off that has to wait at `now`, because its setting is contested, or an interface's forwarding because
    /// somebody keeps changing `all`, and every interface with it.
    pub(super) fn put_off(&mut self, rank: Rank, slot: &Slot, job: &Job, now: u64) -> bool {
        let all_of = match *slot {
            Slot::Announced(family, Attribute::Forwarding, _) => Some((family, all_forwarding(family))),
            _ => None,
        };
        let blamed = match all_of {
            _ if self.contests.waits(slot, now) => slot.clone(),
            Some((family, ref all)) if all != slot => {
                let calm = self.all_heard[family as usize] + CALM;
                if !self.waiting.contains_key(&(Rank::All, all.clone())) && !self.contests.is_in_turmoil(all, calm, now)
                {
                    return false;
                }
                self.calm_due.get_or_insert(now + CALM);
                all.clone()
            }
            _ => return false,
        };
        if let Some((family, _)) = all_of.filter(|(_, all)| all == slot) {
            self.episodes[family as usize].get_or_insert(Episode::new(job.cause, job.received));
        }
        let due = self.contests.not_before(&blamed).filter(|due| *due > now);
        let reason = if blamed == *slot { "over its budget" } else { "all.forwarding of its family is contested" };
        let usec = due.or(self.calm_due).unwrap_or(now).saturating_sub(now);
        self.decided(slot, job.new.as_deref(), Verdict::Deferred { usec, reason });
        self.heard_in_vain = Some(blamed);
        self.waiting.entry((rank, slot.clone())).or_insert_with(|| job.clone());
        true
    }

    /// Whether a look at a setting has to wait.
    pub(super) fn is_put_off(&self, slot: &Slot) -> bool {
        let all = |family| (Rank::All, all_forwarding(family));
        self.waiting.contains_key(&(rank(slot), slot.clone()))
            || matches!(slot, Slot::Announced(family, Attribute::Forwarding, _) if self.waiting.contains_key(&all(*family)))
    }

    /// A setting went.
    pub(super) fn forget_contest(&mut self, slot: &Slot) {
        self.records.extend(self.contests.forget(slot));
        self.waiting.remove(&(rank(slot), slot.clone()));
    }
}

pub(super) fn all_forwarding(family: Family) -> Slot {
    Slot::Announced(family, Attribute::Forwarding, ALL)
}
