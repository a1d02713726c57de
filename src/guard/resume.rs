//! One sleep is one record, however often logind (or somebody else) says that the node woke.

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
    /// From the announcement of the sleep to the wake-up; unknown if it was never announced.
    pub slept: Option<Duration>,
}

impl Sleep {
    /// The node is about to sleep.
    pub fn enter(&mut self, now: Duration) {
        self.since = Some(now);
        self.told = None;
    }

    /// The node woke. `None`: that has been told.
    pub fn leave(&mut self, now: Duration) -> Option<Woke> {
        let since = self.since.take();
        if since.is_none() && self.told.is_some_and(|told| now.saturating_sub(told) < SAME_SLEEP) {
            return None;
        }
        self.told = Some(now);
        Some(Woke { slept: since.map(|since| now.saturating_sub(since)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sleep_one_record() {
        let at = Duration::from_secs;
        let mut sleep = Sleep::default();
        sleep.enter(at(100));
        assert_eq!(sleep.leave(at(400)), Some(Woke { slept: Some(at(300)) }));
        assert_eq!(sleep.leave(at(401)), None, "said twice");
        sleep.enter(at(410));
        assert_eq!(sleep.leave(at(415)), Some(Woke { slept: Some(at(5)) }), "slept again at once");
        assert_eq!(sleep.leave(at(500)), Some(Woke { slept: None }), "the announcement was lost");
    }
}
