//! The service: its event loop (tokio, one thread), the table of event sources, start-up and shutdown in order.
//!
//! It owns the threads and what lasts as long as the process. It must not read or write settings: the engine does.

mod policy;
mod sleep;
mod start;

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::FutureExt;
use futures_util::future::OptionFuture;
use rustix::time::ClockId;
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use crate::engine::{Command, Mailbox, Verbosity};
use crate::journal::Reporter;
use crate::journal::status::notify;
use crate::kernel::descriptors::ensure_enough;
use crate::kernel::fanotify::Groups;
use crate::kernel::sysctl::Heartbeat;
use crate::policy::watch::Watch;
use crate::policy::{Policy, PolicyError};
use crate::report::record::{Cause, Record};
use crate::report::woke::By;
use crate::state::resume::{BEFORE, Sleeps};
use crate::state::schedule::Schedule;
use crate::text::{plain, why};
use crate::wake::clock::{Clock, now};
use crate::wake::logind;
use crate::wake::modules::Modules;
use crate::wake::ticker::Ticker;
use crate::writers::{FANOTIFY, WriterTracker};
use sleep::Hook;
use start::{ServiceSink, start_engine, take_and_drop_privileges};

/// READY is sent after the first full pass, or after this long: a write may wait for the kernel's RTNL lock.
const READY_AT_LATEST: Duration = Duration::from_secs(5);
/// How long the last records may take to reach the journal.
const FAREWELL: Duration = Duration::from_secs(1);
/// Sources, as records and the status name them.
const POLICY_WATCH: &str = "the policy watch";
const CLOCKS: &str = "the clocks";
const UEVENTS: &str = "kernel uevents";
/// How often the status is sent where there is no watchdog.
const STATUS_EVERY: Duration = Duration::from_secs(3600);
/// The status names a write that the kernel has held up for longer than this.
const WAITS_USEC: u64 = 1_000_000;

/// Guards the node until SIGTERM or SIGINT.
///
/// # Errors
/// The service could not start, or the guard thread ended: the service manager starts it anew.
pub fn run(root: &Path, audit_interval: Duration, verbosity: Verbosity, metrics: Option<PathBuf>) -> Result<()> {
    ensure_enough()?; // the event loop panics where it has some, but too few
    // A runtime of this kind and its signal handlers start no thread.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the event loop")?;
    let signals = runtime.block_on(async { Signals::catch() }).context("cannot install signal handlers")?;
    let groups = take_and_drop_privileges()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, serve(root, audit_interval, verbosity, metrics, groups, signals))
}

