//! The decision core: current values and baselines against the policy. Events come in, repairs and records come out.
//!
//! It owns what is known of every guarded setting. It has no clock, no path, no socket and no log: the engine passes it events
//! ([`State::apply_netconf`], [`State::apply_link`], [`State::apply_snapshot`]) with their times, executes what
//! [`State::next_repair`] returns, and passes the outcome to [`State::complete`].

mod baseline;
mod check;
mod contest;
mod decide;
mod deferred;
mod events;
mod fan_out;
pub mod interface;
mod job;
mod recheck;
mod records;
pub mod resume;
pub mod schedule;
mod snapshot;
mod summary;

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::sync::Arc;

use rustix::io::Errno;

use crate::kernel::netconf;
use crate::kernel::sysctl::{Outcome, is_absent};
use crate::policy::Policy;
use crate::report::decision::{Decision, Verdict};
use crate::report::record::{Cause, Record};
use crate::setting::{self, ALL, Attribute, DEFAULT, Family, Key, same_value};
use baseline::Baselines;
use contest::Contests;
use fan_out::FanOut;
pub use interface::Move;
use interface::{Cell, Interface, Unannounced};
use job::Job;
pub use job::Repair;
use records::Changes;
use schedule::LinkSchedule;
pub use snapshot::Snapshot;
pub use summary::Summary;

/// A setting inside the guard.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SettingId {
    /// One whose changes the kernel announces, of an interface (or [`ALL`], [`DEFAULT`]).
    Announced(Family, Attribute, i32),
    Unannounced(Key),
}

impl SettingId {
    /// Whether netconf messages tell of its changes.
    fn is_announced(&self) -> bool {
        match self {
            SettingId::Announced(..) => true,
            SettingId::Unannounced(key) => netconf::attribute_of(key).is_some(),
        }
    }
}

/// The order of repairs: `accept_ra` before forwarding, since forwarding takes the routes of an interface that does not
/// have it at 2; then `all`, whose fan-out undoes the rest; then `default`; then interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    AcceptRa,
    All,
    Default,
    Interface,
    Global,
}

/// See the module's documentation.
pub struct State {
    policy: Arc<Policy>,
    /// By ifindex. Boxed, so that the way to one touches little memory, however many there are.
    interfaces: BTreeMap<i32, Box<Interface>>,
    /// Settings whose changes the kernel does not announce.
    unannounced: HashMap<Key, Unannounced>,
    /// Those of them that belong to no interface.
    global: Vec<Key>,
    /// Keys that left `others`.
    gone: Vec<Key>,
    /// `all.accept_redirects` as it was before any drift of `all.forwarding`, which changes it.
    redirects: Option<String>,
    redirects_in_doubt: bool,
    baselines: Baselines,
    /// IPv4's `all.forwarding` was written not long ago, and not everything has been read since: another's write that met
    /// ours may go through yet ([`State::is_reopened`]).
    wrote_all: bool,
    fan_outs: [Option<FanOut>; 2],
    jobs: BTreeMap<(Rank, SettingId), Job>,
    contests: Contests,
    /// Jobs that have to wait, because their settings are contested.
    deferred: BTreeMap<(Rank, SettingId), Job>,
    /// The setting of the last of them that was heard of.
    notified_in_vain: Option<SettingId>,
    /// When `all.forwarding` of each family was last said to have changed, and when to look whether it has come to rest.
    all_notified: [u64; 2],
    calm_due: Option<u64>,
    /// Settings that could not be put right, with the reason (`None`: accepted, but not kept).
    failed: HashMap<SettingId, Option<Errno>>,
    /// What was written lately and has to be looked at again, with what it was put back to if the policy does not name it.
    written: BTreeMap<SettingId, Option<Arc<str>>>,
    records: Vec<Record>,
    /// What was decided, where somebody wants to know ([`State::note_decisions`]).
    decisions: Option<Vec<Decision>>,
    moves: Vec<Move>,
    /// What has been repaired lately, and when last.
    changed: Changes,
    /// Everything has to be read again, and why.
    reread: Option<Cause>,
    /// When everything was read last (monotonic microseconds).
    read_at: Option<u64>,
    link_schedule: LinkSchedule,
    repairs: u64,
    last: Option<(String, Cause)>,
    /// Settings and interfaces guarded, until something comes, goes or changes its policy.
    counts: Option<(usize, usize)>,
}

