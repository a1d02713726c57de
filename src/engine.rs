//! The guard thread: receives what the kernel announces, applies it to the state, and executes the repairs that follow.
//!
//! It owns the netlink sockets, `/proc/sys` and the order of things. It decides nothing, and must not wait for the journal, D-Bus or
//! `/proc/PID`: the kernel's RTNL lock is the one thing that can hold it up.

mod cost;
mod fan_out;
mod mailbox;
mod once;
mod recheck;
mod resync;
mod sources;
mod trace;
mod unannounced;
mod wait;

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;

pub use mailbox::{Command, Mailbox, Sink};
pub use once::{Applied, apply_once};
use recheck::Rechecks;
use sources::Sources;
pub use trace::Verbosity;

use crate::kernel::inotify::Writes;
use crate::kernel::links::Links;
use crate::kernel::message::Event;
use crate::kernel::socket::{Dumps, Notifications, Received};
use crate::kernel::sysctl::{Heartbeat, Sysctl, now_usec};
use crate::policy::Policy;
use crate::report::record::{Cause, Record};
use crate::setting::Key;
use crate::state::{Repair, SettingId, State, Summary};

/// After this many messages or repairs in a row, the other threads' commands (a reload, the watchdog's ping) get their turn.
const TURN: usize = 256;
/// A repair is published so long after it. The kernel wakes the guard on the processor of the process that wrote the setting
/// (`select_task_rq_fair`), and waking the other threads takes half as long as a repair: so that process, and whatever else
/// waits there, continues first.
const LINGER_USEC: u64 = 1_000;

/// The state with its sockets and `/proc/sys`.
pub struct Engine<O> {
    state: State,
    notifications: Notifications,
    dumps: Dumps,
    links: Links,
    sysctl: Sysctl,
    writes: io::Result<Writes>,
    /// Until when events of writes do not wake the guard (monotonic microseconds).
    paused_until: Option<u64>,
    /// When the guard no longer sleeps before it publishes a repair ([`LINGER_USEC`]).
    publish_at: Option<u64>,
    heartbeat: Arc<Heartbeat>,
    sink: O,
    last_summary: Summary,
    rechecks: Rechecks,
    sources: Sources,
    /// What came in, where that is logged.
    events: Option<Vec<String>>,
    /// The thread's processor time when it was last charged to a setting.
    charged_at: u64,
    /// The setting that it was charged to, in this turn.
    charged: Option<SettingId>,
}

impl<O: Sink> Engine<O> {
    /// Subscribes, so that nothing falls between this and the first full read, which is [`Engine::audit`].
    ///
    /// # Errors
    /// No netlink, with the kernel's reason.
    pub fn new(policy: Arc<Policy>, heartbeat: Arc<Heartbeat>, sink: O) -> io::Result<Engine<O>> {
        let mut sysctl = Sysctl::new(heartbeat.clone());
        for name in ["all", "default"] {
            for (family, attribute) in crate::state::interface::ANNOUNCED {
                sysctl.keep(&Key::conf(family, name.as_ref(), attribute));
            }
        }
        sysctl.keep(&Key::all_accept_redirects());
        let writes = Writes::new().and_then(|mut writes| {
            writes.watch(&Key::all_accept_redirects(), false)?;
            Ok(writes)
        });
        Ok(Engine {
            state: State::new(policy),
            notifications: Notifications::subscribe()?,
            dumps: Dumps::open()?,
            links: Links::default(),
            sysctl,
            writes,
            paused_until: None,
            publish_at: None,
            heartbeat,
            sink,
            last_summary: Summary::default(),
            rechecks: Rechecks::default(),
            sources: Sources::default(),
            events: None,
            charged_at: 0,
            charged: None,
        })
    }

