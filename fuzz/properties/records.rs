//! A record of hostile text: what the journal receives has exactly the expected fields, in ASCII and of a bounded length, and the
//! sentence and the status are one line each.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;

use fwdguard::journal;
use fwdguard::journal::status::Status;
use fwdguard::kernel::process::{Process, cmdline, place};
use fwdguard::policy::Source;
use fwdguard::policy::conflicts::{Origin, Remedy};
use fwdguard::report::record::{Cause, Record, Subject};
use fwdguard::report::writer::{Writer, name, short};
use fwdguard::setting::{Key, printable};
use fwdguard::state::Summary;
use fwdguard::text::ascii;

const JOURNAL: &str = "/run/systemd/journal/socket";
/// The longest notification that the service manager accepts (systemd, manager.c).
const NOTIFY_BUFFER_MAX: usize = 4096;
const BESIDES: [&str; 8] =
    ["CODE_FILE", "CODE_LINE", "MESSAGE", "MESSAGE_ID", "PRIORITY", "SYSLOG_IDENTIFIER", "TARGET", "CAUSE"];

thread_local! {
    /// The journal, and room for a datagram.
    static SOCKET: RefCell<Option<(UnixDatagram, Vec<u8>)>> = const { RefCell::new(None) };
}

/// A /run of this thread's own, for a journal of its own.
pub fn enter() {
    // SAFETY: no memory is involved; the thread gets a mount namespace of its own, or an error.
    let result = unsafe { libc::unshare(libc::CLONE_NEWNS) };
    assert_eq!(result, 0, "unshare: {}; it takes root", std::io::Error::last_os_error());
    for line in ["--make-rprivate /", "-t tmpfs tmpfs /run"] {
        assert!(std::process::Command::new("mount").args(line.split(' ')).status().expect("mount runs").success());
    }
    open();
}

/// The journal of this thread, whose /run is its own.
pub fn open() {
    std::fs::create_dir_all(Path::new(JOURNAL).parent().expect("a folder")).expect("create folders");
    let socket = UnixDatagram::bind(JOURNAL).expect("a journal socket");
    socket.set_nonblocking(true).expect("not blocking");
    SOCKET.set(Some((socket, vec![0; 1 << 18])));
    journal::subscribe();
    receive();
}

pub fn holds(data: &[u8]) {
    let mut parts = super::parts(data);
    let mut next = || parts.next().unwrap_or_default();
    let (kind, interface, one, other, file, command, cgroup) = (next(), next(), next(), next(), next(), next(), next());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let kind = kind.first().copied().unwrap_or_default();
    let source = Source { file: Path::new(OsStr::from_bytes(file)).into(), line: u32::from(kind) };
    // The kernel's names go through Key; values are as they are.
    let key = Key::in_table("ipv4", "conf", OsStr::from_bytes(interface), "forwarding");
    let subject = Subject {
        key: key.to_string(),
        rule: key.to_string().into(),
        ours: text(one).into(),
        source: source.clone(),
        cause: Cause::Write,
    };
    let process = Arc::new(Process {
        pid: i32::from(kind) + 1,
        comm: Some(printable(OsStr::from_bytes(interface))),
        cmdline: cmdline(command, &key),
        exe: Some(printable(OsStr::from_bytes(file))),
        parent: Some((1, printable(OsStr::from_bytes(other)))),
        place: place(cgroup),
    });
    let reason = text(other);
    let writers = vec![name(&process), short(&process)];
    let record = match kind % 12 {
        0 => Record::PolicyError { source, text: reason },
        1 => Record::Conflict {
            key: key.to_string(),
            ours: text(one).into(),
            policy: source.clone(),
            says: reason.into(),
            source: source.clone(),
            origin: [Origin::SysctlD, Origin::Ufw, Origin::CommandLine, Origin::Tuned][usize::from(kind / 64)],
            behind: Some(source).filter(|_| kind % 5 == 0),
            remedy: Some(Remedy { file: Path::new(OsStr::from_bytes(file)).into(), lines: writers })
                .filter(|_| kind % 24 == 1),
        },
        2 => Record::Contested { subject, key, repairs: 9, since: 0, usec: 1, writers, conflicts: vec![reason] },
        3 => Record::StillContested { subject, key, count: 9, since: 0, until: 9, writers },
        4 => Record::ContestOver { subject, repairs: 9, usec: 9 },
        5 => Record::RepairFailed {
            subject,
            found: Some(reason),
            errno: Some(rustix::io::Errno::from_raw_os_error(kind.into())),
        },
        6 => Record::SlowWrite { key: key.to_string(), usec: 9 },
        7 => Record::Resynchronised { reason },
        8 => Record::SourceLost { source: "logind", reason },
        _ => Record::Repaired {
            subject,
            old: Some(text(command)),
            new: reason,
            key,
            received: Some(1),
            finished: 2,
            interfaces: 3,
            last_good: Some(0),
            writer: Writer::Process(process.clone()),
        },
    };
    super::assert_plain(&record.text());
    journal::write(&record);
    let sent = receive();
    let [datagram] = &sent[..] else { panic!("{} datagrams", sent.len()) };
    judge(&record, decode(datagram));
    status(&text(one), &text(other), &process);
}

