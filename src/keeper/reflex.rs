//! The write before the bookkeeping: a setting that holds otherwise is put right as soon as that is known.

use std::sync::Arc;

use super::wait::Woken;
use super::{Keeper, Outlet};
use crate::guard::{Guard, Slot};
use crate::kernel::sysctl::{Outcome, now_usec};
use crate::setting::{ALL, Attribute, Key, number};

/// So many repairs come before what follows from the first; in a stream of changes, that is caught up with after every other.
const IN_A_ROW: usize = 2;

/// What was done before the guard has asked for it.
pub struct Ahead {
    pub slot: Slot,
    pub outcome: Outcome,
    /// Monotonic microseconds when the message came.
    pub received: u64,
    /// It is not the first in a row.
    pub again: bool,
}

/// What is repaired as soon as it is known to be wrong.
pub struct Expected {
    slot: Slot,
    key: Key,
    wanted: Arc<str>,
    /// How the kernel says it.
    said: String,
}

impl Expected {
    fn new(guard: &Guard, slot: Slot) -> Option<Expected> {
        let (key, wanted) = guard.wanted(&slot)?;
        let said = number(&wanted)?.to_string();
        Some(Expected { slot, key, wanted, said })
    }
}

impl<O: Outlet> Keeper<O> {
    /// What there is to be done at once if `all.forwarding` is wrong when the guard is woken: made out before, since what was not
    /// touched for a while takes its time.
    pub(super) fn expected(&self) -> Option<Expected> {
        Expected::new(&self.guard, self.guard.foresee_all()?)
    }

    /// Repairs `expected`, or what the first message that waits tells of, if it is sure that the guard asks for that once it has
    /// heard it. Then rests, unless something has to follow at once, and says what there is after that. Whoever breaks the
    /// setting again meanwhile has it repaired again.
    ///
    /// While `all.forwarding` is wrong every packet is dropped, and its file is sooner read than a message of it.
    pub(super) fn reflex(&mut self, expected: Option<Expected>, woken: &Woken) -> Option<Woken> {
        if !self.ahead.is_empty() {
            return None;
        }
        if let Some(expected) = expected.filter(|_| woken.heard)
            && let Some(rested) = self.repair_ahead(expected, woken)
        {
            return rested;
        }
        let message = self.notifications.first()?;
        let expected = Expected::new(&self.guard, self.guard.foresee(&message)?)?;
        self.repair_ahead(expected, woken).flatten()
    }

    /// `None`: it holds.
    fn repair_ahead(&mut self, expected: Expected, woken: &Woken) -> Option<Option<Woken>> {
        let mut received = now_usec();
        let Expected { slot, key, wanted, said } = expected;
        let in_a_row = self.in_a_row(&slot);
        let mut may_rest = false;
        while self.ahead.len() < in_a_row {
            let outcome = self.door.repair(&key, &wanted, |value| value == said);
            let Some(written) = outcome.write else { break };
            self.ahead.push_back(Ahead { slot: slot.clone(), outcome, received, again: !self.ahead.is_empty() });
            may_rest = self.guard.may_rest(&slot) && !woken.written;
            if written.is_err() || !may_rest {
                break;
            }
            self.waits.pass_over();
            let calm = is_of_all(&slot) || self.notifications.look_ahead(|message| self.guard.can_wait(message, &slot));
            // After what has been passed over, which may tell of another change of it.
            let now = self.door.read(&key).ok().filter(|now| *now == said);
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
        Some(woken)
    }

    fn in_a_row(&self, slot: &Slot) -> usize {
        match slot {
            // What changes it next may be a change of `all`, which is one drift with all interfaces.
            Slot::Announced(.., Attribute::Forwarding, ifindex) if *ifindex != ALL => 1,
            _ => IN_A_ROW,
        }
    }

    /// What was done ahead and has not been asked for is to be known all the same; not so where all has been heard and it
    /// changed nothing.
    pub(super) fn settle_ahead(&mut self, all_heard: bool) {
        while let Some(Ahead { slot, received, .. }) = self.ahead.front() {
            if all_heard && self.guard.was_in_passing(slot, *received) {
                self.ahead.pop_front();
                continue;
            }
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
