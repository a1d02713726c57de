//! Loaded kernel modules, and when to check the settings that they may have brought.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use futures_util::future::OptionFuture;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep_until};

use crate::kernel::uevents;
use crate::paths::register;

/// Before Linux 5.12 a module is announced before it has made its settings (`load_module`, kernel/module.c), which takes it some
/// milliseconds.
const CHECKS: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(10), Duration::from_millis(30), Duration::from_millis(80)];

/// The kernel's uevents, and the checks that are still to come.
pub struct Modules {
    uevents: AsyncFd<OwnedFd>,
    checks: VecDeque<Instant>,
}

impl Modules {
    /// # Errors
    /// As [`uevents::subscribe`].
    pub fn subscribe() -> io::Result<Modules> {
        Ok(Modules { uevents: register(uevents::subscribe()?)?, checks: VecDeque::new() })
    }

    /// Waits until a check is due. To drop the future loses nothing.
    ///
    /// # Errors
    /// The socket can't be read, with the kernel's reason.
    pub async fn check_due(&mut self) -> io::Result<()> {
        loop {
            let due = self.checks.front().map(|due| sleep_until(*due));
            tokio::select! {
                ready = self.uevents.readable() => {
                    let mut ready = ready?;
                    ready.clear_ready();
                    if uevents::read(ready.get_inner())? {
                        // A burst of modules gets as many checks as one, counted from its last.
                        self.checks = CHECKS.map(|after| Instant::now() + after).into();
                    }
                }
                Some(()) = OptionFuture::from(due) => {
                    self.checks.pop_front();
                    return Ok(());
                }
            }
        }
    }
}
