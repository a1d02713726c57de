//! The witness's threads: read the events, and of each writer what `/proc` says of it, as far as their share of a processor goes.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

use super::{Follow, Shared, Write};
use crate::guard::Move;
use crate::guard::interface::ANNOUNCED;
use crate::handle::Handle;
use crate::kernel::name::Name;
use crate::kernel::process::Process;
use crate::kernel::scheduling::{SHORT_NSEC, ask_for_slices, step_back};
use crate::kernel::sysctl::{now_usec, thread_cpu_usec};
use crate::kernel::writers::{FILES_MAX, Groups, Marks, Touch};
use crate::policy::Policy;
use crate::setting::Key;

/// As many writes are remembered.
const WRITES_MAX: usize = 256;
/// As many processes that have opened a file, and may write it.
const OPENED_MAX: usize = 64;
/// A quarter of the files is kept for what the policy writes out.
pub const INTERFACE_FILES_MAX: usize = FILES_MAX / 4 * 3;
/// What the threads may spend of a core: as much at once, and 1 % in the long run.
const CPU_AT_ONCE_USEC: i64 = 200_000;
const CPU_PER_MILLE: i64 = 10;
/// How long they look away when they have spent that.
const PAUSE: Duration = Duration::from_millis(200);

/// What one of the threads waits for: that a file is opened, which is urgent, or for orders, and to be told of writes.
pub enum Post {
    Opens(Arc<Mutex<Watcher>>, OwnedFd),
    Orders(Arc<Mutex<Watcher>>, Handle<Follow>, Receiver<Follow>),
}

/// One of the threads, for as long as the program runs.
pub fn watch(post: &Post) -> ! {
    let (watcher, source, orders) = match post {
        Post::Opens(watcher, events) => (watcher, events.as_fd(), None),
        Post::Orders(watcher, handle, inbox) => (watcher, handle.bell(), Some((handle, inbox))),
    };
    if orders.is_some() {
        // A write wakes the guard, too, often on this very processor; who wrote has been looked at when he opened the file.
        step_back();
    } else {
        ask_for_slices(SHORT_NSEC);
    }
    let mut paused = false;
    loop {
        // It fails for want of memory alone, and then the pause keeps the loop from being a busy one. What was left unread by
        // a pause wakes nobody again.
        if !paused && poll(&mut [PollFd::from_borrowed_fd(source, PollFlags::IN)], None).is_err() {
            std::thread::sleep(PAUSE);
        }
        orders.inspect(|(handle, _)| handle.hush());
        // A writer may be gone within some ten microseconds: nothing comes before looking at it.
        let mut locked = lock(watcher);
        paused = !locked.catch_up(orders.is_some());
        if let Some((_, inbox)) = orders {
            inbox.try_iter().for_each(|follow| locked.follow(follow));
        }
        if paused {
            locked.shared.state().paused = true;
            drop(locked);
            std::thread::sleep(PAUSE);
            locked = lock(watcher);
            locked.shared.state().paused = false;
            locked.behind = true;
        }
    }
}

pub fn lock(watcher: &Mutex<Watcher>) -> MutexGuard<'_, Watcher> {
    watcher.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// What the threads share.
pub struct Watcher {
    marks: Marks,
    policy: Arc<Policy>,
    /// What is marked for each interface.
    interfaces: BTreeMap<Name, Vec<Key>>,
    /// Those who have opened a file, read while they were there; newest last.
    opened: VecDeque<Arc<Process>>,
    shared: Arc<Shared>,
    own_pid: i32,
    budget: Budget,
    /// Events were lost, or wait since before a pause.
    behind: bool,
}

impl Watcher {
    pub fn new(groups: Groups, shared: Arc<Shared>) -> Watcher {
        Watcher {
            marks: Marks::new(groups),
            policy: Arc::default(),
            interfaces: BTreeMap::new(),
            opened: VecDeque::new(),
            shared,
            own_pid: std::process::id() as i32,
            budget: Budget { left_usec: CPU_AT_ONCE_USEC, at: now_usec(), cpu: 0 },
            behind: false,
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
        self.mark(Key::ip_forward(), true);
        self.policy.clone().elsewhere().for_each(|(key, _)| _ = self.mark(key, true));
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
        self.interfaces.insert(name, keys.into_iter().map(|(key, _)| key).collect());
    }

    fn gone(&mut self, name: Name) {
        for key in self.interfaces.remove(&name).into_iter().flatten() {
            self.marks.remove(&key);
            self.shared.state().watched.remove(&key);
        }
    }

    fn mark(&mut self, key: Key, stays: bool) -> bool {
        let room = if stays { FILES_MAX } else { INTERFACE_FILES_MAX };
        let marked = self.marks.count() < room && self.marks.add(&key);
        if marked {
            self.shared.state().watched.insert(key.canonical());
        }
        marked
    }

    /// Takes the events that wait, with `writes` also those. False: the budget is spent, and there may be more.
    pub fn catch_up(&mut self, writes: bool) -> bool {
        self.budget.cpu = thread_cpu_usec();
        if self.budget.is_spent() {
            return false;
        }
        loop {
            let found_none = !self.read(writes);
            if self.budget.is_spent() {
                return false;
            }
            if found_none {
                return true;
            }
        }
    }

    /// Takes some of the events that wait. False: there were none.
    fn read(&mut self, writes: bool) -> bool {
        let touches = self.marks.read(writes);
        let found_none = touches.is_empty();
        for touch in touches {
            match touch {
                Touch::Process { pid, .. } if pid == self.own_pid => {}
                Touch::Process { pid, key, written: false } => _ = self.look_at(pid, &key),
                Touch::Process { pid, key, written: true } => {
                    let known = self.opened.iter().rev().find(|process| process.pid == pid).cloned();
                    let by = known.unwrap_or_else(|| self.look_at(pid, &key));
                    let mut state = self.shared.state();
                    state.writes.push_back(Write { key: key.canonical(), at: now_usec(), by, told: false });
                    if state.writes.len() > WRITES_MAX {
                        state.writes.pop_front();
                    }
                    self.shared.news.notify_all();
                }
                Touch::Overflow => self.behind = true,
            }
        }
        if self.behind {
            // What is heard of until now may have been written by somebody whose event is lost, or was read too late.
            self.shared.state().lost_at = Some(now_usec());
            self.behind = !found_none;
        }
        !found_none
    }

    fn look_at(&mut self, pid: i32, key: &Key) -> Arc<Process> {
        let process = Arc::new(Process::read(pid, key));
        self.opened.retain(|known| known.pid != pid);
        self.opened.push_back(process.clone());
        if self.opened.len() > OPENED_MAX {
            self.opened.pop_front();
        }
        process
    }
}

/// The threads' share of a processor.
struct Budget {
    /// Below 0 once the last events took more than there was, which is earned before any other is taken.
    left_usec: i64,
    at: u64,
    cpu: u64,
}

impl Budget {
    fn is_spent(&mut self) -> bool {
        let (at, cpu) = (now_usec(), thread_cpu_usec());
        let earned = at.saturating_sub(self.at) as i64 * CPU_PER_MILLE / 1000;
        let left = (self.left_usec + earned).min(CPU_AT_ONCE_USEC);
        (self.left_usec, self.at, self.cpu) = (left - (cpu - self.cpu) as i64, at, cpu);
        self.left_usec <= 0
    }
}