impl State {
    pub fn new(policy: Arc<Policy>) -> State {
        let mut state = State {
            policy: policy.clone(),
            interfaces: BTreeMap::new(),
            unannounced: HashMap::new(),
            global: Vec::new(),
            gone: Vec::new(),
            redirects: None,
            redirects_in_doubt: false,
            baselines: Baselines::default(),
            wrote_all: false,
            fan_outs: [None, None],
            jobs: BTreeMap::new(),
            contests: Contests::default(),
            deferred: BTreeMap::new(),
            notified_in_vain: None,
            all_notified: [0; 2],
            calm_due: None,
            failed: HashMap::new(),
            written: BTreeMap::new(),
            records: Vec::new(),
            decisions: None,
            moves: Vec::new(),
            changed: Changes::default(),
            reread: None,
            read_at: None,
            link_schedule: LinkSchedule::default(),
            repairs: 0,
            last: None,
            counts: None,
        };
        state.interfaces.insert(ALL, Interface::new("all".into()).into());
        state.interfaces.insert(DEFAULT, Interface::new("default".into()).into());
        state.reload(policy);
        state
    }

    /// Takes another policy. A full read with [`Cause::Reload`] has to follow.
    pub fn reload(&mut self, policy: Arc<Policy>) {
        if self.fan_outs[Family::V4 as usize].is_none() {
            self.redirects = None; // it went with `all.forwarding`, if that was nobody's
        }
        Family::BOTH.into_iter().for_each(|family| self.abandon_fan_out(family));
        self.jobs.clear();
        self.deferred.clear();
        self.records.extend(self.contests.forget_all());
        self.failed.clear();
        self.written.clear();
        self.wrote_all = false;
        self.forget_all_baselines();
        self.read_at = None;
        self.gone.extend(self.unannounced.drain().map(|(key, _)| key));
        self.global = policy.global().map(|(key, _)| key).collect();
        self.unannounced.extend(policy.global().map(|(key, entry)| (key, Unannounced::new(entry))));
        for interface in self.interfaces.values_mut() {
            interface.apply(&policy, &mut self.unannounced);
        }
        self.policy = policy;
        self.counts = None;
    }

