//! How soon a thread runs when it is woken, and where: without privileges, and without a real-time policy.

use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

/// The shortest that the kernel takes (`__setparam_fair`, kernel/sched/syscalls.c), in nanoseconds.
const SLICE_NSEC: u64 = 100_000;

/// The processor that another thread ran on last.
#[derive(Default)]
pub struct LastCpu(AtomicUsize);

impl LastCpu {
    pub fn note(&self) {
        self.0.store(sched_getcpu(), Ordering::Relaxed);
    }
}

/// Keeps the calling thread off the processor of another, so that neither takes it from the other when both are woken at once.
pub struct Apart {
    allowed: CpuSet,
    avoided: Option<usize>,
}

impl Apart {
    pub fn of_this_thread() -> Apart {
        Apart { allowed: sched_getaffinity(None).unwrap_or_default(), avoided: None }
    }

    /// Never leaves what was allowed at the start (`CPUAffinity=`, cpusets), and stays where nothing else is.
    pub fn avoid(&mut self, other: &LastCpu) {
        let cpu = other.0.load(Ordering::Relaxed);
        if self.avoided.replace(cpu) == Some(cpu) || cpu >= CpuSet::MAX_CPU {
            return;
        }
        let mut rest = self.allowed;
        rest.unset(cpu);
        if rest.count() > 0 {
            // Where it is refused, the two only meet more often.
            _ = sched_setaffinity(None, &rest);
        }
    }
}

/// Asks for short slices for the calling thread: from Linux 6.12 on it then takes the processor, once it is woken, from
/// threads with longer ones (`PREEMPT_SHORT`, kernel/sched/features.h); others pay no heed. Its niceness stays.
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
        runtime: u64,
        deadline: u64,
        period: u64,
    }
    // SAFETY: getpriority(2) takes no pointer.
    let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    let size = size_of::<SchedAttr>() as u32;
    let attr = SchedAttr { size, policy: libc::SCHED_OTHER as u32, nice, runtime: SLICE_NSEC, ..SchedAttr::default() };
    // SAFETY: the kernel reads `size` bytes of a live SchedAttr and keeps no pointer; thread 0 is the calling one.
    _ = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) };
}
