//! Takes what came of repairs: remembers the values, what failed, and what was written and is to be read again.
//!
//! It owns the failures and the list of rechecks.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use rustix::io::Errno;

use super::fan_out::all_forwarding;
use super::queue::{Job, Repair};
use super::{SettingId, State};
use crate::kernel::sysctl::{Outcome, is_absent};
use crate::report::record::{Cause, Record};
use crate::setting::{self, Attribute, DEFAULT, Family, same_value};

/// A write that took longer is worth a record: another process holds the kernel's RTNL lock.
const SLOW_WRITE_USEC: u64 = 1_000_000;
/// The same failure has another record no sooner than this, however often the setting is right in between.
const SAME_FAILURE_EVERY_USEC: u64 = 60_000_000;

/// A setting that could not be repaired.
#[derive(Debug)]
struct Failure {
    /// `None`: the kernel accepted the value, but did not keep it.
    errno: Option<Errno>,
    /// When it was last another one, or logged again (monotonic microseconds).
    logged_at: u64,
    /// The policy ignores it.
    is_ignored: bool,
    /// The setting has been right since.
    is_over: bool,
}

#[derive(Debug, Default)]
pub struct Outcomes {
    failed: HashMap<SettingId, Failure>,
    /// What was written lately and has to be read again, with its baseline if the policy does not name it.
    written: BTreeMap<SettingId, Option<Arc<str>>>,
}

impl Outcomes {
    /// Why a setting could not be repaired, if it is wrong for that reason (`None`: accepted, but not kept).
    pub fn failure(&self, id: &SettingId) -> Option<Option<Errno>> {
        self.failed.get(id).filter(|failure| !failure.is_over).map(|failure| failure.errno)
    }

    /// A setting could not be repaired at `now` (monotonic microseconds). Says whether that is worth a record: it is another failure
    /// than before, or has come again.
    pub fn note_failure(&mut self, id: &SettingId, errno: Option<Errno>, is_ignored: bool, now: u64) -> bool {
        let is_same = |failure: &&Failure| {
            failure.errno == errno
                && (!failure.is_over || now.saturating_sub(failure.logged_at) < SAME_FAILURE_EVERY_USEC)
        };
        let logged_at = self.failed.get(id).filter(is_same).map(|failure| failure.logged_at);
        let failure = Failure { errno, logged_at: logged_at.unwrap_or(now), is_ignored, is_over: false };
        self.failed.insert(id.clone(), failure);
        logged_at.is_none() && !is_ignored
    }

    /// A setting is right, or not there.
    pub fn end_failure(&mut self, id: &SettingId) {
        if let Some(failure) = self.failed.get_mut(id) {
            failure.is_over = true;
        }
    }

    /// How many settings are wrong since they could not be repaired, but for those whose failures the policy ignores.
    pub fn failing(&self) -> usize {
        self.failed.values().filter(|failure| !failure.is_over && !failure.is_ignored).count()
    }

    pub fn forget_written(&mut self, id: &SettingId) {
        self.written.remove(id);
    }

    /// Forgets a setting that was written back, if its value is another than that by now (`is_other`).
    pub fn forget_written_back(&mut self, id: &SettingId, is_other: impl Fn(&Arc<str>) -> bool) {
        if self.written.get(id).is_some_and(|written_back| written_back.as_ref().is_some_and(is_other)) {
            self.written.remove(id);
        }
    }

    pub fn forget(&mut self, id: &SettingId) {
        self.failed.remove(id);
    }

    pub fn forget_interface(&mut self, ifindex: i32) {
        self.failed.retain(|id, _| !id.is_of(ifindex));
        self.written.retain(|id, _| !id.is_of(ifindex));
    }
}

impl State {
    /// Takes what came of a repair. A family is returned where everything that is left has to be received now, and
    /// [`State::fan_out_received`] called, before the next repair: a write of its `all.forwarding` changed every interface. If
    /// it was not ours, it may not be over yet.
    #[must_use]
    pub fn complete(&mut self, mut repair: Repair, outcome: Outcome) -> Option<Family> {
        let announced = repair.job.new.as_ref().filter(|_| repair.job.cause == Cause::Link);
        if announced.is_some_and(|value| outcome.found.as_ref().is_ok_and(|found| found != value)) {
            // A new interface had another value when the kernel announced it.
            repair.job.cause = Cause::Write;
        }
        self.note_outcome(&repair, &outcome);
        let all_of = Family::BOTH.into_iter().find(|family| repair.id == all_forwarding(*family));
        if let (SettingId::Announced(family, _, ifindex), None) = (&repair.id, repair.job.entry) {
            self.fan_outs.note_written_back(*family, *ifindex);
        }
        if outcome.write_usec >= SLOW_WRITE_USEC {
            let key = self.name_of(&repair.key, repair.job.entry);
            self.output.publish(Record::SlowWrite { key, usec: outcome.write_usec });
        }
        let holds = outcome.found.is_ok() && outcome.write.is_none();
        match (&outcome.found, &outcome.write) {
            (Err(errno), _) if is_absent(*errno) => {
                self.outcomes.end_failure(&repair.id);
                self.remember(&repair, None);
            }
            (Ok(value), None) => {
                self.outcomes.end_failure(&repair.id);
                self.remember(&repair, Some(value));
            }
            (_, Some(Ok(()))) => {
                self.complete_write(&repair, &outcome, all_of);
                return all_of;
            }
            (found, Some(Err(errno))) => self.fail(&repair, found.clone().ok(), Some(*errno), outcome.finished),
            (Err(errno), None) => self.fail(&repair, None, Some(*errno), outcome.finished),
        }
        all_of.filter(|family| self.note_all_checked(*family, holds))
    }

