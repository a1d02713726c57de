//! The kernel's interfaces: rtnetlink, `/proc/sys`, inotify, fanotify, `/proc/PID`, capabilities and scheduling.
//!
//! One file an interface, each a safe function or two over it. Nothing here knows the policy.

pub mod altname;
pub mod descriptors;
pub mod fanotify;
pub mod filter;
pub mod inotify;
pub mod links;
pub mod message;
pub mod name;
pub mod netconf;
pub mod privilege;
pub mod process;
pub mod scheduling;
pub mod socket;
pub mod sysctl;
#[cfg(test)]
mod tests;
pub mod uevents;
