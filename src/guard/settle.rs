//! When to look again after a resume or a restart: what runs late (DHCP, `network start`, udev) is caught, too.

use crate::report::record::Cause;

/// Seconds after the event; the first look is at once.
pub const LOOKS_SECONDS: [u64; 4] = [0, 2, 10, 30];

/// The looks that are still to come.
#[derive(Debug, Default)]
pub struct Settle {
    since: u64,
    done: usize,
    cause: Option<Cause>,
}

impl Settle {
    /// Starts anew at `now` (seconds of any monotonic clock), whatever was left.
    pub fn start(&mut self, cause: Cause, now: u64) {
        *self = Settle { since: now, done: 0, cause: Some(cause) };
    }

    /// When the next look is due.
    pub fn due(&self) -> Option<u64> {
        self.cause?;
        LOOKS_SECONDS.get(self.done).map(|after| self.since + after)
    }

    /// The cause of the look that is due at `now`, if one is.
    pub fn take(&mut self, now: u64) -> Option<Cause> {
        let due = self.due().filter(|due| *due <= now)?;
        while self.due().is_some_and(|next| next <= now.max(due)) {
            self.done += 1;
        }
        self.cause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_at_once_and_after_2_10_and_30_seconds() {
        let mut settle = Settle::default();
        assert_eq!(settle.due(), None);
        settle.start(Cause::Resume, 100);
        for due in [100, 102, 110, 130] {
            assert_eq!(settle.due(), Some(due));
            assert_eq!(settle.take(due - 1), None);
            assert_eq!(settle.take(due), Some(Cause::Resume));
        }
        assert_eq!(settle.due(), None);
    }

    #[test]
    fn starts_anew_and_never_twice_for_what_was_missed() {
        let mut settle = Settle::default();
        settle.start(Cause::Resume, 100);
        assert_eq!(settle.take(111), Some(Cause::Resume));
        assert_eq!(settle.due(), Some(130));
        settle.start(Cause::ManagerRestart, 120);
        assert_eq!(settle.due(), Some(120));
        assert_eq!(settle.take(120), Some(Cause::ManagerRestart));
    }
}
