//! File descriptors: how many the service needs, and which are reserved for repairs where there are few.

use std::os::fd::{AsFd, AsRawFd};

use anyhow::{Result, ensure};
use rustix::process::{Resource, getrlimit};

/// Sockets, timers, D-Bus, the files of `all` and `default`, and [`RESERVED`].
const LEAST: u64 = 64;
/// So many are reserved for repairs, D-Bus and the policy's files, and not used to identify writers or to repair sooner.
const RESERVED: u64 = 24;

/// # Errors
/// The limit is too low for guarding.
pub fn ensure_enough() -> Result<()> {
    let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    ensure!(most >= LEAST, "{most} file descriptors are too few, {LEAST} are needed; raise LimitNOFILE= (ulimit -n)");
    Ok(())
}

/// Whether `fd`, the newest, leaves only the reserved descriptors. The limit may change at any time.
pub fn is_one_of_the_last(fd: impl AsFd) -> bool {
    let limit = getrlimit(Resource::Nofile).current;
    limit.is_some_and(|limit| fd.as_fd().as_raw_fd() as u64 + RESERVED >= limit)
}
