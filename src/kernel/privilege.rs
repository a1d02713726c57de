//! Gives up every capability but CAP_NET_ADMIN, before any other thread exists.

use std::io;

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_no_new_privs};

/// Keeps CAP_NET_ADMIN, if the process has it, and no other capability, for this thread and those that it starts; exec gains none
/// (capabilities(7), PR_SET_NO_NEW_PRIVS).
///
/// # Errors
/// The kernel refused.
pub fn drop_privileges() -> io::Result<()> {
    set_no_new_privs(true)?;
    let kept = capabilities(None)?.permitted.intersection(CapabilitySet::NET_ADMIN);
    let inheritable = CapabilitySet::empty();
    Ok(set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable })?)
}
