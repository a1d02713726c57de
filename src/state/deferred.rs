//! Deferred repairs: those of contested settings wait until their budget allows the next one.

use super::contest::Due;
use super::fan_out::FanOut;
use super::{Job, Rank, SettingId, State, rank};
use crate::kernel::filter::Muted;
use crate::kernel::netconf;
use crate::report::decision::Verdict;
use crate::report::record::Cause;
use crate::setting::{ALL, Attribute, Family};

/// While `all.forwarding` is contested, interfaces are judged only when it has stood still for so long, in microseconds.
const CALM: u64 = 10_000;

impl State {
    /// A repair, or a look that needed none, has cost this much of the guard thread's processor.
    pub fn charge(&mut self, slot: &SettingId, now: u64, cost: u64) {
        self.contests.charge(slot, now, cost);
    }

    /// The guard stops: has told what has not been told yet.
    pub fn stop(&mut self, now: u64) {
        let untold = self.contests.untold(now);
        self.records.extend(untold);
    }

    /// What was done since the last repair, of `charged`, has cost this much; or hearing of one whose repair waits has.
    pub fn charge_turn(&mut self, charged: Option<&SettingId>, now: u64, cost: u64) {
        match (self.notified_in_vain.take(), charged) {
            (Some(slot), _) => self.contests.charge_hearing(&slot, now, cost),
            (None, Some(slot)) => self.contests.charge_rest(slot, now, cost),
            (None, None) => {}
        }
    }

    /// When [`State::tick`] has something to do.
    pub fn contest_due(&self) -> Option<u64> {
        self.contests.due().into_iter().chain(self.calm_due).min()
    }

    /// Does what is due at `now`: looks that waited, and what is told of contested settings.
    pub fn tick(&mut self, now: u64) {
        if self.calm_due.take_if(|due| *due <= now).is_some() {
            // What has to wait on comes back here.
            self.jobs.append(&mut self.deferred);
        }
        while let Some(due) = self.contests.take_due(now) {
            match due {
                Due::Tell(record) => self.records.push(record),
                Due::Look(slot) => {
                    let muted = slot == all_forwarding(Family::V4) && self.contests.is_muted(&slot);
                    if muted && std::mem::take(&mut self.wrote_all) {
                        // What the kernel has opened in nobody's name since was not heard of.
                        let fan_out = &mut self.fan_outs[Family::V4 as usize];
                        fan_out.get_or_insert(FanOut::new(Cause::Write, None)).reopened = true;
                    }
                    match self.deferred.remove_entry(&(rank(&slot), slot.clone())) {
                        Some((slot, job)) => _ = self.jobs.entry(slot).or_insert(job),
                        None => self.check(slot, Cause::Write, None),
                    }
                }
            }
        }
    }

    /// The settings of which nothing shall be heard, because hearing of them costs too much, if these are others than the
    /// last time this was asked.
    pub fn take_mutes(&mut self) -> Option<Vec<SettingId>> {
        let muted = self.contests.take_mutes();
        muted.iter().flatten().for_each(|slot| self.note_decision(slot, None::<&str>, Verdict::Muted));
        muted
    }

    /// What tells of changes of a setting, if netconf messages do.
    pub fn announcement_of(&self, slot: &SettingId) -> Option<Muted> {
        let key = match slot {
            SettingId::Announced(family, attribute, ifindex) => {
                return Some((*family, netconf::announced_by(*attribute), *ifindex));
            }
            SettingId::Unannounced(key) => key,
        };
        let ((family, attribute), name) = (netconf::attribute_of(key)?, key.place()?.interface);
        let ifindex =
            self.interfaces.iter().find(|(_, interface)| *interface.name == *name).map(|(ifindex, _)| *ifindex)?;
        Some((family, attribute, ifindex))
    }

    /// Whether a setting is still to be looked at.
    pub(super) fn is_to_come(&self, slot: SettingId) -> bool {
        let job = (rank(&slot), slot);
        self.jobs.contains_key(&job) || self.deferred.contains_key(&job)
    }

    /// Puts a job off that has to wait at `now`, because its setting is contested, or an interface's forwarding because
    /// somebody keeps changing `all`, and every interface with it.
    pub(super) fn defer(&mut self, rank: Rank, slot: &SettingId, job: &Job, now: u64) -> bool {
        let all_of = match *slot {
            SettingId::Announced(family, Attribute::Forwarding, _) => Some((family, all_forwarding(family))),
            _ => None,
        };
        let blamed = match all_of {
            _ if self.contests.waits(slot, now) => slot.clone(),
            Some((family, ref all)) if all != slot => {
                let calm = self.all_notified[family as usize] + CALM;
                if !self.deferred.contains_key(&(Rank::All, all.clone()))
                    && !self.contests.is_in_turmoil(all, calm, now)
                {
                    return false;
                }
                self.calm_due.get_or_insert(now + CALM);
                all.clone()
            }
            _ => return false,
        };
        if let Some((family, _)) = all_of.filter(|(_, all)| all == slot) {
            self.fan_outs[family as usize].get_or_insert(FanOut::new(job.cause, job.received));
        }
        let due = self.contests.not_before(&blamed).filter(|due| *due > now);
        let reason = if blamed == *slot { "over its budget" } else { "all.forwarding of its family is contested" };
        let usec = due.or(self.calm_due).unwrap_or(now).saturating_sub(now);
        self.note_decision(slot, job.new.as_deref(), Verdict::Deferred { usec, reason });
        self.notified_in_vain = Some(blamed);
        self.deferred.entry((rank, slot.clone())).or_insert_with(|| job.clone());
        true
    }

    /// Whether a look at a setting has to wait.
    pub(super) fn is_deferred(&self, slot: &SettingId) -> bool {
        let all = |family| (Rank::All, all_forwarding(family));
        self.deferred.contains_key(&(rank(slot), slot.clone()))
            || matches!(slot, SettingId::Announced(family, Attribute::Forwarding, _) if self.deferred.contains_key(&all(*family)))
    }

    /// A setting went.
    pub(super) fn forget_contest(&mut self, slot: &SettingId) {
        self.records.extend(self.contests.forget(slot));
        self.deferred.remove(&(rank(slot), slot.clone()));
    }
}

pub(super) fn all_forwarding(family: Family) -> SettingId {
    SettingId::Announced(family, Attribute::Forwarding, ALL)
}