fn judge(record: &Record, fields: BTreeMap<String, String>) {
    for (name, value) in &fields {
        let plain = value.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t'));
        assert!(plain && value.len() <= journal::FIELD_MAX, "{name} is {value:?}");
    }
    assert_eq!(fields["MESSAGE"], record.text());
    assert_eq!(fields["MESSAGE_ID"], record.message_id());
    assert_eq!(fields["SYSLOG_IDENTIFIER"], "fwdguard");
    let mut expected = BTreeMap::<&str, Option<String>>::new();
    if let Some(subject) = record.subject() {
        expected.insert("SYSCTL", Some(subject.key.clone()));
        expected.insert("OURVALUE", Some(subject.ours.to_string()));
    }
    if let Some(source) = record.source() {
        expected.insert("POLICY_FILE", Some(printable(source.file.as_os_str())));
        expected.insert("POLICY_LINE", Some(source.line.to_string()));
    }
    match record {
        Record::Repaired { old, new, writer, interfaces, .. } => {
            let process = writer.process().expect("it has one").clone();
            expected.insert("OLDVALUE", old.clone());
            expected.insert("NEWVALUE", Some(new.clone()));
            expected.insert("INTERFACES", Some(interfaces.to_string()));
            expected.insert("LATENCY_USEC", Some("1".into()));
            expected.insert("WRONG_USEC", Some("2".into()));
            expected.insert("WRITER_PID", Some(process.pid.to_string()));
            expected.insert("WRITER_COMM", process.comm);
            expected.insert("WRITER_CMDLINE", process.cmdline);
            expected.insert("WRITER_EXE", process.exe);
            expected.insert("WRITER_UNIT", process.place.unit);
            expected.insert("WRITER_POD_UID", process.place.pod);
            expected.insert("WRITER_CONTAINER_ID", process.place.container);
        }
        Record::RepairFailed { found, errno, .. } => {
            expected.insert("NEWVALUE", found.clone());
            expected.insert("ERRNO", errno.map(|errno| errno.raw_os_error().to_string()));
        }
        Record::Conflict { key, ours, says, source, .. } => {
            expected.insert("SYSCTL", Some(key.clone()));
            expected.insert("OURVALUE", Some(ours.to_string()));
            expected.insert("NEWVALUE", Some(says.to_string()));
            expected.insert("CONFLICT_FILE", Some(printable(source.file.as_os_str())));
            expected.insert("CONFLICT_LINE", Some(source.line.to_string()));
        }
        Record::Contested { .. } | Record::StillContested { .. } | Record::ContestOver { .. } => {
            expected.insert("COUNT", Some("9".into()));
        }
        Record::SlowWrite { key, .. } => {
            expected.insert("SYSCTL", Some(key.clone()));
            expected.insert("LATENCY_USEC", Some("9".into()));
        }
        Record::SourceLost { source, .. } => _ = expected.insert("SOURCE", Some(source.to_string())),
        _ => {}
    }
    let found: BTreeMap<&str, Option<String>> = fields
        .iter()
        .filter(|(name, _)| !BESIDES.contains(&name.as_str()))
        .map(|(name, value)| (name.as_str(), Some(value.clone())))
        .collect();
    let sent = |(name, value): (_, Option<String>)| {
        value.map(|value| (name, Some(ascii(&value, journal::FIELD_MAX).into_owned())))
    };
    assert_eq!(found, expected.into_iter().filter_map(sent).collect());
}

/// The status for the service manager is one line, whatever was repaired, by any writer, and whatever the guard waits for.
fn status(one: &str, other: &str, process: &Process) {
    let summary = Summary {
        repairs: 1,
        last: Some((one.into(), Cause::Write)),
        contested: Some((other.into(), 0)),
        ..Summary::default()
    };
    let status = Status {
        summary,
        last_at: Some(50_587),
        last_writer: Some(short(process)),
        lost: BTreeSet::from(["logind"]),
        waits_for: Some(format!("writing {one}")),
        policy_errors: 1,
        conflicts: HashMap::new(),
    };
    let text = status.text();
    assert!(text.is_ascii() && text.len() < NOTIFY_BUFFER_MAX, "{text:?}");
    super::assert_plain(&text);
}

fn receive() -> Vec<Vec<u8>> {
    SOCKET.with_borrow_mut(|socket| {
        let (socket, room) = socket.as_mut().expect("a journal");
        std::iter::from_fn(|| socket.recv(room).ok().map(|length| room[..length].to_vec())).collect()
    })
}

/// systemd's native journal protocol: `KEY=value\n`, or `KEY\n`, a little-endian length of 8 bytes, the value and `\n`.
fn decode(mut bytes: &[u8]) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
        let line = &bytes[..end];
        bytes = &bytes[end + 1..];
        let (name, value) = match line.iter().position(|byte| *byte == b'=') {
            Some(at) => (&line[..at], &line[at + 1..]),
            None => {
                let length = u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) as usize;
                let value = &bytes[8..8 + length];
                assert_eq!(bytes[8 + length], b'\n');
                bytes = &bytes[8 + length + 1..];
                (line, value)
            }
        };
        let text = |bytes: &[u8]| str::from_utf8(bytes).expect("UTF-8").to_string();
        assert!(fields.insert(text(name), text(value)).is_none(), "{} twice", text(name));
    }
    assert!(bytes.is_empty());
    fields
}
