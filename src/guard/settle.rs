//! When to look again after a resume or a restart: what runs late (DHCP, `network start`, udev) is caught, too.

use std::time::Duration;

use crate::report::record::Cause;

/// After the event; the first look is at once.
const LOOKS: [Duration; 4] = [Duration::ZERO, Duration::from_secs(2), Duration::from_secs(10), LAST];
const LAST: Duration = Duration::from_secs(30);

/// The looks that are still to come.
#[derive(Debug, Default)]
pub struct Settle {
    since: Duration,
    done: usize,
    cause: Option<Cause>,
    /// Until then, what restarts does so because of `cause`.
    until: Duration,
}

impl Settle {
    /// Starts anew at `now` (by any monotonic clock), whatever was left.
    pub fn start(&mut self, cause: Cause, now: Duration) {
        *self = Settle { since: now, done: 0, cause: Some(cause), until: now + LAST };
    }

    /// Starts anew for a manager that came, went or restarted. One that does so in the 30 s after a wake-up does it because
    /// of that: the cause stays. It does not stay longer for a manager that never comes to rest.
    pub fn manager_restarted(&mut self, now: Duration) {
        match self.cause {
            Some(_) if now <= self.until => (self.since, self.done) = (now, 0),
            _ => self.start(Cause::ManagerRestart, now),
        }
    }

    /// When the next look is due.
    pub fn due(&self) -> Option<Duration> {
        self.cause?;
        LOOKS.get(self.done).map(|after| self.since + *after)
    }

    /// The cause of the look that is due at `now`, if one is.
    pub fn take(&mut self, now: Duration) -> Option<Cause> {
        self.due().filter(|due| *due <= now)?;
        while self.due().is_some_and(|next| next <= now) {
            self.done += 1;
        }
        self.cause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn looks_at_once_and_after_2_10_and_30_seconds() {
        let mut settle = Settle::default();
        assert_eq!(settle.due(), None);
        settle.start(Cause::Resume, at(100));
        for due in [100, 102, 110, 130] {
            assert_eq!(settle.due(), Some(at(due)));
            assert_eq!(settle.take(at(due - 1)), None);
            assert_eq!(settle.take(at(due)), Some(Cause::Resume));
        }
        assert_eq!(settle.due(), None);
    }

    #[test]
    fn starts_anew_and_never_twice_for_what_was_missed() {
        let mut settle = Settle::default();
        settle.start(Cause::Resume, at(100));
        assert_eq!(settle.take(at(111)), Some(Cause::Resume));
        assert_eq!(settle.due(), Some(at(130)));
        settle.start(Cause::Clock, at(120));
        assert_eq!(settle.due(), Some(at(120)));
        assert_eq!(settle.take(at(120)), Some(Cause::Clock));
    }

    #[test]
    fn a_manager_that_restarts_after_a_wake_up_is_looked_after_in_its_name() {
        let mut settle = Settle::default();
        settle.manager_restarted(at(50));
        assert_eq!(settle.take(at(50)), Some(Cause::ManagerRestart));
        settle.start(Cause::Resume, at(100));
        assert_eq!(settle.take(at(100)), Some(Cause::Resume));
        for (now, cause) in [(101, Cause::Resume), (125, Cause::Resume), (131, Cause::ManagerRestart)] {
            settle.manager_restarted(at(now));
            assert_eq!((settle.due(), settle.take(at(now))), (Some(at(now)), Some(cause)));
        }
        for due in [133, 141, 161] {
            assert_eq!((settle.due(), settle.take(at(due))), (Some(at(due)), Some(Cause::ManagerRestart)));
        }
        assert_eq!(settle.due(), None);
    }
}
