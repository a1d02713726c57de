//! A timer that wakes the event loop once a turn. The runtime's own, for a turn of ten seconds, wakes it up to three times:
//! what is far away it puts into coarser slots, and looks at each of them on the way (the timer wheel of tokio).

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::{Errno, read};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;

use crate::paths::register;

pub struct Timer(AsyncFd<OwnedFd>);

impl Timer {
    /// The first turn ends after one period, which must not be zero.
    ///
    /// # Errors
    /// No timerfd, with the kernel's reason.
    pub fn every(period: Duration) -> io::Result<Timer> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        let period = Timespec { tv_sec: period.as_secs() as i64, tv_nsec: period.subsec_nanos().into() };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &Itimerspec { it_interval: period, it_value: period })?;
        Ok(Timer(register(timer)?))
    }

    /// Waits for the end of the turn. Those that were missed count as one.
    ///
    /// # Errors
    /// The timer can't be read any more.
    pub async fn tick(&self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            match read(self.0.get_ref(), &mut [0; 8]) {
                Err(Errno::AGAIN) => ready.clear_ready(),
                result => return Ok(result.map(drop)?),
            }
        }
    }
}
