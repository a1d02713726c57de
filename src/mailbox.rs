//! A channel to a thread that waits in poll(2): sending never waits, and the receiver has a descriptor to poll.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use rustix::event::{EventfdFlags, eventfd};

/// Sends to such a thread.
pub struct Mailbox<T> {
    commands: Sender<T>,
    event_fd: Arc<OwnedFd>,
}

impl<T> Clone for Mailbox<T> {
    fn clone(&self) -> Self {
        Mailbox { commands: self.commands.clone(), event_fd: self.event_fd.clone() }
    }
}

impl<T> Mailbox<T> {
    /// A mailbox, and the inbox that its thread reads.
    ///
    /// # Errors
    /// No descriptor left for the eventfd.
    pub fn new() -> io::Result<(Mailbox<T>, Receiver<T>)> {
        let (commands, inbox) = channel();
        let event_fd = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        Ok((Mailbox { commands, event_fd }, inbox))
    }

    /// Never waits. If the thread has ended, this does nothing: its end is noticed elsewhere.
    pub fn send(&self, command: T) {
        if self.commands.send(command).is_ok() {
            self.wake();
        }
    }

    /// Wakes the thread, with nothing new in its inbox.
    pub fn wake(&self) {
        // An eventfd is full only after 2^64 - 2 unread wake-ups.
        _ = rustix::io::write(&*self.event_fd, &1u64.to_ne_bytes());
    }

    /// Readable after a command or a wake-up.
    pub fn event_fd(&self) -> BorrowedFd<'_> {
        self.event_fd.as_fd()
    }

    /// Resets the descriptor; the inbox is read afterwards.
    pub fn clear(&self) {
        _ = rustix::io::read(&*self.event_fd, &mut [0; 8]);
    }
}
