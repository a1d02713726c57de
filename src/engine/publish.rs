//! Publishes records, the summary and moves of interfaces: a repair's when nothing is left to do, a little after it.

use super::{Engine, Sink};
use crate::kernel::sysctl::now_usec;
use crate::report::record::Record;

/// A repair is published so long after it. The kernel wakes the guard on the processor of the process that wrote the setting
/// (`select_task_rq_fair`), and waking the other threads takes half as long as a repair: so that process, and whatever else
/// waits there, continues first.
const LINGER_USEC: u64 = 1_000;

impl<O: Sink> Engine<O> {
    /// A setting was written at `finished` (monotonic microseconds).
    pub(super) fn publish_after(&mut self, finished: u64) {
        self.publish_at.get_or_insert(finished + LINGER_USEC);
    }

    /// Whether the guard sleeps before it publishes a repair that it has just made.
    pub(super) fn lingers(&mut self) -> bool {
        self.publish_at.take_if(|at| *at <= now_usec());
        self.publish_at.is_some() && !self.state.is_in_doubt()
    }

    pub(super) fn publish(&mut self) {
        self.publish_log();
        self.publish_moves();
        let records = self.state.take_records();
        let summary = self.state.summary();
        // A repair that has no record of its own is no reason to wake the reporter.
        if !records.is_empty() || summary.shows_more_than(&self.last_summary) {
            self.last_summary.clone_from(&summary);
            self.sink.publish(records, Some(summary));
        }
    }

    /// Before repairs: a writer is known only once the files of a new interface are marked.
    pub(super) fn publish_moves(&mut self) {
        let moves = self.state.take_moves();
        if !moves.is_empty() {
            self.sink.interfaces_changed(moves);
        }
    }

    /// Publishes a record of the engine itself, after those of the state.
    pub(super) fn publish_record(&mut self, record: Record) {
        self.publish();
        self.sink.publish(vec![record], None);
    }
}
