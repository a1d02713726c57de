//! How soon a thread runs when it is woken: by the niceness of the unit alone.

use std::fs::{self, File};

use rustix::process::{getpid, getpriority_process, getsid, setsid};

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
        _ = fs::write("/proc/self/autogroup", getpriority_process(None).unwrap_or(0).to_string());
    }
}
