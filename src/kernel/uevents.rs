//! The kernel's uevents of loaded modules (lib/kobject_uevent.c), as they come before udev's rules.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};
use socket2::SockFilter;

use super::filter::{DROP, PASS, Test, WORD, attach, end, end_if_all};

/// The group of the kernel's messages; udevd's own go to another.
const KERNEL: u32 = 1;
/// Each begins with its action and its path: `add@/module/br_netfilter`.
const LOADED: [u8; 12] = *b"add@/module/";
/// UEVENT_BUFFER_SIZE in linux/kobject.h. Longer messages are cut, and only their beginning is used.
const MESSAGE_BYTES: usize = 2 << 10;

/// A socket that becomes readable when a module was loaded, and only then: each interface alone causes a few uevents.
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

/// Empties the socket. Returns whether there was an event, or may have been.
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

/// Passes messages that begin with [`LOADED`].
fn program() -> Vec<SockFilter> {
    let words = LOADED.as_chunks::<4>().0.iter().enumerate();
    let tests: Vec<Test> = words.map(|(number, word)| (WORD, 4 * number as u32, u32::from_be_bytes(*word))).collect();
    let mut program = end_if_all(&tests, PASS);
    program.push(end(DROP));
    program
}
