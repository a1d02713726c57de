//! A socket filter for notifications that are too many to listen to (socket(7), SO_ATTACH_FILTER;
//! Documentation/networking/filter.rst): of settings that somebody changes without end, and of what our own write does.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::netconf::{NETCONFA_FORWARDING, RTM_NEWNETCONF};
use crate::setting::{ALL, DEFAULT, Family};

/// A setting of an interface, by the number of its attribute (linux/netconf.h), and the interface's index.
pub type Muted = (Family, u16, i32);

/// `struct nlmsghdr`, `struct netconfmsg` and two attributes of 8 bytes each: the index and the one that changed
/// (`inet_netconf_notify_devconf`). A message with more is a registration and gets through.
const ONE_CHANGE_BYTES: u32 = 36;
const LENGTH_AT: u32 = 0;
const TYPE_AT: u32 = 4;
const FAMILY_AT: u32 = 16;
const IFINDEX_AT: u32 = 24;
const ATTRIBUTE_AT: u32 = 30;
const VALUE_AT: u32 = 32;
/// More are heard all the same: the kernel takes 4,096 instructions.
const MUTED_MAX: usize = 256;

pub(super) const WORD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const HALF: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
const BYTE: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;

/// What is loaded, from where, and what it is compared with; whether a message is dropped where it is that.
type Test = (u32, u32, u32, bool);

/// What tells that one setting changed, be it of which interface it may.
fn one_change(family: Family, attribute: u16) -> Vec<Test> {
    // The filter loads in network byte order, and netlink is in the host's.
    vec![
        (WORD, LENGTH_AT, ONE_CHANGE_BYTES.to_be(), true),
        (HALF, TYPE_AT, u32::from(RTM_NEWNETCONF.to_be()), true),
        (BYTE, FAMILY_AT, family.number().into(), true),
        (HALF, ATTRIBUTE_AT, u32::from(attribute.to_be()), true),
    ]
}

/// Lets through what does not tell of one of `muted`, nor that an interface follows [`ALL`] to `fan_out`. A change of [`ALL`]
/// is told for each interface, too.
fn program(muted: &[Muted], fan_out: Option<i32>) -> Vec<libc::sock_filter> {
    let mut program = Vec::new();
    for (family, attribute, ifindex) in muted.iter().take(MUTED_MAX) {
        let mut tests = one_change(*family, *attribute);
        if *ifindex != ALL {
            tests.push((WORD, IFINDEX_AT, (*ifindex as u32).to_be(), true));
        }
        program.extend(drop_if_all(&tests));
    }
    if let Some(value) = fan_out {
        let mut tests = one_change(Family::V4, NETCONFA_FORWARDING);
        tests.push((WORD, VALUE_AT, (value as u32).to_be(), true));
        tests.extend([ALL, DEFAULT].map(|ifindex| (WORD, IFINDEX_AT, (ifindex as u32).to_be(), false)));
        program.extend(drop_if_all(&tests));
    }
    program.push(op(libc::BPF_RET | libc::BPF_K, u32::MAX));
    program
}

/// Drops a message that is what all tests want, and goes on behind this with others.
fn drop_if_all(tests: &[Test]) -> Vec<libc::sock_filter> {
    let mut program = Vec::new();
    for (number, (load, at, value, wanted)) in tests.iter().enumerate() {
        program.push(op(*load, *at));
        let rest = (2 * (tests.len() - number - 1) + 1) as u8;
        let (jt, jf) = if *wanted { (0, rest) } else { (rest, 0) };
        program.push(libc::sock_filter { jt, jf, ..op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, *value) });
    }
    program.push(op(libc::BPF_RET | libc::BPF_K, 0));
    program
}

/// Drops, before they are queued, messages of `muted`, and those that say of an interface that its IPv4 forwarding is now
/// `fan_out`.
///
/// # Errors
/// The kernel refused.
pub fn mute(socket: BorrowedFd<'_>, muted: &[Muted], fan_out: Option<i32>) -> io::Result<()> {
    attach(socket, program(muted, fan_out))
}

/// Drops every message.
///
/// # Errors
/// The kernel refused.
pub fn deafen(socket: BorrowedFd<'_>) -> io::Result<()> {
    attach(socket, vec![op(libc::BPF_RET | libc::BPF_K, 0)])
}

pub(super) fn op(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

pub(super) fn attach(socket: BorrowedFd<'_>, mut program: Vec<libc::sock_filter>) -> io::Result<()> {
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    let size = size_of::<libc::sock_fprog>() as libc::socklen_t;
    // SAFETY: the kernel copies `len` instructions from a live vector, and keeps no pointer.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, (&raw const filter).cast(), size)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
