//! Notes what was decided about each setting, and why, for `run -v`.

use std::fmt::Display;

use super::{Repair, SettingId, State};
use crate::kernel::sysctl::{Outcome, is_absent};
use crate::report::decision::{Decision, Verdict};

impl State {
    /// Notes each decision from now on. Whoever asks for it has to call [`State::take_decisions`].
    pub fn note_decisions(&mut self) {
        self.decisions = Some(Vec::new());
    }

    pub fn take_decisions(&mut self) -> Vec<Decision> {
        self.decisions.as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub(super) fn note_decision(&mut self, slot: &SettingId, found: Option<impl Display>, verdict: Verdict) {
        if self.decisions.is_none() {
            return;
        }
        let entry = self.entry_of(slot);
        let Some(key) = self.key_of(slot) else { return };
        let decision = Decision {
            key: entry.map_or_else(|| key.to_string(), |entry| self.policy.name(&key, entry)),
            found: found.map(|found| found.to_string()),
            wanted: entry.and_then(|entry| self.policy.entries()[entry].value.clone()),
            verdict,
        };
        self.decisions.get_or_insert_default().push(decision);
    }

    /// The same of what came of a repair, be it of a guarded setting or to put back what our own write changed.
    pub(super) fn note_outcome(&mut self, repair: &Repair, outcome: &Outcome) {
        let Some(decisions) = &mut self.decisions else { return };
        let verdict = match (&outcome.found, &outcome.write) {
            (Err(errno), _) if is_absent(*errno) => Verdict::Absent,
            (_, Some(Ok(()))) => Verdict::Written { cause: repair.job.cause, usec: outcome.write_usec },
            (_, Some(Err(errno))) | (Err(errno), None) => Verdict::Failed(*errno),
            (Ok(_), None) => Verdict::Holds,
        };
        let name = |entry| self.policy.name(&repair.key, entry);
        decisions.push(Decision {
            key: repair.job.entry.map_or_else(|| repair.key.to_string(), name),
            found: outcome.found.clone().ok(),
            wanted: Some(repair.wanted.clone()),
            verdict,
        });
    }
}
