//! The reporter: a thread with a bounded queue that writes records to the journal, or to stderr, and the status to the service manager.
//!
//! It may wait for journald. The guard thread never waits for it: what does not fit is counted.

mod metrics;
pub mod status;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use tracing::Metadata;
use tracing_journald::{Layer, PriorityMappings};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::{Layer as _, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::report::decision::{Decision, Log};
use crate::report::record::{Priority, Record};
use crate::report::writer::{self, Writer};
use crate::state::Summary;
use crate::text::{ascii, ascii_line};
use metrics::Metrics;
use status::SharedStatus;

/// As many batches of records wait for a journal that does not read; what comes after them is counted.
const QUEUE: usize = 1024;
/// The status line is not written more often, however many repairs there are.
const STATUS_INTERVAL: Duration = Duration::from_millis(200);
/// Bytes of a field, so that `journalctl -o json` shows it (from 4096 bytes on it says null), and a record, which has twelve
/// such fields at most, stays below 48 KiB. The kernel takes a datagram of `net.core.wmem_default`, which is 208 KiB, or the
/// 64 KiB of old guides to tuning; what is larger goes by memfd, and that journald may not read under SELinux.
pub const FIELD_MAX: usize = 4000;
/// What events are called whose priority is notice.
const NOTICE: &str = "notice";

/// What comes from one turn of the guard: one wake-up of the reporter, however much it is.
#[derive(Default)]
struct Told {
    log: Log,
    records: Vec<Record>,
    summary: Option<Summary>,
}

/// Hands records to the thread that writes them.
#[derive(Clone)]
pub struct Reporter {
    queue: SyncSender<Told>,
    unsaid: Arc<AtomicU64>,
    status: Arc<SharedStatus>,
}

/// Says when the thread has written everything.
pub struct Finished(Receiver<()>);

impl Reporter {
    /// Starts the thread. It keeps `status` up to date with what the guard knows, and with it the file of metrics, if there is to
    /// be one. `name_writers`, which may wait a little, fills into records who wrote, and may add records of its own.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn start(
        status: Arc<SharedStatus>,
        metrics_file: Option<PathBuf>,
        name_writers: impl Fn(&mut Vec<Record>) + Send + 'static,
    ) -> io::Result<(Reporter, Finished)> {
        let (queue, told) = sync_channel(QUEUE);
        let (alive, finished) = sync_channel(0);
        let unsaid = Arc::new(AtomicU64::new(0));
        let (uncounted, shown) = (unsaid.clone(), status.clone());
        std::thread::Builder::new().name("reporter".into()).spawn(move || {
            let _alive = alive;
            subscribe();
            write_all(&told, &uncounted, &shown, metrics_file.map(Metrics::new), name_writers);
        })?;
        Ok((Reporter { queue, unsaid, status }, Finished(finished)))
    }

    /// Takes a record. Never waits: what does not fit into the queue is counted, and told later.
    pub fn tell(&self, record: Record) {
        self.tell_all(vec![record], None);
    }

    /// Takes records, and what the guard knows now. Never waits, as [`Reporter::tell`].
    pub fn tell_all(&self, records: Vec<Record>, summary: Option<Summary>) {
        self.status.note_sources(&records);
        self.send(Told { records, summary, ..Told::default() });
    }

    /// The status says something else, of which no record tells.
    pub fn status_changed(&self) {
        self.tell_all(Vec::new(), None);
    }

    /// Takes what is to be logged beside records. Never waits, as [`Reporter::tell`].
    pub fn log(&self, log: Log) {
        self.send(Told { log, ..Told::default() });
    }

    fn send(&self, told: Told) {
        let count = (told.records.len() + told.log.lines()) as u64;
        if let Err(TrySendError::Full(told) | TrySendError::Disconnected(told)) = self.queue.try_send(told) {
            self.unsaid.fetch_add(count, Ordering::Relaxed);
            told.summary.into_iter().for_each(|summary| self.status.set_summary(summary, None));
        }
    }
}

