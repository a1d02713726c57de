//! Where the guard thread sleeps, in poll(2).

use std::io;
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;

use super::{Engine, Mailbox, Sink};
use crate::kernel::sysctl::now_usec;

/// Events of writes wake the guard this often at most: a process that writes without end must not wake it without end.
const PAUSE_USEC: u64 = 20_000;

/// What has woken the guard, besides the kernel's notifications, which are always received.
pub(super) struct Woken {
    pub by_mailbox: bool,
    pub by_inotify: bool,
    pub by_fanotify: bool,
}

impl<O: Sink> Engine<O> {
    /// Sleeps for so many microseconds at most; for ever without.
    ///
    /// # Errors
    /// poll(2) failed, which it does only for want of memory.
    pub(super) fn sleep(&mut self, mailbox: &Mailbox, usec: Option<u64>) -> io::Result<Woken> {
        let timeout =
            usec.map(|usec| Timespec { tv_sec: (usec / 1_000_000) as i64, tv_nsec: (usec % 1_000_000 * 1000) as i64 });
        let is_awake = self.paused_until.is_none();
        let writes = self.writes.as_ref().ok().filter(|_| is_awake).map(AsFd::as_fd);
        let touches = self.sink.write_events().filter(|_| is_awake);
        let wait = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        let mut fds = vec![wait(self.notifications.as_fd()), wait(mailbox.event_fd())];
        fds.extend(writes.into_iter().chain(touches).map(wait));
        retry_on_intr(|| poll(&mut fds, timeout.as_ref()))?;
        let mut ready = fds.iter().map(|fd| !fd.revents().is_empty()).skip(1);
        let mut next = |is_there: bool| is_there && ready.next() == Some(true);
        let woken =
            Woken { by_mailbox: next(true), by_inotify: next(writes.is_some()), by_fanotify: next(touches.is_some()) };
        if woken.by_inotify || woken.by_fanotify {
            self.paused_until = Some(now_usec() + PAUSE_USEC);
        }
        Ok(woken)
    }
}
