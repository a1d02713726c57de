//! The schedule of rechecks after a write, which the kernel can undo without a notification.

use std::collections::HashSet;

use super::{Engine, Sink};
use crate::kernel::sysctl::now_usec;
use crate::setting::Key;

/// After a write, each time from the last check: a process that waits for the RTNL lock may undo it unannounced within the
/// microseconds of its turn, or later if it lost the processor in them. Not sooner: a guard that has just
/// run waits for a tick behind the next writer on its own processor, and so its repairs come late.
const AFTER_USEC: [u64; 4] = [400_000, 100_000, 500_000, 2_000_000];
/// A check takes some 5 µs: rechecks take a tenth of the time at most, however much was written.
const SPACING_USEC: u64 = 50;

/// The rechecks that are still to come. All times are monotonic microseconds.
#[derive(Default)]
pub struct Rechecks {
    due: Option<u64>,
    done: usize,
    suspects: HashSet<Key>,
}

impl Rechecks {
    /// Something was written at `now`. A recheck that is due sooner stays, so that no stream of writes defers it.
    pub fn start(&mut self, now: u64) {
        let soon = now + AFTER_USEC[0];
        self.due = Some(self.due.map_or(soon, |due| due.min(soon)));
        self.done = 0;
    }

    pub fn due(&self) -> Option<u64> {
        self.due
    }

    /// Whether `key` was wrong at the last check, too. A message of it may have been on its way then, or a process that waits
    /// for the lock showed its value in passing.
    pub fn is_suspect(&self, key: &Key) -> bool {
        self.suspects.contains(key)
    }

    /// `written` settings were checked, and these found wrong for the first time. Says whether that was the last recheck.
    pub fn note_checked(&mut self, now: u64, written: usize, suspects: HashSet<Key>) -> bool {
        self.done = if suspects.is_empty() { self.done + 1 } else { 0 };
        self.suspects = suspects;
        let spacing = written as u64 * SPACING_USEC;
        self.due = AFTER_USEC.get(self.done).map(|after| now + (*after).max(spacing));
        self.due.is_none()
    }
}

impl<O: Sink> Engine<O> {
    /// Reads what was written lately, if that is due, and queues what is wrong for the second time.
    pub(super) fn recheck(&mut self) {
        if self.rechecks.due().is_none_or(|due| due > now_usec()) {
            return;
        }
        let written = self.state.written();
        let (count, mut suspects) = (written.len(), HashSet::new());
        for repair in written {
            if self.sysctl.read(&repair.key).is_ok_and(|value| !repair.holds(&value)) {
                if self.rechecks.is_suspect(&repair.key) {
                    self.state.queue_again(repair);
                } else {
                    suspects.insert(repair.key);
                }
            }
        }
        if self.rechecks.note_checked(now_usec(), count, suspects) {
            self.state.forget_written();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rechecks_until_it_is_quiet() {
        let mut rechecks = Rechecks::default();
        assert_eq!(rechecks.due(), None);
        rechecks.start(0);
        for (due, next) in [(400_000, 500_000), (500_000, 1_000_000), (1_000_000, 3_000_000)] {
            assert_eq!(rechecks.due(), Some(due));
            assert!(!rechecks.note_checked(due, 3, HashSet::new()));
            assert_eq!(rechecks.due(), Some(next));
        }
        assert!(rechecks.note_checked(3_000_000, 3, HashSet::new()));
        assert_eq!(rechecks.due(), None);
    }

    #[test]
    fn no_stream_of_writes_defers_it_and_a_suspect_is_rechecked() {
        let mut rechecks = Rechecks::default();
        rechecks.start(0);
        rechecks.start(390_000);
        assert_eq!(rechecks.due(), Some(400_000));
        let key = Key::all_accept_redirects();
        rechecks.note_checked(400_000, 1, HashSet::from([key.clone()]));
        assert!(rechecks.is_suspect(&key));
        assert_eq!(rechecks.due(), Some(800_000));
        rechecks.note_checked(800_000, 10_000, HashSet::new());
        assert!(!rechecks.is_suspect(&key));
        assert_eq!(rechecks.due(), Some(800_000 + 500_000), "a tenth of the time at most");
    }
}