/// Writes until every [`Reporter`] is gone.
fn write_all(
    told: &Receiver<Told>,
    unsaid: &AtomicU64,
    status: &SharedStatus,
    mut metrics: Option<Metrics>,
    name_writers: impl Fn(&mut Vec<Record>),
) {
    let mut status_due: Option<Instant> = None;
    loop {
        let next = match status_due.into_iter().chain(metrics.as_ref().and_then(Metrics::due)).min() {
            None => told.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(due) => told.recv_timeout(due.saturating_duration_since(Instant::now())),
        };
        match next {
            Ok(Told { log, mut records, summary }) => {
                log.events.iter().for_each(|event| tracing::trace!("{}", ascii_line(event)));
                log.decisions.iter().for_each(write_decision);
                let told = records.len();
                name_writers(&mut records);
                status.note_sources(&records[told..]);
                records.iter_mut().for_each(|record| name_conflicts(record, status));
                let sources = |record: &Record| matches!(record, Record::SourceLost { .. } | Record::SourceBack { .. });
                if summary.is_some() || records.iter().any(sources) {
                    status_due.get_or_insert_with(|| Instant::now() + STATUS_INTERVAL);
                }
                if let Some(summary) = summary {
                    status.set_summary(summary, last_writer(&records));
                }
                let dropped = unsaid.swap(0, Ordering::Relaxed);
                if let Some(metrics) = &mut metrics {
                    metrics.count(&records, dropped);
                }
                records.iter().for_each(write);
                if dropped > 0 {
                    write(&Record::RecordsDropped { count: dropped });
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if status_due.take_if(|due| *due <= Instant::now()).is_some() {
            status.tell();
        }
        let record = metrics.as_mut().and_then(|metrics| metrics.renew(status));
        if let Some(record) = record {
            status.note_sources(std::slice::from_ref(&record));
            status_due.get_or_insert_with(|| Instant::now() + STATUS_INTERVAL);
            write(&record);
        }
    }
}

/// What stands in files against a setting that is contested.
fn name_conflicts(record: &mut Record, status: &SharedStatus) {
    if let Record::Contested { subject, conflicts, .. } = record {
        *conflicts = status.get().conflicts.get(&subject.key).cloned().unwrap_or_default();
    }
}

/// Who made the last of these repairs necessary, in short; nobody when that is not known.
fn last_writer(records: &[Record]) -> Option<String> {
    let writer = records.iter().rev().find_map(|record| match record {
        Record::Repaired { writer, .. } => Some(writer),
        _ => None,
    })?;
    writer.process().map(writer::short)
}

impl Finished {
    /// Waits until everything is written, once every [`Reporter`] is gone, or until `limit` has passed.
    pub fn wait(self, limit: Duration) {
        _ = self.0.recv_timeout(limit);
    }
}

/// Chooses the journal or stderr for this process, once.
pub fn subscribe() {
    use tracing_journald::Priority::{Debug, Informational, Notice};
    match Layer::new().and_then(|notices| Ok([notices, Layer::new()?])) {
        // tracing has no level between info and warn, so notices have a way of their own.
        Ok([notices, others]) => {
            let priorities = |info| PriorityMappings { info, debug: Debug, trace: Debug, ..PriorityMappings::new() };
            let layer = |journal: Layer, info| {
                let journal = journal.with_field_prefix(None).with_syslog_identifier("fwdguard".into());
                let is_meant = move |event: &Metadata<'_>| (event.name() == NOTICE) == (info == Notice);
                journal.with_priority_mappings(priorities(info)).with_filter(filter_fn(is_meant))
            };
            tracing_subscriber::registry().with(vec![layer(notices, Notice), layer(others, Informational)]).init();
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

fn field(text: Option<&str>) -> Option<Cow<'_, str>> {
    text.map(|text| ascii(text, FIELD_MAX))
}

/// Writes what was decided about a setting.
fn write_decision(decision: &Decision) {
    tracing::debug!(
        SYSCTL = field(Some(&decision.key)).as_deref(),
        NEWVALUE = field(decision.found.as_deref()).as_deref(),
        OURVALUE = field(decision.wanted.as_deref()).as_deref(),
        "{}",
        ascii_line(&decision.to_string())
    );
}

/// Writes one record with its fields; a field that the record has not is left out.
pub fn write(record: &Record) {
    let subject = record.subject();
    let (mut old, mut new, mut interfaces, mut blame) = (None, None, None, None);
    let (mut errno, mut slept, mut step, mut noticed) = (None, None, None, None);
    let (mut lost, mut conflict, mut count) = (None, None, None);
    match record {
        Record::Repaired { old: before, new: found, interfaces: with, writer, .. } => {
            // Always there, so that the catalog can name it: journalctl does not leave out what a record has not.
            (old, new) = (Some(before.as_deref().unwrap_or("unknown")), Some(found.as_str()));
            (interfaces, blame) = (Some(*with as u64), Some(writer));
        }
        Record::RepairFailed { found, errno: number, .. } => {
            (new, errno) = (found.as_deref(), number.map(|number| number.raw_os_error() as u64));
        }
        Record::Resumed { woke, .. } => {
            slept = woke.slept.map(|time| time.as_micros() as u64);
            (step, noticed) = (woke.step_usec, Some(woke.noticed_by()));
        }
        Record::Contested { repairs, .. } | Record::ContestOver { repairs, .. } => count = Some(*repairs),
        Record::StillContested { count: number, .. } | Record::RecordsDropped { count: number } => {
            count = Some(*number)
        }
        Record::SourceLost { source, .. } | Record::SourceBack { source } => lost = Some(*source),
        Record::Conflict { says, source, .. } => {
            new = Some(&**says);
            conflict = Some((crate::setting::printable(source.file.as_os_str()), u64::from(source.line)));
        }
        _ => {}
    }
    let key = match record {
        Record::SlowWrite { key, .. } | Record::Conflict { key, .. } => Some(key.as_str()),
        _ => subject.map(|subject| subject.key.as_str()),
    };
    let ours = match record {
        Record::Conflict { ours, .. } => Some(&**ours),
        _ => subject.map(|subject| &*subject.ours),
    };
    let file = record.source().map(|source| crate::setting::printable(source.file.as_os_str()));
    let line = record.source().map(|source| u64::from(source.line));
    let process = blame.and_then(Writer::process);
    macro_rules! event {
        ($level:ident $(, $name:ident: $notice:ident,)?) => {
            tracing::$level!(
                $($name: $notice,)?
                MESSAGE_ID = record.message_id(),
                SYSCTL = field(key).as_deref(),
                OLDVALUE = field(old).as_deref(),
                NEWVALUE = field(new).as_deref(),
                OURVALUE = field(ours).as_deref(),
                CAUSE = record.cause().map(|cause| cause.name()),
                LATENCY_USEC = record.latency_usec(),
                WRONG_USEC = record.wrong_usec(),
                INTERFACES = interfaces,
                POLICY_FILE = field(file.as_deref()).as_deref(),
                POLICY_LINE = line,
                CONFLICT_FILE = field(conflict.as_ref().map(|(file, _)| file.as_str())).as_deref(),
                CONFLICT_LINE = conflict.as_ref().map(|(_, line)| *line),
                ERRNO = errno,
                SLEEP_USEC = slept,
                CLOCK_STEP_USEC = step,
                NOTICED_BY = noticed.as_deref(),
                SOURCE = lost,
                COUNT = count,
                WRITER_PID = process.map(|process| i64::from(process.pid)).filter(|pid| *pid > 0),
                WRITER_COMM = field(process.and_then(|process| process.comm.as_deref())).as_deref(),
                WRITER_CMDLINE = field(process.and_then(|process| process.cmdline.as_deref())).as_deref(),
                WRITER_EXE = field(process.and_then(|process| process.exe.as_deref())).as_deref(),
                WRITER_UNIT = field(process.and_then(|process| process.place.unit.as_deref())).as_deref(),
                WRITER_POD_UID = field(process.and_then(|process| process.place.pod.as_deref())).as_deref(),
                WRITER_CONTAINER_ID = field(process.and_then(|process| process.place.container.as_deref())).as_deref(),
                WRITER_UNKNOWN = blame.and_then(Writer::why),
                "{}",
                record.text()
            )
        };
    }
    match record.priority() {
        Priority::Error => event!(error),
        Priority::Warning => event!(warn),
        Priority::Notice => event!(info, name: NOTICE,),
        Priority::Info => event!(info),
    }
}
