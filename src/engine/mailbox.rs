//! Commands to the guard thread, and the sink of its records. Neither side ever waits.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use crate::policy::Policy;
use crate::report::decision::Log;
use crate::report::record::{Cause, Record};
use crate::report::woke::Woke;
use crate::state::{Move, Summary};

/// What the other threads want of the guard thread.
pub enum Command {
    /// Read everything, repair all drift.
    Audit(Cause),
    /// What is put right from now on, and was so long before, belongs to a sleep.
    MarkSleep(Duration),
    /// Answer when all that was wanted before is done.
    Acknowledge(tokio::sync::oneshot::Sender<()>),
    /// The node woke and has come to rest: tell what has been put right for this sleep.
    ReportResume(Cause, Woke),
    /// Take another policy; answer when it holds.
    Reload(Arc<Policy>, tokio::sync::oneshot::Sender<()>),
    /// A kernel module was loaded: look at the settings that it may have brought.
    CheckGlobal,
    /// Show that you are alive.
    Ping,
    Stop,
}

/// The way to the guard thread.
pub type Mailbox = crate::mailbox::Mailbox<Command>;

/// Where the guard thread puts what it has to tell.
pub trait Sink {
    /// Takes records, and the summary if it has changed. Must not wait.
    fn publish(&mut self, records: Vec<Record>, summary: Option<Summary>);
    /// Takes what is to be logged beside records. Must not wait.
    fn log(&mut self, _log: Log) {}
    /// Takes what interfaces came and went, in order. Must not wait.
    fn interfaces_changed(&mut self, moves: Vec<Move>);
    /// What becomes readable when somebody has written a setting, if that is watched.
    fn write_events(&self) -> Option<BorrowedFd<'_>> {
        None
    }
    /// It became readable; whoever made it so has his repair. Must not wait.
    fn on_write_event(&mut self) {}
}
