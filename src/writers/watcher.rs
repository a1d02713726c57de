//! Marks files, reads fanotify events, and examines each process that opened a setting, within a budget.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsStr;
use std::io;
use std::sync::Arc;

use nix::errno::Errno;

use super::{FANOTIFY, Follow, PROC, Write};
use crate::kernel::fanotify::{Access, FILES_MAX, Groups, Marks};
use crate::kernel::name::Name;
use crate::kernel::process::{self, Process};
use crate::kernel::sysctl::now_usec;
use crate::policy::Policy;
use crate::setting::Key;
use crate::state::Move;
use crate::state::interface::ANNOUNCED;
use crate::text::why;

/// At most so many writes are remembered.
const WRITES_MAX: usize = 256;
/// At most so many processes that have opened a file, and may write it.
const OPENED_MAX: usize = 64;
/// A quarter of the files is kept for what the policy writes out.
pub const INTERFACE_FILES_MAX: usize = FILES_MAX / 4 * 3;
/// An examination takes some 0.1 ms of a processor: 100 a second are 1 % of it. They are counted, not measured, so that an emulated
/// machine, where each takes ten times as long, names as many writers.
const EXAMINATION_EVERY_USEC: u64 = 10_000;
/// A process that opens a file again costs a tenth of that.
const REOPENING_EVERY_USEC: u64 = 1_000;
/// So many of each may come at once, after a time with few.
const AT_ONCE: u64 = 2000;
/// So many reads of events in a row, before interfaces and policy are followed.
const TURN: u32 = 16;

/// A process that has exited since it was examined is the same one within so long: no other has its PID yet.
const SAME_PID_USEC: u64 = 1_000_000;

/// A process that has opened a file, read while it was there.
struct Opened {
    process: Arc<Process>,
    /// The bytes of its command line.
    command: Vec<u8>,
    /// When it was examined (monotonic microseconds).
    at: u64,
}

/// What is marked, and what was seen.
pub struct Watcher {
    pub(super) marks: Marks,
    policy: Arc<Policy>,
    interfaces: BTreeSet<Name>,
    /// The newest is the last.
    opened: VecDeque<Opened>,
    examinations: Budget,
    reopenings: Budget,
    /// The newest is the last.
    pub(super) writes: VecDeque<Write>,
    /// When events of writes were last lost, or a writer not examined to save the processor.
    pub(super) lost_at: Option<u64>,
    /// Sources that the kernel has refused, and those of them that are not recorded yet, with the reason.
    pub(super) refused: BTreeSet<&'static str>,
    pub(super) unrecorded: Vec<(&'static str, String)>,
}

impl Watcher {
    pub fn new(groups: Arc<Groups>) -> Watcher {
        Watcher {
            marks: Marks::new(groups),
            policy: Arc::default(),
            interfaces: BTreeSet::new(),
            opened: VecDeque::new(),
            examinations: Budget::new(EXAMINATION_EVERY_USEC),
            reopenings: Budget::new(REOPENING_EVERY_USEC),
            writes: VecDeque::new(),
            lost_at: None,
            refused: BTreeSet::new(),
            unrecorded: Vec::new(),
        }
    }

    pub fn follow(&mut self, follow: Follow) {
        match follow {
            Follow::Policy(policy) => {
                self.policy = policy;
                self.marks.clear();
                self.mark_permanent();
                std::mem::take(&mut self.interfaces).into_iter().for_each(|name| self.add_interface(name));
            }
            Follow::Moves(moves) => moves.into_iter().for_each(|moved| match moved {
                Move::Here(name) => self.add_interface(name),
                Move::Gone(name) => self.remove_interface(name),
            }),
            Follow::Then(act) => act(),
        }
    }

    /// Marks the settings of `all` and `default`, and those of no interface.
    fn mark_permanent(&mut self) {
        let policy = self.policy.clone();
        for name in ["all", "default"].map(OsStr::new) {
            let announced = ANNOUNCED.map(|(family, attribute)| Key::conf(family, name, attribute));
            announced.iter().for_each(|key| _ = self.mark(key, FILES_MAX));
            policy.for_interface(name).iter().for_each(|(key, _)| _ = self.mark(key, FILES_MAX));
        }
        policy.global().for_each(|(key, _)| _ = self.mark(&key, FILES_MAX));
    }

    fn add_interface(&mut self, name: Name) {
        self.remove_interface(name);
        self.interfaces.insert(name);
        if self.marks.count() >= INTERFACE_FILES_MAX && !self.policy.writes_out(&name) {
            return;
        }
        let policy = self.policy.clone();
        for (key, entry) in policy.for_interface(&name) {
            let is_written_out = policy.entries()[entry].sets().is_some();
            if self.mark(&key, if is_written_out { FILES_MAX } else { INTERFACE_FILES_MAX })
                // A write of the setting that it follows changes it, too.
                && let Some(leader) = key.follows().map(Key::canonical)
                && !self.marks.contains(&leader)
            {
                self.mark(&leader, FILES_MAX);
            }
        }
    }

    fn remove_interface(&mut self, name: Name) {
        if self.interfaces.remove(&name) {
            self.marks.remove(|key| key.place().is_some_and(|place| *place.interface == *name));
        }
    }

    /// Marks a setting's file, and that of its other name, while fewer than `room` files are marked.
    fn mark(&mut self, key: &Key, room: usize) -> bool {
        if let Some(other) = key.other_name() {
            self.mark_file(&other, room);
        }
        self.mark_file(key, room)
    }

