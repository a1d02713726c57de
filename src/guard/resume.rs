//! One sleep is one record, however many say that the node woke: logind, the clocks, a hypervisor's hook.

use std::time::Duration;

/// Wake-ups this close together are one.
const SAME_SLEEP: Duration = Duration::from_secs(60);

/// What is known of the node's sleep. All times are CLOCK_BOOTTIME, which goes on while it sleeps.
#[derive(Debug, Default)]
pub struct Sleep {
    since: Option<Duration>,
    told: Option<Duration>,
}

/// A wake-up that is worth a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Woke {
    /// From the announcement of the sleep to the wake-up, or as long as the kernel was suspended; unknown if neither is.
    pub slept: Option<Duration>,
    /// How far the clock was set, if that is all that was noticed.
    pub step_usec: Option<i64>,
    pub noticed_by: &'static str,
    /// The sleep was announced, so the settings before it are known.
    pub announced: bool,
}

impl Sleep {
    /// The node is about to sleep.
    pub fn enter(&mut self, now: Duration) {
        self.since = Some(now);
        self.told = None;
    }

    /// The node woke, as far as `noticed` knows. `None`: that has been told.
    pub fn leave(&mut self, now: Duration, noticed: Woke) -> Option<Woke> {
        let since = self.since.take();
        if since.is_none() && self.told.is_some_and(|told| now.saturating_sub(told) < SAME_SLEEP) {
            return None;
        }
        self.told = Some(now);
        Some(Woke {
            slept: since.map(|since| now.saturating_sub(since)).or(noticed.slept),
            announced: since.is_some(),
            ..noticed
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sleep_one_record() {
        let at = Duration::from_secs;
        let mut sleep = Sleep::default();
        let logind = Woke { slept: None, step_usec: None, noticed_by: "logind", announced: false };
        let clock = Woke { slept: Some(at(290)), step_usec: None, noticed_by: "the clocks", announced: false };
        sleep.enter(at(100));
        assert_eq!(sleep.leave(at(400), clock), Some(Woke { slept: Some(at(300)), announced: true, ..clock }));
        assert_eq!(sleep.leave(at(401), logind), None, "noticed twice");
        sleep.enter(at(410));
        assert_eq!(
            sleep.leave(at(415), logind),
            Some(Woke { slept: Some(at(5)), announced: true, ..logind }),
            "slept again at once"
        );
        assert_eq!(sleep.leave(at(500), logind), Some(logind), "the announcement was lost");
        assert_eq!(sleep.leave(at(700), clock), Some(clock), "never announced");
    }
}
