//! Receives several datagrams by one system call, and gives them out one by one.

use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, BorrowedFd};

/// As many at once: those of a change of `ip_forward` on a node with a few interfaces, and of the write that mends it.
pub const DATAGRAMS: usize = 16;
/// Link messages with many virtual functions reach 32 KiB. Only what is used of it takes memory.
const DATAGRAM_BYTES: usize = 128 << 10;

/// Received datagrams, and room for more.
pub struct Batch {
    room: Box<[u8]>,
    /// Of each datagram its length and its sender.
    heads: [(usize, u32); DATAGRAMS],
    given: usize,
    received: usize,
}

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
        Batch { room: vec![0; DATAGRAMS * DATAGRAM_BYTES].into(), heads: [(0, 0); DATAGRAMS], given: 0, received: 0 }
    }

    pub fn is_given_out(&self) -> bool {
        self.given == self.received
    }

    /// The next datagram of those that were received.
    pub fn next(&mut self) -> Option<Datagram<'_>> {
        let at = self.given;
        self.given = self.received.min(at + 1);
        self.at(at)
    }

    /// Those that are not given out yet, to be given again.
    pub fn peek(&self) -> impl Iterator<Item = Datagram<'_>> {
        (self.given..self.received).filter_map(|at| self.at(at))
    }

    fn at(&self, at: usize) -> Option<Datagram<'_>> {
        let (length, sender) = *self.heads[..self.received].get(at)?;
        let room = &self.room[at * DATAGRAM_BYTES..][..DATAGRAM_BYTES];
        Some(Datagram { bytes: &room[..length.min(room.len())], length, sender })
    }

    /// Receives so many datagrams at most (up to [`DATAGRAMS`]), once all that came before are given out, without waiting.
    /// Whether that was all.
    ///
    /// # Errors
    /// As recvmmsg(2); `EAGAIN` when there is nothing, `ENOBUFS` when something was lost.
    pub fn receive<const AT_MOST: usize>(&mut self, socket: BorrowedFd) -> io::Result<bool> {
        (self.given, self.received) = (0, 0);
        self.receive_more::<AT_MOST>(socket)
    }

    /// The same, behind those that are not given out yet.
    ///
    /// # Errors
    /// As [`Batch::receive`].
    pub fn receive_more<const AT_MOST: usize>(&mut self, socket: BorrowedFd) -> io::Result<bool> {
        // SAFETY: all zero is valid for these structs.
        let (mut vectors, mut senders, mut headers): (
            [libc::iovec; AT_MOST],
            [libc::sockaddr_nl; AT_MOST],
            [libc::mmsghdr; AT_MOST],
        ) = unsafe { (zeroed(), zeroed(), zeroed()) };
        let rooms = self.room.chunks_exact_mut(DATAGRAM_BYTES).skip(self.received);
        let (mut at_most, heads) = (0, headers.iter_mut().zip(&mut vectors).zip(&mut senders));
        for (room, ((header, vector), sender)) in rooms.zip(heads) {
            *vector = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
            let header = &mut header.msg_hdr;
            (header.msg_iov, header.msg_iovlen) = (&raw mut *vector, 1);
            header.msg_name = (&raw mut *sender).cast();
            header.msg_namelen = size_of::<libc::sockaddr_nl>() as u32;
            at_most += 1;
        }
        if at_most == 0 {
            return Ok(false); // no room: there may be more
        }
        let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
        // SAFETY: every pointer in the first `at_most` headers is to a live buffer of the length beside it, which nobody else
        // uses meanwhile.
        let received = unsafe {
            libc::recvmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), at_most, flags as _, std::ptr::null_mut())
        };
        let received = match usize::try_from(received) {
            Err(_) => return Err(io::Error::last_os_error()),
            // Before Linux 4.16 the socket's pending error is cleared and not told (`__sys_recvmmsg`, net/socket.c).
            Ok(0) => return Err(io::Error::from_raw_os_error(libc::ENOBUFS)),
            Ok(received) => received,
        };
        let heads = self.heads.iter_mut().skip(self.received);
        for (head, (header, sender)) in heads.zip(headers.iter().zip(&senders).take(received)) {
            *head = (header.msg_len as usize, sender.nl_pid);
        }
        self.received += received;
        Ok(received < at_most as usize)
    }
}