    fn mark_file(&mut self, key: &Key, room: usize) -> bool {
        if self.marks.count() >= room {
            return false;
        }
        self.marks.add(key).unwrap_or_else(|error| {
            self.note_refusal(FANOTIFY, &error);
            false
        })
    }

    fn note_refusal(&mut self, source: &'static str, error: &io::Error) {
        if self.refused.insert(source) {
            self.unrecorded.push((source, why(error)));
        }
    }

    /// Reads the waiting events, for one turn at most.
    pub fn read_events(&mut self) {
        for _ in 0..TURN {
            let nothing_waits = [self.read(false), self.read(true)] == [false, false];
            if nothing_waits || self.is_spent() {
                return;
            }
        }
    }

    /// False: no event of this kind waits.
    fn read(&mut self, written: bool) -> bool {
        match self.marks.read(written) {
            Ok(accesses) => {
                for access in accesses {
                    match access {
                        Access::Process(pid, _) if pid == std::process::id() as i32 => {}
                        Access::Process(pid, key) => self.note_access(pid, key, written),
                        Access::Overflow if written => self.lost_at = Some(now_usec()),
                        Access::Overflow => {}
                    }
                }
            }
            Err(Errno::EAGAIN) => return false,
            Err(refused @ (Errno::EACCES | Errno::EPERM)) => self.note_refusal(FANOTIFY, &refused.into()),
            Err(_) => {} // the file went with its interface
        }
        true
    }

    /// The budget is spent: meanwhile the kernel makes one event of what one process opens several times (`fanotify_merge`).
    pub fn is_spent(&self) -> bool {
        let now = now_usec();
        self.examinations.is_spent(now) || self.reopenings.is_spent(now)
    }

    /// A process has opened the file of `key`, or written it.
    fn note_access(&mut self, pid: i32, key: Key, written: bool) {
        let by = self.identify(pid, &key, written);
        match by {
            _ if !written => {}
            None => self.lost_at = Some(now_usec()),
            Some(by) => {
                self.writes.push_back(Write { key, at: now_usec(), by, is_recorded: false });
                if self.writes.len() > WRITES_MAX {
                    self.writes.pop_front();
                }
            }
        }
    }

    /// The process that has opened the file of `key`, or has `written` it. It is examined at each opening, unless it has the command
    /// that it had at the last one. `None`: there is no budget for that.
    fn identify(&mut self, pid: i32, key: &Key, written: bool) -> Option<Arc<Process>> {
        let known = self.opened.iter().position(|opened| opened.process.pid == pid);
        if let Some(at) = known.filter(|_| written) {
            return Some(self.opened[at].process.clone());
        }
        let now = now_usec();
        if self.examinations.is_spent(now) {
            return None;
        }
        let command = process::command(pid).unwrap_or_else(|error| {
            if !matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) {
                self.note_refusal(PROC, &error);
            }
            Vec::new()
        });
        if let Some(at) = known {
            if is_same(&self.opened[at].command, self.opened[at].at, &command, now) {
                self.reopenings.spend(now);
                return Some(self.opened[at].process.clone());
            }
            self.opened.remove(at);
        }
        let process = Arc::new(Process::examine(pid, &command, key));
        self.examinations.spend(now_usec());
        self.opened.push_back(Opened { process: process.clone(), command, at: now });
        if self.opened.len() > OPENED_MAX {
            self.opened.pop_front();
        }
        Some(process)
    }
}

/// Whether the process that has `command` at `now` is the one that had `before` at `examined`, with the same PID. One that exits has
/// no command line any more (`exit_mm`, kernel/exit.c).
fn is_same(before: &[u8], examined: u64, command: &[u8], now: u64) -> bool {
    before == command || command.is_empty() && now.saturating_sub(examined) < SAME_PID_USEC
}

/// [`AT_ONCE`] at once, and one every so many microseconds in the long run. Times are monotonic microseconds.
struct Budget {
    every_usec: u64,
    /// When all that was spent will have been earned again.
    earned_at: u64,
}

impl Budget {
    fn new(every_usec: u64) -> Budget {
        Budget { every_usec, earned_at: 0 }
    }

    fn is_spent(&self, now: u64) -> bool {
        self.earned_at >= now + AT_ONCE * self.every_usec
    }

    fn spend(&mut self, now: u64) {
        self.earned_at = self.earned_at.max(now) + self.every_usec;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_has_exited_is_the_one_that_was_examined_just_before() {
        for (before, command, after, same) in [
            ("sysctl", "sysctl", 3_600_000_000, true),
            ("sysctl", "sh", 1, false),
            ("sysctl", "", 999_999, true),
            ("sysctl", "", 1_000_000, false), // another may have its PID
            ("", "sysctl", 1, false),
        ] {
            let found = is_same(before.as_bytes(), 5, command.as_bytes(), 5 + after);
            assert_eq!(found, same, "{before:?} {command:?} {after}");
        }
    }

    #[test]
    fn so_many_at_once_and_so_many_a_second() {
        let mut budget = Budget::new(100_000);
        for _ in 0..AT_ONCE {
            assert!(!budget.is_spent(0));
            budget.spend(0);
        }
        assert!(budget.is_spent(0));
        assert!(!budget.is_spent(1), "some of the next");
        budget.spend(1);
        assert!(budget.is_spent(99_999));
        assert!(!budget.is_spent(100_001));
        assert!(!budget.is_spent(3_600_000_000));
        (0..AT_ONCE).for_each(|_| budget.spend(3_600_000_000));
        assert!(budget.is_spent(3_600_000_000), "no more than that is kept");
    }
}
