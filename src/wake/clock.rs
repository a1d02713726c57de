//! Suspends and pauses that logind does not announce: by CLOCK_BOOTTIME, and by a clock that was set after a hypervisor's pause
//! (timerfd_create(2), TFD_TIMER_CANCEL_ON_SET).

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::{Errno, read};
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime, timerfd_create,
    timerfd_settime,
};
use tokio::io::unix::AsyncFd;

use crate::paths::register;
use crate::state::resume::Jump;

/// CLOCK_BOOTTIME advances during a suspend and CLOCK_MONOTONIC does not; smaller gaps are the time between the two readings.
const SUSPEND_MIN: Duration = Duration::from_millis(100);
/// Time services correct the clock by less than this all the time.
const STEP_MIN: Duration = Duration::from_secs(1);

/// The time of a clock, since its zero.
pub fn now(clock: ClockId) -> Duration {
    clock_gettime(clock).try_into().unwrap_or_default()
}

/// The three clocks, read at once.
#[derive(Clone, Copy, Debug)]
struct Reading {
    real: Duration,
    boot: Duration,
    monotonic: Duration,
}

impl Reading {
    fn now() -> Reading {
        Reading { monotonic: now(ClockId::Monotonic), boot: now(ClockId::Boottime), real: now(ClockId::Realtime) }
    }

    /// What happened between `self` and `later`.
    fn jump(self, later: Reading) -> Option<Jump> {
        let asleep = |reading: Reading| reading.boot.saturating_sub(reading.monotonic);
        let suspended = asleep(later).saturating_sub(asleep(self));
        if suspended >= SUSPEND_MIN {
            return Some(Jump::Slept(suspended));
        }
        let usec = |duration: Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        let ahead = |reading: Reading| usec(reading.real).saturating_sub(usec(reading.boot));
        let stepped = ahead(later).saturating_sub(ahead(self));
        (stepped.unsigned_abs() >= STEP_MIN.as_micros() as u64).then_some(Jump::Stepped { usec: stepped })
    }
}

/// Watches the clocks.
pub struct Clock {
    timer: AsyncFd<OwnedFd>,
    last: Reading,
}

impl Clock {
    /// # Errors
    /// No timerfd, with the kernel's reason.
    pub fn new() -> io::Result<Clock> {
        let timer = timerfd_create(TimerfdClockId::Realtime, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        arm(&timer)?;
        Ok(Clock { timer: register(timer)?, last: Reading::now() })
    }

    /// Waits until the clock is set or the node resumes, unless the clocks show no more than an everyday correction.
    ///
    /// # Errors
    /// The timer can't be read or armed any more.
    pub async fn jumped(&mut self) -> io::Result<Jump> {
        loop {
            let mut ready = self.timer.readable().await?;
            match read(self.timer.get_ref(), &mut [0; 8]) {
                Err(Errno::AGAIN) => {
                    ready.clear_ready();
                    continue;
                }
                // ECANCELED: the clock was set. Armed before the clocks are read, the timer reports a step in between, too.
                Ok(_) | Err(Errno::CANCELED) => arm(self.timer.get_ref())?,
                Err(error) => return Err(error.into()),
            }
            if let Some(jump) = self.check() {
                return Ok(jump);
            }
        }
    }

    /// The same without waiting, for a sleep that another source reports.
    pub fn check(&mut self) -> Option<Jump> {
        let now = Reading::now();
        std::mem::replace(&mut self.last, now).jump(now)
    }
}

/// As far in the future as the kernel takes it; only its cancellation counts.
fn arm(timer: &OwnedFd) -> io::Result<()> {
    let never = Timespec { tv_sec: i64::MAX / 1_000_000_000 / 2, tv_nsec: 0 };
    let once = Itimerspec { it_interval: Timespec::default(), it_value: never };
    Ok(timerfd_settime(timer, TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET, &once).map(drop)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::time::timerfd_gettime;

    fn reading(real: u64, boot: u64, monotonic: u64) -> Reading {
        let ms = Duration::from_millis;
        Reading { real: ms(real), boot: ms(boot), monotonic: ms(monotonic) }
    }

    #[test]
    fn readings_of_the_clocks_are_distinguished() {
        let before = reading(1_000_000, 50_000, 40_000);
        for (later, jump) in [
            (reading(1_005_000, 55_000, 45_000), None),
            // Asleep for a minute; the clock went on with it.
            (reading(1_065_000, 115_000, 45_000), Some(Jump::Slept(Duration::from_secs(60)))),
            // Asleep, and the clock was corrected as well.
            (reading(1_165_000, 115_000, 45_000), Some(Jump::Slept(Duration::from_secs(60)))),
            // Paused by its host for an hour, and then set right.
            (reading(4_605_000, 55_000, 45_000), Some(Jump::Stepped { usec: 3_600_000_000 })),
            (reading(1_000, 55_000, 45_000), Some(Jump::Stepped { usec: -1_004_000_000 })),
            // Years forth, and back to the first second.
            (reading(1_000_000_000_000, 55_000, 45_000), Some(Jump::Stepped { usec: 999_998_995_000_000 })),
            (reading(0, 55_000, 45_000), Some(Jump::Stepped { usec: -1_005_000_000 })),
            (reading(u64::MAX, 55_000, 45_000), Some(Jump::Stepped { usec: i64::MAX - 55_000_000 - 950_000_000 })),
            // A time service at its work.
            (reading(1_005_400, 55_000, 45_000), None),
        ] {
            assert_eq!(before.jump(later), jump, "{later:?}");
        }
    }

    /// The timer reports a step; the clock itself stays as it is.
    #[test]
    fn a_clock_step_of_years_is_noticed() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let step = Duration::from_secs(40 * 365 * 86_400);
            for forward in [true, false] {
                let mut clock = Clock::new().unwrap();
                // As if the clock had shown this before it was set.
                clock.last.real = if forward { clock.last.real - step } else { clock.last.real + step };
                let soon = Timespec { tv_sec: 0, tv_nsec: 1 };
                let once = Itimerspec { it_interval: Timespec::default(), it_value: soon };
                timerfd_settime(clock.timer.get_ref(), TimerfdTimerFlags::empty(), &once).unwrap();
                let Ok(Jump::Stepped { usec }) = clock.jumped().await else { panic!("a step") };
                assert_eq!(usec > 0, forward);
                assert!(usec.unsigned_abs().abs_diff(step.as_micros() as u64) < 60_000_000, "{usec}");
                // It is armed again, for what comes next.
                let armed = timerfd_gettime(clock.timer.get_ref()).unwrap();
                assert!(armed.it_value.tv_sec > 1_000_000_000, "{armed:?}");
            }
        });
    }
}