    /// Guards until [`Command::Stop`].
    ///
    /// # Errors
    /// poll(2) failed, which it does only for want of memory.
    pub fn run(&mut self, mailbox: &Mailbox, inbox: &Receiver<Command>) -> io::Result<()> {
        self.log_if_unwatched();
        let mut touched = false;
        loop {
            self.heartbeat.turns.fetch_add(1, Ordering::Relaxed);
            let quiet = self.receive_all();
            let lingers = quiet && self.lingers();
            if !lingers {
                if std::mem::take(&mut touched) {
                    self.sink.on_write_event();
                }
                self.state.tick(now_usec());
                if quiet {
                    self.idle();
                } else {
                    self.publish();
                }
            }
            while let Ok(command) = inbox.try_recv() {
                if matches!(command, Command::Stop) {
                    self.state.stop(now_usec());
                    self.publish();
                    return Ok(());
                }
                self.handle_command(command);
            }
            if !lingers {
                self.charge_turn();
                self.apply_filter();
            }
            self.paused_until.take_if(|until| *until <= now_usec());
            let woken = self.sleep(mailbox, self.timeout(quiet, lingers))?;
            if woken.by_mailbox {
                mailbox.clear();
            }
            if woken.by_inotify {
                self.read_inotify(None);
            }
            touched |= woken.by_fanotify;
        }
    }

    fn handle_command(&mut self, command: Command) {
        self.trace_command(&command);
        match command {
            Command::Audit(cause) => {
                // First, so that an interface's change before a drift of `all` does not count as a part of that.
                self.receive_all();
                self.audit(cause);
            }
            Command::MarkSleep(before) => self.state.mark_sleep(now_usec().saturating_sub(before.as_micros() as u64)),
            Command::Acknowledge(noted) => _ = noted.send(()),
            Command::ReportResume(cause, woke) => {
                self.receive_all();
                let changed = self.state.take_changes();
                if !(woke.again && changed.is_empty()) {
                    self.publish_record(Record::Resumed { cause, woke, changed });
                }
            }
            Command::Reload(policy, done) => {
                self.receive_all();
                self.state.reload(policy);
                self.audit(Cause::Reload);
                _ = done.send(());
            }
            Command::CheckGlobal => self.state.module_came(),
            Command::Ping | Command::Stop => {}
        }
    }

    /// Receives what is queued, and repairs after each batch. False: there may be more, but commands need their turn.
    fn receive_all(&mut self) -> bool {
        for _ in 0..TURN {
            match self.notifications.receive() {
                Received::Messages(messages) => {
                    let at = now_usec();
                    messages.iter().for_each(|message| self.apply_event(message, at));
                    self.publish_moves();
                    self.execute_repairs();
                }
                Received::Nothing => {
                    self.execute_repairs();
                    return true;
                }
                Received::Lost(lost) => self.resynchronise(lost.to_string()),
            }
        }
        false
    }

    fn apply_event(&mut self, message: &Event, at: u64) {
        self.trace_event(message);
        match message {
            Event::Netconf(message) => {
                let Some(ifindex) = message.ifindex else { return };
                if !self.state.knows(ifindex) {
                    // A new interface's netconf message comes before its link message.
                    let Some(link) = self.ask_link(ifindex, false) else { return };
                    self.state.apply_link(&link, false, at);
                }
                self.state.apply_netconf(message, at);
            }
            Event::Link(link) => {
                if self.state.gives_other_settings(link) {
                    // The kernel announces it before it does it (the order of netdev_chain: rtnetlink_event, inetdev_event, addrconf_notify).
                    self.dumps.wait_for_rtnl();
                }
                self.state.apply_link(link, true, at);
            }
            Event::LinkGone { ifindex } => self.state.remove_link(*ifindex),
            Event::Broken | Event::Other => {}
        }
    }

    /// Executes the state's repairs, for one turn at most.
    fn execute_repairs(&mut self) {
        for _ in 0..TURN {
            let Some(repair) = self.state.next_repair(now_usec()) else { return };
            match self.broken_leader(&repair) {
                Some(leader) => self.state.put_behind(repair, leader),
                None => self.execute(repair),
            }
        }
    }

