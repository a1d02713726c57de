//! Follow-up checks after a resume, a restart of a network manager or a change of a link: 0, 2, 10 and 30 s later, since DHCP,
//! `network start` and udev run late.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::report::record::Cause;

/// After the event; the first check is at once.
const CHECKS: [Duration; 4] = [Duration::ZERO, Duration::from_secs(2), Duration::from_secs(10), LAST];
pub(super) const LAST: Duration = Duration::from_secs(30);

/// The follow-up checks that are still to come.
#[derive(Debug, Default)]
pub struct Schedule {
    since: Duration,
    done: usize,
    cause: Option<Cause>,
    /// Until then, what restarts does so because of `cause`.
    until: Duration,
}

impl Schedule {
    /// Starts anew at `now` (by any monotonic clock), whatever was left.
    pub fn start(&mut self, cause: Cause, now: Duration) {
        *self = Schedule { since: now, done: 0, cause: Some(cause), until: now + LAST };
    }

    /// Starts anew for a manager that came, went or restarted. One that does so in the 30 s after a wake-up does it because
    /// of that: the cause stays. It does not stay longer for a manager that never comes to rest.
    pub fn manager_restarted(&mut self, now: Duration) {
        match self.cause {
            Some(_) if now <= self.until => (self.since, self.done) = (now, 0),
            _ => self.start(Cause::ManagerRestart, now),
        }
    }

    /// When the next check is due.
    pub fn due(&self) -> Option<Duration> {
        self.cause?;
        CHECKS.get(self.done).map(|after| self.since + *after)
    }

    /// The cause of the check that is due at `now`, if one is.
    pub fn take(&mut self, now: Duration) -> Option<Cause> {
        self.due().filter(|due| *due <= now)?;
        while self.due().is_some_and(|next| next <= now) {
            self.done += 1;
        }
        self.cause
    }
}

/// Stands for the settings that belong to no interface; no interface has this index.
pub const GLOBAL: i32 = 0;

/// The follow-up checks of links that came, were renamed or came up, each by a schedule of its own. All times
/// are monotonic microseconds.
#[derive(Debug, Default)]
pub struct LinkSchedule {
    /// Links that changed, and whether what was known of their settings is void.
    changed_links: HashMap<i32, bool>,
    courses: HashMap<i32, Course>,
    /// The next check of each course.
    due: BTreeSet<(u64, i32)>,
}

#[derive(Debug, Default)]
struct Course {
    since: u64,
    done: usize,
    /// When the last check was.
    checked: Option<u64>,
}

impl Course {
    fn due(&self) -> Option<u64> {
        CHECKS.get(self.done).map(|after| self.since + usec(*after))
    }
}

impl LinkSchedule {
    /// A link changed; `anew` if its settings are others now. Checks start with the next [`LinkSchedule::start`].
    pub fn mark_changed(&mut self, ifindex: i32, anew: bool) {
        *self.changed_links.entry(ifindex).or_default() |= anew;
    }

    /// Starts the checks of links that changed. One that was checked lately has to wait: however it flaps, it is checked
    /// every 2 s at most, and after the last flap the checks are complete.
    pub fn start(&mut self, now: u64) {
        for (ifindex, anew) in self.changed_links.drain() {
            let course = self.courses.entry(ifindex).or_insert(Course { done: CHECKS.len(), ..Course::default() });
            let waits = course.due();
            let mut since = course.checked.filter(|_| !anew).map_or(now, |checked| now.max(checked + usec(CHECKS[1])));
            if course.done == 0 {
                since = since.min(course.since); // no stream of flaps defers it
            }
            (course.since, course.done) = (since, 0);
            if let Some(waits) = waits {
                self.due.remove(&(waits, ifindex));
            }
            self.due.insert((since, ifindex));
        }
    }

    pub fn forget(&mut self, ifindex: i32) {
        self.changed_links.remove(&ifindex);
        if let Some(due) = self.courses.remove(&ifindex).and_then(|course| course.due()) {
            self.due.remove(&(due, ifindex));
        }
    }

    /// When the next check is due.
    pub fn due(&self) -> Option<u64> {
        if self.changed_links.is_empty() { self.due.first().map(|(due, _)| *due) } else { Some(0) }
    }

    /// The link whose check is due at `now`, if one is, and whether it is the first since it changed.
    pub fn take(&mut self, now: u64) -> Option<(i32, bool)> {
        let (due, ifindex) = *self.due.first()?;
        if due > now {
            return None;
        }
        self.due.pop_first();
        let course = self.courses.get_mut(&ifindex)?;
        let first = course.done == 0;
        course.checked = Some(now);
        while course.due().is_some_and(|due| due <= now) {
            course.done += 1;
        }
        match course.due() {
            Some(due) => _ = self.due.insert((due, ifindex)),
            None => _ = self.courses.remove(&ifindex),
        }
        Some((ifindex, first))
    }
}