/// Caught before anything else: until then, SIGHUP or SIGUSR1 would end the service.
struct Signals {
    hangup: Signal,
    usr1: Signal,
    hook: Hook,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn catch() -> io::Result<Signals> {
        Ok(Signals {
            hangup: signal(SignalKind::hangup())?,
            usr1: signal(SignalKind::user_defined1())?,
            hook: Hook::catch()?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

async fn serve(
    root: &Path,
    audit_interval: Duration,
    verbosity: Verbosity,
    metrics: Option<PathBuf>,
    groups: io::Result<Groups>,
    mut signals: Signals,
) -> Result<()> {
    let mut audit = Ticker::new(audit_interval);
    let watchdog_period = sd_notify::watchdog_enabled().map(|limit| limit / 3);
    let mut watchdog = Ticker::new(watchdog_period.unwrap_or(STATUS_EVERY));
    // Watched first, then read: no change of a file is missed.
    let watch = Watch::new(root);
    let policy = Arc::new(Policy::load(root));
    let tracker = groups.and_then(|groups| WriterTracker::start(groups, policy.clone()));
    let lost_tracker = tracker.as_ref().err().map(ToString::to_string);
    let tracker = tracker.unwrap_or_default();
    let naming = tracker.clone();
    let (reporter, finished) = Reporter::start(metrics, move |records| naming.name_writers(records))
        .context("cannot start the thread for the journal")?;
    let watch = watch
        .inspect_err(|error| reporter.report(Record::SourceLost { source: POLICY_WATCH, reason: error.to_string() }))
        .ok();
    let heartbeat = Arc::new(Heartbeat::default());
    let sink = ServiceSink { reporter: reporter.clone(), tracker: tracker.clone() };
    let (mut first_pass, mut ended, engine) = start_engine(policy.clone(), heartbeat.clone(), sink, verbosity)?;
    let mut daemon = Daemon {
        root: root.to_path_buf(),
        reporter,
        engine,
        tracker,
        heartbeat,
        errors: policy.errors.clone(),
        policy,
        watch,
        clock: None,
        modules: None,
        sleeps: Sleeps::default(),
        follow_ups: Schedule::default(),
        ready: false,
        owes_ready: false,
        reload_due: None,
        conflicts: HashSet::new(),
    };
    if let Some(reason) = lost_tracker {
        let reason = plain(&reason);
        daemon.lost(FANOTIFY, format!("{reason} (it requires CAP_SYS_ADMIN at start), so writers are unknown"));
    }
    daemon.note_unwatched();
    daemon.clock = Clock::new().inspect_err(|error| daemon.lost(CLOCKS, error.to_string())).ok();
    daemon.modules = Modules::subscribe().inspect_err(|error| daemon.lost(UEVENTS, why(error))).ok();
    let (sender, mut logind_events) = mpsc::channel(16);
    tokio::task::spawn_local(logind::listen(sender));

    let mut seen_turns = u64::MAX;
    let ready_at_latest = Instant::now() + READY_AT_LATEST;

    // One line per source; the first to end the service logs why. A source that is lost (`None`) is not waited for.
    loop {
        let due = [daemon.follow_ups.due(), daemon.sleeps.due()].into_iter().flatten().min();
        let due = due.map(|due| tokio::time::sleep(due.saturating_sub(now(ClockId::Monotonic))));
        let modules = daemon.modules.as_mut().map(Modules::check_due);
        tokio::select! {
            Ok(summary) = &mut first_pass, if !first_pass.is_terminated() => {
                daemon.reporter.status.set_summary(summary, None);
                daemon.ready();
            }
            () = sleep_until(ready_at_latest), if !daemon.ready => daemon.ready(),
            end = &mut ended => {
                bail!("the thread that restores settings ended unexpectedly: {}", end.map_or("it panicked".into(), |end| format!("{end:?}")))
            }
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => break,
            _ = signals.hangup.recv() => daemon.reload(true).await,
            _ = signals.usr1.recv() => daemon.resumed(By::Hypervisor),
            (asleep, awake) = signals.hook.received() => daemon.hook(asleep, awake),
            Some(jump) = OptionFuture::from(daemon.clock.as_mut().map(Clock::jumped)) => daemon.jumped(jump),
            Some(changed) = OptionFuture::from(daemon.watch.as_mut().map(|watch| watch.paths.touched())) => {
                daemon.files_changed(changed);
            }
            Some(event) = logind_events.recv() => daemon.logind(event),
            () = audit.tick() => daemon.engine.send(Command::Audit(Cause::Audit)),
            Some(loaded) = OptionFuture::from(modules) => match loaded {
                Ok(()) => daemon.engine.send(Command::CheckGlobal),
                Err(error) => {
                    daemon.modules = None;
                    daemon.lost(UEVENTS, why(&error));
                }
            },
            Some(()) = OptionFuture::from(due) => daemon.run_due(),
            Some(()) = OptionFuture::from(daemon.reload_due.map(sleep_until)) => daemon.reload(false).await,
            () = watchdog.tick() => {
                let turns = daemon.heartbeat.turns.load(Ordering::Relaxed);
                let inside = daemon.heartbeat.inside_since.load(Ordering::Relaxed) != 0;
                if watchdog_period.is_some() && (turns != seen_turns || inside) {
                    notify(&[NotifyState::Watchdog]);
                }
                seen_turns = turns;
                if daemon.owes_ready {
                    daemon.send_ready();
                }
                daemon.send_status();
                daemon.engine.send(Command::Ping); // last, so that the guard thread finds no lock of this one's taken
            }
        }
    }
    notify(&[NotifyState::Stopping]);
    // A sleep or resume that was announced together with the signal to stop is logged, too.
    if signals.usr1.recv().now_or_never().is_some() {
        daemon.resumed(By::Hypervisor);
    }
    if let Some((asleep, awake)) = signals.hook.received().now_or_never() {
        daemon.hook(asleep, awake);
    }
    let unlogged = daemon.sleeps.end();
    daemon.execute(unlogged);
    daemon.engine.send(Command::Stop);
    // A guard thread inside a long write is left to the kernel.
    let repairs = match timeout(FAREWELL, ended).await {
        Ok(Ok(Ok(summary))) => summary.repairs,
        _ => daemon.reporter.status.get().summary.repairs,
    };
    daemon.reporter.report(Record::Stopping { repairs });
    drop(daemon);
    _ = finished.recv_timeout(FAREWELL);
    Ok(())
}

struct Daemon {
    root: PathBuf,
    reporter: Reporter,
    engine: Mailbox,
    tracker: WriterTracker,
    heartbeat: Arc<Heartbeat>,
    policy: Arc<Policy>,
    /// The errors of the policy files as last read, whether they are in force or not.
    errors: Vec<PolicyError>,
    watch: Option<Watch>,
    clock: Option<Clock>,
    modules: Option<Modules>,
    sleeps: Sleeps,
    follow_ups: Schedule,
    ready: bool,
    /// READY=1 could not be sent.
    owes_ready: bool,
    reload_due: Option<Instant>,
    /// Lines against the policy that have been logged.
    conflicts: HashSet<policy::Against>,
}

impl Daemon {
    fn ready(&mut self) {
        if !std::mem::replace(&mut self.ready, true) {
            self.send_ready();
            self.log_conflicts();
        }
        self.send_status();
    }

    /// At the start and after a reload, the service manager waits for this.
    fn send_ready(&mut self) {
        self.owes_ready = !notify(&[NotifyState::Ready]);
    }

    fn send_status(&self) {
        if !self.ready {
            return; // before the first pass the status would be wrong
        }
        let waits_for = self.heartbeat.waits_for().filter(|(_, usec)| *usec >= WAITS_USEC).map(|(what, _)| what);
        let mut status = self.reporter.status.get();
        (status.waits_for, status.policy_errors) = (waits_for, self.errors.len());
        drop(status);
        self.reporter.status.send();
    }

    fn logind(&mut self, event: logind::Event) {
        match event {
            logind::Event::Asleep { noted, delayed } => {
                self.asleep(By::Logind, if delayed { Duration::ZERO } else { BEFORE });
                self.engine.send(Command::Acknowledge(noted));
            }
            logind::Event::Awake => self.resumed(By::Logind),
            logind::Event::Lost { source, reason } => {
                if source != logind::INHIBITOR {
                    self.sleeps.lose(By::Logind);
                }
                self.lost(source, reason);
            }
            logind::Event::Back { source } if self.reporter.status.get().lost.contains(source) => {
                self.reporter.report(Record::SourceBack { source });
                self.send_status();
                // While it was away, the node may have slept.
                self.follow_ups.manager_restarted(now(ClockId::Monotonic));
            }
            logind::Event::Back { .. } => {}
            logind::Event::Restarted => self.follow_ups.manager_restarted(now(ClockId::Monotonic)),
        }
    }

    fn lost(&self, source: &'static str, reason: String) {
        self.reporter.report(Record::SourceLost { source, reason });
        self.send_status();
    }

    /// Sends the follow-up check, and the record of a sleep, that are due.
    fn run_due(&mut self) {
        let now = now(ClockId::Monotonic);
        if let Some(cause) = self.follow_ups.take(now) {
            self.engine.send(Command::Audit(cause));
        }
        let record = self.sleeps.rest(now);
        self.execute(record);
    }
}
