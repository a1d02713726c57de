//! One sleep is one record, whichever of logind, the sleep hook, the clocks and a hypervisor's hook report it, in whichever order.

use std::collections::BTreeSet;
use std::time::Duration;

use super::schedule::LAST;
use crate::report::record::Cause;
use crate::report::woke::{By, Woke};

/// How long after a wake-up it has come to rest: what runs with it (`network start`) follows within this.
const REST: Duration = Duration::from_secs(3);
/// The same where only the clocks report it: they do so before anything runs.
const REST_BY_CLOCKS: Duration = Duration::from_secs(5);
/// The sleep hook gives up after 5 s: one that announced a sleep may never report its end.
const REST_BY_HOOK: Duration = Duration::from_secs(10);
/// The end of an announced sleep may be reported as late as this: systemd-sleep(8) waits 90 s for its hooks.
const OVER_AT_LATEST: Duration = Duration::from_secs(120);
/// The last follow-up check is over, and what it found is repaired.
const CHECKED: Duration = LAST.saturating_add(Duration::from_secs(1));
/// What was repaired so shortly before a sleep was noticed belongs to it: hooks run side by side, and the clocks report
/// a sleep when it is over.
pub const BEFORE: Duration = Duration::from_secs(10);
/// The same of a hypervisor's hook: open-vm-tools runs `network stop` before its host pauses the machine, and `network
/// start`, which may wait for DHCP, before the hook.
pub const BEFORE_HYPERVISOR: Duration = Duration::from_secs(60);

/// What the clocks report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jump {
    /// The kernel was suspended for this long.
    Slept(Duration),
    /// The clock was set, this far forward (or back, if negative), in microseconds.
    Stepped { usec: i64 },
}

/// One moment by two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// CLOCK_MONOTONIC, which stands still while the node sleeps.
    pub awake: Duration,
    /// CLOCK_BOOTTIME, which goes on.
    pub boot: Duration,
}

/// What has to be done about a sleep.
#[derive(Debug, PartialEq, Eq)]
pub enum Act {
    /// What is repaired from now on, and was so long before, belongs to this sleep.
    MarkSleep(Duration),
    ReportResume(Cause, Woke),
}

/// The sleep that is on, or that is not long over.
#[derive(Debug, Default)]
pub struct Sleeps(Option<Sleep>);

#[derive(Debug, Default)]
struct Sleep {
    announced: Option<Moment>,
    /// Those that announced it and have not reported its end yet.
    open: BTreeSet<By>,
    noticed_by: BTreeSet<By>,
    /// When the first and when the last noticed.
    noticed: Option<(Moment, Moment)>,
    suspended: Option<Duration>,
    step_usec: Option<i64>,
    reported: bool,
}

impl Sleeps {
    /// The node is about to sleep. What was repaired `before` belongs to it.
    pub fn announce(&mut self, by: By, before: Duration, now: Moment) -> Vec<Act> {
        if let Some(sleep) = self.0.as_mut().filter(|sleep| sleep.is_announced_by(by)) {
            sleep.open.insert(by);
            return Vec::new();
        }
        let sleep = Sleep { announced: Some(now), open: BTreeSet::from([by]), ..Sleep::default() };
        self.begin(sleep, before)
    }

    /// The node woke, as far as `by` knows. The cause is that of the checks that follow.
    pub fn notice(&mut self, by: By, jump: Option<Jump>, now: Moment) -> (Cause, Vec<Act>) {
        let is_of_this = self.0.as_ref().is_some_and(|sleep| !sleep.is_over_for(by, jump));
        let before = if by == By::Hypervisor { BEFORE_HYPERVISOR } else { BEFORE };
        let acts = if is_of_this { Vec::new() } else { self.begin(Sleep::default(), before) };
        let sleep = self.0.get_or_insert_default();
        match jump {
            Some(Jump::Slept(time)) => *sleep.suspended.get_or_insert_default() += time,
            Some(Jump::Stepped { .. }) if sleep.reported => {}
            Some(Jump::Stepped { usec }) => {
                sleep.step_usec = Some(sleep.step_usec.unwrap_or_default().saturating_add(usec));
            }
            None => {}
        }
        sleep.noticed_by.insert(by);
        let was_open = sleep.open.remove(&by);
        if !sleep.reported || was_open {
            sleep.noticed = Some((sleep.noticed.map_or(now, |(first, _)| first), now));
        }
        (sleep.cause(), acts)
    }

