//! The write before the bookkeeping: a setting that holds otherwise is put right as soon as its first message is read.

use super::wait::Woken;
use super::{Keeper, Outlet};
use crate::guard::Slot;
use crate::kernel::sysctl::{Outcome, now_usec};
use crate::setting::{ALL, Attribute, same_value};

/// So many repairs come before what follows from the first; in a stream of changes, that is caught up with after every other.
const IN_A_ROW: usize = 2;
/// Of more, the socket has no room for several changes of `all`.
const CROWD: usize = 1000;

/// What was done before the guard has asked for it.
pub struct Ahead {
    pub slot: Slot,
    pub outcome: Outcome,
    /// Monotonic microseconds when the message came.
    pub received: u64,
    /// It is not the first in a row.
    pub again: bool,
}

impl<O: Outlet> Keeper<O> {
    /// Repairs what the first message that waits tells of, if it is sure that the guard asks for that once it has heard it.
    /// Then rests, unless something has to follow at once, and says what there is after that. Whoever breaks the setting again
    /// meanwhile has it repaired again.
    pub(super) fn reflex(&mut self, woken: &Woken) -> Option<Woken> {
        let mut received = now_usec();
        let message = self.notifications.first().filter(|_| self.ahead.is_empty())?;
        let slot = self.guard.foresee(&message)?;
        let (key, wanted) = self.guard.wanted(&slot)?;
        let may_rest = self.guard.may_rest(&slot) && !woken.written;
        let in_a_row = self.in_a_row(&slot);
        while self.ahead.len() < in_a_row {
            let outcome = self.door.repair(&key, wanted, |value| same_value(wanted, value));
            let Some(written) = outcome.write else { break };
            self.ahead.push_back(Ahead { slot: slot.clone(), outcome, received, again: !self.ahead.is_empty() });
            if written.is_err() || !may_rest {
                break;
            }
            self.waits.pass_over();
            let calm = is_of_all(&slot) || self.notifications.look_ahead(|message| self.guard.can_wait(message, &slot));
            // After what has been passed over, which may tell of another change of it.
            let now = self.door.read(&key).ok().filter(|now| same_value(wanted, now));
            let (holds, is_last) = (now.is_some(), self.ahead.len() == in_a_row);
            self.ahead.back_mut().into_iter().for_each(|ahead| ahead.outcome.now.clone_from(&now));
            if !calm || (holds && !self.waits.rest(!is_last)) {
                break;
            }
            received = now_usec();
        }
        if self.ahead.is_empty() {
            return None;
        }
        let woken = may_rest.then(|| self.waits.sleep(Some(0)).unwrap_or_default());
        self.notifications.expect_more();
        woken
    }

    fn in_a_row(&self, slot: &Slot) -> usize {
        match slot {
            slot if is_of_all(slot) && self.guard.known() > CROWD => 1,
            // What changes it next may be a change of `all`, which is one drift with all interfaces.
            Slot::Announced(.., Attribute::Forwarding, ifindex) if *ifindex != ALL => 1,
            _ => IN_A_ROW,
        }
    }

    /// Everything has been heard: what was done ahead and has not been asked for is to be known all the same.
    pub(super) fn settle_ahead(&mut self) {
        while let Some(Ahead { slot, received, .. }) = self.ahead.front() {
            match self.guard.repair_of(slot, *received) {
                Some(repair) => self.carry_out(repair),
                None => _ = self.ahead.pop_front(), // it is not guarded any more
            }
        }
    }
}

/// A change of it is told of for each interface, too: more than can be looked at before a rest.
fn is_of_all(slot: &Slot) -> bool {
    matches!(slot, Slot::Announced(.., Attribute::Forwarding, ALL))
}
