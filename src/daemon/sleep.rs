//! Suspends and resumes: every announcement leads to a check at once, and each sleep to one record.

use std::io;
use std::time::Duration;

use futures_util::FutureExt;
use rustix::time::ClockId;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use super::{CLOCKS, Daemon, monotonic, since_zero};
use crate::engine::Command;
use crate::report::woke::By;
use crate::state::resume::{Act, BEFORE, Jump, Moment};
use crate::wake::clock::Clock;

/// The package's sleep hook speaks by signals that end nobody who does not catch them, be it an older fwdguard or one that
/// starts (signal(7)).
pub(super) struct Hook {
    asleep: Signal,
    awake: Signal,
    /// A terminal sends SIGWINCH to whoever runs in it.
    is_heard: bool,
}

impl Hook {
    pub(super) fn catch() -> io::Result<Hook> {
        Ok(Hook {
            asleep: signal(SignalKind::from_raw(libc::SIGURG))?,
            awake: signal(SignalKind::window_change())?,
            is_heard: std::env::var_os("NOTIFY_SOCKET").is_some(),
        })
    }

    /// Waits until the node is about to sleep, or woke, or both; signals that wait do not say which came first.
    pub(super) async fn heard(&mut self) -> (bool, bool) {
        if !self.is_heard {
            return std::future::pending().await;
        }
        tokio::select! {
            _ = self.asleep.recv() => (true, self.awake.recv().now_or_never().is_some()),
            _ = self.awake.recv() => (self.asleep.recv().now_or_never().is_some(), true),
        }
    }
}

pub(super) async fn jumped(clock: &mut Option<Clock>) -> io::Result<Jump> {
    match clock {
        Some(clock) => clock.jumped().await,
        None => std::future::pending().await,
    }
}

fn now() -> Moment {
    Moment { awake: monotonic(), boot: since_zero(ClockId::Boottime) }
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

    /// What ends a sleep that it has announced comes first.
    pub(super) fn hook(&mut self, asleep: bool, awake: bool) {
        let ends = awake && self.sleeps.is_open(By::Hook);
        if ends {
            self.woke(By::Hook);
        }
        if asleep {
            self.asleep(By::Hook, BEFORE, None);
        }
        if awake && !ends {
            self.woke(By::Hook);
        }
    }

    /// The node is about to sleep. It may do so already if what was put right `before` belongs to its sleep.
    pub(super) fn asleep(&mut self, by: By, before: Duration, noted: Option<oneshot::Sender<()>>) {
        if before.is_zero() {
            self.ask_clocks(); // the node does not sleep yet, so what they have to say is of the last time
        }
        let acts = self.sleeps.announce(by, before, now());
        self.carry_out(acts);
        noted.into_iter().for_each(|noted| self.engine.send(Command::Acknowledge(noted)));
    }

    pub(super) fn woke(&mut self, by: By) {
        self.ask_clocks();
        self.noticed(by, None);
    }

    /// Whoever tells of a wake-up finds them ahead of him.
    fn ask_clocks(&mut self) {
        if let Some(jump) = self.clock.as_mut().and_then(Clock::look) {
            self.noticed(By::Clocks, Some(jump));
        }
    }

    fn noticed(&mut self, by: By, jump: Option<Jump>) {
        let now = now();
        let (cause, acts) = self.sleeps.notice(by, jump, now);
        self.carry_out(acts);
        self.engine.send(Command::Audit(cause));
        self.settle.start(cause, now.awake);
        // The first look is the one just sent.
        self.settle.take(now.awake);
    }

    pub(super) fn rest(&mut self) {
        let record = self.sleeps.rest(monotonic());
        self.carry_out(record);
    }

    pub(super) fn carry_out(&self, acts: impl IntoIterator<Item = Act>) {
        for act in acts {
            self.engine.send(match act {
                Act::MarkSleep(before) => Command::MarkSleep(before),
                Act::ReportResume(cause, woke) => Command::ReportResume(cause, woke),
            });
        }
    }
}
