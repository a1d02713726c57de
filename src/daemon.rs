//! The service: its event loop (tokio, one thread), the table of event sources, start-up and shutdown in order.
//!
//! It owns the threads and what lasts as long as the process. It must not read or write settings: the engine does.

mod policy;
mod sleep;
mod start;

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::FutureExt;
use rustix::time::{ClockId, clock_gettime};
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use crate::engine::{Command, Mailbox, Verbosity};
use crate::journal::Reporter;
use crate::journal::status::{SharedStatus, notify};
use crate::kernel::altname::find_by_altname;
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
use crate::wake::clock::Clock;
use crate::wake::logind;
use crate::wake::modules::Modules;
use crate::wake::ticker::Ticker;
use crate::writers::{FANOTIFY, WriterTracker};
use sleep::Hook;
use start::{News, start_engine, take_and_drop_privileges};

/// READY is sent after the first full pass, or after this long: a write may wait for the kernel's RTNL lock.
const READY_AT_LATEST: Duration = Duration::from_secs(5);
/// How long the last records may take to reach the journal.
const FAREWELL: Duration = Duration::from_secs(1);
/// Sources, as records and the status name them.
const POLICY_WATCH: &str = "the policy watch";
const CLOCKS: &str = "the clocks";
const UEVENTS: &str = "kernel uevents";
/// How often the status is told where there is no watchdog.
const STATUS_EVERY: Duration = Duration::from_secs(3600);
/// The kernel holds a write up for longer than this: worth a word in the status.
const WAITS_USEC: u64 = 1_000_000;

/// Guards the node until SIGTERM or SIGINT.
///
/// # Errors
/// The guard could not start, or its thread ended: the service manager starts it anew.
pub fn run(root: &Path, audit_interval: Duration, verbosity: Verbosity, metrics: Option<PathBuf>) -> Result<()> {
    ensure_enough()?; // the event loop panics where it has some, but too few
    // No thread comes of a runtime of this kind, nor of its signal handlers.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the event loop")?;
    let signals = runtime.block_on(async { Signals::catch() }).context("cannot install signal handlers")?;
    let groups = take_and_drop_privileges()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, serve(root, audit_interval, verbosity, metrics, groups, signals))
}

/// Caught before anything else: until then, a HUP or USR1 would end the service.
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
    let status = Arc::new(SharedStatus::default());
    // Watch first, then read: no change of a file falls between.
    let watch = Watch::new(root);
    let mut policy = Policy::load(root);
    policy.note_altnames(find_by_altname);
    let policy = Arc::new(policy);
    let tracker = groups.and_then(|groups| WriterTracker::start(groups, policy.clone()));
    let lost_tracker = tracker.as_ref().err().map(ToString::to_string);
    let tracker = tracker.unwrap_or_default();
    let naming = tracker.clone();
    let (reporter, finished) = Reporter::start(status.clone(), metrics, move |records| naming.name_writers(records))
        .context("cannot start the thread for the journal")?;
    let mut watch = watch
        .inspect_err(|error| reporter.tell(Record::SourceLost { source: POLICY_WATCH, reason: error.to_string() }))
        .ok();
    let heartbeat = Arc::new(Heartbeat::default());
    let news = News { reporter: reporter.clone(), tracker: tracker.clone() };
    let (mut first_pass, mut ended, engine) = start_engine(policy.clone(), heartbeat.clone(), news, verbosity)?;
    let mut daemon = Daemon {
        root: root.to_path_buf(),
        reporter,
        engine,
        tracker,
        heartbeat,
        errors: policy.errors.clone(),
        policy,
        clock: None,
        sleeps: Sleeps::default(),
        settle: Schedule::default(),
        status,
        ready: false,
        owes_ready: false,
        reload_due: None,
        refused: BTreeSet::new(),
        conflicts: HashSet::new(),
    };
    if let Some(reason) = lost_tracker {
        daemon
            .lost(FANOTIFY, format!("{} (it requires CAP_SYS_ADMIN at start), so writers are unknown", plain(&reason)));
    }
    daemon.tell_unwatched(watch.as_ref());

    daemon.clock = Clock::new().inspect_err(|error| daemon.lost(CLOCKS, error.to_string())).ok();
    let (heard, mut logind_events) = mpsc::channel(16);
    let mut modules = Modules::subscribe().inspect_err(|error| daemon.lost(UEVENTS, why(error))).ok();
    tokio::task::spawn_local(logind::listen(heard));

    let mut seen_turns = u64::MAX;
    let ready_at_latest = Instant::now() + READY_AT_LATEST;

    // One line per source; the first to end the service says why.
    loop {
        tokio::select! {
            Ok(summary) = &mut first_pass, if !first_pass.is_terminated() => {
                daemon.status.set_summary(summary, None);
                daemon.ready();
            }
            () = sleep_until(ready_at_latest), if !daemon.ready => daemon.ready(),
            end = &mut ended => bail!("the guard thread ended unexpectedly: {}", end.map_or("it panicked".into(), |end| format!("{end:?}"))),
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => break,
            _ = signals.hangup.recv() => daemon.reload(&mut watch, true).await,
            _ = signals.usr1.recv() => daemon.woke(By::Hypervisor),
            (asleep, awake) = signals.hook.heard() => daemon.hook(asleep, awake),
            jump = sleep::jumped(&mut daemon.clock) => daemon.jumped(jump),
            touched = policy::touched(&mut watch) => daemon.touched(touched, &mut watch),
            Some(event) = logind_events.recv() => daemon.logind(event),
            Ok(()) = audit.tick() => daemon.engine.send(Command::Audit(Cause::Audit)),
            looked = look_for_modules(&mut modules) => match looked {
                Ok(()) => daemon.engine.send(Command::CheckGlobal),
                Err(error) => {
                    modules = None;
                    daemon.lost(UEVENTS, why(&error));
                }
            },
            () = until(daemon.settle.due()) => daemon.settle(),
            () = until(daemon.sleeps.due()) => daemon.rest(),
            () = at(daemon.reload_due) => daemon.reload(&mut watch, false).await,
            Ok(()) = watchdog.tick() => {
                let turns = daemon.heartbeat.turns.load(Ordering::Relaxed);
                let inside = daemon.heartbeat.inside_since.load(Ordering::Relaxed) != 0;
                if watchdog_period.is_some() && (turns != seen_turns || inside) {
                    notify(&[NotifyState::Watchdog]);
                }
                seen_turns = turns;
                if daemon.owes_ready {
                    daemon.tell_ready();
                }
                daemon.tell_status();
                daemon.engine.send(Command::Ping); // last, so that the guard thread finds no lock of this one's taken
            }
        }
    }
    notify(&[NotifyState::Stopping]);
    // What came with the signal to stop is told, too.
    if signals.usr1.recv().now_or_never().is_some() {
        daemon.woke(By::Hypervisor);
    }
    if let Some((asleep, awake)) = signals.hook.heard().now_or_never() {
        daemon.hook(asleep, awake);
    }
    let untold = daemon.sleeps.end();
    daemon.carry_out(untold);
    daemon.engine.send(Command::Stop);
    // A guard thread inside a long write is left to the kernel.
    let repairs = match timeout(FAREWELL, ended).await {
        Ok(Ok(Ok(summary))) => summary.repairs,
        _ => daemon.status.get().summary.repairs,
    };
    daemon.reporter.tell(Record::Stopping { repairs });
    drop(daemon);
    finished.wait(FAREWELL);
    Ok(())
}

