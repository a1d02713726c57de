//! The guard thread: receives what the kernel announces, applies it to the state, and executes the repairs that follow.
//!
//! It owns the netlink sockets, `/proc/sys` and the order of things. It decides nothing, and must not wait for the journal, D-Bus or
//! `/proc/PID`: the kernel's RTNL lock is the one thing that can hold it up.

mod cost;
mod execute;
mod fan_out;
mod mailbox;
mod once;
mod publish;
mod receive;
mod recheck;
mod resync;
mod sources;
mod trace;
mod unannounced;
mod wait;

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
use crate::kernel::socket::{Dumps, Notifications};
use crate::kernel::sysctl::{Heartbeat, Sysctl, now_usec};
use crate::policy::Policy;
use crate::report::record::{Cause, Record};
use crate::setting::Key;
use crate::state::{SettingId, State, Summary};

/// After this many messages or repairs in a row, the other threads' commands (a reload, the watchdog's ping) get their turn.
const TURN: usize = 256;

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
    /// When the guard no longer sleeps before it publishes a repair (monotonic microseconds).
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

    /// What the guard knows now.
    pub fn summary(&mut self) -> Summary {
        self.state.summary()
    }
}
