//! Suspends and resumes: every announcement leads to a check at once, and each sleep to one record.

use std::io;
use std::time::Duration;

use futures_util::FutureExt;
use rustix::time::ClockId;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{CLOCKS, Daemon};
use crate::engine::Command;
use crate::report::woke::By;
use crate::state::resume::{Act, BEFORE, Jump, Moment};
use crate::wake::clock::{Clock, now};

/// The package's sleep hook sends signals that do not end a process that does not catch them, be it an older fwdguard or one
/// that is starting (signal(7)).
pub(super) struct Hook {
    asleep: Signal,
    awake: Signal,
    /// A terminal sends SIGWINCH to every program in it, so only a service listens.
    is_service: bool,
}

impl Hook {
    pub(super) fn catch() -> io::Result<Hook> {
        Ok(Hook {
            asleep: signal(SignalKind::from_raw(libc::SIGURG))?,
            awake: signal(SignalKind::window_change())?,
            is_service: std::env::var_os("NOTIFY_SOCKET").is_some(),
        })
    }

    /// Waits until the node is about to sleep, or has resumed, or both; pending signals do not show which came first.
    pub(super) async fn received(&mut self) -> (bool, bool) {
        if !self.is_service {
            return std::future::pending().await;
        }
        tokio::select! {
            _ = self.asleep.recv() => (true, self.awake.recv().now_or_never().is_some()),
            _ = self.awake.recv() => (self.asleep.recv().now_or_never().is_some(), true),
        }
    }
}

fn moment() -> Moment {
    Moment { awake: now(ClockId::Monotonic), boot: now(ClockId::Boottime) }
}

impl Daemon {
    pub(super) fn jumped(&mut self, jump: io::Result<Jump>) {
        match jump {
            Ok(jump) => self.noticed(By::Clocks, Some(jump)),
            Err(error) => {
                self.clock = None;
                self.lost(CLOCKS, error.to_string());
            }
        }
    }

    /// The end of a sleep that the hook has announced comes before another sleep.
    pub(super) fn hook(&mut self, asleep: bool, awake: bool) {
        let ends = awake && self.sleeps.is_open(By::Hook);
        if ends {
            self.resumed(By::Hook);
        }
        if asleep {
            self.asleep(By::Hook, BEFORE);
        }
        if awake && !ends {
            self.resumed(By::Hook);
        }
    }

    /// The node is about to sleep, or does so already; repairs made up to `before` ago belong to this sleep.
    pub(super) fn asleep(&mut self, by: By, before: Duration) {
        if before.is_zero() {
            self.check_clocks(); // the node does not sleep yet, so a jump belongs to the previous sleep
        }
        let acts = self.sleeps.announce(by, before, moment());
        self.execute(acts);
    }

    pub(super) fn resumed(&mut self, by: By) {
        self.check_clocks();
        self.noticed(by, None);
    }

    /// A jump of the clocks is noted before what another source reports.
    fn check_clocks(&mut self) {
        if let Some(jump) = self.clock.as_mut().and_then(Clock::check) {
            self.noticed(By::Clocks, Some(jump));
        }
    }

    fn noticed(&mut self, by: By, jump: Option<Jump>) {
        let now = moment();
        let (cause, acts) = self.sleeps.notice(by, jump, now);
        self.execute(acts);
        self.engine.send(Command::Audit(cause));
        self.follow_ups.start(cause, now.awake);
        self.follow_ups.take(now.awake); // the first check is the audit just sent
    }

    pub(super) fn execute(&self, acts: impl IntoIterator<Item = Act>) {
        for act in acts {
            self.engine.send(match act {
                Act::MarkSleep(before) => Command::MarkSleep(before),
                Act::ReportResume(cause, woke) => Command::ReportResume(cause, woke),
            });
        }
    }
}
