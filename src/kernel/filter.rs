//! A socket filter against excessive notifications (socket(7), SO_ATTACH_FILTER;
//! Documentation/networking/filter.rst), of settings that another process changes all the time.

use std::io;
use std::os::fd::BorrowedFd;

use socket2::{SockFilter, SockRef};

use super::netconf::RTM_NEWNETCONF;
use crate::setting::{ALL, Family};

/// A setting of an interface, by the number of its attribute (linux/netconf.h), and the interface's index.
pub type Muted = (Family, u16, i32);

/// `struct nlmsghdr`, `struct netconfmsg` and two attributes of 8 bytes each: the index and the one that changed
/// (`inet_netconf_notify_devconf`). A message with more is a registration and passes.
const ONE_CHANGE_BYTES: u32 = 36;
const LENGTH_AT: u32 = 0;
const TYPE_AT: u32 = 4;
const FAMILY_AT: u32 = 16;
const IFINDEX_AT: u32 = 24;
const ATTRIBUTE_AT: u32 = 30;
/// The kernel takes 4,096 instructions; messages of more settings than this are received.
const MUTED_MAX: usize = 256;

pub(super) const PASS: u32 = u32::MAX;
pub(super) const DROP: u32 = 0;
pub(super) const WORD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const HALF: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
const BYTE: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;

/// The instruction that loads, its offset, and the value that is compared.
pub(super) type Test = (u32, u32, u32);

/// Drops messages of `muted`, and passes all others. A change of [`ALL`] is announced for each interface, too.
fn program(muted: &[Muted]) -> Vec<SockFilter> {
    let mut program = Vec::new();
    for (family, attribute, ifindex) in muted.iter().take(MUTED_MAX) {
        // The filter loads in network byte order, and netlink is in the host's.
        let mut tests = vec![
            (WORD, LENGTH_AT, ONE_CHANGE_BYTES.to_be()),
            (HALF, TYPE_AT, u32::from(RTM_NEWNETCONF.to_be())),
            (BYTE, FAMILY_AT, family.number().into()),
            (HALF, ATTRIBUTE_AT, u32::from(attribute.to_be())),
        ];
        if *ifindex != ALL {
            tests.push((WORD, IFINDEX_AT, (*ifindex as u32).to_be()));
        }
        program.extend(end_if_all(&tests, DROP));
    }
    program.push(end(PASS));
    program
}

/// Ends with `verdict` for a message that passes all tests; the filter goes on with any other.
pub(super) fn end_if_all(tests: &[Test], verdict: u32) -> Vec<SockFilter> {
    let jump = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    let mut program = Vec::new();
    for (number, (load, at, value)) in tests.iter().enumerate() {
        let rest = (2 * (tests.len() - number - 1) + 1) as u8;
        program.extend([SockFilter::new(*load as u16, 0, 0, *at), SockFilter::new(jump, 0, rest, *value)]);
    }
    program.push(end(verdict));
    program
}

/// Ends with [`PASS`] or [`DROP`].
pub(super) fn end(verdict: u32) -> SockFilter {
    SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, verdict)
}

/// Drops, before they are queued, messages of `muted`.
///
/// # Errors
/// The kernel refused.
pub fn mute(socket: BorrowedFd<'_>, muted: &[Muted]) -> io::Result<()> {
    attach(socket, &program(muted))
}

/// Drops every message.
///
/// # Errors
/// The kernel refused.
pub fn deafen(socket: BorrowedFd<'_>) -> io::Result<()> {
    attach(socket, &[end(DROP)])
}

pub(super) fn attach(socket: BorrowedFd<'_>, program: &[SockFilter]) -> io::Result<()> {
    SockRef::from(&socket).attach_filter(program)
}
