//! The write before the bookkeeping: a setting that holds otherwise is put right as soon as its first message is read.

use super::wait::Woken;
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
    /// Then rests, unless something has to follow at once, and says what there is after that.
    pub(super) fn reflex(&mut self) -> Option<Woken> {
        let received = now_usec();
        let message = self.notifications.first()?;
        let slot = self.guard.foresee(&message)?;
        let (key, wanted) = self.guard.wanted(&slot)?;
        let outcome = self.door.repair(&key, wanted, |value| crate::setting::same_value(wanted, value));
        outcome.write.as_ref()?;
        self.notifications.expect_more();
        let woken = self.guard.may_rest(&slot).then(|| self.waits.rest());
        self.ahead = Some(Ahead { slot, outcome, received });
        woken
    }
}
