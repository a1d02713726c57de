//! Who wrote, filled into records on the reporter's thread, which can wait for the answer.

use crate::report::record::Record;
use crate::report::writer::name;
use crate::witness::Witness;

/// A record about several writers names the last of them.
const NAMED_MAX: usize = 3;

/// What the reporter is given to name writers with. It adds the sources that the witness has found to be refused.
pub(super) fn naming(witness: Witness) -> impl Fn(&mut Vec<Record>) {
    move |records| {
        let names = |key, since| witness.writers(key, since).iter().take(NAMED_MAX).map(|by| name(by)).collect();
        for record in records.iter_mut() {
            match record {
                Record::Repaired { subject, key, received, finished, writer, .. } => {
                    *writer = witness.who(key, subject.cause, *received, *finished);
                }
                Record::Contested { key, since, writers, .. } | Record::StillContested { key, since, writers, .. } => {
                    *writers = names(key, *since);
                }
                _ => {}
            }
        }
        let refused = witness.take_refusals().into_iter();
        records.extend(refused.map(|(source, reason)| Record::SourceLost { source, reason }));
    }
}
