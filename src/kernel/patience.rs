//! Waiting for the kernel's RTNL lock asleep.
//!
//! Who writes a forwarding key while somebody holds the lock does not wait for it: `rtnl_trylock` fails, and the kernel has
//! the system call done again (`restart_syscall`), without end. A guard that does so at its niceness takes the processor
//! from a holder that shares it, and the holder keeps the lock all the longer. Only a signal comes between two tries. So
//! timers send one after a while, and its handler asks the kernel something for which it takes the lock properly: asleep,
//! until it is free.
//!
//! A timer of processor time comes with the kernel's next tick (1 or 4 ms) that finds the thread at work, so one that has
//! been set serves many writes. One of 0.1 ms has to be set before each, and in a virtual machine that takes longer than the
//! write, because the processor's clock is set anew (`hrtimer_reprogram`): so only where the lock was waited for lately.

use std::io;
use std::os::fd::IntoRawFd;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, Ordering};

use super::sysctl::now_usec;

/// How long a write may spin where the lock was waited for lately: longer than most changes hold it. It may spin twice as
/// long after each time that it has waited: where the handler takes longer than this, as in an emulated machine, the next
/// signal must not come before the write has had its turn.
const SPIN_USEC: u64 = 100;
const SPIN_MAX_USEC: u64 = 500_000;
/// Of processor time, whose timers the kernel looks at with each tick: with the next.
const NEXT_TICK_USEC: u64 = 1;
/// Where the lock is free, the handler's question takes less.
const HELD_USEC: u64 = 50;
/// So many writes after one that has waited are lately.
const WARY_WRITES: u32 = 250;

/// RTM_GETLINK of `lo`, which takes the lock in every kernel since 3.10 (rtnl_getlink, net/core/rtnetlink.c), without its
/// statistics: `struct nlmsghdr`, `struct ifinfomsg`, and IFLA_EXT_MASK with RTEXT_FILTER_SKIP_STATS.
const QUESTION: [u32; 10] = [40, 0x0001_0012, 0, 0, 0, 1, 0, 0, 0x001d_0008, 8];

/// The socket that the handler asks by; -1 until there is one.
static SOCKET: AtomicI32 = AtomicI32::new(-1);
/// The timer of 0.1 ms, and how long the write may spin now; 0: there is none, and a signal is none of its.
static TIMER: AtomicPtr<libc::c_void> = AtomicPtr::new(null_mut());
static SPIN: AtomicU64 = AtomicU64::new(0);
/// When the write began, in microseconds of CLOCK_MONOTONIC.
static BEGAN: AtomicU64 = AtomicU64::new(0);
/// Whether the timer of processor time is still to come.
static TICK: AtomicBool = AtomicBool::new(false);
/// How many writes are still to be wary of the lock.
static WARY: AtomicU32 = AtomicU32::new(0);

/// The timers of one thread.
pub struct Patience {
    tick: Timer,
    soon: Timer,
}

struct Timer(libc::timer_t);

/// While it lives, the thread's writes spin for a while at most.
pub struct Spinning;

// SAFETY: `timer_t` is a name, and never followed as a pointer here; it is good in every thread of the process.
unsafe impl Send for Timer {}

impl Patience {
    /// For the calling thread.
    ///
    /// # Errors
    /// No socket, timer or signal handler.
    pub fn of_this_thread() -> io::Result<Patience> {
        if SOCKET.load(Ordering::Acquire) < 0 {
            let socket = rustix::net::socket_with(
                rustix::net::AddressFamily::NETLINK,
                rustix::net::SocketType::RAW,
                rustix::net::SocketFlags::CLOEXEC,
                None, // NETLINK_ROUTE
            )?;
            // It is the handler's, for as long as the program runs.
            SOCKET.store(socket.into_raw_fd(), Ordering::Release);
        }
        // SAFETY: all zero is a valid sigaction, which lives through the call, the handler for ever, and it does only what
        // signal-safety(7) allows.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = wait_for_rtnl as extern "C" fn(libc::c_int) as usize;
            action.sa_flags = libc::SA_RESTART;
            if libc::sigaction(libc::SIGRTMIN(), &raw const action, null_mut()) != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(Patience { tick: Timer::new(libc::CLOCK_THREAD_CPUTIME_ID)?, soon: Timer::new(libc::CLOCK_MONOTONIC)? })
    }

