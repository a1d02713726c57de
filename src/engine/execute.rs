//! Executes the state's repairs: read, compare, write, read back, and what a write takes along.

use super::{Engine, Sink, TURN};
use crate::kernel::sysctl::now_usec;
use crate::state::Repair;

impl<O: Sink> Engine<O> {
    /// Executes the state's repairs, for one turn at most.
    pub(super) fn execute_repairs(&mut self) {
        for _ in 0..TURN {
            let Some(repair) = self.state.next_repair(now_usec()) else { return };
            match self.state.leader_of(&repair) {
                Some(leader) => self.execute_behind(leader, repair),
                None => self.execute(repair),
            }
        }
    }

    pub(super) fn execute(&mut self, mut repair: Repair) {
        self.watch(&repair);
        let mut outcome = self.sysctl.repair(&repair.key, &repair.wanted, |value| repair.holds(value));
        if outcome.write.is_some() {
            self.sysctl.read_back(&repair.key, &repair.wanted, repair.learn, &mut outcome);
            self.rechecks.start(outcome.finished);
            self.publish_after(outcome.finished);
            let otherwise = outcome.now.as_ref().is_none_or(|now| !repair.holds(now));
            // A value that another process writes at the same time is not how the kernel prints ours.
            repair.learn = repair.learn && !(otherwise && self.is_written_by_others(&repair.key));
        }
        let watched = outcome.write.is_some() && self.writes.as_ref().is_ok_and(|writes| writes.watches(&repair.key));
        let own = watched.then(|| repair.key.clone());
        let (guarded, written) = (repair.guarded(), outcome.write.is_some());
        let changed_all = self.state.complete(repair, outcome);
        if let Some(family) = changed_all {
            self.receive_fan_out(family, written);
        }
        if let Some(id) = guarded {
            let cost = self.take_cpu_time();
            self.state.charge(&id, now_usec(), cost);
            self.charged = Some(id);
        }
        if own.is_some() {
            self.read_inotify(own.as_ref());
        }
    }
}
