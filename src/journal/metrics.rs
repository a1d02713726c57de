//! The file for node_exporter's textfile collector: counters of the reporter's records, written by the reporter's thread.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::fmt::{Display, Write as _};
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::status::{SharedStatus, Status, unix_seconds};
use crate::report::record::Record;
use crate::setting::printable;
use crate::text::{ascii_line, why};

/// As records and the status name the file.
const SOURCE: &str = "the metrics file";
/// The file is written at most this often.
const INTERVAL: Duration = Duration::from_secs(1);
/// A file that can't be written is tried again after this long.
const RETRY: Duration = Duration::from_secs(10);

/// The counters beyond the status, and when the file is to be written.
pub(super) struct Metrics {
    file: PathBuf,
    /// By the policy's setting or pattern and the cause, so that their number does not grow with the interfaces.
    repairs: BTreeMap<(Arc<str>, &'static str), u64>,
    dropped: u64,
    started: u64,
    pub(super) due: Option<Instant>,
    /// The contents of the file; `None` if it can't be written.
    written: Option<String>,
}

impl Metrics {
    pub(super) fn new(file: PathBuf) -> Metrics {
        let (repairs, started) = (BTreeMap::new(), unix_seconds());
        Metrics { file, repairs, dropped: 0, started, due: None, written: None }
    }

    /// Counts records that were written, and the number of dropped ones.
    pub(super) fn count(&mut self, records: &[Record], dropped: u64) {
        for record in records {
            let (subject, count) = match record {
                Record::Repaired { subject, .. } => (subject, 1),
                // Repairs without a record of their own count under the cause of the first.
                Record::StillContested { subject, count, .. } => (subject, *count),
                _ => continue,
            };
            *self.repairs.entry((subject.rule.clone(), subject.cause.name())).or_default() += count;
        }
        self.dropped += dropped;
        self.due.get_or_insert_with(|| Instant::now() + INTERVAL);
    }

    /// Writes the file if that is due and the contents have changed. Returns a record of whether that succeeded.
    pub(super) fn renew(&mut self, status: &SharedStatus) -> Option<Record> {
        self.due.take_if(|due| *due <= Instant::now())?;
        let text = self.text(&status.get());
        if self.written.as_ref() == Some(&text) {
            return None;
        }
        let Err(error) = self.write(&text) else {
            self.written = Some(text);
            return Some(Record::SourceBack { source: SOURCE });
        };
        (self.written, self.due) = (None, Some(Instant::now() + RETRY));
        let reason = format!("{} can't be written: {}", printable(self.file.as_os_str()), why(&error));
        Some(Record::SourceLost { source: SOURCE, reason })
    }

    /// Writes a file beside it and renames that, so that a reader finds the old contents or the new. node_exporter reads only
    /// names in `.prom`, and may be another user, whatever the umask.
    fn write(&self, text: &str) -> io::Result<()> {
        let mut beside = OsString::from(&self.file);
        beside.push(".new");
        _ = fs::remove_file(&beside); // left by a service that was killed; a link is not followed
        let mut file = OpenOptions::new().write(true).create_new(true).open(&beside)?;
        file.set_permissions(Permissions::from_mode(0o644))?;
        file.write_all(text.as_bytes())?;
        fs::rename(&beside, &self.file)
    }

    /// The format is <https://prometheus.io/docs/instrumenting/exposition_formats/>.
    fn text(&self, status: &Status) -> String {
        let summary = &status.summary;
        let contested = summary.contested.as_ref().map_or(0, |(_, more)| 1 + more);
        let lines: HashSet<_> = status.conflicts.values().flatten().collect();
        let labels = |(rule, cause): &(Arc<str>, &str)| format!("{{setting=\"{}\",cause=\"{cause}\"}}", escaped(rule));
        let repairs = self.repairs.iter().map(|(of, count)| (labels(of), *count));
        let lost = status.lost.iter().map(|source| (format!("{{source=\"{source}\"}}"), 1));
        let version = concat!("{version=\"", env!("CARGO_PKG_VERSION"), "\"}").to_string();
        let mut out = String::new();
        let mut family = |name, kind, help, samples| add_family(&mut out, name, kind, help, samples);
        family("build_info", "gauge", "The version of the guard that runs.", vec![(version, 1)]);
        family("start_time_seconds", "gauge", "When the guard started (Unix time).", one(self.started));
        family("guarded_settings", "gauge", "Settings that are guarded.", one(summary.settings));
        family("guarded_interfaces", "gauge", "Interfaces with a guarded setting.", one(summary.interfaces));
        let help = "Repairs, by the policy's setting or pattern and by cause.";
        family("repairs_total", "counter", help, repairs.collect());
        let help = "When a setting was repaired last (Unix time), 0 if none was.";
        family("last_repair_timestamp_seconds", "gauge", help, one(status.last_at.unwrap_or(0)));
        family("failed_settings", "gauge", "Settings that could not be repaired.", one(summary.failing));
        family("contested_settings", "gauge", "Settings that are changed again and again.", one(contested));
        let help = "Lines of sysctl.d, ufw, TuneD or the kernel's command line against the policy.";
        family("conflicting_lines", "gauge", help, one(lines.len()));
        family("policy_errors", "gauge", "Lines and files left out of the policy.", one(status.policy_errors));
        family("source_lost", "gauge", "Sources of events that are lost now.", lost.collect());
        let help = "Log records dropped because journald was not reading.";
        family("dropped_records_total", "counter", help, one(self.dropped));
        out
    }
}

/// A service that has ended leaves no file, whose state would be out of date.
impl Drop for Metrics {
    fn drop(&mut self) {
        if self.written.is_some() {
            _ = fs::remove_file(&self.file);
        }
    }
}

fn one(value: impl TryInto<u64>) -> Vec<(String, u64)> {
    vec![(String::new(), value.try_into().unwrap_or(u64::MAX))]
}

fn add_family(out: &mut String, name: &str, kind: &str, help: &str, samples: Vec<(impl Display, u64)>) {
    _ = writeln!(out, "# HELP fwdguard_{name} {help}\n# TYPE fwdguard_{name} {kind}");
    samples.iter().for_each(|(labels, value)| _ = writeln!(out, "fwdguard_{name}{labels} {value}"));
}

fn escaped(label: &str) -> String {
    ascii_line(label).replace('\\', "\\\\").replace('"', "\\\"")
}