    /// What is written from now on may spin until the next tick, or for [`SPIN_USEC`].
    pub fn begin(&self) -> Spinning {
        let wary = WARY.load(Ordering::SeqCst);
        TIMER.store(self.soon.0, Ordering::SeqCst);
        BEGAN.store(now_usec(), Ordering::SeqCst);
        SPIN.store(SPIN_USEC, Ordering::SeqCst);
        WARY.store(wary.saturating_sub(1), Ordering::SeqCst);
        let due = match wary {
            0 if TICK.swap(true, Ordering::SeqCst) => None,
            0 => Some((&self.tick, NEXT_TICK_USEC)),
            _ => Some((&self.soon, SPIN_USEC)),
        };
        if let Some((timer, usec)) = due {
            // SAFETY: the timer was made by timer_create.
            unsafe { set(timer.0, usec) };
        }
        Spinning
    }
}

impl Timer {
    /// Sends the signal to the calling thread.
    fn new(clock: libc::clockid_t) -> io::Result<Timer> {
        // SAFETY: all zero is a valid sigevent, which lives through the call.
        unsafe {
            let mut event: libc::sigevent = std::mem::zeroed();
            event.sigev_notify = libc::SIGEV_THREAD_ID;
            event.sigev_signo = libc::SIGRTMIN();
            event.sigev_notify_thread_id = libc::gettid();
            let mut timer = null_mut();
            match libc::timer_create(clock, &raw mut event, &raw mut timer) {
                0 => Ok(Timer(timer)),
                _ => Err(io::Error::last_os_error()),
            }
        }
    }
}

/// Once, after so many microseconds: less than a second.
///
/// # Safety
/// The timer was made by timer_create.
unsafe fn set(timer: libc::timer_t, usec: u64) {
    let never = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let times =
        libc::itimerspec { it_interval: never, it_value: libc::timespec { tv_nsec: usec as i64 * 1000, ..never } };
    // SAFETY: `times` lives through the call; of the timer the caller knows.
    unsafe { libc::timer_settime(timer, 0, &raw const times, null_mut()) };
}

impl Drop for Spinning {
    /// A timer comes all the same, once and for nothing: to stop it would take a system call of every repair.
    fn drop(&mut self) {
        SPIN.store(0, Ordering::SeqCst);
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // SAFETY: the timer was made by timer_create, and nobody uses it any more.
        unsafe { libc::timer_delete(self.0) };
    }
}

extern "C" fn wait_for_rtnl(_: libc::c_int) {
    TICK.store(false, Ordering::SeqCst);
    let mut spin = SPIN.load(Ordering::SeqCst);
    if spin == 0 {
        return;
    }
    // SAFETY: clock_gettime(2), send(2), recv(2) and timer_settime(2) are async-signal-safe; the question is a constant, of the
    // answer nothing is taken but one byte, and the timer is there as long as its thread writes. What they leave in errno is
    // not the interrupted code's.
    unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        let asked = now_usec();
        // The tick may come right after the write began.
        if asked.saturating_sub(BEGAN.load(Ordering::SeqCst)) >= SPIN_USEC {
            let socket = SOCKET.load(Ordering::Acquire);
            let mut answer = 0_u8;
            if libc::send(socket, QUESTION.as_ptr().cast(), size_of_val(&QUESTION), libc::MSG_DONTWAIT) > 0 {
                libc::recv(socket, (&raw mut answer).cast(), 1, libc::MSG_DONTWAIT);
            }
            if now_usec().saturating_sub(asked) >= HELD_USEC {
                WARY.store(WARY_WRITES, Ordering::SeqCst);
            }
            spin = (spin * 2).min(SPIN_MAX_USEC);
            SPIN.store(spin, Ordering::SeqCst);
        }
        set(TIMER.load(Ordering::SeqCst), spin);
        *errno = before;
    }
}
