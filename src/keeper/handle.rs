//! How other threads reach the guard thread, and how it tells them what it did: neither way ever waits.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use crate::guard::{Move, Summary};
use crate::policy::Policy;
use crate::report::record::{Cause, Record};

/// What the other threads want of the guard thread.
pub enum Command {
    /// Read everything, repair all drift.
    Audit(Cause),
    /// The node is about to sleep; answer when it has been noted.
    Note(tokio::sync::oneshot::Sender<()>),
    /// The node woke: audit, and tell what had changed.
    Woke(Cause, crate::guard::resume::Woke),
    /// Take another policy; answer when it holds.
    Reload(Arc<Policy>, tokio::sync::oneshot::Sender<()>),
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
    /// Takes what interfaces came and went, in order. Must not wait.
    fn moved(&mut self, moves: Vec<Move>);
    /// What becomes readable when somebody has written a setting, if that is watched.
    fn touches(&self) -> Option<BorrowedFd<'_>> {
        None
    }
    /// It became readable; whoever made it so has his repair. Must not wait.
    fn touched(&mut self) {}
}
