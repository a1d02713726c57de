//! How other threads reach the guard thread, and how it tells them what it did: neither way ever waits.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use rustix::event::{EventfdFlags, eventfd};

use crate::guard::Summary;
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
#[derive(Clone)]
pub struct Handle {
    commands: Sender<Command>,
    bell: Arc<OwnedFd>,
}

impl Handle {
    /// A way to the guard thread, and its inbox.
    ///
    /// # Errors
    /// No descriptor left for the eventfd.
    pub fn new() -> io::Result<(Handle, Receiver<Command>)> {
        let (commands, inbox) = channel();
        let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        Ok((Handle { commands, bell }, inbox))
    }

    /// Never waits. A guard thread that has ended takes nothing, and its end is seen elsewhere.
    pub fn send(&self, command: Command) {
        if self.commands.send(command).is_ok() {
            // An eventfd is full only after 2^64 - 2 unread wake-ups.
            _ = rustix::io::write(&*self.bell, &1u64.to_ne_bytes());
        }
    }

    /// Readable when there is something in the inbox.
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// The inbox is about to be read.
    pub fn hush(&self) {
        _ = rustix::io::read(&*self.bell, &mut [0; 8]);
    }
}

/// Where the guard thread puts what it has to tell.
pub trait Outlet {
    /// Takes records, and the summary if it has changed. Must not wait.
    fn tell(&mut self, records: Vec<Record>, summary: Option<Summary>);
}
