//! How other threads reach the guard thread, and how it tells them what it did: neither way ever waits.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use crate::guard::{Move, Summary};
use crate::policy::Policy;
use crate::report::decision::Log;
use crate::report::record::{Cause, Record};
use crate::report::woke::Woke;

/// What the other threads want of the guard thread.
pub enum Command {
    /// Read everything, repair all drift.
    Audit(Cause),
    /// What is put right from now on, and was so long before, belongs to a sleep.
    Note(Duration),
    /// Answer when all that was wanted before is done.
    Noted(tokio::sync::oneshot::Sender<()>),
    /// The node woke and has come to rest: tell what has been put right for this sleep.
    Tell(Cause, Woke),
    /// Take another policy; answer when it holds.
    Reload(Arc<Policy>, tokio::sync::oneshot::Sender<()>),
    /// A kernel module was loaded: look at the settings that it may have brought.
    LookElsewhere,
    /// Show that you are alive.
    Ping,
    Stop,
}

/// The way to the guard thread.
pub type Handle = crate::handle::Handle<Command>;

/// Where the guard thread puts what it has to tell.
pub trait Outlet {
    /// Takes records, and the summary if it has changed. Must not wait.
    fn tell(&mut self, records: Vec<Record>, summary: Option<Summary>);
    /// Takes what is to be logged beside records. Must not wait.
    fn log(&mut self, _log: Log) {}
    /// Takes what interfaces came and went, in order. Must not wait.
    fn moved(&mut self, moves: Vec<Move>);
    /// What becomes readable when somebody has written a setting, if that is watched.
    fn touches(&self) -> Option<BorrowedFd<'_>> {
        None
    }
    /// It became readable; whoever made it so has his repair. Must not wait.
    fn touched(&mut self) {}
}
