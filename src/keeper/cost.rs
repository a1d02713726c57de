//! What contested settings cost the guard thread, and the silence that it asks for where hearing alone costs too much.

use super::{Keeper, Outlet};
use crate::kernel::sysctl::{now_usec, thread_cpu_usec};
use crate::report::record::Cause;

impl<O: Outlet> Keeper<O> {
    /// The processor time since the last lap.
    pub(super) fn lap(&mut self) -> u64 {
        let now = thread_cpu_usec();
        now.saturating_sub(std::mem::replace(&mut self.charged_at, now))
    }

    /// The turn is over: what it has cost since the last repair goes to that one, or to what was heard in vain.
    pub(super) fn charge_turn(&mut self) {
        let (cost, charged) = (self.lap(), self.charged.take());
        self.guard.charge_turn(charged.as_ref(), now_usec(), cost);
    }

    /// Has the kernel say no more, or say again, of settings that are changed faster than they may be mended.
    pub(super) fn mute(&mut self) {
        let Some(slots) = self.guard.take_mutes() else { return };
        let muted = slots.iter().filter_map(|slot| self.guard.told_of_by(slot)).collect();
        self.notifications.mute(muted);
        // What is said in between is not heard.
        self.drain();
        self.read_everything(Cause::Overrun);
        self.work();
    }
}
