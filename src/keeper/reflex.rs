//! The write before the bookkeeping: a setting that holds otherwise is put right as soon as its first message is read.

use super::{Keeper, Outlet};
use crate::guard::Slot;
use crate::kernel::sysctl::{Outcome, now_usec};

/// What was done before the guard has asked for it.
pub struct Ahead {
    pub slot: Slot,
    pub outcome: Outcome,
    /// Monotonic microseconds when the message came.
    pub received: u64,
}

impl<O: Outlet> Keeper<O> {
    /// Repairs what the first message that waits tells of, if it is sure that the guard asks for that once it has heard it.
    /// Then rests, unless something has to follow at once.
    pub(super) fn reflex(&mut self) {
        let received = now_usec();
        let Some(message) = self.notifications.first() else { return };
        let Some(slot) = self.guard.foresee(&message) else { return };
        let Some((key, wanted)) = self.guard.wanted(&slot) else { return };
        let outcome = self.door.repair(&key, wanted, |value| crate::setting::same_value(wanted, value));
        if outcome.write.is_some() {
            self.notifications.expect_more();
            if self.guard.may_rest(&slot) {
                self.waits.rest();
            }
            self.ahead = Some(Ahead { slot, outcome, received });
        }
    }
}