    /// Whether anything is left to do.
    pub fn is_busy(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// Whether something is over as soon as nothing waits to be heard ([`State::idle`]).
    pub fn awaits_idle(&self) -> bool {
        let held = |family: &Family| self.fan_outs[*family as usize].as_ref().is_some_and(|fan_out| fan_out.held);
        Family::BOTH.into_iter().filter(held).any(|family| !self.is_to_come(deferred::all_forwarding(family)))
    }

    /// The next setting to read and, if it does not hold, to write at `now` (monotonic microseconds).
    pub fn next_repair(&mut self, now: u64) -> Option<Repair> {
        while let Some(((rank, slot), job)) = self.jobs.pop_first() {
            if self.defer(rank, &slot, &job, now) {
                continue;
            }
            if let Some(repair) = self.repair(slot, job) {
                return Some(repair);
            }
        }
        None
    }

    fn repair(&mut self, slot: SettingId, job: Job) -> Option<Repair> {
        // Audits try again: an interface's mtu, for one, may be refused only for now.
        let refused = job.cause == Cause::Write && self.failed.get(&slot) == Some(&Some(Errno::INVAL));
        if refused {
            self.note_decision(&slot, job.new.as_deref(), Verdict::NotRetried);
        }
        let Some(key) = self.key_of(&slot).filter(|_| !refused) else {
            if let SettingId::Announced(family, Attribute::Forwarding, ALL) = slot {
                self.end_fan_out(family);
            }
            return None;
        };
        let wanted = match job.entry {
            Some(entry) => self.policy.entries()[entry].value.clone()?,
            None => job.written_back.clone()?,
        };
        let other = matches!(slot, SettingId::Unannounced(_)).then(|| self.unannounced.get(&key)).flatten();
        let learned = other.and_then(|other| other.learned.clone());
        let learn = other.is_some() && !self.contests.is_repaired_again(&slot);
        Some(Repair { key, wanted, learned, learn, slot, job })
    }

    /// Takes what came of a repair. A family is returned where all that waits to be heard has to be heard now, and
    /// [`State::fan_out_received`] called, before the next repair: a write of its `all.forwarding` changed every interface. If it was not
    /// ours, it may not be over yet.
    #[must_use]
    pub fn complete(&mut self, mut repair: Repair, outcome: Outcome) -> Option<Family> {
        let announced = repair.job.new.as_ref().filter(|_| repair.job.cause == Cause::Link);
        if announced.is_some_and(|value| outcome.found.as_ref().is_ok_and(|found| found != value)) {
            // A new interface had another value when the kernel announced it.
            repair.job.cause = Cause::Write;
        }
        self.note_outcome(&repair, &outcome);
        let all_of = match repair.slot {
            SettingId::Announced(family, Attribute::Forwarding, ALL) => Some(family),
            _ => None,
        };
        if let (SettingId::Announced(family, _, ifindex), None) = (&repair.slot, repair.job.entry)
            && let Some(fan_out) = &mut self.fan_outs[*family as usize]
        {
            fan_out.written_back.insert(*ifindex);
        }
        if outcome.write_usec >= SLOW_WRITE_USEC {
            let entry = repair.job.entry;
            let key = entry.map_or_else(|| repair.key.to_string(), |entry| self.policy.name(&repair.key, entry));
            self.records.push(Record::SlowWrite { key, usec: outcome.write_usec });
        }
        let holds = outcome.found.is_ok() && outcome.write.is_none();
        match (&outcome.found, &outcome.write) {
            (Err(errno), _) if is_absent(*errno) => {
                self.failed.remove(&repair.slot);
                self.remember(&repair, None);
            }
            (Ok(value), None) => {
                self.failed.remove(&repair.slot);
                self.remember(&repair, Some(value));
            }
            (found, Some(Ok(()))) => {
                let written_back = repair.job.entry.is_none().then(|| repair.wanted.clone());
                self.written.insert(repair.slot.clone(), written_back);
                self.wrote_all |= all_of == Some(Family::V4);
                // Interfaces follow it in silence, whoever writes it (devinet_copy_dflt_conf).
                if repair.slot == SettingId::Announced(Family::V4, Attribute::RpFilter, DEFAULT) {
                    self.reread = Some(repair.job.cause);
                }
                if let SettingId::Unannounced(key) = &repair.slot {
                    self.follow_own_write(key, repair.job.cause);
                }
                // Another value is another's write already, and word of it is on its way, unless it is learned.
                let now = if repair.learn { outcome.now.as_deref() } else { Some(&*repair.wanted) };
                self.remember(&repair, now);
                let kept = !repair.learn || now.is_some();
                let only_said_otherwise = repair.learn && now.is_some() && found.as_deref().ok() == now;
                if only_said_otherwise {
                    self.failed.remove(&repair.slot);
                } else if kept {
                    self.failed.remove(&repair.slot);
                    self.repaired(&repair, found.clone().ok(), outcome.finished);
                } else {
                    self.fail(&repair, found.clone().ok(), None);
                }
                return all_of;
            }
            (found, Some(Err(errno))) => self.fail(&repair, found.clone().ok(), Some(*errno)),
            (Err(errno), None) => self.fail(&repair, None, Some(*errno)),
        }
        all_of.filter(|family| self.note_all_checked(*family, holds))
    }

    /// Remembers a value that was read from `/proc/sys`.
    fn remember(&mut self, repair: &Repair, value: Option<&str>) {
        let was_there = match &repair.slot {
            SettingId::Announced(..) => self.cell(&repair.slot).is_some_and(|cell| cell.current.is_some()),
            SettingId::Unannounced(key) => self.unannounced.get(key).is_some_and(|other| other.current.is_some()),
        };
        if was_there != value.is_some() {
            self.counts = None;
        }
        match &repair.slot {
            SettingId::Announced(..) => {
                let number = value.and_then(setting::number).and_then(|value| i32::try_from(value).ok());
                if let Some(cell) = self.cell_mut(&repair.slot) {
                    (cell.current, cell.baseline) = (number, number);
                }
            }
            SettingId::Unannounced(key) => {
                let learned = value.filter(|v| repair.learn && !same_value(&repair.wanted, v)).map(Arc::from);
                if let Some(other) = self.unannounced.get_mut(key) {
                    other.current = value.map(str::to_string);
                    if learned.is_some() {
                        other.learned = learned;
                    }
                }
            }
        }
    }

    fn wants(&self, entry: usize, value: i32) -> bool {
        self.policy.entries()[entry].number == Some(i64::from(value))
    }

    fn is_wrong(&self, slot: &SettingId) -> bool {
        self.cell(slot)
            .is_some_and(|cell| matches!((cell.entry, cell.current), (Some(e), Some(v)) if !self.wants(e, v)))
    }

    fn all_entry(&self, family: Family) -> Option<usize> {
        self.cell(&deferred::all_forwarding(family))?.entry
    }

    /// The policy's entry that decides it.
    fn entry_of(&self, slot: &SettingId) -> Option<usize> {
        match slot {
            SettingId::Announced(..) => self.cell(slot).and_then(|cell| cell.entry),
            SettingId::Unannounced(key) => self.unannounced.get(key).map(|other| other.entry),
        }
    }

    fn key_of(&self, slot: &SettingId) -> Option<Key> {
        match slot {
            SettingId::Announced(family, attribute, ifindex) => {
                Some(Key::conf(*family, &self.interfaces.get(ifindex)?.name, *attribute))
            }
            SettingId::Unannounced(key) => Some(key.clone()),
        }
    }

    fn cell(&self, slot: &SettingId) -> Option<&Cell> {
        match slot {
            SettingId::Announced(family, attribute, ifindex) => {
                Some(self.interfaces.get(ifindex)?.cell(*family, *attribute))
            }
            SettingId::Unannounced(_) => None,
        }
    }

    fn cell_mut(&mut self, slot: &SettingId) -> Option<&mut Cell> {
        match slot {
            SettingId::Announced(family, attribute, ifindex) => {
                Some(self.interfaces.get_mut(ifindex)?.cell_mut(*family, *attribute))
            }
            SettingId::Unannounced(_) => None,
        }
    }
}

/// A write that took longer is worth a record: something holds the kernel's RTNL lock.
const SLOW_WRITE_USEC: u64 = 1_000_000;
fn rank(slot: &SettingId) -> Rank {
    match slot {
        SettingId::Announced(_, _, ALL) => Rank::All,
        SettingId::Announced(_, _, DEFAULT) => Rank::Default,
        SettingId::Announced(..) => Rank::Interface,
        SettingId::Unannounced(key) => match key.place() {
            Some(place) if place.name == "accept_ra" => Rank::AcceptRa,
            Some(place) if place.interface == OsStr::new("all") => Rank::All,
            Some(place) if place.interface == OsStr::new("default") => Rank::Default,
            Some(_) => Rank::Interface,
            None => Rank::Global,
        },
    }
}

#[cfg(test)]
mod tests;
