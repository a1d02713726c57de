//! The kernel's uevents of loaded modules (lib/kobject_uevent.c), as they come before udev's rules.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};
use socket2::SockFilter;

use super::filter::{WORD, attach, jump_unless, op};

/// The group of the kernel's messages; udevd's own go to another.
const KERNEL: u32 = 1;
/// Each begins with its action and its path: `add@/module/br_netfilter`.
const LOADED: [u8; 12] = *b"add@/module/";
/// UEVENT_BUFFER_SIZE in linux/kobject.h is 2 KiB, and of what is longer nobody needs the end.
const MESSAGE_BYTES: usize = 2 << 10;

/// A socket that becomes readable when a module was loaded, and for nothing else: interfaces alone make a few uevents each.
///
/// # Errors
/// No netlink of this protocol, with the kernel's reason.
pub fn subscribe() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(KOBJECT_UEVENT))?;
    attach(socket.as_fd(), &program())?;
    bind(&socket, &SocketAddrNetlink::new(0, KERNEL))?;
    Ok(socket)
}

/// Reads what waits in the socket. Whether that was anything, or may have been.
///
/// # Errors
/// As recv(2), but for `EAGAIN`, when nothing waits, and `ENOBUFS`, when something was lost.
pub fn read(socket: impl AsFd) -> io::Result<bool> {
    let mut found = false;
    loop {
        match recv(&socket, &mut [MaybeUninit::<u8>::uninit(); MESSAGE_BYTES][..], RecvFlags::DONTWAIT) {
            Ok(_) | Err(Errno::NOBUFS) => found = true,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(found),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Lets through what begins with [`LOADED`].
fn program() -> Vec<SockFilter> {
    let words = LOADED.as_chunks::<4>().0;
    let mut program = Vec::new();
    for (number, word) in words.iter().enumerate() {
        let rest = (2 * (words.len() - number - 1) + 1) as u8;
        program.push(op(WORD, 4 * number as u32));
        program.push(jump_unless(u32::from_be_bytes(*word), rest));
    }
    program.push(op(libc::BPF_RET | libc::BPF_K, u32::MAX));
    program.push(op(libc::BPF_RET | libc::BPF_K, 0));
    program
}
