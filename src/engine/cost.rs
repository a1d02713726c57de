//! Charges the guard thread's processor time to contested settings, and installs the socket filter for those that cost too much.

use super::{Engine, Sink};
use crate::kernel::sysctl::{now_usec, thread_cpu_usec};
use crate::report::record::Cause;

impl<O: Sink> Engine<O> {
    /// The processor time since the last lap.
    pub(super) fn take_cpu_time(&mut self) -> u64 {
        let now = thread_cpu_usec();
        now.saturating_sub(std::mem::replace(&mut self.charged_at, now))
    }

    /// The turn is over: what it has cost since the last repair goes to that one, or to what was heard in vain.
    pub(super) fn charge_turn(&mut self) {
        let (cost, charged) = (self.take_cpu_time(), self.charged.take());
        self.state.charge_turn(charged.as_ref(), now_usec(), cost);
    }

    /// Has the kernel say no more, or say again, of settings that are changed faster than they may be mended.
    pub(super) fn apply_filter(&mut self) {
        let Some(slots) = self.state.take_mutes() else { return };
        let muted = slots.iter().filter_map(|slot| self.state.announcement_of(slot)).collect();
        self.notifications.mute(muted);
        // What is said in between is not heard.
        self.drain();
        self.read_everything(Cause::Overrun);
        self.execute_repairs();
    }
}
