//! Decisions and events as `fwdguard run -v` and `-vv` log them.

use std::fmt;
use std::sync::Arc;

use rustix::io::Errno;

use super::record::Cause;
use crate::setting::Key;
use crate::text::{duration, errno_text};

/// Events and decisions since the last log.
#[derive(Debug, Default)]
pub struct Log {
    pub events: Vec<String>,
    pub decisions: Vec<Decision>,
}

impl Log {
    pub fn lines(&self) -> usize {
        self.events.len() + self.decisions.len()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The name that the policy uses.
    pub key: String,
    pub found: Option<String>,
    pub wanted: Option<Arc<str>>,
    pub verdict: Verdict,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Holds,
    Written {
        cause: Cause,
        usec: u64,
    },
    Failed(Errno),
    Absent,
    NotNamed,
    Excluded,
    /// The family's `all.forwarding`, which this setting follows, is wrong, too.
    AllFirst,
    /// Another setting, which this one follows, is checked first.
    Behind(Key),
    /// For at least this many microseconds.
    Deferred {
        usec: u64,
        reason: &'static str,
    },
    /// The kernel refused the value.
    NotRetried,
    Muted,
}

/// `net.ipv4.conf.eth0.forwarding 0, wanted 1, deferred 40.0 ms: over its budget`
impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        self.found.as_ref().map_or(Ok(()), |found| write!(f, " {found}"))?;
        self.wanted.as_ref().map_or(Ok(()), |wanted| write!(f, ", wanted {wanted}"))?;
        match &self.verdict {
            Verdict::Holds => f.write_str(", correct"),
            Verdict::Written { cause, usec } => write!(f, ", written in {} (cause: {})", duration(*usec), cause.name()),
            Verdict::Failed(errno) => write!(f, ", failed: {}", errno_text(*errno)),
            Verdict::Absent => f.write_str(", no action: the setting does not exist"),
            Verdict::NotNamed => f.write_str(", no action: the policy does not name it"),
            Verdict::Excluded => f.write_str(", no action: the policy excludes it"),
            Verdict::AllFirst => f.write_str(", deferred: all.forwarding of its family is restored first"),
            Verdict::Behind(leader) => write!(f, ", deferred: {leader}, which it follows, is restored first"),
            Verdict::Deferred { usec, reason } => write!(f, ", deferred {}: {reason}", duration(*usec)),
            Verdict::NotRetried => f.write_str(", not retried before the next audit: the kernel refused the value"),
            Verdict::Muted => f.write_str(", notifications muted: handling them exceeds the budget for repairs"),
        }
    }
}
