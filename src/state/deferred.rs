//! Deferred repairs: those of contested settings wait until their budget allows the next one.

use super::contest::Due;
use super::fan_out::all_forwarding;
use super::queue::Job;
use super::{SettingId, State};
use crate::kernel::filter::Muted;
use crate::kernel::netconf;
use crate::report::decision::Verdict;
use crate::report::record::Cause;
use crate::setting::{Attribute, Family};

impl State {
    /// A repair, or a check that needed none, took this much of the guard thread's processor time.
    pub fn charge(&mut self, id: &SettingId, now: u64, cost: u64) {
        self.contests.charge(id, now, cost);
    }

    /// The guard stops: publishes what has not been published yet.
    pub fn stop(&mut self, now: u64) {
        let unpublished = self.contests.unpublished(now);
        self.output.publish_all(unpublished);
    }

    /// What followed the last repair, of `charged`, took this much; or receiving notifications of one whose repair is deferred did.
    pub fn charge_turn(&mut self, charged: Option<&SettingId>, now: u64, cost: u64) {
        match (self.queue.take_last_deferred(), charged) {
            (Some(id), _) => self.contests.charge_notifications(&id, now, cost),
            (None, Some(id)) => self.contests.charge_rest(id, now, cost),
            (None, None) => {}
        }
    }

    /// When [`State::tick`] has something to do.
    pub fn contest_due(&self) -> Option<u64> {
        self.contests.due().into_iter().chain(self.fan_outs.calm_due()).min()
    }

    /// Does what is due at `now`: deferred checks, and records of contested settings.
    pub fn tick(&mut self, now: u64) {
        if self.fan_outs.take_calm(now) {
            self.queue.resume_all();
        }
        while let Some(due) = self.contests.take_due(now) {
            match due {
                Due::Publish(record) => self.output.publish(record),
                Due::Check(id) => {
                    if id == all_forwarding(Family::V4) && self.contests.is_muted(&id) {
                        self.fan_outs.suspect_reopened();
                    }
                    if !self.queue.resume(&id) {
                        self.check(id, Cause::Write, None);
                    }
                }
            }
        }
    }

    /// The settings whose notifications are filtered out, because receiving them costs too much, if these are others than the
    /// last time this was asked.
    pub fn take_mutes(&mut self) -> Option<Vec<SettingId>> {
        let muted = self.contests.take_mutes();
        muted.iter().flatten().for_each(|id| self.note_decision(id, None::<&str>, Verdict::Muted));
        muted
    }

    /// The notifications of a setting's changes, if netconf messages announce them.
    pub fn announcement_of(&self, id: &SettingId) -> Option<Muted> {
        let key = match id {
            SettingId::Announced(family, attribute, ifindex) => {
                return Some((*family, netconf::announced_by(*attribute), *ifindex));
            }
            SettingId::Unannounced(key) => key,
        };
        let ((family, attribute), name) = (netconf::attribute_of(key)?, key.place()?.interface);
        let (ifindex, _) = self.settings.interfaces().find(|(_, interface)| *interface.name == *name)?;
        Some((family, attribute, ifindex))
    }

    /// Defers a check that has to wait at `now`, because its setting is contested, or an interface's forwarding because
    /// another process keeps changing `all`, and every interface with it.
    pub(super) fn defer(&mut self, id: &SettingId, job: &Job, now: u64) -> bool {
        let all_of = match *id {
            SettingId::Announced(family, Attribute::Forwarding, _) => Some((family, all_forwarding(family))),
            _ => None,
        };
        let contested = match all_of {
            _ if self.contests.waits(id, now) => id.clone(),
            Some((family, ref all)) if all != id => {
                let calm = self.fan_outs.calm_at(family);
                if !self.queue.is_deferred(all) && !self.contests.is_in_turmoil(all, calm, now) {
                    return false;
                }
                self.fan_outs.wait_for_calm(now);
                all.clone()
            }
            _ => return false,
        };
        if let Some((family, _)) = all_of.filter(|(_, all)| all == id) {
            self.fan_outs.expect(family, job.cause, job.received);
        }
        let due = self.contests.not_before(&contested).filter(|due| *due > now);
        let reason = if contested == *id { "over its budget" } else { "all.forwarding of its family is contested" };
        let usec = due.or(self.fan_outs.calm_due()).unwrap_or(now).saturating_sub(now);
        self.note_decision(id, job.new.as_deref(), Verdict::Deferred { usec, reason });
        self.queue.defer(id, job, contested);
        true
    }

    /// Whether the check of a setting is deferred.
    pub(super) fn is_deferred(&self, id: &SettingId) -> bool {
        self.queue.is_deferred(id)
            || matches!(id, SettingId::Announced(family, Attribute::Forwarding, _)
                if self.queue.is_deferred(&all_forwarding(*family)))
    }

    /// A setting disappeared.
    pub(super) fn forget_contest(&mut self, id: &SettingId) {
        let unpublished = self.contests.forget(id);
        self.output.publish_all(unpublished);
        self.queue.forget_deferred(id);
    }
}
