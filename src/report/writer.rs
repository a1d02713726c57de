//! The writer of a setting, and how a record names it.

use std::fmt;
use std::sync::Arc;

use crate::kernel::process::Process;

/// A command line is cut to this length in a record's text; WRITER_CMDLINE= has more of it.
const CMDLINE_CHARS: usize = 120;
/// A container's ID is shortened to this length, as container runtimes print it.
const CONTAINER_ID_CHARS: usize = 12;

/// The writer of a setting, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Writer {
    /// Writers were not tracked then: the setting was wrong before the program or its policy was loaded.
    BeforeStart,
    Process(Arc<Process>),
    Unknown(UnknownBecause),
}

impl Writer {
    pub fn process(&self) -> Option<&Process> {
        match self {
            Writer::Process(process) => Some(process),
            _ => None,
        }
    }

    /// The value of WRITER_UNKNOWN=.
    pub fn why(&self) -> Option<&'static str> {
        match self {
            Writer::Unknown(why) => Some(why.field()),
            _ => None,
        }
    }
}

/// Why the writer is unknown, or why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownBecause {
    NoFanotify,
    Refused,
    Unwatched,
    Unseen,
    Flood,
    Unnoticed,
    Inherited,
    Module,
}

impl UnknownBecause {
    /// The value of WRITER_UNKNOWN=. Unlike the text it never changes, because scripts compare it.
    fn field(self) -> &'static str {
        match self {
            UnknownBecause::NoFanotify => "without fanotify nobody can say",
            UnknownBecause::Refused => "the kernel does not let fwdguard watch its file for writers",
            UnknownBecause::Unwatched => "its file is not watched for writers",
            UnknownBecause::Unseen => "through another procfs, as in a container, or by the kernel itself",
            UnknownBecause::Flood => "more was written than could be followed",
            UnknownBecause::Unnoticed => "nothing was heard of it at the time",
            UnknownBecause::Inherited => "the kernel gave it to a new interface",
            UnknownBecause::Module => "a kernel module brought it",
        }
    }
}

impl fmt::Display for UnknownBecause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            UnknownBecause::NoFanotify => "fanotify is not available",
            UnknownBecause::Refused => "the kernel refused a fanotify watch on its file",
            UnknownBecause::Unwatched => "its file has no fanotify watch",
            UnknownBecause::Unseen => {
                "the write came through another procfs, as from a container, or from the kernel itself"
            }
            UnknownBecause::Flood => "there were too many writes to track",
            UnknownBecause::Unnoticed => "no notification of the change was received",
            UnknownBecause::Inherited => "the new interface inherited the value from 'default'",
            UnknownBecause::Module => "a kernel module created the setting with this value",
        })
    }
}

/// The end of a repair's text.
pub fn written_by(writer: &Writer) -> String {
    match writer {
        Writer::BeforeStart => String::new(),
        Writer::Process(process) => format!("; written by {}", name(process)),
        Writer::Unknown(why @ (UnknownBecause::Inherited | UnknownBecause::Module)) => format!("; no writer: {why}"),
        Writer::Unknown(why) => format!("; writer unknown: {why}"),
    }
}

/// `sysctl[4242] (sysctl -w net.ipv4.ip_forward=0), started by network[4240], unit network.service`
pub fn name(process: &Process) -> String {
    let mut text = short(process);
    if let Some(cmdline) = &process.cmdline {
        let cut: String = cmdline.chars().take(CMDLINE_CHARS).collect();
        text += &format!(" ({cut}{})", if cut.len() < cmdline.len() { "..." } else { "" });
    }
    if let Some((pid, comm)) = &process.parent {
        text += &format!(", started by {comm}[{pid}]");
    }
    let place = &process.place;
    if let Some(unit) = place.unit.as_ref().filter(|_| place.container.is_none()) {
        text += &format!(", unit {unit}");
    }
    if let Some(pod) = &place.pod {
        text += &format!(", pod {pod}");
    }
    if let Some(container) = &place.container {
        text += &format!(", container {}", container.get(..CONTAINER_ID_CHARS).unwrap_or(container));
    }
    text
}

/// `sysctl[4242]`
pub fn short(process: &Process) -> String {
    match (&process.comm, process.pid) {
        (Some(comm), pid) => format!("{comm}[{pid}]"),
        (None, 0) => "a process outside this PID namespace".into(),
        (None, pid) => format!("PID {pid} (exited before it could be identified)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::process::Place;

    #[test]
    fn writers_are_named_with_parent_unit_and_container() {
        let mut process = Process {
            pid: 4242,
            comm: Some("sysctl".into()),
            cmdline: Some("sysctl -w net.ipv4.ip_forward=0".into()),
            exe: None,
            parent: Some((4240, "network".into())),
            place: Place { unit: Some("network.service".into()), ..Place::default() },
        };
        let text = "sysctl[4242] (sysctl -w net.ipv4.ip_forward=0), started by network[4240], unit network.service";
        assert_eq!(name(&process), text);
        assert_eq!(written_by(&Writer::Process(process.clone().into())), format!("; written by {text}"));
        process.place = Place {
            unit: Some("cri-containerd-0123456789abcdef.scope".into()),
            pod: Some("6bb2bd2c-6d5c-4a3c-9d1a-0f2f8a9f1e77".into()),
            container: Some("0123456789abcdef".into()),
        };
        process.cmdline = Some("x".repeat(1024));
        assert_eq!(
            name(&process),
            format!(
                "sysctl[4242] ({}...), started by network[4240], pod 6bb2bd2c-6d5c-4a3c-9d1a-0f2f8a9f1e77, container 0123456789ab",
                "x".repeat(CMDLINE_CHARS)
            )
        );
        let gone = Process { pid: 4243, ..Process::default() };
        assert_eq!(name(&gone), "PID 4243 (exited before it could be identified)");
        assert_eq!(written_by(&Writer::BeforeStart), "");
        assert_eq!(
            written_by(&Writer::Unknown(UnknownBecause::Unseen)),
            "; writer unknown: the write came through another procfs, as from a container, or from the kernel itself"
        );
    }
}