    /// The source that announced a sleep will not report its end.
    pub fn lose(&mut self, by: By) {
        self.0.iter_mut().for_each(|sleep| _ = sleep.open.remove(&by));
    }

    /// Whether `by` has announced a sleep and not reported its end.
    pub fn is_open(&self, by: By) -> bool {
        self.0.as_ref().is_some_and(|sleep| sleep.open.contains(&by))
    }

    /// When [`Sleeps::rest`] has something to do, by the clock that stands still while the node sleeps.
    pub fn due(&self) -> Option<Duration> {
        self.0.as_ref()?.due()
    }

    /// Reports a sleep that has come to rest.
    pub fn rest(&mut self, now: Duration) -> Option<Act> {
        let sleep = self.0.as_mut().filter(|sleep| sleep.due().is_some_and(|due| due <= now))?;
        if sleep.reported || sleep.noticed.is_none() {
            return self.end();
        }
        let record = sleep.record();
        sleep.reported = true;
        record
    }

    /// Nothing more is waited for: reports what has not been reported.
    pub fn end(&mut self) -> Option<Act> {
        self.0.take()?.record()
    }

    /// What is still to be reported of the last one comes first.
    fn begin(&mut self, sleep: Sleep, before: Duration) -> Vec<Act> {
        let last = self.end();
        self.0 = Some(sleep);
        last.into_iter().chain([Act::MarkSleep(before)]).collect()
    }
}

impl Sleep {
    /// Whether an announcement is of this sleep. logind's encloses those of hooks, of which there are several where
    /// the node is put from one sleep into another (suspend-then-hibernate).
    fn is_announced_by(&self, by: By) -> bool {
        self.noticed.is_none() || by == By::Hook && self.open.contains(&By::Logind)
    }

    /// Whether a wake-up is of another sleep than this.
    fn is_over_for(&self, by: By, jump: Option<Jump>) -> bool {
        match (by, jump) {
            (_, Some(Jump::Slept(_))) => self.reported || self.suspended.is_some() && !self.open.contains(&By::Logind),
            (By::Hypervisor, _) => self.reported,
            _ => false,
        }
    }

    fn due(&self) -> Option<Duration> {
        let Some((first, last)) = self.noticed else { return Some(self.announced?.awake + OVER_AT_LATEST) };
        let rest = if self.noticed_by.iter().eq([&By::Clocks]) { REST_BY_CLOCKS } else { REST };
        Some(match (self.reported, self.open.is_empty()) {
            (false, true) => (last.awake + rest).min(first.awake + LAST),
            (false, false) if !self.open.contains(&By::Logind) => (last.awake + REST_BY_HOOK).min(first.awake + LAST),
            (false, false) => first.awake + LAST,
            (true, true) => last.awake + CHECKED,
            (true, false) => last.awake + OVER_AT_LATEST,
        })
    }

    fn record(&self) -> Option<Act> {
        let (first, _) = self.noticed?;
        let span = self.announced.map(|announced| first.boot.saturating_sub(announced.boot));
        let woke = Woke {
            slept: self.suspended.or(span),
            step_usec: self.step_usec,
            noticed_by: self.noticed_by.clone(),
            again: self.reported,
        };
        Some(Act::ReportResume(self.cause(), woke))
    }

    fn cause(&self) -> Cause {
        let by = |by| self.noticed_by.contains(&by);
        if self.announced.is_some() || self.suspended.is_some() || by(By::Logind) || by(By::Hook) {
            Cause::Resume
        } else if by(By::Hypervisor) {
            Cause::Hypervisor
        } else {
            Cause::Clock
        }
    }
}

#[cfg(test)]
mod tests;
