//! The kernel's side: its notifications and dumps over rtnetlink, and `/proc/sys`.

pub mod message;
pub mod netconf;
pub mod socket;
pub mod sysctl;
#[cfg(test)]
mod tests;
