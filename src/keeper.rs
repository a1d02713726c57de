//! The guard thread: from the netlink socket through the guard to `/proc/sys`, with nothing in between that can wait.

mod absorb;
mod cost;
mod handle;
mod log;
mod looks;
mod once;
mod resync;
mod sources;
mod wait;
mod written;

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;

pub use handle::{Command, Handle, Outlet};
pub use log::Verbosity;
use looks::Looks;
pub use once::{Applied, apply_once};
use sources::Sources;

use crate::guard::{Guard, Repair, Slot, Summary};
use crate::kernel::links::Links;
use crate::kernel::message::Heard;
use crate::kernel::socket::{Dumps, Notifications, Received};
use crate::kernel::sysctl::{Door, Pulse, now_usec};
use crate::kernel::writes::Writes;
use crate::policy::Policy;
use crate::report::record::{Cause, Record};
use crate::setting::Key;

/// After this many messages or repairs in a row, the other threads' wishes (a reload, the watchdog's) get their turn.
const TURN: usize = 256;

/// The guard with its sockets and its door.
pub struct Keeper<O> {
    guard: Guard,
    notifications: Notifications,
    dumps: Dumps,
    links: Links,
    door: Door,
    writes: io::Result<Writes>,
    /// Until when events of writes wake nobody (monotonic microseconds).
    paused_until: Option<u64>,
    pulse: Arc<Pulse>,
    outlet: O,
    last_summary: Summary,
    looks: Looks,
    sources: Sources,
    /// What came in, where that is logged.
    events: Option<Vec<String>>,
    /// The thread's processor time when it was last charged to a setting.
    charged_at: u64,
    /// The setting that it was charged to, in this turn.
    charged: Option<Slot>,
}

