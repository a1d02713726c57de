//! The kernel's side: its notifications and dumps over rtnetlink, `/proc/sys`, and who writes there.

pub mod altname;
pub mod descriptors;
pub mod links;
pub mod message;
pub mod mute;
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
pub mod writers;
pub mod writes;
