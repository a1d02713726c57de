//! Holds the journal's catalog and the man page's lists to the records that the program writes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use super::write;
use crate::kernel::process::{Place, Process};
use crate::policy::Source;
use crate::policy::conflicts::Origin;
use crate::report::record::{self, Cause, Priority, Record, Subject};
use crate::report::woke::{By, Woke};
use crate::report::writer::{UnknownBecause, Writer};
use crate::setting::Key;

const CATALOG: &str = include_str!("../../systemd/fwdguard.catalog");
const PAGE: &str = include_str!("../../docs/fwdguard.8");
/// What a terminal of 80 columns shows behind the mark that journalctl sets before each line.
const WIDTH: usize = 76;
/// systemd.journal-fields(7) and journal_field_valid().
const FIELD_NAME_MAX: usize = 64;

/// One record of each kind.
fn samples(writer: &Writer) -> Vec<Record> {
    std::iter::successors(sample(None, writer), |last| sample(Some(last), writer)).collect()
}

/// The sample after `last`: a new kind does not compile until it has one. Without a writer it has nothing that a record
/// of its kind may lack.
fn sample(last: Option<&Record>, writer: &Writer) -> Option<Record> {
    let full = *writer != Writer::BeforeStart;
    let some = |text: &str| full.then(|| text.to_string());
    let source = || Source { file: Path::new("/usr/lib/fwdguard.d/50-kubernetes.conf").into(), line: 9 };
    let subject = || Subject {
        key: "net.ipv4.ip_forward".into(),
        rule: "net.ipv4.ip_forward".into(),
        ours: "1".into(),
        source: source(),
        cause: Cause::Write,
    };
    let (key, none) = (Key::ip_forward, Vec::new);
    Some(match last {
        None => Record::Started { settings: 0, interfaces: 0, repaired: 0 },
        Some(Record::Started { .. }) => Record::PolicyLoaded { lines: 0, errors: 0 },
        Some(Record::PolicyLoaded { .. }) => Record::PolicyError { source: source(), text: String::new() },
        Some(Record::PolicyError { .. }) => Record::PolicyNotice { source: source(), text: String::new() },
        Some(Record::PolicyNotice { .. }) => Record::Conflict {
            key: "net.ipv4.ip_forward".into(),
            ours: "1".into(),
            policy: source(),
            says: some("0").unwrap_or_default().into(),
            source: source(),
            origin: Origin::SysctlD,
            behind: None,
            remedy: None,
        },
        Some(Record::Conflict { .. }) => Record::Repaired {
            subject: subject(),
            old: some("1"),
            new: "0".into(), // can be empty, so it is quoted
            key: key(),
            received: full.then_some(0),
            finished: 0,
            interfaces: 0,
            last_good: full.then_some(0),
            writer: writer.clone(),
        },
        Some(Record::Repaired { .. }) => Record::Contested {
            subject: subject(),
            key: key(),
            repairs: 5,
            since: 0,
            usec: 0,
            writers: none(),
            conflicts: none(),
        },
        Some(Record::Contested { .. }) => {
            Record::StillContested { subject: subject(), key: key(), count: 1, since: 0, until: 0, writers: none() }
        }
        Some(Record::StillContested { .. }) => Record::ContestOver { subject: subject(), repairs: 5, usec: 0 },
        Some(Record::ContestOver { .. }) => Record::RepairFailed {
            subject: subject(),
            found: some("0"),
            errno: full.then_some(rustix::io::Errno::INVAL),
        },
        Some(Record::RepairFailed { .. }) => Record::SlowWrite { key: "net.ipv4.ip_forward".into(), usec: 1_000_000 },
        Some(Record::SlowWrite { .. }) => {
            let (slept, step_usec) = (full.then_some(Duration::from_secs(1)), full.then_some(1));
            let woke = Woke { slept, step_usec, noticed_by: BTreeSet::from([By::Logind]), again: false };
            Record::Resumed { cause: Cause::Resume, woke, changed: none() }
        }
        Some(Record::Resumed { .. }) => Record::Resynchronised { reason: String::new() },
        Some(Record::Resynchronised { .. }) => Record::SourceLost { source: "logind", reason: String::new() },
        Some(Record::SourceLost { .. }) => Record::SourceBack { source: "logind" },
        Some(Record::SourceBack { .. }) => Record::RecordsDropped { count: 1 },
        Some(Record::RecordsDropped { .. }) => Record::Stopping { repairs: 0 },
        Some(Record::Stopping { .. }) => return None,
    })
}

fn known_writer() -> Writer {
    let some = || Some("x".to_string());
    let place = Place { unit: some(), pod: some(), container: some() };
    Writer::Process(Arc::new(Process { pid: 1, comm: some(), cmdline: some(), exe: some(), parent: None, place }))
}

/// The fields that the journal gets of a record, but for those without a value.
fn fields(record: &Record) -> BTreeSet<&'static str> {
    struct Collect(Arc<Mutex<BTreeSet<&'static str>>>);
    impl<S: tracing::Subscriber> Layer<S> for Collect {
        fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
            event.record(&mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
                if format!("{value:?}") != "\"\"" {
                    self.0.lock().unwrap().insert(field.name());
                }
            });
        }
    }
    let collected = Arc::default();
    let journal = tracing_subscriber::registry().with(Collect(Arc::clone(&collected)));
    tracing::subscriber::with_default(journal, || write(record));
    std::mem::take(&mut *collected.lock().unwrap())
}

