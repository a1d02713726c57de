//! The schedule of rechecks after a write, which the kernel can undo without a notification.

use std::collections::HashSet;

use crate::setting::Key;

/// After a write, each time from the last look: a writer that waits for the RTNL lock may undo it unannounced within the
/// microseconds of its turn, or later if it lost the processor in them. Not sooner: a guard that has just
/// looked waits for a tick behind the next writer on its own processor, and so its repairs come late.
const AFTER_USEC: [u64; 4] = [400_000, 100_000, 500_000, 2_000_000];
/// A look takes some 5 µs: looking again takes a tenth of the time at most, however much was written.
const SPACING_USEC: u64 = 50;

/// The looks that are still to come. All times are monotonic microseconds.
#[derive(Default)]
pub struct Rechecks {
    due: Option<u64>,
    done: usize,
    suspects: HashSet<Key>,
}

impl Rechecks {
    /// Something was written at `now`. A look that is due sooner stays, so that no stream of writes puts it off.
    pub fn start(&mut self, now: u64) {
        let soon = now + AFTER_USEC[0];
        self.due = Some(self.due.map_or(soon, |due| due.min(soon)));
        self.done = 0;
    }

    pub fn due(&self) -> Option<u64> {
        self.due
    }

    /// Whether `key` was wrong at the last look, too. A message of it may have been on its way then, or a writer that waits
    /// for the lock showed its value in passing.
    pub fn is_suspect(&self, key: &Key) -> bool {
        self.suspects.contains(key)
    }

    /// `written` settings were looked at, and these found wrong for the first time. Says whether that was the last look.
    pub fn looked(&mut self, now: u64, written: usize, suspects: HashSet<Key>) -> bool {
        self.done = if suspects.is_empty() { self.done + 1 } else { 0 };
        self.suspects = suspects;
        let spacing = written as u64 * SPACING_USEC;
        self.due = AFTER_USEC.get(self.done).map(|after| now + (*after).max(spacing));
        self.due.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_again_until_it_is_quiet() {
        let mut looks = Rechecks::default();
        assert_eq!(looks.due(), None);
        looks.start(0);
        for (due, next) in [(400_000, 500_000), (500_000, 1_000_000), (1_000_000, 3_000_000)] {
            assert_eq!(looks.due(), Some(due));
            assert!(!looks.looked(due, 3, HashSet::new()));
            assert_eq!(looks.due(), Some(next));
        }
        assert!(looks.looked(3_000_000, 3, HashSet::new()));
        assert_eq!(looks.due(), None);
    }

    #[test]
    fn no_stream_of_writes_puts_it_off_and_a_suspect_is_looked_at_anew() {
        let mut looks = Rechecks::default();
        looks.start(0);
        looks.start(390_000);
        assert_eq!(looks.due(), Some(400_000));
        let key = Key::all_accept_redirects();
        looks.looked(400_000, 1, HashSet::from([key.clone()]));
        assert!(looks.is_suspect(&key));
        assert_eq!(looks.due(), Some(800_000));
        looks.looked(800_000, 10_000, HashSet::new());
        assert!(!looks.is_suspect(&key));
        assert_eq!(looks.due(), Some(800_000 + 500_000), "a tenth of the time at most");
    }
}
