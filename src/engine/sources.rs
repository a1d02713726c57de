//! The guard thread's lost sources: each loss is logged once, and so is its end.

use std::collections::BTreeSet;

use super::{Engine, Sink};
use crate::report::record::Record;
pub(super) use crate::report::record::SOCKET;

/// Those that are lost now.
pub(super) type Sources = BTreeSet<&'static str>;

/// What the guard thread's sources are called in records and in the status.
pub(super) const DUMPS: &str = "rtnetlink dumps";
pub(super) const IOCTLS: &str = "interface ioctls";
pub(super) const WRITES: &str = "inotify on settings";

impl<O: Sink> Engine<O> {
    pub(super) fn source_is_lost(&mut self, source: &'static str, reason: String) {
        if self.sources.insert(source) {
            self.publish_record(Record::SourceLost { source, reason });
        }
    }

    pub(super) fn source_is_back(&mut self, source: &'static str) {
        if self.sources.remove(source) {
            self.publish_record(Record::SourceBack { source });
        }
    }
}
