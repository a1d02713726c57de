//! The decision core: current values and baselines against the policy. Events come in, repairs and records come out.
//!
//! It owns what is known of every guarded setting, each part of it in a file of its own. It has no clock, no path, no socket and no
//! log: the engine passes it events ([`State::apply_netconf`], [`State::apply_link`], [`State::apply_snapshot`]) with their times,
//! executes what [`State::next_repair`] returns, and passes the outcome to [`State::complete`].

mod baseline;
mod check;
mod contest;
mod deferred;
mod events;
mod fan_out;
pub mod interface;
mod outcome;
mod queue;
mod records;
pub mod resume;
pub mod schedule;
mod settings;
mod snapshot;

use std::sync::Arc;

use rustix::io::Errno;

use crate::kernel::netconf;
use crate::policy::Policy;
use crate::report::decision::Verdict;
use crate::report::record::Cause;
use crate::setting::{Attribute, Family, Key};
use baseline::Baselines;
use contest::Contests;
use fan_out::{FanOuts, all_forwarding};
pub use interface::Move;
use outcome::Outcomes;
pub use queue::Repair;
use queue::{Job, Queue};
use records::Output;
pub use records::Summary;
use schedule::LinkSchedule;
use settings::Settings;
use snapshot::Reads;
pub use snapshot::Snapshot;

/// A guarded setting.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SettingId {
    /// One whose changes the kernel announces, of an interface (or `all`, `default`) by its ifindex.
    Announced(Family, Attribute, i32),
    Unannounced(Key),
}

impl SettingId {
    /// Whether the kernel announces its changes with netconf messages.
    fn is_announced(&self) -> bool {
        match self {
            SettingId::Announced(..) => true,
            SettingId::Unannounced(key) => netconf::attribute_of(key).is_some(),
        }
    }

    /// Whether it is an announced one of this interface.
    fn is_of(&self, ifindex: i32) -> bool {
        matches!(self, SettingId::Announced(_, _, index) if *index == ifindex)
    }
}

/// See the module's documentation.
pub struct State {
    policy: Arc<Policy>,
    settings: Settings,
    baselines: Baselines,
    fan_outs: FanOuts,
    queue: Queue,
    contests: Contests,
    outcomes: Outcomes,
    output: Output,
    reads: Reads,
    link_schedule: LinkSchedule,
}

impl State {
    pub fn new(policy: Arc<Policy>) -> State {
        let mut state = State {
            policy: policy.clone(),
            settings: Settings::new(),
            baselines: Baselines::default(),
            fan_outs: FanOuts::default(),
            queue: Queue::default(),
            contests: Contests::default(),
            outcomes: Outcomes::default(),
            output: Output::default(),
            reads: Reads::default(),
            link_schedule: LinkSchedule::default(),
        };
        state.reload(policy);
        state
    }

    /// Applies another policy. A full read with [`Cause::Reload`] has to follow.
    pub fn reload(&mut self, policy: Arc<Policy>) {
        self.forget_all_baselines();
        self.abandon_fan_outs();
        self.queue.clear();
        let records = self.contests.forget_all();
        self.output.publish_all(records);
        self.outcomes = Outcomes::default();
        self.reads = Reads::default();
        self.settings.apply_policy(&policy);
        self.policy = policy;
    }

    /// Whether anything is left to do.
    pub fn is_busy(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether something is left to do, or to be read again.
    pub fn is_in_doubt(&self) -> bool {
        self.reads.is_requested() || self.is_busy() || self.awaits_idle()
    }

    /// The next setting to read and, if it does not hold, to write at `now` (monotonic microseconds).
    pub fn next_repair(&mut self, now: u64) -> Option<Repair> {
        while let Some((id, job)) = self.queue.pop() {
            if self.defer(&id, &job, now) {
                continue;
            }
            if let Some(repair) = self.repair(id, job) {
                return Some(repair);
            }
        }
        None
    }

    fn repair(&mut self, id: SettingId, job: Job) -> Option<Repair> {
        // Audits try again: an interface's mtu, for one, may be refused only for now.
        let refused = job.cause == Cause::Write && self.outcomes.failure(&id) == Some(Some(Errno::INVAL));
        if refused {
            self.note_decision(&id, job.new.as_deref(), Verdict::NotRetried);
        }
        let Some(key) = self.settings.key_of(&id).filter(|_| !refused) else {
            Family::BOTH.into_iter().filter(|family| id == all_forwarding(*family)).for_each(|it| self.end_fan_out(it));
            return None;
        };
        let wanted = match job.entry {
            Some(entry) => self.policy.entries()[entry].value.clone()?,
            None => job.written_back.clone()?,
        };
        let unannounced = matches!(id, SettingId::Unannounced(_)).then(|| self.settings.unannounced(&key)).flatten();
        let learned = unannounced.and_then(|setting| setting.learned.clone());
        let learn = unannounced.is_some() && !self.contests.is_repaired_again(&id);
        Some(Repair { key, wanted, learned, learn, id, job })
    }

    fn wants(&self, entry: usize, value: i32) -> bool {
        self.policy.entries()[entry].number == Some(i64::from(value))
    }

    fn is_wrong(&self, id: &SettingId) -> bool {
        let cell = self.settings.cell(id);
        cell.is_some_and(|cell| matches!((cell.entry, cell.current), (Some(e), Some(v)) if !self.wants(e, v)))
    }

    fn all_entry(&self, family: Family) -> Option<usize> {
        self.settings.cell(&all_forwarding(family))?.entry
    }
}

#[cfg(test)]
mod tests;
