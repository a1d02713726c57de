//! Where the guard thread sleeps: until the kernel says something, another thread wants something, or time is up.

use std::io;
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;

use super::{Handle, Keeper, Outlet};
use crate::kernel::sysctl::now_usec;

/// Events of writes wake the guard this often at most: who writes without end must not wake it without end.
const PAUSE_USEC: u64 = 10_000;

/// Whom there is something from, besides the kernel's notifications, which are always read.
pub(super) struct Woken {
    pub rung: bool,
    pub written: bool,
    pub touched: bool,
}

impl<O: Outlet> Keeper<O> {
    /// Sleeps for so many microseconds at most; for ever without.
    ///
    /// # Errors
    /// poll(2) failed, which it does only for want of memory.
    pub(super) fn sleep(&mut self, handle: &Handle, usec: Option<u64>) -> io::Result<Woken> {
        let timeout =
            usec.map(|usec| Timespec { tv_sec: (usec / 1_000_000) as i64, tv_nsec: (usec % 1_000_000 * 1000) as i64 });
        let is_awake = self.paused_until.is_none();
        let writes = self.writes.as_ref().ok().filter(|_| is_awake).map(AsFd::as_fd);
        let touches = self.outlet.touches().filter(|_| is_awake);
        let wait = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        let mut fds = vec![wait(self.notifications.as_fd()), wait(handle.bell())];
        fds.extend(writes.into_iter().chain(touches).map(wait));
        retry_on_intr(|| poll(&mut fds, timeout.as_ref()))?;
        let mut ready = fds.iter().map(|fd| !fd.revents().is_empty()).skip(1);
        let mut next = |is_there: bool| is_there && ready.next() == Some(true);
        let woken = Woken { rung: next(true), written: next(writes.is_some()), touched: next(touches.is_some()) };
        if woken.written || woken.touched {
            self.paused_until = Some(now_usec() + PAUSE_USEC);
        }
        Ok(woken)
    }
}
