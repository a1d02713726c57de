//! A channel to a thread that waits in poll(2): the sender never waits, and the receiver has a descriptor to wait for.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use rustix::event::{EventfdFlags, eventfd};

/// The way to such a thread.
pub struct Handle<T> {
    commands: Sender<T>,
    bell: Arc<OwnedFd>,
}

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        Handle { commands: self.commands.clone(), bell: self.bell.clone() }
    }
}

impl<T> Handle<T> {
    /// The way to a thread, and its inbox.
    ///
    /// # Errors
    /// No descriptor left for the eventfd.
    pub fn new() -> io::Result<(Handle<T>, Receiver<T>)> {
        let (commands, inbox) = channel();
        let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        Ok((Handle { commands, bell }, inbox))
    }

    /// Never waits. A thread that has ended takes nothing, and its end is seen elsewhere.
    pub fn send(&self, command: T) {
        if self.commands.send(command).is_ok() {
            self.ring();
        }
    }

    /// Wakes the thread, with nothing new in its inbox.
    pub fn ring(&self) {
        // An eventfd is full only after 2^64 - 2 unread wake-ups.
        _ = rustix::io::write(&*self.bell, &1u64.to_ne_bytes());
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
