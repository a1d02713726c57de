//! The thread: reads fanotify events, and `/proc/PID` of each process that opened a setting, within a budget.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

use super::commands::Commands;
use super::{FANOTIFY, Follow, PROC, Shared, Write};
use crate::kernel::fanotify::{AccessEvent, FILES_MAX, Groups, Marks};
use crate::kernel::name::Name;
use crate::kernel::process::{self, Process};
use crate::kernel::sysctl::now_usec;
use crate::mailbox::Mailbox;
use crate::policy::Policy;
use crate::setting::Key;
use crate::state::Move;
use crate::state::interface::ANNOUNCED;

/// As many writes are remembered.
const WRITES_MAX: usize = 256;
/// As many processes that have opened a file, and may write it.
const OPENED_MAX: usize = 64;
/// A quarter of the files is kept for what the policy writes out.
pub const INTERFACE_FILES_MAX: usize = FILES_MAX / 4 * 3;
/// So many processes are looked at, at once and a second in the long run. One look takes some 0.1 ms of a processor, so this is
/// 1 % of it; an emulated machine, where it takes ten times that, has no fewer writers to name.
const LOOKS_AT_ONCE: i64 = 2000;
const LOOKS_A_SECOND: i64 = 100;
/// As many glances at those who are known to read, or are gone. Each takes a tenth of a look.
const GLANCES_AT_ONCE: i64 = 2000;
const GLANCES_A_SECOND: i64 = 1000;
/// How long the thread looks away when it has spent a share: meanwhile, the kernel makes one event of what one process opens in a
/// row (`fanotify_merge`).
const PAUSE: Duration = Duration::from_millis(1);
/// So many reads of events before orders get their turn.
const TURN: u32 = 16;

/// The thread, for as long as the program runs. It waits for `opens`, a descriptor of that group.
pub fn watch(mut watcher: Watcher, opens: &OwnedFd, mailbox: &Mailbox<Follow>, inbox: &Receiver<Follow>) -> ! {
    loop {
        // It fails for want of memory alone, and then the pause keeps the loop from being a busy one.
        let sources = &mut [opens.as_fd(), mailbox.event_fd()].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        if poll(sources, None).is_err() || watcher.is_spent() {
            std::thread::sleep(PAUSE);
        }
        mailbox.clear();
        // A writer may be gone within some ten microseconds: nothing comes before looking at it.
        watcher.catch_up();
        inbox.try_iter().for_each(|follow| watcher.follow(follow));
    }
}

/// What the thread knows.
pub struct Watcher {
    marks: Marks,
    policy: Arc<Policy>,
    /// What is marked for each interface.
    interfaces: BTreeMap<Name, Vec<Key>>,
    /// Those who have opened a file; newest last.
    opened: VecDeque<Opened>,
    commands: Commands,
    shared: Arc<Shared>,
    own_pid: i32,
    looks: Budget,
    glances: Budget,
}

/// A process that has opened a file, read while it was there.
#[derive(Clone)]
struct Opened {
    process: Arc<Process>,
    command: Vec<u8>,
    /// Only its command is known.
    is_glance: bool,
}

impl Watcher {
    pub fn new(groups: Groups, shared: Arc<Shared>) -> Watcher {
        Watcher {
            marks: Marks::new(groups),
            policy: Arc::default(),
            interfaces: BTreeMap::new(),
            opened: VecDeque::new(),
            commands: Commands::default(),
            shared,
            own_pid: std::process::id() as i32,
            looks: Budget::new(LOOKS_AT_ONCE, LOOKS_A_SECOND),
            glances: Budget::new(GLANCES_AT_ONCE, GLANCES_A_SECOND),
        }
    }

