//! Where the guard thread sleeps: until the kernel says something, another thread wants something, or time is up.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::time::ClockId;

/// Longer than a packet, or a program that looks, needs; too short to be missed by anybody.
const REST: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000 };
/// Where a tick takes longer, the rest is not past it: a drift that was passed over waits no longer than this.
const LONG_REST_MAX_NSEC: i64 = 5_000_000;

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

/// What there is to be woken by.
pub struct Waits {
    epoll: OwnedFd,
    /// Where it rests: the same notifications, and nothing else.
    resting: OwnedFd,
    /// Past the kernel's next tick (1 or 4 ms), so that the processor's clock need not be set anew (`hrtimer_reprogram`)
    /// before whoever waits for the repair goes on.
    long_rest: Timespec,
}

/// Whom there is something from.
#[derive(Default)]
pub struct Woken {
    pub heard: bool,
    pub rung: bool,
    pub written: bool,
    pub touched: bool,
}

impl Woken {
    /// By any of the two.
    pub fn or(self, other: Woken) -> Woken {
        Woken {
            heard: self.heard | other.heard,
            rung: self.rung | other.rung,
            written: self.written | other.written,
            touched: self.touched | other.touched,
        }
    }
}

impl Waits {
    /// # Errors
    /// No descriptor or memory.
    pub fn new() -> io::Result<Waits> {
        let create = || epoll::create(CreateFlags::CLOEXEC);
        let tick = rustix::time::clock_getres(ClockId::MonotonicCoarse).tv_nsec;
        let long_rest = Timespec { tv_sec: 0, tv_nsec: (tick + REST.tv_nsec).min(LONG_REST_MAX_NSEC) };
        Ok(Waits { epoll: create()?, resting: create()?, long_rest })
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

    /// Sleeps for so many microseconds at most (rounded up to milliseconds); for ever without.
    ///
    /// # Errors
    /// epoll_wait(2) failed, which it does only by a mistake of this program.
    pub fn sleep(&self, usec: Option<u64>) -> io::Result<Woken> {
        sleep(&self.epoll, usec)
    }

    /// What the kernel has said so far ends no rest from now on.
    pub fn pass_over(&self) {
        _ = sleep(&self.resting, Some(0));
    }

    /// After a write sleeps for a moment, so that who waits for the repair on this processor sees it before it is counted and
    /// told. What the kernel says ends it, but not that the write was seen, which it is as soon as who waits goes on. Whether
    /// that ended it.
    pub fn rest(&self, long: bool) -> bool {
        // epoll_wait(2) counts milliseconds.
        let resting = &mut [PollFd::new(&self.resting, PollFlags::IN)];
        poll(resting, Some(if long { &self.long_rest } else { &REST })).is_ok_and(|ready| ready > 0)
    }
}

fn sleep(epoll: &OwnedFd, usec: Option<u64>) -> io::Result<Woken> {
    let timeout = usec.map(|usec| {
        let msec = usec.div_ceil(1000);
        Timespec { tv_sec: (msec / 1000) as i64, tv_nsec: (msec % 1000 * 1_000_000) as i64 }
    });
    let mut room = [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; 4];
    let count = retry_on_intr(|| epoll::wait(epoll, &mut room, timeout.as_ref()))?;
    let events = &room[..count];
    let from = |source: Source| events.iter().any(|event| event.data.u64() == source as u64);
    Ok(Woken {
        heard: from(Source::Notifications),
        rung: from(Source::Bell),
        written: from(Source::Writes),
        touched: from(Source::Touches),
    })
}
