//! The two rtnetlink sockets: one for notifications, one for requests and dumps.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NLMSG_OVERRUN, Parseable,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rustix::net::sockopt;

use super::filter::{self, Muted};
use super::message::{Event, Link, RTM_NEWLINK, messages};
use super::netconf::{NetconfMessage, RTM_GETNETCONF};
use crate::setting::Family;

/// rtnetlink(7), linux/rtnetlink.h
const RTNLGRP_LINK: u32 = 1;
const RTNLGRP_IPV4_NETCONF: u32 = 24;
const RTNLGRP_IPV6_NETCONF: u32 = 25;

const RTM_GETLINK: u16 = 18;
/// Leaves statistics out of the answer; older kernels ignore it (linux/rtnetlink.h).
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;
const IFLA_EXT_MASK: u16 = 29;
/// `lo` is the first of every network namespace (`loopback_net_init`, drivers/net/loopback.c).
const LOOPBACK: i32 = 1;

/// Room for the notifications of an `ip_forward` write on a node with some 10,000 interfaces; the kernel charges about
/// 700 bytes for each. Only used memory counts.
const RECEIVE_BUFFER_BYTES: usize = 16 << 20;
/// Link messages with many virtual functions reach 32 KiB. Only what is used of it takes memory.
const DATAGRAM_BYTES: usize = 128 << 10;
/// Dumps fill what they are given, up to 32 KiB.
const DUMP_BYTES: usize = 32 << 10;
/// `struct nlmsghdr`: length, type, flags, sequence, port (linux/netlink.h).
const NLMSG_HEADER: usize = 16;
/// Types below this one are netlink's own.
const NLMSG_MIN_TYPE: u16 = 16;
/// A dump that is interrupted this often is taken as it is: the changes that interrupted it are in the other socket.
const DUMP_TRIES: u32 = 10;

/// The result of one receive.
#[derive(Debug)]
pub enum Received {
    Messages(Vec<Event>),
    /// The queue is empty.
    Nothing,
    /// Something may have been missed: everything has to be read again, once the queue is empty.
    Lost(Lost),
}

/// Why something may have been missed.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    #[error("a message of {0} bytes was truncated")]
    Truncated(usize),
    #[error("a message in an unknown format")]
    Unknown,
    #[error("the kernel reported that messages were lost")]
    Overrun,
    /// ENOBUFS, most of all.
    #[error("{}", crate::text::why(.0))]
    Receive(io::Error),
}

/// The socket in the groups LINK, IPV4_NETCONF and IPV6_NETCONF.
pub struct Notifications {
    socket: Socket,
    buffer: Vec<u8>,
    muted: Vec<Muted>,
}

impl Notifications {
    /// Subscribes: notifications from now on wait in the socket.
    ///
    /// # Errors
    /// No netlink (seccomp, no memory), with the kernel's reason.
    pub fn subscribe() -> io::Result<Notifications> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        // SO_RCVBUFFORCE requires CAP_NET_ADMIN; without it the limit of net.core.rmem_max holds, and overruns are more frequent.
        _ = sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER_BYTES)
            .or_else(|_| sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER_BYTES));
        socket.bind_auto()?;
        for group in [RTNLGRP_LINK, RTNLGRP_IPV4_NETCONF, RTNLGRP_IPV6_NETCONF] {
            socket.add_membership(group)?;
        }
        Ok(Notifications { socket, buffer: Vec::with_capacity(DATAGRAM_BYTES), muted: Vec::new() })
    }

    /// From the next [`Notifications::listen`] on, receives no changes of `muted`, and those of all others again.
    pub fn mute(&mut self, muted: Vec<Muted>) {
        self.muted = muted;
    }

    /// What is muted.
    pub fn muted(&self) -> &[Muted] {
        &self.muted
    }

    /// Receives nothing from now on.
    ///
    /// # Errors
    /// The kernel refused the filter.
    pub fn deafen(&self) -> io::Result<()> {
        filter::deafen(self.socket.as_fd())
    }

    /// Receives all but what is muted.
    ///
    /// # Errors
    /// The kernel refused the filter.
    pub fn listen(&self) -> io::Result<()> {
        filter::mute(self.socket.as_fd(), &self.muted)
    }

    /// Takes one waiting datagram. Never waits.
    pub fn receive(&mut self) -> Received {
        self.buffer.clear();
        let (length, sender) = match self.socket.recv_from(&mut self.buffer, libc::MSG_DONTWAIT | libc::MSG_TRUNC) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Received::Nothing,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Received::Messages(Vec::new()),
            Err(error) => return Received::Lost(Lost::Receive(error)),
        };
        let mut events = Vec::new();
        // 0 is the kernel (netlink(7), `nl_pid`).
        if sender.port_number() == 0
            && let Err(lost) = decode(&self.buffer, length, &mut events)
        {
            return Received::Lost(lost);
        }
        Received::Messages(events)
    }
}

