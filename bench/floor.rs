//! The programs that the guard is compared with: the minimum that any program must do, and what administrators use instead.

use std::ffi::CString;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use crate::node::Target;

pub const RTNLGRP_IPV4_NETCONF: u32 = 24;
const RTM_NEWNETCONF: u16 = 80;
const RTM_GETNETCONF: u8 = 82;
const NLMSG_ERROR: u8 = 2;
const NLMSG_DONE: u8 = 3;
const NETCONFA_IFINDEX: u16 = 1;
/// The receive timeout; after it, `Flips::once` reads the setting.
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(1);
/// `struct nlmsghdr` and the padded `struct netconfmsg`.
const ATTRIBUTES: usize = 16 + 4;

fn checked(result: libc::c_long) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as libc::c_int) }
}

fn netlink() -> io::Result<OwnedFd> {
    // SAFETY: socket(2) takes no pointer; the descriptor has no other owner.
    unsafe {
        let raw = libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE);
        Ok(OwnedFd::from_raw_fd(checked(raw.into())?))
    }
}

/// Requests IPv4's netconf of all interfaces and receives it, without reading the values.
pub fn dump() -> io::Result<()> {
    let socket = netlink()?;
    let mut request = [0_u8; 20];
    request[0] = 20; // length, then the type and NLM_F_REQUEST | NLM_F_DUMP, and the family
    (request[4], request[6], request[7], request[16]) = (RTM_GETNETCONF, 1, 3, libc::AF_INET as u8);
    // SAFETY: the request lives through the call, and its length is its own.
    checked(unsafe { libc::send(socket.as_raw_fd(), request.as_ptr().cast(), request.len(), 0) } as libc::c_long)?;
    let mut buffer = vec![0_u8; 64 << 10];
    loop {
        // SAFETY: the buffer is writable for its whole length.
        let length = unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        let mut rest = buffer.get(..checked(length as libc::c_long)? as usize).unwrap_or_default();
        while let [a, b, c, d, kind, ..] = *rest {
            if kind == NLMSG_DONE || kind == NLMSG_ERROR {
                return Ok(());
            }
            let length = (u32::from_ne_bytes([a, b, c, d]) as usize).next_multiple_of(4);
            rest = rest.get(length.max(16)..).unwrap_or_default();
        }
    }
}

/// A socket that receives what the kernel announces to a group. A read waits up to [`RECEIVE_TIMEOUT`] for a message.
pub fn listen(group: u32) -> io::Result<OwnedFd> {
    fn option<T>(socket: &OwnedFd, name: libc::c_int, value: &T) -> io::Result<libc::c_int> {
        let (pointer, length) = ((&raw const *value).cast(), size_of_val(value) as u32);
        // SAFETY: `value` lives through the call, and its length is its own.
        checked(unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, name, pointer, length) }.into())
    }
    let socket = netlink()?;
    option(&socket, libc::SO_RCVBUFFORCE, &(64_i32 << 20))?;
    option(&socket, libc::SO_RCVTIMEO, &libc::timeval { tv_sec: RECEIVE_TIMEOUT.as_secs() as i64, tv_usec: 0 })?;
    // SAFETY: all zero is a valid sockaddr_nl.
    let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    (address.nl_family, address.nl_groups) = (libc::AF_NETLINK as u16, 1 << (group - 1));
    let length = size_of_val(&address) as u32;
    // SAFETY: `address` lives through the call, and its length is its own.
    checked(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) }.into())?;
    Ok(socket)
}

/// The next message. `None`: none came in time.
fn receive<'a>(socket: &OwnedFd, buffer: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
    // SAFETY: the buffer is writable for its whole length.
    let length = unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
    match checked(length as libc::c_long) {
        Ok(length) => Ok(Some(&buffer[..length as usize])),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

fn kind(message: &[u8]) -> Option<u16> {
    message.get(4..6).map(|bytes| u16::from_ne_bytes([bytes[0], bytes[1]]))
}

/// Waits for a message that announces this value of the target. False: none came in time.
pub fn receive_value(socket: &OwnedFd, target: &Target, value: &str) -> io::Result<bool> {
    let announced = Some((target.ifindex, value.parse().map_err(io::Error::other)?));
    let mut buffer = [0; 4096];
    while let Some(message) = receive(socket, &mut buffer)? {
        if setting(message, target.attribute) == announced {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Receives netconf messages, checks for the one value, and writes: with direct system calls, and without a policy, a second
/// setting, a record, or a check of what it wrote. Returns only with an error.
pub fn floor(target: &Target) -> io::Result<()> {
    let socket = listen(RTNLGRP_IPV4_NETCONF)?;
    let file = OpenOptions::new().write(true).open(target.path())?;
    loop {
        if receive_value(&socket, target, &target.wrong)? {
            // SAFETY: one byte is read of a live constant.
            checked(unsafe { libc::pwrite(file.as_raw_fd(), target.right.as_ptr().cast(), 1, 0) } as libc::c_long)?;
        }
    }
}

/// The interface and value of one setting in a netconf message.
fn setting(message: &[u8], attribute: u16) -> Option<(i32, i32)> {
    kind(message).filter(|kind| *kind == RTM_NEWNETCONF)?;
    let (mut ifindex, mut value) = (None, None);
    for bytes in message.get(ATTRIBUTES..)?.chunks_exact(8) {
        let number = bytes[4..8].try_into().map(i32::from_ne_bytes).ok();
        match u16::from_ne_bytes([bytes[2], bytes[3]]) {
            NETCONFA_IFINDEX => ifindex = number,
            kind if kind == attribute => value = number,
            _ => {}
        }
    }
    ifindex.zip(value)
}

/// Waits for a write to the setting's file, reads it, and writes.
pub fn inotify_loop(target: &Target) -> io::Result<()> {
    let path = CString::new(target.path().into_os_string().into_encoded_bytes())?;
    // SAFETY: inotify_init1(2) takes no pointer; the descriptor has no other owner.
    let inotify = unsafe { OwnedFd::from_raw_fd(checked(libc::inotify_init1(libc::IN_CLOEXEC).into())?) };
    // SAFETY: `path` ends with a NUL and lives through the call.
    checked(unsafe { libc::inotify_add_watch(inotify.as_raw_fd(), path.as_ptr(), libc::IN_MODIFY) }.into())?;
    let file = OpenOptions::new().read(true).write(true).open(target.path())?;
    let mut buffer = [0_u8; 4096];
    loop {
        // SAFETY: the buffer is writable for its whole length.
        checked(unsafe { libc::read(inotify.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) } as libc::c_long)?;
        let mut now = [0];
        file.read_at(&mut now, 0)?;
        if now != target.right.as_bytes() {
            file.write_at(target.right.as_bytes(), 0)?;
        }
    }
}

/// What people type for `ip_forward`: `ip monitor netconf`, and `sysctl -w` for each line that announces the wrong value.
pub fn monitor_loop(target: &Target) -> String {
    format!(
        "ip monitor netconf | while read -r line; do case $line in \
         *'all forwarding off'*) sysctl -q -w {}={} ;; esac; done",
        target.key.replace('/', "."),
        target.right
    )
}
