//! The contents of `/proc/PID`: names stay as they were, nothing in them controls a terminal, and no name is taken for another.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use fwdguard::kernel::process::{Place, Process, cmdline, place, stat};
use fwdguard::report::writer::{Writer, name, short, written_by};
use fwdguard::setting::{Key, printable};

/// `TASK_COMM_LEN`, without the NUL.
const COMM_BYTES: usize = 15;

pub fn holds(data: &[u8]) {
    let mut parts = super::parts(data);
    let mut next = || parts.next().unwrap_or_default();
    let (comm, arguments, cgroup, line) = (next(), next(), next(), next());
    let comm = &comm[..comm.len().min(COMM_BYTES)];
    let escaped = |bytes| printable(OsStr::from_bytes(bytes));

    // Whatever name a process has, its parent's PID is the kernel's.
    let parent = i32::from(arguments.first().copied().unwrap_or_default()) * 1000;
    let made = [b"42 (", comm, format!(") S {parent} 42 42 0 -1 4194304").as_bytes()].concat();
    assert_eq!(stat(&made), Some((escaped(comm), parent)));
    if let Some((comm, _)) = stat(line) {
        super::assert_plain(&comm);
    }

    let command = cmdline(arguments, &Key::ip_forward());
    assert_eq!(command.is_none(), matches!(arguments, b"" | b"\0"), "{arguments:?}");
    if let Some(command) = &command {
        super::assert_plain(command);
        // There is one separator of one character between arguments, and nothing else is added.
        let arguments = arguments.strip_suffix(b"\0").unwrap_or(arguments);
        let joined: Vec<String> = arguments.split(|byte| *byte == 0).map(escaped).collect();
        assert_eq!(command.replace('=', " "), joined.join(" ").replace('=', " "));
    }

    for bytes in [cgroup, line] {
        judge(&place(bytes));
        // A line of another hierarchy after systemd's own does not hide it.
        let own = [b"0::/system.slice/network.service\n9:pids:", bytes].concat();
        assert_eq!(place(&own).unit.as_deref(), Some("network.service"), "{bytes:?}");
    }

    let process = Process {
        pid: parent,
        comm: Some(escaped(comm)),
        cmdline: command,
        exe: Some(escaped(line)),
        parent: Some((parent, escaped(comm))),
        place: place(cgroup),
    };
    for text in [short(&process), name(&process), written_by(&Writer::Process(Arc::new(process.clone())))] {
        super::assert_plain(&text);
        assert!(text.contains(&format!("[{parent}]")), "{text}");
    }
    assert!(process.does_the_same(&Process { pid: 1, ..process.clone() }));
}

fn judge(place: &Place) {
    if let Some(unit) = &place.unit {
        super::assert_plain(unit);
        assert!(!unit.contains('/') && (unit.ends_with(".service") || unit.ends_with(".scope")), "{unit}");
    }
    if let Some(pod) = &place.pod {
        assert!(pod.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-'), "{pod}");
        assert!(matches!(pod.len(), 32 | 36), "{pod}");
    }
    if let Some(container) = &place.container {
        assert!(container.len() == 64 && container.bytes().all(|byte| byte.is_ascii_hexdigit()), "{container}");
    }
}
