//! Events that come without end, faster than it is worth to wake for each. All times are monotonic microseconds.

/// Where this many in a row come faster than [`GAP_USEC`], they wait for a moment, in which the kernel makes one of many.
const EVENTS: u32 = 100;
const GAP_USEC: u64 = 1_000;
const PAUSE_USEC: u64 = 10_000;

/// Of one source.
#[derive(Default)]
pub struct Flood {
    /// When some were taken last, and how many times they came as in a flood.
    taken: u64,
    in_a_row: u32,
}

impl Flood {
    /// Some came, and are taken.
    pub fn came(&mut self, now: u64) {
        let paused = if self.in_a_row >= EVENTS { PAUSE_USEC } else { 0 };
        let goes_on = now.saturating_sub(self.taken) < GAP_USEC + paused;
        self.in_a_row = if goes_on { (self.in_a_row + 1).min(EVENTS) } else { 0 };
        self.taken = now;
    }

    /// Until when the next ones have to wait, if there is a flood.
    pub fn waits_until(&self, now: u64) -> Option<u64> {
        (self.in_a_row >= EVENTS).then_some(self.taken + PAUSE_USEC).filter(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_waits_and_a_batch_does_not() {
        let mut flood = Flood::default();
        let mut now = 1_000_000;
        let mut batch = |flood: &mut Flood, events| {
            now += 5_000;
            for _ in 0..events {
                now += 100;
                assert_eq!(flood.waits_until(now), None);
                flood.came(now);
            }
            now
        };
        for _ in 0..10 {
            batch(&mut flood, 60);
        }
        let last = batch(&mut flood, EVENTS + 1);
        assert_eq!(flood.waits_until(last), Some(last + PAUSE_USEC));
        assert_eq!(flood.waits_until(last + PAUSE_USEC), None);
        let next = last + PAUSE_USEC + 100;
        flood.came(next);
        assert_eq!(flood.waits_until(next), Some(next + PAUSE_USEC), "it goes on");
        let later = next + PAUSE_USEC + GAP_USEC;
        flood.came(later);
        assert_eq!(flood.waits_until(later), None, "it is over");
    }
}