fn usec(duration: Duration) -> u64 {
    duration.as_micros() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn checks_at_once_and_after_2_10_and_30_seconds() {
        let mut schedule = Schedule::default();
        assert_eq!(schedule.due(), None);
        schedule.start(Cause::Resume, at(100));
        for due in [100, 102, 110, 130] {
            assert_eq!(schedule.due(), Some(at(due)));
            assert_eq!(schedule.take(at(due - 1)), None);
            assert_eq!(schedule.take(at(due)), Some(Cause::Resume));
        }
        assert_eq!(schedule.due(), None);
    }

    #[test]
    fn starts_anew_and_never_twice_for_what_was_missed() {
        let mut schedule = Schedule::default();
        schedule.start(Cause::Resume, at(100));
        assert_eq!(schedule.take(at(111)), Some(Cause::Resume));
        assert_eq!(schedule.due(), Some(at(130)));
        schedule.start(Cause::Clock, at(120));
        assert_eq!(schedule.due(), Some(at(120)));
        assert_eq!(schedule.take(at(120)), Some(Cause::Clock));
    }

    #[test]
    fn a_manager_that_restarts_after_a_wake_up_keeps_the_cause_of_that() {
        let mut schedule = Schedule::default();
        schedule.manager_restarted(at(50));
        assert_eq!(schedule.take(at(50)), Some(Cause::ManagerRestart));
        schedule.start(Cause::Resume, at(100));
        assert_eq!(schedule.take(at(100)), Some(Cause::Resume));
        for (now, cause) in [(101, Cause::Resume), (125, Cause::Resume), (131, Cause::ManagerRestart)] {
            schedule.manager_restarted(at(now));
            assert_eq!((schedule.due(), schedule.take(at(now))), (Some(at(now)), Some(cause)));
        }
        for due in [133, 141, 161] {
            assert_eq!((schedule.due(), schedule.take(at(due))), (Some(at(due)), Some(Cause::ManagerRestart)));
        }
        assert_eq!(schedule.due(), None);
    }
    /// The seconds of all checks of link 7 until nothing is due, with a flap at each of `flaps`.
    fn checks(flaps: impl Iterator<Item = u64>) -> Vec<f64> {
        let (mut link_schedule, mut checks, mut flaps) = (LinkSchedule::default(), Vec::new(), flaps.peekable());
        loop {
            let now = match (flaps.peek(), link_schedule.due()) {
                (None, None) => return checks,
                (Some(flap), due) if due.is_none_or(|due| *flap <= due) => {
                    link_schedule.mark_changed(7, false);
                    flaps.next().unwrap()
                }
                (_, due) => due.unwrap(),
            };
            link_schedule.start(now);
            while let Some((ifindex, first)) = link_schedule.take(now) {
                assert_eq!((ifindex, link_schedule.take(now)), (7, None));
                assert!(!first || link_schedule.due() == Some(now + 2_000_000));
                checks.push(now as f64 / 1e6);
            }
        }
    }

    #[test]
    fn a_link_is_checked_every_2_s_at_most_and_completely_after_its_last_flap() {
        assert_eq!(checks([5_000_000].into_iter()), [5., 7., 15., 35.]);
        // The second flap starts anew, and at once where the last check is long ago.
        assert_eq!(checks([0, 11_000_000].into_iter()), [0., 2., 10., 11. + 1., 14., 22., 42.]);
        assert_eq!(checks([0, 20_000_000].into_iter()), [0., 2., 10., 20., 22., 30., 50.]);
        // 100 flaps a second, for 9 s.
        let flapping = checks((0..900).map(|n| n * 10_000));
        assert_eq!(flapping, [0., 2., 4., 6., 8., 10., 12., 20., 40.]);
    }

    #[test]
    fn a_link_with_other_settings_is_checked_at_once_and_one_that_went_never() {
        let mut link_schedule = LinkSchedule::default();
        link_schedule.mark_changed(7, true);
        assert_eq!(link_schedule.due(), Some(0));
        link_schedule.start(100);
        assert_eq!((link_schedule.take(100), link_schedule.take(100)), (Some((7, true)), None));
        link_schedule.mark_changed(7, true);
        link_schedule.mark_changed(7, false);
        link_schedule.start(200);
        assert_eq!(link_schedule.take(200), Some((7, true)), "renamed");
        link_schedule.mark_changed(7, false);
        link_schedule.mark_changed(8, false);
        link_schedule.start(300);
        assert_eq!(link_schedule.take(300), Some((8, true)), "each by its own schedule");
        link_schedule.mark_changed(8, false);
        link_schedule.forget(7);
        link_schedule.forget(8);
        assert_eq!(link_schedule.due(), None);
    }
}
