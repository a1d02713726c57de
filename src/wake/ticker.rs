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

use crate::paths::register;

/// The first tick comes after one period; those that were missed count as one.
pub struct Ticker(AsyncFd<OwnedFd>);

impl Ticker {
    /// # Errors
    /// No timerfd, with the kernel's reason.
    pub fn new(period: Duration) -> io::Result<Ticker> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        let period = Timespec { tv_sec: period.as_secs() as i64, tv_nsec: i64::from(period.subsec_nanos()) };
        let turns = Itimerspec { it_interval: period, it_value: period };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &turns)?;
        Ok(Ticker(register(timer)?))
    }

    /// Waits for the next tick.
    ///
    /// # Errors
    /// The timer can't be read any more.
    pub async fn tick(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            match rustix::io::read(self.0.get_ref(), &mut [0; 8]) {
                Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
                read => return Ok(read.map(drop)?),
            }
        }
    }
}
