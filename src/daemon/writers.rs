//! Fills the writers into records, on the reporter's thread, which can wait for them.

use crate::report::record::Record;
use crate::report::writer::name;
use crate::writers::WriterTracker;

/// A record about several writers names the last of them.
const NAMED_MAX: usize = 3;

/// Returns what the reporter names writers with. It adds the sources that the kernel refused.
pub(super) fn naming(tracker: WriterTracker) -> impl Fn(&mut Vec<Record>) {
    move |records| {
        let names = |key, since| tracker.writers(key, since).iter().take(NAMED_MAX).map(|by| name(by)).collect();
        for record in records.iter_mut() {
            match record {
                Record::Repaired { subject, key, received, finished, writer, .. } => {
                    *writer = tracker.find_writer(key, subject.cause, *received, *finished);
                }
                Record::Contested { key, since, writers, .. } | Record::StillContested { key, since, writers, .. } => {
                    *writers = names(key, *since);
                }
                _ => {}
            }
        }
        let refused = tracker.take_refusals().into_iter();
        records.extend(refused.map(|(source, reason)| Record::SourceLost { source, reason }));
    }
}
