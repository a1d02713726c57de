//! Wakes the service at regular times, by timerfd(2).
//!
//! A timer of tokio's that is seconds away wakes its thread several times until it is due (the levels of its timing wheel), and
//! an idle node should be left alone.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::{Errno, read};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use crate::paths::register;

/// The first tick comes after one period. Those that come while one is handled are dropped: a handler that takes longer than the
/// period, because the service manager hangs, must not keep the event loop from everything else.
pub struct Ticker {
    /// `None`: the kernel refuses timerfd(2), and the ticks come from `interval`.
    timer: Option<AsyncFd<OwnedFd>>,
    interval: Interval,
    has_ticked: bool,
}

impl Ticker {
    pub fn new(period: Duration) -> Ticker {
        let mut interval = interval_at(Instant::now() + period, period);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ticker { timer: make_timer(period).ok(), interval, has_ticked: false }
    }

    /// Waits for the next tick.
    pub async fn tick(&mut self) {
        let Some(timer) = &self.timer else {
            self.interval.tick().await;
            return;
        };
        if std::mem::take(&mut self.has_ticked) {
            _ = read(timer.get_ref(), &mut [0; 8]);
        }
        while let Ok(mut ready) = timer.readable().await {
            if read(timer.get_ref(), &mut [0; 8]) != Err(Errno::AGAIN) {
                self.has_ticked = true;
                return;
            }
            ready.clear_ready();
        }
    }
}

fn make_timer(period: Duration) -> io::Result<AsyncFd<OwnedFd>> {
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
    let period = Timespec::try_from(period).map_err(io::Error::other)?;
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &Itimerspec { it_interval: period, it_value: period })?;
    register(timer)
}
