//! How soon the guard thread runs once it is woken: the niceness of its session and short slices, no real-time policy.

use std::fs::{self, File};

use rustix::process::{getpid, getpriority_process, getsid, setsid};

/// Makes the process's niceness count against all other processes. Where the kernel groups processes by session (sched(7), "The
/// autogroup feature"), it counts only within the session, and the session's own niceness counts outside: so the process needs
/// a session of its own, as a service has, with the same niceness.
///
/// It stays in the session of a terminal, and in one that another process leads; a niceness below 0 requires CAP_SYS_NICE
/// (`proc_sched_autogroup_set_nice`, kernel/sched/autogroup.c). All works without it.
pub fn stand_alone() {
    let has_terminal = File::open("/dev/tty").is_ok();
    let alone = !has_terminal && setsid().is_ok() || getsid(None).is_ok_and(|session| session == getpid());
    if alone {
        _ = fs::write("/proc/self/autogroup", getpriority_process(None).unwrap_or(0).to_string());
    }
}

/// Asks for the shortest slices that the kernel takes (`__setparam_fair`, kernel/sched/syscalls.c) for the calling thread: from
/// Linux 6.12 on it then takes the processor, once it is woken, from threads with longer ones (`PREEMPT_SHORT`,
/// kernel/sched/features.h). Its policy and niceness stay; where the call is refused, its slices do.
pub fn ask_for_short_slices() {
    /// `struct sched_attr`, first version (sched_setattr(2)).
    #[repr(C)]
    #[derive(Default)]
    struct SchedAttr {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime_nsec: u64,
        deadline: u64,
        period: u64,
    }
    let size = size_of::<SchedAttr>() as u32;
    let nice = getpriority_process(None).unwrap_or(0);
    let mut attr = SchedAttr { size, nice, runtime_nsec: 100_000, ..SchedAttr::default() };
    // SAFETY: the kernel reads `size` bytes of a live SchedAttr, may write its size there (E2BIG), and keeps no pointer; thread
    // 0 is the calling one.
    _ = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw mut attr, 0) };
}
