//! Commands to the guard thread, and the sink of its records. Neither side ever waits.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use crate::policy::Policy;
use crate::report::decision::Log;
use crate::report::record::{Cause, Record};
use crate::report::woke::Woke;
use crate::state::{Move, Summary};

/// Commands of the other threads to the guard thread.
pub enum Command {
    /// Read everything, repair all drift.
    Audit(Cause),
    /// What is repaired from now on, and was so long before, belongs to a sleep.
    MarkSleep(Duration),
    /// Answer when all commands before are done.
    Acknowledge(tokio::sync::oneshot::Sender<()>),
    /// The node woke and has come to rest: log what has been repaired for this sleep.
    ReportResume(Cause, Woke),
    /// Apply another policy; answer when that is done.
    Reload(Arc<Policy>, tokio::sync::oneshot::Sender<()>),
    /// A kernel module was loaded: check the settings that it may have brought.
    CheckGlobal,
    /// Wake up, and so show that the thread is alive.
    Ping,
    Stop,
}

/// The way to the guard thread.
pub type Mailbox = crate::mailbox::Mailbox<Command>;

/// Where the guard thread publishes records.
pub trait Sink {
    /// Takes records, and the summary if it has changed. Must not wait.
    fn publish(&mut self, records: Vec<Record>, summary: Option<Summary>);
    /// Takes what is to be logged beside records. Must not wait.
    fn log(&mut self, _log: Log) {}
    /// Takes the interfaces that came and went, in order. Must not wait.
    fn interfaces_changed(&mut self, moves: Vec<Move>);
    /// A descriptor that becomes readable when a process has written a setting, if that is watched.
    fn write_events(&self) -> Option<BorrowedFd<'_>> {
        None
    }
    /// It became readable, and the repair is done. Must not wait.
    fn on_write_event(&mut self) {}
}
