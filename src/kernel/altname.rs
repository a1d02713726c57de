//! Finds the interface that has an altname (ip-link(8)); `/proc/sys` knows only its name.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use netlink_packet_core::{NLA_HEADER_SIZE, NlasIterator};

use super::socket::Dumps;

/// linux/if_link.h; before Linux 5.5 there are no altnames, and the kernel answers with an error.
const IFLA_ALT_IFNAME: u16 = 53;
const IFLA_IFNAME: u16 = 3;
/// `struct ifinfomsg`
const IFINFOMSG_LEN: usize = 16;

/// The name of the interface that has the altname `name`. `None`: there is none, or the kernel does not answer.
pub fn find_by_altname(name: &OsStr) -> Option<OsString> {
    let length = NLA_HEADER_SIZE + name.len() + 1;
    let mut request = vec![0; IFINFOMSG_LEN];
    request.extend([u16::try_from(length).ok()?.to_ne_bytes(), IFLA_ALT_IFNAME.to_ne_bytes()].as_flattened());
    request.extend(name.as_bytes());
    request.resize(IFINFOMSG_LEN + length.next_multiple_of(4), 0);
    let mut found = None;
    let each = |answer: &[u8]| {
        let mut attributes = NlasIterator::new(answer.get(IFINFOMSG_LEN..).unwrap_or_default()).flatten();
        let own = attributes.find(|attribute| attribute.kind() == IFLA_IFNAME);
        let own = own.and_then(|own| Some(OsString::from(OsStr::from_bytes(own.value().strip_suffix(b"\0")?))));
        found = own.filter(|own| own != name);
    };
    Dumps::open().ok()?.ask(libc::RTM_GETLINK, 0, &request, each).ok()?;
    found
}
