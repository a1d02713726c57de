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

use crate::policy::Source;
use crate::report::decision::{Decision, Log};
use crate::report::record::{Cause, Priority, Record};
use crate::report::writer::{self, Writer};
use crate::setting::printable;
use crate::state::Summary;
use crate::text::{ascii, ascii_line};
use metrics::Metrics;
use status::SharedStatus;

/// At most this many batches wait for a journald that does not read; later ones are dropped and counted.
const QUEUE: usize = 1024;
/// The status line is sent at most this often.
const STATUS_INTERVAL: Duration = Duration::from_millis(200);
/// Bytes of a field, so that `journalctl -o json` shows it (null from 4096 bytes on), and a record of twelve such fields stays
/// below 48 KiB. The kernel accepts datagrams up to `net.core.wmem_default`, 208 KiB or the 64 KiB of old guides to tuning; a
/// larger record goes by memfd, which journald may not read under SELinux.
pub const FIELD_MAX: usize = 4000;
/// The name of events whose priority is notice.
const NOTICE: &str = "notice";

/// What the guard thread publishes at once: one wake-up of the reporter, however much it is.
#[derive(Default)]
struct Batch {
    log: Log,
    records: Vec<Record>,
    summary: Option<Summary>,
}

/// Hands records to the thread that writes them. No method waits: what the queue has no room for is counted, and the count logged.
#[derive(Clone)]
pub struct Reporter {
    queue: SyncSender<Batch>,
    dropped: Arc<AtomicU64>,
    pub status: Arc<SharedStatus>,
}

impl Reporter {
    /// Starts the thread. It keeps the status up to date with the guard thread's summaries, and with it the file of metrics, if
    /// there is to be one. `name_writers`, which may wait a little, fills writers into records, and may add records of its own.
    /// The receiver is disconnected once every [`Reporter`] is gone and everything is written.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn start(
        metrics_file: Option<PathBuf>,
        name_writers: impl Fn(&mut Vec<Record>) + Send + 'static,
    ) -> io::Result<(Reporter, Receiver<()>)> {
        let (queue, batches) = sync_channel(QUEUE);
        let (alive, finished) = sync_channel(0);
        let reporter = Reporter { queue, dropped: Arc::default(), status: Arc::default() };
        let (dropped, status) = (reporter.dropped.clone(), reporter.status.clone());
        std::thread::Builder::new().name("reporter".into()).spawn(move || {
            let _alive = alive;
            subscribe();
            write_all(&batches, &dropped, &status, metrics_file.map(Metrics::new), name_writers);
        })?;
        Ok((reporter, finished))
    }

    /// Takes a record. The loss of a source that is lost already is logged no second time, nor is its return.
    pub fn report(&self, record: Record) {
        self.report_all(vec![record], None);
    }

    /// Takes records, and the guard thread's current summary.
    pub fn report_all(&self, mut records: Vec<Record>, summary: Option<Summary>) {
        self.status.note_sources(&mut records);
        self.send(Batch { records, summary, ..Batch::default() });
    }

    /// The status has changed, and no record shows it.
    pub fn status_changed(&self) {
        self.send(Batch::default());
    }

    /// Takes events and decisions that are logged beside records.
    pub fn log(&self, log: Log) {
        self.send(Batch { log, ..Batch::default() });
    }

    fn send(&self, batch: Batch) {
        let count = (batch.records.len() + batch.log.lines()) as u64;
        if let Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) = self.queue.try_send(batch) {
            self.dropped.fetch_add(count, Ordering::Relaxed);
            batch.summary.into_iter().for_each(|summary| self.status.set_summary(summary, None));
        }
    }
}

