//! Receives several datagrams by one system call.

use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, BorrowedFd};

/// As many at once: those of a change of `ip_forward` on a node with a few interfaces.
const DATAGRAMS: usize = 16;
/// Link messages with many virtual functions reach 32 KiB. Only what is used of it takes memory.
const DATAGRAM_BYTES: usize = 128 << 10;

/// Room for what one call gives.
pub struct Batch(Box<[u8]>);

/// One datagram.
pub struct Datagram<'a> {
    pub bytes: &'a [u8],
    /// Its whole length, which may be more.
    pub length: usize,
    /// 0 is the kernel (netlink(7), `nl_pid`).
    pub sender: u32,
}

impl Batch {
    pub fn new() -> Batch {
        Batch(vec![0; DATAGRAMS * DATAGRAM_BYTES].into())
    }

    /// What is there, without waiting, and whether that is all.
    ///
    /// # Errors
    /// As recvmmsg(2); `EAGAIN` when there is nothing.
    pub fn receive(&mut self, socket: BorrowedFd) -> io::Result<(Vec<Datagram<'_>>, bool)> {
        // SAFETY: all zero is valid for these structs.
        let (mut vectors, mut senders, mut headers): (
            [libc::iovec; DATAGRAMS],
            [libc::sockaddr_nl; DATAGRAMS],
            [libc::mmsghdr; DATAGRAMS],
        ) = unsafe { (zeroed(), zeroed(), zeroed()) };
        for (at, room) in self.0.chunks_exact_mut(DATAGRAM_BYTES).enumerate() {
            vectors[at] = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
            let header = &mut headers[at].msg_hdr;
            (header.msg_iov, header.msg_iovlen) = (&raw mut vectors[at], 1);
            header.msg_name = (&raw mut senders[at]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_nl>() as u32;
        }
        let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
        // SAFETY: every pointer in the headers is to a live buffer of the length beside it, which nobody else uses meanwhile.
        let received = unsafe {
            libc::recvmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), DATAGRAMS as u32, flags as _, std::ptr::null_mut())
        };
        let count = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        let datagram = |((header, sender), room): ((&libc::mmsghdr, &libc::sockaddr_nl), _)| {
            let (room, length): (&[u8], _) = (room, header.msg_len as usize);
            Datagram { bytes: &room[..length.min(room.len())], length, sender: sender.nl_pid }
        };
        let rooms = self.0.chunks_exact(DATAGRAM_BYTES);
        Ok((headers.iter().zip(&senders).zip(rooms).take(count).map(datagram).collect(), count < DATAGRAMS))
    }
}