    pub fn follow(&mut self, follow: Follow) {
        match follow {
            Follow::Policy(policy) => {
                self.policy = policy;
                let names: Vec<Name> = std::mem::take(&mut self.interfaces).into_keys().collect();
                self.marks.clear();
                self.shared.state().watched.clear();
                self.mark_what_stays();
                // What the policy writes out comes first, for there may be too many of the rest.
                let (first, rest): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| self.policy.writes_out(name));
                first.into_iter().chain(rest).for_each(|name| self.here(name));
            }
            Follow::Moves(moves) => moves.into_iter().for_each(|moved| match moved {
                Move::Here(name) => self.here(name),
                Move::Gone(name) => self.gone(name),
            }),
            Follow::Then(act) => act(),
        }
    }

    fn mark_what_stays(&mut self) {
        for name in ["all", "default"].map(OsStr::new) {
            for (family, attribute) in ANNOUNCED {
                self.mark(Key::conf(family, name, attribute), true);
            }
            self.policy.clone().for_interface(name).into_iter().for_each(|(key, _)| _ = self.mark(key, true));
        }
        self.policy.clone().global().for_each(|(key, _)| _ = self.mark(key, true));
    }

    fn here(&mut self, name: Name) {
        self.gone(name);
        if self.marks.count() >= INTERFACE_FILES_MAX && !self.policy.writes_out(&name) {
            self.interfaces.insert(name, Vec::new());
            return;
        }
        let policy = self.policy.clone();
        let written_out = |entry: usize| policy.entries()[entry].sets().is_some();
        let mut keys = policy.for_interface(&name);
        keys.retain(|(key, entry)| self.mark(key.clone(), written_out(*entry)));
        // Whoever writes what an interface follows has written that interface's, too.
        let is_unmarked = |leader: &Key| !self.shared.state().watched.contains(leader);
        let leaders: Vec<Key> = keys.iter().filter_map(|(key, _)| key.follows()).filter(is_unmarked).collect();
        leaders.into_iter().for_each(|leader| _ = self.mark(leader, true));
        self.interfaces.insert(name, keys.into_iter().map(|(key, _)| key).collect());
    }

    fn gone(&mut self, name: Name) {
        for key in self.interfaces.remove(&name).into_iter().flatten() {
            key.other_name().iter().for_each(|other| self.marks.remove(other));
            self.marks.remove(&key);
            self.shared.state().watched.remove(&key.canonical());
        }
    }

    /// Marks a setting's file, and that of its other name.
    fn mark(&mut self, key: Key, stays: bool) -> bool {
        if let Some(other) = key.other_name() {
            self.mark_file(other, stays);
        }
        self.mark_file(key, stays)
    }

    fn mark_file(&mut self, key: Key, stays: bool) -> bool {
        let room = if stays { FILES_MAX } else { INTERFACE_FILES_MAX };
        let marked = self.marks.count() < room
            && self.marks.add(&key).unwrap_or_else(|error| {
                self.shared.note_refusal(FANOTIFY, &error);
                false
            });
        if marked {
            self.shared.state().watched.insert(key.canonical());
        }
        marked
    }

    fn catch_up(&mut self) {
        for _ in 0..TURN {
            let touches: Vec<AccessEvent> =
                [false, true].into_iter().flat_map(|writes| self.marks.read(writes)).collect();
            if touches.is_empty() {
                return;
            }
            for touch in touches {
                match touch {
                    AccessEvent::Process { pid, .. } if pid == self.own_pid => {}
                    AccessEvent::Process { pid, key, written } => self.note(pid, key, written),
                    // What is heard of until now may have been written by somebody whose event is lost.
                    AccessEvent::Overflow { writes } if !writes => {}
                    AccessEvent::Overflow { .. } => self.shared.state().lost_at = Some(now_usec()),
                    AccessEvent::Refused(errno) => {
                        self.shared.note_refusal(FANOTIFY, &io::Error::from_raw_os_error(errno));
                    }
                }
            }
            if self.is_spent() {
                return;
            }
        }
    }

    fn is_spent(&mut self) -> bool {
        let now = now_usec();
        self.looks.is_spent(now) || self.glances.is_spent(now)
    }

    /// Looks at a process that has opened the file of `key`: at its command alone where that is known to read.
    fn look_at(&mut self, pid: i32, key: &Key) -> Opened {
        let command = process::command(pid);
        if let Err(error) = &command
            && !matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
        {
            self.shared.note_refusal(PROC, error);
        }
        let (is_there, command) = (command.is_ok(), command.unwrap_or_default());
        let mut process = Process::named(pid, &command, key);
        let is_glance = self.commands.is_reader(&command) || !is_there;
        if is_glance {
            self.glances.spend(now_usec());
        } else {
            process = process.look_closer();
            self.commands.note_look(&command);
            self.looks.spend(now_usec());
        }
        let opened = Opened { process: Arc::new(process), command, is_glance };
        self.opened.retain(|known| known.process.pid != pid);
        self.opened.push_back(opened.clone());
        if self.opened.len() > OPENED_MAX {
            self.opened.pop_front();
        }
        opened
    }

    /// A process has opened the file of `key`, or written it.
    fn note(&mut self, pid: i32, key: Key, written: bool) {
        let known = self.opened.iter().rev().find(|known| known.process.pid == pid).cloned();
        let can_look = !self.looks.is_spent(now_usec());
        let opened = match known.filter(|_| written) {
            Some(known) => known,
            None if can_look => self.look_at(pid, &key),
            None if written => return self.shared.state().lost_at = Some(now_usec()),
            None => return,
        };
        if !written {
            return;
        }
        let Opened { process, command, is_glance } = opened;
        self.commands.note_write(&command);
        let by = if is_glance { Arc::new(Process::clone(&process).look_closer()) } else { process };
        let mut state = self.shared.state();
        state.writes.push_back(Write { key: key.canonical(), at: now_usec(), by, told: false });
        if state.writes.len() > WRITES_MAX {
            state.writes.pop_front();
        }
        self.shared.news.notify_all();
    }
}

/// So many at once, and so many a second in the long run, counted in millionths.
struct Budget {
    at_once: i64,
    a_second: i64,
    left: i64,
    /// Monotonic microseconds.
    at: u64,
}

impl Budget {
    fn new(at_once: i64, a_second: i64) -> Budget {
        Budget { at_once, a_second, left: at_once * 1_000_000, at: now_usec() }
    }

    fn is_spent(&mut self, now: u64) -> bool {
        let earned = now.saturating_sub(self.at) as i64 * self.a_second;
        (self.left, self.at) = ((self.left + earned).min(self.at_once * 1_000_000), now);
        self.left <= 0
    }

    fn spend(&mut self, now: u64) {
        self.is_spent(now);
        self.left -= 1_000_000;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_at_once_and_so_many_a_second() {
        let mut budget = Budget { at: 0, ..Budget::new(3, 10) };
        for _ in 0..3 {
            assert!(!budget.is_spent(0));
            budget.spend(0);
        }
        assert!(budget.is_spent(0));
        assert!(!budget.is_spent(1), "some of the next");
        budget.spend(1);
        assert!(budget.is_spent(99_999));
        assert!(!budget.is_spent(100_001));
        assert!(!budget.is_spent(3_600_000_000));
        (0..3).for_each(|_| budget.spend(3_600_000_000));
        assert!(budget.is_spent(3_600_000_000), "no more than that is kept");
    }
}
