//! Loaded kernel modules, and when to check the settings that they may have brought.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

use crate::kernel::uevents;
use crate::paths::register;

/// Before Linux 5.12 a module is announced before it has made its settings (`load_module`, kernel/module.c), which takes it some
/// milliseconds.
const LOOKS: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(10), Duration::from_millis(30), Duration::from_millis(80)];

/// The kernel's uevents, and the looks that are still to come.
pub struct Modules {
    uevents: AsyncFd<OwnedFd>,
    looks: VecDeque<Instant>,
}

impl Modules {
    /// # Errors
    /// As [`uevents::subscribe`].
    pub fn subscribe() -> io::Result<Modules> {
        Ok(Modules { uevents: register(uevents::subscribe()?)?, looks: VecDeque::new() })
    }

    /// Waits until it is time to look. Nothing is lost where this is not waited for to its end.
    ///
    /// # Errors
    /// The socket can't be read, with the kernel's reason.
    pub async fn look(&mut self) -> io::Result<()> {
        loop {
            let due = self.looks.front().copied();
            tokio::select! {
                ready = self.uevents.readable() => {
                    let mut ready = ready?;
                    ready.clear_ready();
                    if uevents::read(ready.get_inner())? {
                        // A burst of them is looked at as often as one, from its last one on.
                        self.looks = LOOKS.map(|after| Instant::now() + after).into();
                    }
                }
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.looks.pop_front();
                    return Ok(());
                }
            }
        }
    }
}