/// Adds the messages of one datagram of `length` bytes to `events`.
///
/// # Errors
/// Something may have been missed, and why.
pub fn decode(bytes: &[u8], length: usize, events: &mut Vec<Event>) -> Result<(), Lost> {
    if length > bytes.len() {
        return Err(Lost::Truncated(length));
    }
    for message in messages(bytes) {
        let message = message.map_err(|_| Lost::Unknown)?;
        match message.message_type() {
            NLMSG_OVERRUN => return Err(Lost::Overrun),
            control if control < NLMSG_MIN_TYPE => {}
            kind => match Event::decode(kind, message.payload()) {
                Event::Broken => return Err(Lost::Unknown),
                event => events.push(event),
            },
        }
    }
    Ok(())
}

impl AsFd for Notifications {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The socket for requests.
pub struct Dumps {
    socket: Socket,
    buffer: Vec<u8>,
    sequence: u32,
}

impl Dumps {
    /// # Errors
    /// As [`Notifications::subscribe`].
    pub fn open() -> io::Result<Dumps> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Dumps { socket, buffer: Vec::with_capacity(DUMP_BYTES), sequence: 0 })
    }

    /// The announced settings of all, default and every interface; none if the kernel does not have the family.
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn netconf(&mut self, family: Family) -> io::Result<Vec<NetconfMessage>> {
        match self.dump(family.number()) {
            // A kernel without the family answers for AF_UNSPEC, or with an error.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EAFNOSUPPORT)) => Ok(Vec::new()),
            answer => answer,
        }
    }

    /// One interface by RTM_GETLINK, for which the kernel takes the RTNL lock. `None`: there is no such interface.
    ///
    /// # Errors
    /// The kernel's reason, or that its answer can't be read.
    pub fn link(&mut self, ifindex: i32) -> io::Result<Option<Link>> {
        // `struct ifinfomsg` and one attribute.
        let mut body = vec![0; 4];
        body.extend(ifindex.to_ne_bytes());
        body.extend([0; 8]);
        body.extend([8u16.to_ne_bytes(), IFLA_EXT_MASK.to_ne_bytes()].as_flattened());
        body.extend(RTEXT_FILTER_SKIP_STATS.to_ne_bytes());
        let mut answer = Event::Other;
        match self.ask(RTM_GETLINK, 0, &body, |payload| answer = Event::decode(RTM_NEWLINK, payload)) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENXIO)) => return Ok(None),
            asked => asked?,
        };
        match answer {
            Event::Link(link) => Ok(Some(link)),
            _ => Err(io::Error::other("an answer in an unknown format")),
        }
    }

    /// Sleeps until the RTNL lock is free once. Linux 3.10 takes it for each request, and later kernels for this one
    /// (`rtnl_getlink`, net/core/rtnetlink.c).
    pub fn wait_for_rtnl(&mut self) {
        _ = self.link(LOOPBACK);
    }

    fn dump(&mut self, family: u8) -> io::Result<Vec<NetconfMessage>> {
        let is_of = |message: &NetconfMessage| message.family == family && message.ifindex.is_some();
        let mut tries = 1;
        loop {
            let mut messages = Vec::new();
            let interrupted = self.ask(RTM_GETNETCONF, NLM_F_DUMP, &[family, 0, 0, 0], |payload| {
                messages.extend(NetconfMessage::parse(payload).ok().filter(is_of));
            })?;
            if !interrupted || tries == DUMP_TRIES {
                return Ok(messages);
            }
            tries += 1;
        }
    }

    /// Sends one request of rtnetlink(7), and passes the payload of each answer to `each`: of one, or with `NLM_F_DUMP` among
    /// `flags` of all. Returns whether a change interrupted the dump.
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn ask(&mut self, kind: u16, flags: u16, body: &[u8], mut each: impl FnMut(&[u8])) -> io::Result<bool> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut request = Vec::with_capacity(NLMSG_HEADER + body.len());
        request.extend((NLMSG_HEADER as u32 + body.len() as u32).to_ne_bytes());
        request.extend(kind.to_ne_bytes());
        request.extend((NLM_F_REQUEST | flags).to_ne_bytes());
        request.extend(self.sequence.to_ne_bytes());
        request.extend([0; 4]);
        request.extend(body);
        retry(|| self.socket.send(&request, 0))?;

        let mut interrupted = false;
        loop {
            self.buffer.clear();
            let length = retry(|| self.socket.recv(&mut self.buffer, libc::MSG_TRUNC))?;
            if length > self.buffer.len() {
                return Err(io::Error::other(format!("an answer of {length} bytes was truncated")));
            }
            for answer in messages(&self.buffer) {
                let answer = answer.map_err(|error| io::Error::other(error.to_string()))?;
                if answer.sequence_number() != self.sequence {
                    continue; // of an earlier dump that was abandoned
                }
                interrupted |= answer.flags() & NLM_F_DUMP_INTR != 0;
                match answer.message_type() {
                    NLMSG_DONE => return Ok(interrupted),
                    NLMSG_ERROR => {
                        let errno =
                            answer.payload().first_chunk().map_or(libc::EBADMSG, |code| -i32::from_ne_bytes(*code));
                        return Err(io::Error::from_raw_os_error(errno));
                    }
                    _ => each(answer.payload()),
                }
                if flags & NLM_F_DUMP != NLM_F_DUMP {
                    return Ok(false);
                }
            }
        }
    }
}

fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
