//! What a record of a resume contains.

use std::collections::BTreeSet;
use std::time::Duration;

/// What reported a sleep or its end, in the order in which a record names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum By {
    Logind,
    Hook,
    Clocks,
    Hypervisor,
}

impl By {
    pub fn name(self) -> &'static str {
        match self {
            By::Logind => "logind",
            By::Hook => "the sleep hook",
            By::Clocks => "the clocks",
            By::Hypervisor => "the hypervisor's hook",
        }
    }
}

/// The data of a record about a resume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Woke {
    /// How long the kernel was suspended by the clocks, or from the announcement to the resume; `None` if neither is known.
    pub slept: Option<Duration>,
    /// How far the clock was set.
    pub step_usec: Option<i64>,
    pub noticed_by: BTreeSet<By>,
    /// The resume has a record already; this one lists what was restored since.
    pub again: bool,
}

impl Woke {
    /// `logind, the sleep hook and the clocks`
    pub fn noticed_by(&self) -> String {
        let names: Vec<_> = self.noticed_by.iter().map(|by| by.name()).collect();
        match names.split_last() {
            Some((last, [])) => (*last).into(),
            Some((last, others)) => format!("{} and {last}", others.join(", ")),
            None => "an unknown source".into(),
        }
    }
}
