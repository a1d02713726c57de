//! The kinds of records, with their MESSAGE_IDs and journal fields.

use std::sync::Arc;

use rustix::io::Errno;

use super::woke::Woke;
use super::writer::Writer;
use crate::policy::Source;
use crate::policy::conflicts::{Origin, Remedy};
use crate::setting::Key;

/// The source whose loss leaves every interface unguarded.
pub const INTERFACES: &str = "the interfaces";
/// The source whose loss leaves nothing guarded.
pub const SOCKET: &str = "the rtnetlink socket";

/// What triggered the check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Start,
    Reload,
    Resume,
    Hypervisor,
    Clock,
    Link,
    Write,
    ManagerRestart,
    Overrun,
    Module,
    Audit,
}

impl Cause {
    pub fn name(self) -> &'static str {
        match self {
            Cause::Start => "start",
            Cause::Reload => "reload",
            Cause::Resume => "resume",
            Cause::Hypervisor => "hypervisor",
            Cause::Clock => "clock",
            Cause::Link => "link",
            Cause::Write => "write",
            Cause::ManagerRestart => "manager-restart",
            Cause::Overrun => "overrun",
            Cause::Module => "module",
            Cause::Audit => "audit",
        }
    }
}

/// The priorities of sd-daemon(3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    Error,
    Warning,
    Notice,
    Info,
}

/// The setting that a record is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The name that the policy uses.
    pub key: String,
    /// The same, but for a setting that a pattern names: the pattern.
    pub rule: Arc<str>,
    pub ours: Arc<str>,
    pub source: Source,
    pub cause: Cause,
}

/// One record of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    Started {
        settings: usize,
        interfaces: usize,
        repaired: usize,
    },
    PolicyLoaded {
        lines: usize,
        errors: usize,
    },
    PolicyError {
        source: Source,
        text: String,
    },
    PolicyNotice {
        source: Source,
        text: String,
    },
    /// A line of sysctl.d, ufw, the kernel's command line or TuneD conflicts with the policy.
    Conflict {
        key: String,
        ours: Arc<str>,
        policy: Source,
        says: Arc<str>,
        source: Source,
        origin: Origin,
        /// The line that overrides this one for as long as it exists.
        behind: Option<Source>,
        remedy: Option<Remedy>,
    },
    Repaired {
        subject: Subject,
        /// Before the foreign write, where it is known.
        old: Option<String>,
        /// The value that was found.
        new: String,
        /// The key by its one name, to find the writer.
        key: Key,
        /// When the notification was received, if there was one, and when the repair was done, in monotonic microseconds.
        received: Option<u64>,
        finished: u64,
        /// Interfaces that lost forwarding with it and were restored.
        interfaces: usize,
        /// When it was last seen correct, where that was not just before.
        last_good: Option<u64>,
        /// Filled in by the reporter, which can wait for it.
        writer: Writer,
    },
    /// A setting is changed back again and again. The reporter fills in the writers, and the conflicting lines of files.
    Contested {
        subject: Subject,
        key: Key,
        repairs: u64,
        since: u64,
        /// Within how many microseconds.
        usec: u64,
        writers: Vec<String>,
        conflicts: Vec<String>,
    },
    /// Repairs that had no record of their own.
    StillContested {
        subject: Subject,
        key: Key,
        count: u64,
        since: u64,
        until: u64,
        writers: Vec<String>,
    },
    ContestOver {
        subject: Subject,
        repairs: u64,
        usec: u64,
    },
    RepairFailed {
        subject: Subject,
        found: Option<String>,
        errno: Option<Errno>,
    },
    SlowWrite {
        key: String,
        usec: u64,
    },
    Resumed {
        cause: Cause,
        woke: Woke,
        changed: Vec<String>,
    },
    Resynchronised {
        reason: String,
    },
    SourceLost {
        source: &'static str,
        reason: String,
    },
    SourceBack {
        source: &'static str,
    },
    RecordsDropped {
        count: u64,
    },
    Stopping {
        repairs: u64,
    },
}

impl Record {
    /// The kind's fixed MESSAGE_ID (sd_journal_print(3), systemd.journal-fields(7)).
    pub fn message_id(&self) -> &'static str {
        self.kind().0
    }

    pub fn priority(&self) -> Priority {
        self.kind().1
    }

    fn kind(&self) -> (&'static str, Priority) {
        use Priority::{Error, Info, Notice, Warning};
        match self {
            Record::Started { .. } => ("76e75cac59024da9acf0a977822090b6", Info),
            Record::PolicyLoaded { .. } => ("79040de9f5c345cb8f524bbda805a2e0", Info),
            Record::PolicyError { .. } => ("acea1772d3a84dd7b76effd46d601b6b", Warning),
            Record::PolicyNotice { .. } => ("225e5821a729427082b9563cb5f627f9", Notice),
            Record::Conflict { .. } => ("d8941a6296ae4bb4aa76b91645255e01", Warning),
            Record::Repaired { .. } => ("02a3fbd85f774dd6911132d4e66f40b6", Warning),
            Record::Contested { .. } => ("9c066761f54e4c769d543fc025a02450", Warning),
            Record::StillContested { .. } => ("91a3ec93c5b941a594846d69d57e768a", Warning),
            Record::ContestOver { .. } => ("729c7260327b4703bf6cd6e6c8445894", Notice),
            Record::RepairFailed { .. } => ("335c363c6de74cfcbe8d179130a98009", Error),
            Record::SlowWrite { .. } => ("39f6c0d7893a46a4b60450495aef273e", Warning),
            Record::Resumed { .. } => ("51cf4aab661e45d0960bd38d8c964d14", Info),
            Record::Resynchronised { .. } => ("b90d6a12c4a44e1483f4b76ccdf9a44a", Warning),
            Record::SourceLost { source, .. } => (
                "7537f41c4e6e4855af1a292486f5c100",
                if matches!(*source, INTERFACES | SOCKET) { Error } else { Warning },
            ),
            Record::SourceBack { .. } => ("876be2501dec44c1a999b4aafc1e8474", Info),
            Record::RecordsDropped { .. } => ("ffc217b33086402aa8bfbbda06a4edb6", Warning),
            Record::Stopping { .. } => ("690e63aebaf04fd394aea61756d49868", Info),
        }
    }

    pub fn subject(&self) -> Option<&Subject> {
        match self {
            Record::Repaired { subject, .. }
            | Record::Contested { subject, .. }
            | Record::StillContested { subject, .. }
            | Record::ContestOver { subject, .. }
            | Record::RepairFailed { subject, .. } => Some(subject),
            _ => None,
        }
    }

    /// The line of the policy that the record is about.
    pub fn source(&self) -> Option<&Source> {
        match self {
            Record::PolicyError { source, .. } | Record::PolicyNotice { source, .. } => Some(source),
            Record::Conflict { policy, .. } => Some(policy),
            _ => self.subject().map(|subject| &subject.source),
        }
    }
}
