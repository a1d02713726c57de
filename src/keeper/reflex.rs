//! The write before the bookkeeping: while `all.forwarding` is wrong every packet is dropped, and its file is sooner read than a
//! message of it.

use std::sync::Arc;

use super::{Keeper, Outlet};
use crate::kernel::sysctl::{Outcome, now_usec};
use crate::setting::{Family, Key, same_value};

/// A repair of IPv4's `all.forwarding` that the guard has not asked for yet.
pub struct Ahead {
    pub outcome: Outcome,
    /// Monotonic microseconds when the guard was woken.
    received: u64,
}

impl<O: Outlet> Keeper<O> {
    pub(super) fn repair_ahead(&mut self, expected: Option<(Key, Arc<str>)>) {
        let Some((key, wanted)) = expected else { return };
        let received = now_usec();
        let outcome = self.door.repair(&key, &wanted, |value| same_value(&wanted, value));
        if outcome.write.is_some() {
            self.ahead = Some(Ahead { outcome, received });
            if self.guard.opens_nothing(Family::V4) {
                self.rest();
            }
        }
    }

    pub(super) fn rest(&mut self) {
        if std::mem::take(&mut self.may_rest) {
            self.waits.rest();
        }
    }

    /// When what is heard next came, as far as that is known.
    pub(super) fn heard_at(&self) -> u64 {
        self.ahead.as_ref().map_or_else(now_usec, |ahead| ahead.received)
    }

    /// What was done ahead and has not been asked for is to be known all the same; not so where all has been heard and it
    /// changed nothing.
    pub(super) fn settle_ahead(&mut self, all_heard: bool) {
        let Some(Ahead { received, .. }) = self.ahead else { return };
        let repair =
            if all_heard && self.guard.was_in_passing(received) { None } else { self.guard.repair_of_all(received) };
        match repair {
            Some(repair) => self.carry_out(repair),
            None => self.ahead = None,
        }
    }
}
