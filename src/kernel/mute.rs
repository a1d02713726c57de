//! A socket filter for notifications of settings that somebody changes faster than anybody can listen (socket(7),
//! SO_ATTACH_FILTER; Documentation/networking/filter.rst).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::netconf::RTM_NEWNETCONF;
use crate::setting::{ALL, Attribute, Family};

/// `struct nlmsghdr`, `struct netconfmsg` and two attributes of 8 bytes each: the index and the one that changed
/// (`inet_netconf_notify_devconf`). A message with more is a registration and gets through.
const ONE_CHANGE_BYTES: u32 = 36;
const LENGTH_AT: u32 = 0;
const TYPE_AT: u32 = 4;
const FAMILY_AT: u32 = 16;
const IFINDEX_AT: u32 = 24;
const ATTRIBUTE_AT: u32 = 30;
/// linux/netconf.h
const NETCONFA_FORWARDING: u16 = 2;
const NETCONFA_RP_FILTER: u16 = 3;
/// More are heard all the same: the kernel takes 4,096 instructions.
const MUTED_MAX: usize = 256;

const WORD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const HALF: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
const BYTE: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;

/// Lets through what does not tell of one of `muted`. A change of [`ALL`] is told for each interface, too.
fn program(muted: &[(Family, Attribute, i32)]) -> Vec<libc::sock_filter> {
    let mut program = Vec::new();
    for (family, attribute, ifindex) in muted.iter().take(MUTED_MAX) {
        let family = match family {
            Family::V4 => libc::AF_INET,
            Family::V6 => libc::AF_INET6,
        };
        let attribute = match attribute {
            Attribute::Forwarding => NETCONFA_FORWARDING,
            Attribute::RpFilter => NETCONFA_RP_FILTER,
        };
        // The filter loads in network byte order, and netlink is in the host's.
        let mut tests = vec![
            (WORD, LENGTH_AT, ONE_CHANGE_BYTES.to_be()),
            (HALF, TYPE_AT, u32::from(RTM_NEWNETCONF.to_be())),
            (BYTE, FAMILY_AT, family as u32),
            (HALF, ATTRIBUTE_AT, u32::from(attribute.to_be())),
        ];
        if *ifindex != ALL {
            tests.push((WORD, IFINDEX_AT, (*ifindex as u32).to_be()));
        }
        for (number, (load, at, value)) in tests.iter().enumerate() {
            program.push(op(*load, *at));
            // What is not so goes on behind this setting's last instruction.
            let rest = 2 * (tests.len() - number - 1) + 1;
            let jump = op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, *value);
            program.push(libc::sock_filter { jf: rest as u8, ..jump });
        }
        program.push(op(libc::BPF_RET | libc::BPF_K, 0));
    }
    program.push(op(libc::BPF_RET | libc::BPF_K, u32::MAX));
    program
}

/// Drops, before they are queued, messages of `muted` alone.
///
/// # Errors
/// The kernel refused.
pub fn mute(socket: BorrowedFd<'_>, muted: &[(Family, Attribute, i32)]) -> io::Result<()> {
    attach(socket, program(muted))
}

/// Drops every message.
///
/// # Errors
/// The kernel refused.
pub fn deafen(socket: BorrowedFd<'_>) -> io::Result<()> {
    attach(socket, vec![op(libc::BPF_RET | libc::BPF_K, 0)])
}

fn op(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

fn attach(socket: BorrowedFd<'_>, mut program: Vec<libc::sock_filter>) -> io::Result<()> {
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    let size = size_of::<libc::sock_fprog>() as libc::socklen_t;
    // SAFETY: the kernel copies `len` instructions from a live vector, and keeps no pointer.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, (&raw const filter).cast(), size)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