    fn execute(&mut self, mut repair: Repair) {
        self.watch(&repair);
        let mut outcome = self.sysctl.repair(&repair.key, &repair.wanted, |value| repair.holds(value));
        if outcome.write.is_some() {
            self.sysctl.read_back(&repair.key, &repair.wanted, repair.learn, &mut outcome);
            self.rechecks.start(outcome.finished);
            self.publish_at.get_or_insert(outcome.finished + LINGER_USEC);
            let otherwise = outcome.now.as_ref().is_none_or(|now| !repair.holds(now));
            // A value that another process writes at the same time is not how the kernel prints ours.
            repair.learn = repair.learn && !(otherwise && self.is_written_by_others(&repair.key));
        }
        let watched = outcome.write.is_some() && self.writes.as_ref().is_ok_and(|writes| writes.watches(&repair.key));
        let own = watched.then(|| repair.key.clone());
        let (guarded, written) = (repair.guarded(), outcome.write.is_some());
        let changed_all = self.state.complete(repair, outcome);
        if let Some(family) = changed_all {
            self.receive_fan_out(family, written);
        }
        if let Some(id) = guarded {
            let cost = self.take_cpu_time();
            self.state.charge(&id, now_usec(), cost);
            self.charged = Some(id);
        }
        if own.is_some() {
            self.read_inotify(own.as_ref());
        }
    }

    /// Reads everything and repairs all drift.
    pub fn audit(&mut self, cause: Cause) {
        self.read_everything(cause);
        while self.state.is_busy() || self.state.awaits_idle() {
            self.execute_repairs();
            if !self.receive_all() {
                break;
            }
            if self.state.awaits_idle()
                && let Some(cause) = self.state.idle()
            {
                self.read_everything(cause);
            }
        }
        self.publish();
    }

    /// Whether the guard sleeps before it publishes a repair that it has just made.
    fn lingers(&mut self) -> bool {
        self.publish_at.take_if(|at| *at <= now_usec());
        self.publish_at.is_some() && !self.state.is_in_doubt()
    }

    /// How long the guard may sleep if nothing is received, in microseconds.
    fn timeout(&self, quiet: bool, lingers: bool) -> Option<u64> {
        let due = self
            .rechecks
            .due()
            .into_iter()
            .chain(self.state.links_due())
            .chain(self.state.contest_due())
            .chain(self.paused_until)
            .min();
        if lingers {
            // What is due before waits for that, too, and must not keep the guard awake.
            self.publish_at.map(|at| at.saturating_sub(now_usec()))
        } else if !quiet || self.state.is_busy() || self.state.awaits_idle() {
            Some(0)
        } else {
            due.map(|due| due.saturating_sub(now_usec()))
        }
    }

    fn recheck(&mut self) {
        if self.rechecks.due().is_none_or(|due| due > now_usec()) {
            return;
        }
        let written = self.state.written();
        let (count, mut suspects) = (written.len(), HashSet::new());
        for repair in written {
            if self.sysctl.read(&repair.key).is_ok_and(|value| !repair.holds(&value)) {
                if self.rechecks.is_suspect(&repair.key) {
                    self.execute(repair);
                } else {
                    suspects.insert(repair.key);
                }
            }
        }
        if self.rechecks.note_checked(now_usec(), count, suspects) {
            self.state.forget_written();
        }
    }

    /// The queue is empty: time for what is less urgent.
    fn idle(&mut self) {
        self.recheck();
        self.state.check_due_links(now_usec());
        self.unwatch();
        if let Some(cause) = self.state.idle() {
            self.read_everything(cause);
        }
        if self.state.redirects_in_doubt() {
            self.read_redirects();
        }
        self.execute_repairs();
        self.read_baselines();
        self.publish();
    }

    fn publish(&mut self) {
        self.publish_log();
        self.publish_moves();
        let records = self.state.take_records();
        let summary = self.state.summary();
        // A repair that has no record of its own is no reason to wake the reporter.
        let changed = if records.is_empty() { summary.shows_more_than(&self.last_summary) } else { true };
        if changed {
            self.last_summary.clone_from(&summary);
        }
        if changed {
            self.sink.publish(records, Some(summary));
        }
    }

    /// Before repairs: a writer is known only once the files of a new interface are marked.
    fn publish_moves(&mut self) {
        let moves = self.state.take_moves();
        if !moves.is_empty() {
            self.sink.interfaces_changed(moves);
        }
    }

    /// Publishes a record of the engine itself, after those of the state.
    fn publish_record(&mut self, record: Record) {
        self.publish();
        self.sink.publish(vec![record], None);
    }

    /// What the guard knows now.
    pub fn summary(&mut self) -> Summary {
        self.state.summary()
    }
}