    fn complete_write(&mut self, repair: &Repair, outcome: &Outcome, all_of: Option<Family>) {
        let found = outcome.found.clone().ok();
        let written_back = repair.job.entry.is_none().then(|| repair.wanted.clone());
        self.outcomes.written.insert(repair.id.clone(), written_back);
        all_of.into_iter().for_each(|family| self.fan_outs.note_all_written(family));
        // The kernel changes interfaces with it without a notification, whoever writes it (devinet_copy_dflt_conf).
        if repair.id == SettingId::Announced(Family::V4, Attribute::RpFilter, DEFAULT) {
            self.reads.request(repair.job.cause);
        }
        if let SettingId::Unannounced(key) = &repair.id {
            self.follow_own_write(key, repair.job.cause);
        }
        // Another value is another process's write already, whose notification follows, unless it is learned.
        let now = if repair.learn { outcome.now.as_deref() } else { Some(&*repair.wanted) };
        self.remember(repair, now);
        if repair.learn && now.is_none() {
            return self.fail(repair, found, None, outcome.finished);
        }
        self.outcomes.end_failure(&repair.id);
        let is_only_printed_otherwise = repair.learn && found.as_deref() == now;
        if !is_only_printed_otherwise {
            self.repaired(repair, found, outcome.finished);
        }
    }

    /// Remembers a value that was read from `/proc/sys`.
    fn remember(&mut self, repair: &Repair, value: Option<&str>) {
        let was_there;
        match &repair.id {
            SettingId::Announced(..) => {
                let number = value.and_then(setting::number).and_then(|value| i32::try_from(value).ok());
                let Some(cell) = self.settings.cell_mut(&repair.id) else { return };
                was_there = cell.current.is_some();
                (cell.current, cell.baseline) = (number, number);
            }
            SettingId::Unannounced(key) => {
                let Some(setting) = self.settings.unannounced_mut(key) else { return };
                was_there = setting.current.is_some();
                setting.current = value.map(str::to_string);
                let learned = value.filter(|value| repair.learn && !same_value(&repair.wanted, value));
                setting.learned = learned.map(Arc::from).or(setting.learned.take());
            }
        }
        if was_there != value.is_some() {
            self.settings.recount();
        }
    }

    /// What was written lately, to be read again.
    ///
    /// `devinet_sysctl_forward` stores a value before it tries the RTNL lock, and stores the old one again if it can't have
    /// it: a process that waits for the lock in that moment undoes our write, and nothing is announced. `devinet_conf_proc`
    /// compares before and after without a lock: of two processes that write at once, neither may be announced.
    pub fn written(&self) -> Vec<Repair> {
        let again = |(id, written_back): (&SettingId, &Option<Arc<str>>)| {
            let entry = self.settings.entry_of(id);
            let learned = match id {
                SettingId::Unannounced(key) => self.settings.unannounced(key).and_then(|it| it.learned.clone()),
                SettingId::Announced(..) => None,
            };
            let wanted = match entry {
                Some(entry) => self.policy.entries()[entry].value.clone()?,
                None => written_back.clone()?,
            };
            let (old, written_back) = (self.settings.current(id), written_back.clone());
            let job = Job { old, written_back, ..Job::new(entry, Cause::Write) };
            Some(Repair { key: self.settings.key_of(id)?, wanted, learned, learn: false, id: id.clone(), job })
        };
        self.outcomes.written.iter().filter(|(id, _)| !self.is_deferred(id)).filter_map(again).collect()
    }

    /// Queues the check of one of them, behind that of the setting that it follows.
    pub fn queue_again(&mut self, repair: Repair) {
        if let Some(leader) = repair.key.follows() {
            self.check(SettingId::Unannounced(leader), repair.job.cause, None);
        }
        self.queue.add(repair.id, repair.job);
    }

    /// What was written has been read often enough.
    pub fn forget_written(&mut self) {
        self.outcomes.written.clear();
        self.fan_outs.forget_all_written();
    }
}
