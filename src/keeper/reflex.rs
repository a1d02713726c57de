//! The write before the bookkeeping: a setting that holds otherwise is put right as soon as its first message is read.

use super::wait::Woken;
use super::{Keeper, Outlet};
use crate::guard::Slot;
use crate::kernel::sysctl::{Outcome, now_usec};
use crate::setting::{ALL, Attribute, same_value};

/// So many repairs come before what follows from the first; in a stream of changes, that is caught up with after every other.
const IN_A_ROW: usize = 2;
/// A change of `all` is told of twice for each interface: of more, the socket has no room for several changes.
const CROWD: usize = 1000;

/// What was done before the guard has asked for it.
pub struct Ahead {
    pub slot: Slot,
    pub outcome: Outcome,
    /// Monotonic microseconds when the message came.
    pub received: u64,
}

impl<O: Outlet> Keeper<O> {
    /// Repairs what the first message that waits tells of, if it is sure that the guard asks for that once it has heard it.
    /// Then rests, unless something has to follow at once, and says what there is after that. Whoever breaks the setting again
    /// meanwhile has it repaired again.
    pub(super) fn reflex(&mut self) -> Option<Woken> {
        let mut received = now_usec();
        let message = self.notifications.first().filter(|_| self.ahead.is_empty())?;
        let slot = self.guard.foresee(&message)?;
        let (key, wanted) = self.guard.wanted(&slot)?;
        let (may_rest, in_a_row) = (self.guard.may_rest(&slot), self.in_a_row(&slot));
        while self.ahead.len() < in_a_row {
            let outcome = self.door.repair(&key, wanted, |value| same_value(wanted, value));
            let Some(written) = outcome.write else { break };
            self.notifications.expect_more();
            self.ahead.push_back(Ahead { slot: slot.clone(), outcome, received });
            if written.is_err() || !may_rest {
                break;
            }
            self.waits.pass_over();
            // What came since the write has been passed over, too.
            let now = self.door.read(&key).ok().filter(|now| same_value(wanted, now));
            let (holds, is_last) = (now.is_some(), self.ahead.len() == in_a_row);
            self.ahead.back_mut().into_iter().for_each(|ahead| ahead.outcome.now.clone_from(&now));
            if holds && !self.waits.rest(!is_last) {
                break;
            }
            received = now_usec();
        }
        (may_rest && !self.ahead.is_empty()).then(|| self.waits.sleep(Some(0)).unwrap_or_default())
    }

    fn in_a_row(&self, slot: &Slot) -> usize {
        match slot {
            Slot::Announced(.., Attribute::Forwarding, ALL) if self.guard.known() > CROWD => 1,
            // What changes it next may be a change of `all`, which is one drift with all interfaces.
            Slot::Announced(.., Attribute::Forwarding, ifindex) if *ifindex != ALL => 1,
            _ => IN_A_ROW,
        }
    }

    /// Everything has been heard: what was done ahead and has not been asked for is to be known all the same.
    pub(super) fn settle_ahead(&mut self) {
        for _ in 0..self.ahead.len() {
            let Some(Ahead { slot, received, .. }) = self.ahead.front() else { return };
            self.guard.look_at(slot.clone(), *received);
            self.work();
        }
        self.ahead.clear(); // what is put off is looked at then
    }
}