impl<O: Outlet> Keeper<O> {
    /// Subscribes, so that nothing falls between this and the first full read, which is [`Keeper::audit`].
    ///
    /// # Errors
    /// No netlink, with the kernel's reason.
    pub fn new(policy: Arc<Policy>, pulse: Arc<Pulse>, outlet: O) -> io::Result<Keeper<O>> {
        let mut door = Door::new(pulse.clone());
        for name in ["all", "default"] {
            for (family, attribute) in crate::guard::interface::ANNOUNCED {
                door.keep(&Key::conf(family, name.as_ref(), attribute));
            }
        }
        door.keep(&Key::all_accept_redirects());
        let writes = Writes::new().and_then(|mut writes| {
            writes.watch(&Key::all_accept_redirects(), false)?;
            Ok(writes)
        });
        Ok(Keeper {
            guard: Guard::new(policy),
            notifications: Notifications::subscribe()?,
            dumps: Dumps::open()?,
            links: Links::default(),
            door,
            writes,
            paused_until: None,
            pulse,
            outlet,
            last_summary: Summary::default(),
            looks: Looks::default(),
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
    pub fn run(&mut self, handle: &Handle, inbox: &Receiver<Command>) -> io::Result<()> {
        self.tell_if_unwatched();
        let mut touched = false;
        loop {
            self.pulse.turns.fetch_add(1, Ordering::Relaxed);
            let quiet = self.hear_all();
            if std::mem::take(&mut touched) {
                self.outlet.touched();
            }
            self.guard.tick(now_usec());
            if quiet {
                self.idle();
            } else {
                self.publish();
            }
            while let Ok(command) = inbox.try_recv() {
                if matches!(command, Command::Stop) {
                    self.guard.stop(now_usec());
                    self.publish();
                    return Ok(());
                }
                self.obey(command);
            }
            self.charge_turn();
            self.mute();
            self.paused_until.take_if(|until| *until <= now_usec());
            let woken = self.sleep(handle, self.timeout(quiet))?;
            if woken.rung {
                handle.hush();
            }
            if woken.written {
                self.read_written(None);
            }
            touched = woken.touched;
        }
    }

    fn obey(&mut self, command: Command) {
        self.note_command(&command);
        match command {
            Command::Audit(cause) => {
                self.hear_what_waits();
                self.audit(cause);
            }
            Command::Note(before) => self.guard.note(now_usec().saturating_sub(before.as_micros() as u64)),
            Command::Noted(noted) => _ = noted.send(()),
            Command::Tell(cause, woke) => {
                self.hear_what_waits();
                let changed = self.guard.take_changes();
                if !(woke.again && changed.is_empty()) {
                    self.tell(Record::Resumed { cause, woke, changed });
                }
            }
            Command::Reload(policy, done) => {
                self.hear_what_waits();
                self.guard.reload(policy);
                self.audit(Cause::Reload);
                _ = done.send(());
            }
            Command::LookElsewhere => self.guard.module_came(),
            Command::Ping | Command::Stop => {}
        }
    }

    /// Before everything is read: what an interface was made to be before a drift of `all` is found must not be taken for a part
    /// of that.
    fn hear_what_waits(&mut self) {
        self.hear_all();
    }

    /// Hears what waits, repairing after each message. False: there may be more, but others need their turn.
    fn hear_all(&mut self) -> bool {
        for _ in 0..TURN {
            match self.notifications.receive() {
                Received::Messages(messages) => {
                    let at = now_usec();
                    messages.iter().for_each(|message| self.hear(message, at));
                    self.publish_moves();
                    self.work();
                }
                Received::Nothing => {
                    self.work();
                    return true;
                }
                Received::Lost(reason) => self.resynchronise(reason),
            }
        }
        false
    }

    fn hear(&mut self, message: &Heard, at: u64) {
        self.note_heard(message);
        match message {
            Heard::Netconf(message) => {
                let Some(ifindex) = message.ifindex else { return };
                if !self.guard.knows(ifindex) {
                    // A new interface's netconf message comes before its link message.
                    let Some(link) = self.ask_link(ifindex, false) else { return };
                    self.guard.link(&link, false, at);
                }
                self.guard.netconf(message, at);
            }
            Heard::Link(link) => {
                if self.guard.gives_other_settings(link) {
                    // Told before it is so (the order of netdev_chain: rtnetlink_event, inetdev_event, addrconf_notify).
                    self.dumps.wait_for_rtnl();
                }
                self.guard.link(link, true, at);
            }
            Heard::LinkGone { ifindex } => self.guard.link_gone(*ifindex),
            Heard::Broken | Heard::Other => {}
        }
    }

    /// Carries out what the guard asks for, for one turn at most.
    fn work(&mut self) {
        for _ in 0..TURN {
            let Some(repair) = self.guard.next_repair(now_usec()) else { return };
            match self.broken_leader(&repair) {
                Some(leader) => self.guard.put_behind(repair, leader),
                None => self.carry_out(repair),
            }
        }
    }

    fn carry_out(&mut self, mut repair: Repair) {
        self.watch(&repair);
        let mut outcome = self.door.repair(&repair.key, &repair.wanted, |value| repair.holds(value));
        if outcome.write.is_some() {
            self.door.read_back(&repair.key, &repair.wanted, repair.learn, &mut outcome);
            self.looks.start(outcome.finished);
            let otherwise = outcome.now.as_ref().is_none_or(|now| !repair.holds(now));
            // What another writes at the same time is not the kernel's way to say what we wrote.
            repair.learn = repair.learn && !(otherwise && self.is_written_by_others(&repair.key));
        }
        let watched = outcome.write.is_some() && self.writes.as_ref().is_ok_and(|writes| writes.watches(&repair.key));
        let own = watched.then(|| repair.key.clone());
        let (guarded, written) = (repair.guarded(), outcome.write.is_some());
        let changed_all = self.guard.done(repair, outcome);
        if let Some(family) = changed_all {
            self.absorb(family, written);
        }
        if let Some(slot) = guarded {
            let cost = self.lap();
            self.guard.charge(&slot, now_usec(), cost);
            self.charged = Some(slot);
        }
        if own.is_some() {
            self.read_written(own.as_ref());
        }
    }

    /// Reads everything and repairs all drift.
    pub fn audit(&mut self, cause: Cause) {
        self.read_everything(cause);
        while self.guard.is_busy() || self.guard.awaits_idle() {
            self.work();
            if !self.hear_all() {
                break;
            }
            if self.guard.awaits_idle()
                && let Some(cause) = self.guard.idle()
            {
                self.read_everything(cause);
            }
        }
        self.publish();
    }

    /// How long the guard may sleep if nothing is heard, in microseconds.
    fn timeout(&self, quiet: bool) -> Option<u64> {
        let due = self
            .looks
            .due()
            .into_iter()
            .chain(self.guard.settle_due())
            .chain(self.guard.contest_due())
            .chain(self.paused_until)
            .min();
        if !quiet || self.guard.is_busy() || self.guard.awaits_idle() {
            Some(0)
        } else {
            due.map(|due| due.saturating_sub(now_usec()))
        }
    }

    fn look_again(&mut self) {
        if self.looks.due().is_none_or(|due| due > now_usec()) {
            return;
        }
        let written = self.guard.written();
        let (count, mut suspects) = (written.len(), HashSet::new());
        for repair in written {
            if self.door.read(&repair.key).is_ok_and(|value| !repair.holds(&value)) {
                if self.looks.is_suspect(&repair.key) {
                    self.carry_out(repair);
                } else {
                    suspects.insert(repair.key);
                }
            }
        }
        if self.looks.looked(now_usec(), count, suspects) {
            self.guard.forget_written();
        }
    }

    /// The queue is empty: time for what is less urgent.
    fn idle(&mut self) {
        self.look_again();
        self.guard.settle_links(now_usec());
        self.unwatch();
        if let Some(cause) = self.guard.idle() {
            self.read_everything(cause);
        }
        if self.guard.redirects_in_doubt() {
            self.read_redirects();
        }
        self.work();
        self.read_baselines();
        self.publish();
    }

    fn publish(&mut self) {
        self.publish_log();
        self.publish_moves();
        let records = self.guard.take_records();
        let summary = self.guard.summary();
        // A repair that has no record of its own is no reason to wake the reporter.
        let changed = if records.is_empty() { summary.shows_more_than(&self.last_summary) } else { true };
        if changed {
            self.last_summary.clone_from(&summary);
        }
        if changed {
            self.outlet.tell(records, Some(summary));
        }
    }

    /// Before repairs: the witness can name only those who write after it has marked a new interface's files.
    fn publish_moves(&mut self) {
        let moves = self.guard.take_moves();
        if !moves.is_empty() {
            self.outlet.moved(moves);
        }
    }

    /// Tells a record of the keeper's own, after what the guard has to say.
    fn tell(&mut self, record: Record) {
        self.publish();
        self.outlet.tell(vec![record], None);
    }

    /// What the guard knows now.
    pub fn summary(&mut self) -> Summary {
        self.guard.summary()
    }
}
