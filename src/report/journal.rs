//! Records on their way to the journal, or to stderr where there is none, on a thread that may wait for it.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::record::{Priority, Record};

/// As many records wait for a journal that does not read; what comes after them is counted.
const QUEUE_RECORDS: usize = 1024;

/// Hands records to the thread that writes them.
#[derive(Clone)]
pub struct Reporter {
    queue: SyncSender<Record>,
    unsaid: Arc<AtomicU64>,
}

/// Says when the thread has written everything.
pub struct Finished(Receiver<()>);

impl Reporter {
    /// Starts the thread.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn start() -> io::Result<(Reporter, Finished)> {
        let (queue, records) = sync_channel::<Record>(QUEUE_RECORDS);
        let (alive, finished) = sync_channel(0);
        let unsaid = Arc::new(AtomicU64::new(0));
        let uncounted = unsaid.clone();
        std::thread::Builder::new().name("reporter".into()).spawn(move || {
            let _alive = alive;
            subscribe();
            while let Ok(record) = records.recv() {
                write(&record);
                match uncounted.swap(0, Ordering::Relaxed) {
                    0 => {}
                    count => write(&Record::Unsaid { count }),
                }
            }
        })?;
        Ok((Reporter { queue, unsaid }, Finished(finished)))
    }

    /// Takes a record. Never waits: what does not fit into the queue is counted, and told later.
    pub fn tell(&self, record: Record) {
        if self.queue.try_send(record).is_err() {
            self.unsaid.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Finished {
    /// Waits until everything is written, once every [`Reporter`] is gone, or until `limit` has passed.
    pub fn wait(self, limit: Duration) {
        _ = self.0.recv_timeout(limit);
    }
}

/// Chooses the journal or stderr for this process.
fn subscribe() {
    match tracing_journald::layer() {
        Ok(journal) => {
            let mut priorities = tracing_journald::PriorityMappings::new();
            priorities.info = tracing_journald::Priority::Informational;
            let journal = journal
                .with_field_prefix(None)
                .with_syslog_identifier("fwdguard".into())
                .with_priority_mappings(priorities);
            tracing_subscriber::registry().with(journal).init();
        }
        Err(_) => {
            let stderr = tracing_subscriber::fmt::layer()
                .with_writer(io::stderr)
                .with_target(false)
                .with_ansi(false)
                .log_internal_errors(false)
                .fmt_fields(tracing_subscriber::fmt::format::debug_fn(message_only));
            tracing_subscriber::registry().with(stderr).init();
        }
    }
}

fn message_only(
    writer: &mut tracing_subscriber::fmt::format::Writer<'_>,
    field: &tracing::field::Field,
    value: &dyn fmt::Debug,
) -> fmt::Result {
    if field.name() == "message" { write!(writer, "{value:?}") } else { Ok(()) }
}

/// Writes one record with its fields; a field that the record has not is left out.
fn write(record: &Record) {
    let subject = record.subject();
    let (mut old, mut new, mut latency, mut interfaces) = (None, None, None, None);
    let (mut errno, mut slept, mut lost) = (None, None, None);
    match record {
        Record::Repaired { old: before, new: found, latency_usec, interfaces: with, .. } => {
            (old, new) = (before.as_deref(), Some(found.as_str()));
            (latency, interfaces) = (*latency_usec, Some(*with as u64));
        }
        Record::RepairFailed { found, errno: number, .. } => {
            (new, errno) = (found.as_deref(), number.map(|number| number as u64));
        }
        Record::SlowWrite { usec, .. } => latency = Some(*usec),
        Record::Resumed { slept: time, .. } => slept = time.map(|time| time.as_micros() as u64),
        Record::SourceLost { source, .. } | Record::SourceBack { source } => lost = Some(*source),
        _ => {}
    }
    let key = match record {
        Record::SlowWrite { key, .. } => Some(key.as_str()),
        _ => subject.map(|subject| subject.key.as_str()),
    };
    let file = record.source().map(|source| crate::setting::printable(source.file.as_os_str()));
    let line = record.source().map(|source| u64::from(source.line));
    macro_rules! event {
        ($level:ident) => {
            tracing::$level!(
                MESSAGE_ID = record.message_id(),
                SYSCTL = key,
                OLDVALUE = old,
                NEWVALUE = new,
                OURVALUE = subject.map(|subject| &*subject.ours),
                CAUSE = record.cause().map(|cause| cause.name()),
                LATENCY_USEC = latency,
                INTERFACES = interfaces,
                POLICY_FILE = file.as_deref(),
                POLICY_LINE = line,
                ERRNO = errno,
                SLEEP_USEC = slept,
                SOURCE = lost,
                "{}",
                record.text()
            )
        };
    }
    match record.priority() {
        Priority::Error => event!(error),
        Priority::Warning => event!(warn),
        Priority::Info => event!(info),
    }
}
