//! Charges the guard thread's processor time to contested settings, and installs the socket filter for those that cost too much.

use super::{Engine, Sink};
use crate::kernel::sysctl::{now_usec, thread_cpu_usec};
use crate::report::record::Cause;

impl<O: Sink> Engine<O> {
    /// The processor time since this was last asked.
    pub(super) fn take_cpu_time(&mut self) -> u64 {
        let now = thread_cpu_usec();
        now.saturating_sub(std::mem::replace(&mut self.charged_at, now))
    }

    /// The turn is over: its processor time since the last repair is charged to that, or to the setting whose repair was deferred.
    pub(super) fn charge_turn(&mut self) {
        let (cost, charged) = (self.take_cpu_time(), self.charged.take());
        self.state.charge_turn(charged.as_ref(), now_usec(), cost);
    }

    /// Filters out the notifications of settings that are changed faster than they may be repaired, or receives them again.
    pub(super) fn apply_filter(&mut self) {
        let Some(ids) = self.state.take_mutes() else { return };
        let muted = ids.iter().filter_map(|id| self.state.announcement_of(id)).collect();
        self.notifications.mute(muted);
        // What the kernel announces in between is not received.
        self.drain();
        self.read_everything(Cause::Overrun);
        self.execute_repairs();
    }
}