/// Writes until every [`Reporter`] is gone.
fn write_all(
    batches: &Receiver<Batch>,
    dropped: &AtomicU64,
    status: &SharedStatus,
    mut metrics: Option<Metrics>,
    name_writers: impl Fn(&mut Vec<Record>),
) {
    let mut status_due: Option<Instant> = None;
    loop {
        let next = match status_due.into_iter().chain(metrics.as_ref().and_then(|metrics| metrics.due)).min() {
            None => batches.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(due) => batches.recv_timeout(due.saturating_duration_since(Instant::now())),
        };
        match next {
            Ok(Batch { log, mut records, summary }) => {
                log.events.iter().for_each(|event| tracing::trace!("{}", ascii_line(event)));
                log.decisions.iter().for_each(write_decision);
                let published = records.len();
                name_writers(&mut records);
                let mut added = records.split_off(published);
                status.note_sources(&mut added);
                records.append(&mut added);
                records.iter_mut().for_each(|record| name_conflicts(record, status));
                let is_source =
                    |record: &Record| matches!(record, Record::SourceLost { .. } | Record::SourceBack { .. });
                if summary.is_some() || records.iter().any(is_source) {
                    status_due.get_or_insert_with(|| Instant::now() + STATUS_INTERVAL);
                }
                if let Some(summary) = summary {
                    status.set_summary(summary, last_writer(&records));
                }
                let dropped = dropped.swap(0, Ordering::Relaxed);
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
            status.send();
        }
        if let Some(metrics) = &mut metrics {
            let mut records = Vec::from_iter(metrics.renew(status));
            status.note_sources(&mut records);
            for record in &records {
                status_due.get_or_insert_with(|| Instant::now() + STATUS_INTERVAL);
                write(record);
            }
        }
    }
}

/// Fills in the lines of files that conflict with a contested setting.
fn name_conflicts(record: &mut Record, status: &SharedStatus) {
    if let Record::Contested { subject, conflicts, .. } = record {
        *conflicts = status.get().conflicts.get(&subject.key).cloned().unwrap_or_default();
    }
}

/// The writer that made the last of these repairs necessary, in short, if it is known.
fn last_writer(records: &[Record]) -> Option<String> {
    let writer = records.iter().rev().find_map(|record| match record {
        Record::Repaired { writer, .. } => Some(writer),
        _ => None,
    })?;
    writer.process().map(writer::short)
}

/// Chooses the journal or stderr for this process, once.
pub fn subscribe() {
    use tracing_journald::Priority::{Debug, Informational, Notice};
    match Layer::new().and_then(|notices| Ok([notices, Layer::new()?])) {
        // tracing has no level between info and warn, so a second layer writes the notices.
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

/// Writes a decision about a setting.
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
    let place = |source: &Source| (printable(source.file.as_os_str()), u64::from(source.line));
    let policy = record.source().map(place);
    let subject = record.subject();
    let (mut key, mut ours) = (subject.map(|subject| subject.key.as_str()), subject.map(|subject| &*subject.ours));
    let (mut old, mut new, mut interfaces, mut writer) = (None, None, None, None);
    let (mut errno, mut slept, mut step, mut noticed) = (None, None, None, None);
    let (mut lost, mut conflict, mut count) = (None, None, None);
    let (mut cause, mut latency, mut wrong) = (None, None, None);
    match record {
        Record::Started { .. } => cause = Some(Cause::Start),
        Record::Resynchronised { .. } => cause = Some(Cause::Overrun),
        Record::Repaired {
            subject,
            old: before,
            new: found,
            received,
            finished,
            interfaces: with,
            last_good,
            writer: by,
            ..
        } => {
            // Always there, so that the catalog can name it: journalctl shows the bare name of a missing field.
            (old, new) = (Some(before.as_deref().unwrap_or("unknown")), Some(found.as_str()));
            (interfaces, writer, cause) = (Some(*with as u64), Some(by), Some(subject.cause));
            latency = received.map(|at| finished.saturating_sub(at));
            wrong = last_good.map(|at| finished.saturating_sub(at));
        }
        Record::RepairFailed { subject, found, errno: number } => {
            (new, cause) = (found.as_deref(), Some(subject.cause));
            errno = number.map(|number| number.raw_os_error() as u64);
        }
        Record::Resumed { woke, cause: resumed, .. } => {
            cause = Some(*resumed);
            slept = woke.slept.map(|time| time.as_micros() as u64);
            (step, noticed) = (woke.step_usec, Some(woke.noticed_by()));
        }
        Record::Contested { repairs: number, .. }
        | Record::ContestOver { repairs: number, .. }
        | Record::StillContested { count: number, .. }
        | Record::RecordsDropped { count: number } => count = Some(*number),
        Record::SourceLost { source, .. } | Record::SourceBack { source } => lost = Some(*source),
        Record::SlowWrite { key: written, usec } => (key, latency) = (Some(written.as_str()), Some(*usec)),
        Record::Conflict { key: set, ours: wanted, says, source, .. } => {
            (key, ours, new) = (Some(set.as_str()), Some(&**wanted), Some(&**says));
            conflict = Some(place(source));
        }
        Record::PolicyLoaded { .. }
        | Record::PolicyError { .. }
        | Record::PolicyNotice { .. }
        | Record::Stopping { .. } => {}
    }
    let process = writer.and_then(Writer::process);
    macro_rules! event {
        ($level:ident $(, $name:ident: $notice:ident,)?) => {
            tracing::$level!(
                $($name: $notice,)?
                MESSAGE_ID = record.message_id(),
                SYSCTL = field(key).as_deref(),
                OLDVALUE = field(old).as_deref(),
                NEWVALUE = field(new).as_deref(),
                OURVALUE = field(ours).as_deref(),
                CAUSE = cause.map(Cause::name),
                LATENCY_USEC = latency,
                WRONG_USEC = wrong,
                INTERFACES = interfaces,
                POLICY_FILE = field(policy.as_ref().map(|(file, _)| file.as_str())).as_deref(),
                POLICY_LINE = policy.as_ref().map(|(_, line)| *line),
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
                WRITER_UNKNOWN = writer.and_then(Writer::why),
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
