//! Where the guard thread sleeps: until the kernel says something, another thread wants something, or time is up.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::time::ClockId;

#[derive(Clone, Copy, PartialEq)]
pub enum Source {
    /// To be read until nothing is left before the next [`Waits::sleep`]: it wakes nobody for what was there already.
    Notifications,
    Bell,
    /// These wake once, until they are armed again ([`Waits::arm`]): who writes without end must not wake the guard without end.
    Writes,
    Touches,
}

impl Source {
    fn flags(self) -> EventFlags {
        match self {
            Source::Notifications => EventFlags::IN | EventFlags::ET,
            Source::Bell => EventFlags::IN,
            Source::Writes | Source::Touches => EventFlags::IN | EventFlags::ONESHOT,
        }
    }
}

/// Longer than a packet, or a program that looks, needs; too short to be missed by anybody.
const REST_NSEC: i64 = 100_000;
const REST_MAX_NSEC: i64 = 5_000_000;

/// What there is to be woken by.
pub struct Waits {
    epoll: OwnedFd,
    /// The same notifications, and nothing else.
    resting: OwnedFd,
    /// Past the kernel's next tick (1 or 4 ms), so that the processor's clock need not be set anew (`hrtimer_reprogram`), which a
    /// virtual machine waits for, before whoever waits for the repair goes on.
    rest: Timespec,
}

/// Whom there is something from.
pub struct Woken {
    pub heard: bool,
    pub rung: bool,
    pub written: bool,
    pub touched: bool,
}

impl Waits {
    /// # Errors
    /// No descriptor or memory.
    pub fn new() -> io::Result<Waits> {
        let create = || epoll::create(CreateFlags::CLOEXEC);
        let tick = rustix::time::clock_getres(ClockId::MonotonicCoarse).tv_nsec;
        let rest = Timespec { tv_sec: 0, tv_nsec: (tick + REST_NSEC).min(REST_MAX_NSEC) };
        Ok(Waits { epoll: create()?, resting: create()?, rest })
    }

    /// A descriptor that is closed goes by itself.
    ///
    /// # Errors
    /// No memory, or no room in fs.epoll.max_user_watches.
    pub fn add(&self, source: Source, fd: impl AsFd) -> io::Result<()> {
        let (data, flags) = (EventData::new_u64(source as u64), source.flags());
        if source == Source::Notifications {
            epoll::add(&self.resting, &fd, data, flags)?;
        }
        Ok(epoll::add(&self.epoll, fd, data, flags)?)
    }

    /// Has a source wake again, also for what is there already.
    pub fn arm(&self, source: Source, fd: impl AsFd) {
        _ = epoll::modify(&self.epoll, fd, EventData::new_u64(source as u64), source.flags());
    }

    /// After a write sleeps for a moment, so that who waits for the repair on this processor sees it before it is counted and
    /// told. What the kernel says from now on ends it, but not what it has said so far: most of that is of the write.
    pub fn rest(&self) {
        let mut said = [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }];
        _ = epoll::wait(&self.resting, &mut said, Some(&Timespec::default()));
        _ = poll(&mut [PollFd::new(&self.resting, PollFlags::IN)], Some(&self.rest));
    }

    /// Sleeps for so many microseconds at most (rounded up to milliseconds); for ever without.
    ///
    /// # Errors
    /// epoll_wait(2) failed, which it does only by a mistake of this program.
    pub fn sleep(&self, usec: Option<u64>) -> io::Result<Woken> {
        let timeout = usec.map(|usec| {
            let msec = usec.div_ceil(1000);
            Timespec { tv_sec: (msec / 1000) as i64, tv_nsec: (msec % 1000 * 1_000_000) as i64 }
        });
        let mut room = [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; 4];
        let count = retry_on_intr(|| epoll::wait(&self.epoll, &mut room, timeout.as_ref()))?;
        let from = |source: Source| room[..count].iter().any(|event| event.data.u64() == source as u64);
        Ok(Woken {
            heard: from(Source::Notifications),
            rung: from(Source::Bell),
            written: from(Source::Writes),
            touched: from(Source::Touches),
        })
    }
}