/// The catalog's entries as MESSAGE_ID and text, sorted.
fn entries() -> Vec<(&'static str, &'static str)> {
    let entry = |entry: &'static str| entry.split_once('\n').expect("a text");
    let mut entries: Vec<_> = CATALOG.split("\n\n-- ").skip(1).map(entry).collect();
    entries.sort_unstable();
    entries
}

fn message_ids() -> Vec<&'static str> {
    let mut ids: Vec<_> = samples(&Writer::BeforeStart).iter().map(Record::message_id).collect();
    ids.sort_unstable();
    ids
}

/// The items of this section of the man page: the words of the tag, and the text.
fn items(section: &str) -> Vec<(Vec<&'static str>, &'static str)> {
    let (_, rest) = PAGE.split_once(&format!(".SS {section}\n")).expect("a section");
    let text = rest.split("\n.S").next().expect("a text");
    let item = |item: &'static str| {
        let (tag, text) = item.split_once('\n').expect("a text");
        (tag.split([' ', ',', '"']).skip(1).filter(|word| !word.is_empty()).collect(), text)
    };
    text.split(".TP\n").skip(1).map(item).collect()
}

#[test]
fn every_kind_of_record_has_one_entry_and_one_item_of_the_page() {
    let entries: Vec<_> = entries().into_iter().map(|(id, _)| id).collect();
    assert_eq!(entries, message_ids(), "systemd/fwdguard.catalog");
    let level = |record: &Record| format!("({:?}", record.priority()).to_lowercase();
    let levels: BTreeMap<_, _> = samples(&Writer::BeforeStart).iter().map(|r| (r.message_id(), level(r))).collect();
    let items = items("Kinds of records");
    assert_eq!(items.len(), levels.len(), "docs/fwdguard.8");
    for (tag, text) in items {
        assert!(levels.get(tag[0]).is_some_and(|level| text.starts_with(level)), "docs/fwdguard.8: {tag:?} {text}");
    }
}

#[test]
fn losing_a_source_is_an_error_only_if_settings_are_no_longer_guarded() {
    let priority = |source| Record::SourceLost { source, reason: "why".into() }.priority();
    for source in [record::INTERFACES, record::SOCKET] {
        assert_eq!(priority(source), Priority::Error, "{source}");
    }
    assert_eq!(priority("logind"), Priority::Warning);
}

#[test]
fn entries_read_well() {
    let heads = ["Subject: ", "Defined-By: fwdguard", "Documentation: man:fwdguard(8)"];
    for (id, text) in entries() {
        let mut lines = text.lines();
        assert!(heads.iter().all(|head| lines.next().is_some_and(|line| line.starts_with(head))), "{id}: {text}");
        assert!(lines.next() == Some("") && lines.next().is_some_and(|line| !line.is_empty()), "{id}: {text}");
    }
    CATALOG.lines().for_each(|line| assert!(line.len() <= WIDTH, "{} columns: {line}", line.len()));
}

/// journalctl leaves the bare name of a field that a record has not.
#[test]
fn entries_name_only_fields_that_each_record_of_the_kind_has() {
    let has: BTreeMap<_, _> = samples(&Writer::BeforeStart).iter().map(|r| (r.message_id(), fields(r))).collect();
    for (id, text) in entries() {
        let pieces: Vec<_> = text.split('@').collect();
        assert_eq!(pieces.len() % 2, 1, "{id}: a single @");
        let missing: Vec<_> = pieces.iter().skip(1).step_by(2).filter(|field| !has[id].contains(*field)).collect();
        assert!(missing.is_empty(), "{id}: {missing:?} may be missing; {:?} are always there", has[id]);
    }
}

#[test]
fn the_page_names_every_field() {
    let writers = [known_writer(), Writer::Unknown(UnknownBecause::Unseen)];
    let mut written: BTreeSet<_> = writers.iter().flat_map(samples).flat_map(|record| fields(&record)).collect();
    assert!(written.remove("message") && written.remove("MESSAGE_ID"));
    let named: BTreeSet<_> = items("Fields").into_iter().flat_map(|(tag, _)| tag).collect();
    assert_eq!(named, written);
    for field in written {
        // To a record with OBJECT_PID= journald adds OBJECT_ fields of its own, what that process is by then.
        let reserved = field.starts_with('_') || field.starts_with("OBJECT_");
        let right = field.bytes().all(|b| b.is_ascii_uppercase() || b == b'_') && !reserved;
        assert!(right && field.len() <= FIELD_NAME_MAX, "{field}");
    }
}

/// systemd reads the entries as they are written; it drops lines that begin with `#` or `;`, and joins two entries of one
/// MESSAGE_ID.
#[test]
fn systemd_takes_the_catalog() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("usr/lib/systemd/catalog");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("fwdguard.catalog"), CATALOG).unwrap();
    let journalctl = |action: &str| {
        let output = Command::new("journalctl").arg(action).arg("--root").arg(root.path()).output();
        let output = output.expect("journalctl is missing: install the package systemd, or run 'make test'");
        assert!(output.status.success() && output.stderr.is_empty(), "{action}: {output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    assert_eq!(journalctl("--update-catalog"), "");
    let subject = |text: &'static str| text.lines().next()?.strip_prefix("Subject: ");
    let line = |(id, text)| format!("{id} fwdguard: {}\n", subject(text).unwrap_or_default());
    assert_eq!(journalctl("--list-catalog"), entries().into_iter().map(line).collect::<String>());
    let dump = journalctl("--dump-catalog");
    entries().iter().for_each(|(id, text)| assert!(dump.contains(&format!("-- {id}\n{text}")), "{id}: {text}\n{dump}"));
}
