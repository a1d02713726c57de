//! Decodes rtnetlink messages, leniently: unknown messages and attributes are no error.

use netlink_packet_core::{DecodeError, NLA_HEADER_SIZE, NLA_TYPE_MASK, NetlinkBuffer, Parseable};
use netlink_packet_route::link::LinkFlags;

use super::name::Name;
use super::netconf::{NetconfMessage, RTM_NEWNETCONF};

pub(super) const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;

/// linux/if_link.h
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFINFOMSG_LEN: usize = 16;

/// A notification of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Netconf(NetconfMessage),
    Link(Link),
    LinkGone {
        ifindex: i32,
    },
    /// A message that should have been one of the above.
    Broken,
    /// Anything else, which is not used.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    pub ifindex: i32,
    pub name: Name,
    /// `IFF_UP`, if it is known.
    pub up: Option<bool>,
    /// In bytes, if it is known.
    pub mtu: Option<u32>,
}

impl Event {
    /// What a message of rtnetlink reports.
    pub fn decode(kind: u16, payload: &[u8]) -> Event {
        match kind {
            RTM_NEWNETCONF => match NetconfMessage::parse(payload) {
                Ok(message) if message.ifindex.is_some() => Event::Netconf(message),
                _ => Event::Broken,
            },
            RTM_NEWLINK | RTM_DELLINK => link(kind, payload),
            _ => Event::Other,
        }
    }
}

/// `struct ifinfomsg`: family at 0, index at 4, flags at 8, and attributes from 16 (rtnetlink(7)). Those behind name and MTU,
/// which the kernel puts first (`rtnl_fill_ifinfo`), are not read: a link that flaps sends six messages a flap, with 1.5 KB
/// of statistics each.
fn link(kind: u16, payload: &[u8]) -> Event {
    let field = |at| payload.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes);
    let (Some(family), Some(ifindex), Some(flags)) = (payload.first(), field(4), field(8)) else {
        return Event::Broken;
    };
    if *family != libc::AF_UNSPEC as u8 {
        // A bridge reports its ports by link messages of AF_BRIDGE: there RTM_DELLINK is a port that left, not a link.
        return Event::Other;
    }
    let ifindex = ifindex as i32;
    if kind == RTM_DELLINK {
        return Event::LinkGone { ifindex };
    }
    let mut attributes = attributes(payload.get(IFINFOMSG_LEN..).unwrap_or_default()).map_while(Result::ok);
    // The kernel names every link (rtnl_fill_ifinfo), by any bytes, with a NUL at the end.
    let name = attributes.find(|(kind, _)| *kind == IFLA_IFNAME);
    let mtu = attributes.find(|(kind, _)| *kind == IFLA_MTU).and_then(|(_, mtu)| mtu.try_into().ok());
    // A key with a name that no interface can have would be another file's.
    match name.and_then(|(_, name)| Name::new(name)) {
        None => Event::Broken,
        Some(name) => {
            let up = LinkFlags::from_bits_retain(flags).contains(LinkFlags::Up);
            Event::Link(Link { ifindex, name, up: Some(up), mtu: mtu.map(u32::from_ne_bytes) })
        }
    }
}

/// The kind and the value of each attribute: `struct nlattr` has a length, a kind and a value, padded to a multiple of four
/// (netlink(7)). netlink-packet-core's iterator would take a tenth of the guard thread's time at a start with thousands of
/// interfaces, which have six attributes each.
///
/// # Errors
/// Bytes that are no attribute end the iteration.
pub(super) fn attributes(mut rest: &[u8]) -> impl Iterator<Item = Result<(u16, &[u8]), DecodeError>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let head = rest.first_chunk().map(|[a, b, c, d]| (u16::from_ne_bytes([*a, *b]), u16::from_ne_bytes([*c, *d])));
        let attribute = head.and_then(|(length, kind)| {
            let value = rest.get(NLA_HEADER_SIZE..length.into())?;
            rest = rest.get(usize::from(length).next_multiple_of(4)..).unwrap_or_default();
            Some((kind & NLA_TYPE_MASK, value))
        });
        if attribute.is_none() {
            rest = &[];
        }
        Some(attribute.ok_or_else(|| "an invalid attribute".into()))
    })
}

/// The messages of one datagram.
///
/// # Errors
/// Bytes that are no netlink message end the iteration with the decoder's reason.
pub fn messages(mut rest: &[u8]) -> impl Iterator<Item = Result<NetlinkBuffer<&[u8]>, DecodeError>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let message = NetlinkBuffer::new_checked(rest);
        let length = message.as_ref().map_or(rest.len(), |message| message.length() as usize);
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}