struct Daemon {
    root: PathBuf,
    reporter: Reporter,
    engine: Mailbox,
    tracker: WriterTracker,
    heartbeat: Arc<Heartbeat>,
    policy: Arc<Policy>,
    /// What was wrong with the policy that was read last, be it that one or not.
    errors: Vec<PolicyError>,
    clock: Option<Clock>,
    sleeps: Sleeps,
    settle: Schedule,
    status: Arc<SharedStatus>,
    ready: bool,
    /// READY=1 could not be sent.
    owes_ready: bool,
    reload_due: Option<Instant>,
    /// What the kernel does not let the service read or watch of policy and sysctl.d, as has been told.
    refused: BTreeSet<&'static str>,
    /// Lines against the policy that have been told.
    conflicts: HashSet<policy::Against>,
}

impl Daemon {
    fn ready(&mut self) {
        if !std::mem::replace(&mut self.ready, true) {
            self.tell_ready();
            self.tell_conflicts();
        }
        self.tell_status();
    }

    /// At the start and after a reload, the service manager waits for this.
    fn tell_ready(&mut self) {
        self.owes_ready = !notify(&[NotifyState::Ready]);
    }

    fn tell_status(&self) {
        if !self.ready {
            return; // nothing true is known before the first pass
        }
        let waits_for = self.heartbeat.waits_for().filter(|(_, usec)| *usec >= WAITS_USEC).map(|(what, _)| what);
        let mut status = self.status.get();
        (status.waits_for, status.policy_errors) = (waits_for, self.errors.len());
        drop(status);
        self.status.tell();
    }

    fn logind(&mut self, event: logind::Event) {
        match event {
            logind::Event::Asleep { noted, delayed } => {
                self.asleep(By::Logind, if delayed { Duration::ZERO } else { BEFORE }, Some(noted));
            }
            logind::Event::Awake => self.woke(By::Logind),
            logind::Event::Lost { source, reason } => {
                if source != logind::INHIBITOR {
                    self.sleeps.lose(By::Logind);
                }
                self.lost(source, reason);
            }
            logind::Event::Back { source } => {
                self.reporter.tell(Record::SourceBack { source });
                self.tell_status();
                // What happened while it was away may include a whole sleep.
                self.settle.manager_restarted(monotonic());
            }
            logind::Event::Restarted => self.settle.manager_restarted(monotonic()),
        }
    }

    fn lost(&self, source: &'static str, reason: String) {
        self.reporter.tell(Record::SourceLost { source, reason });
        self.tell_status();
    }

    fn settle(&mut self) {
        if let Some(cause) = self.settle.take(monotonic()) {
            self.engine.send(Command::Audit(cause));
        }
    }
}

async fn look_for_modules(modules: &mut Option<Modules>) -> io::Result<()> {
    match modules {
        Some(modules) => modules.look().await,
        None => std::future::pending().await,
    }
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Of CLOCK_MONOTONIC.
async fn until(due: Option<Duration>) {
    match due {
        Some(due) => tokio::time::sleep(due.saturating_sub(monotonic())).await,
        None => std::future::pending().await,
    }
}

fn monotonic() -> Duration {
    since_zero(ClockId::Monotonic)
}

fn since_zero(clock: ClockId) -> Duration {
    let now = clock_gettime(clock);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}
