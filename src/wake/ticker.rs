//! Wakes the service at regular times, by timerfd(2).
//!
//! A timer of tokio's that is seconds away wakes its thread several times until it is due (the levels of its timing wheel), and
//! an idle node should be left alone.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use crate::paths::register;

/// The first tick comes after one period. Those that come while one is handled are dropped: a handler that takes longer than the
/// period, because the service manager hangs, must not keep the event loop from everything else.
pub enum Ticker {
    Timer {
        timer: AsyncFd<OwnedFd>,
        has_ticked: bool,
    },
    /// Where the kernel gives no timerfd.
    Interval(Interval),
}

impl Ticker {
    pub fn new(period: Duration) -> Ticker {
        make_timer(period).map_or_else(
            |_| {
                let mut interval = interval_at(Instant::now() + period, period);
                interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
                Ticker::Interval(interval)
            },
            |timer| Ticker::Timer { timer, has_ticked: false },
        )
    }

    /// Waits for the next tick.
    ///
    /// # Errors
    /// The timer can't be read any more.
    pub async fn tick(&mut self) -> io::Result<()> {
        let (timer, has_ticked) = match self {
            Ticker::Timer { timer, has_ticked } => (timer, has_ticked),
            Ticker::Interval(interval) => {
                interval.tick().await;
                return Ok(());
            }
        };
        if std::mem::take(has_ticked) {
            _ = rustix::io::read(timer.get_ref(), &mut [0; 8]);
        }
        loop {
            let mut ready = timer.readable().await?;
            match rustix::io::read(timer.get_ref(), &mut [0; 8]) {
                Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
                read => {
                    *has_ticked = true;
                    return Ok(read.map(drop)?);
                }
            }
        }
    }
}

fn make_timer(period: Duration) -> io::Result<AsyncFd<OwnedFd>> {
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
    let period = Timespec { tv_sec: period.as_secs() as i64, tv_nsec: i64::from(period.subsec_nanos()) };
    let turns = Itimerspec { it_interval: period, it_value: period };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &turns)?;
    register(timer)
}
