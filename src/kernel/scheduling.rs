//! How soon a thread runs when it is woken, and where: without privileges, and without a real-time policy.

use std::fs::{self, File};

use rustix::process::{getpid, getpriority_process, getsid, setsid};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The guard's slices: the shortest that the kernel takes (`__setparam_fair`, kernel/sched/syscalls.c).
pub const SHORTEST_NSEC: u64 = 100_000;
/// The witness's: shorter than those of who writes a setting (some 3 ms), longer than the guard's.
pub const SHORT_NSEC: u64 = 500_000;

/// Of threads that have time: longer than those of everybody else.
const LONG_NSEC: u64 = 20_000_000;

/// Asks for slices of this length for the calling thread: from Linux 6.12 on it then takes the processor, once it is woken,
/// from threads with longer ones (`PREEMPT_SHORT`, kernel/sched/features.h); others pay no heed. Its niceness stays.
pub fn ask_for_slices(nsec: u64) {
    set_scheduling(libc::SCHED_OTHER, niceness(), nsec);
}

/// The calling thread must not take the processor from repairing, nor from whoever waited for the repair: it is no better
/// than the node's programs, and takes turns after them. Where the call is filtered, as in the unit's sandbox, it stays.
pub fn step_back() {
    set_scheduling(libc::SCHED_BATCH, niceness().max(0), LONG_NSEC);
}

/// Makes the process's niceness count against everybody's. Where the kernel groups processes by session (sched(7), "The
/// autogroup feature"), it counts only within the session, whose own niceness is what counts outside: so the process needs
/// a session of its own, as a service has, with the same niceness.
///
/// It stays in the session of a terminal, and in one that others lead; a niceness below 0 takes CAP_SYS_NICE
/// (`proc_sched_autogroup_set_nice`, kernel/sched/autogroup.c). Then all works as it is.
pub fn stand_alone() {
    let has_terminal = File::open("/dev/tty").is_ok();
    let alone = !has_terminal && setsid().is_ok() || getsid(None).is_ok_and(|session| session == getpid());
    if alone {
        _ = fs::write("/proc/self/autogroup", niceness().to_string());
    }
}

fn niceness() -> i32 {
    getpriority_process(None).unwrap_or(0)
}

fn set_scheduling(policy: libc::c_int, nice: i32, nsec: u64) {
    /// `struct sched_attr`, first version (sched_setattr(2)).
    #[repr(C)]
    #[derive(Default)]
    struct SchedAttr {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime: u64,
        deadline: u64,
        period: u64,
    }
    let size = size_of::<SchedAttr>() as u32;
    let mut attr = SchedAttr { size, policy: policy as u32, nice, runtime: nsec, ..SchedAttr::default() };
    // SAFETY: the kernel reads `size` bytes of a live SchedAttr, may write its size there (E2BIG), and keeps no pointer; thread
    // 0 is the calling one.
    _ = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw mut attr, 0) };
}

/// The processors that the calling thread may run on; none if there are more than a [`CpuSet`] has room for.
pub fn processors() -> Vec<usize> {
    let allowed = sched_getaffinity(None).unwrap_or_default();
    (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect()
}

/// Keeps the calling thread on one processor. Where that is refused it runs on any.
pub fn stay_on(cpu: usize) {
    let mut only = CpuSet::new();
    only.set(cpu);
    _ = sched_setaffinity(None, &only);
}
