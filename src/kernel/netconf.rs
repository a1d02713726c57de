//! The netconf message of rtnetlink (linux/netconf.h), which netlink-packet-route does not have.

use netlink_packet_core::{DecodeError, Parseable};

use super::message;
use crate::setting::{Attribute, Family, Key};

pub const RTM_NEWNETCONF: u16 = 80;
pub const RTM_GETNETCONF: u16 = 82;

const NETCONFA_IFINDEX: u16 = 1;
const NETCONFA_FORWARDING: u16 = 2;
const NETCONFA_RP_FILTER: u16 = 3;
const NETCONFA_PROXY_NEIGH: u16 = 5;
const NETCONFA_IGNORE_ROUTES_WITH_LINKDOWN: u16 = 6;
const NETCONFA_BC_FORWARDING: u16 = 8;
pub const NETCONFA_FORCE_FORWARDING: u16 = 9;

/// Settings that are read when a message of them is received: its value is not used.
const READ_ON_NOTIFICATION: [(Family, u16, &str); 6] = [
    (Family::V4, NETCONFA_PROXY_NEIGH, "proxy_arp"),
    (Family::V6, NETCONFA_PROXY_NEIGH, "proxy_ndp"),
    (Family::V4, NETCONFA_IGNORE_ROUTES_WITH_LINKDOWN, "ignore_routes_with_linkdown"),
    (Family::V6, NETCONFA_IGNORE_ROUTES_WITH_LINKDOWN, "ignore_routes_with_linkdown"),
    (Family::V4, NETCONFA_BC_FORWARDING, "bc_forwarding"),
    (Family::V6, NETCONFA_FORCE_FORWARDING, "force_forwarding"),
];

/// The setting of an interface that `attribute` announces, if it is one that has to be read then.
pub fn name_of(family: Family, attribute: u16) -> Option<&'static str> {
    let known = |(of, number, _): &&(Family, u16, &str)| (*of, *number) == (family, attribute);
    READ_ON_NOTIFICATION.iter().find(known).map(|(_, _, name)| *name)
}

/// The attribute that announces an interface's setting, with the family: the inverse.
pub fn attribute_of(key: &Key) -> Option<(Family, u16)> {
    let place = key.place().filter(|place| place.table == "conf")?;
    if let Some((family, attribute)) = place.announced() {
        return Some((family, announced_by(attribute)));
    }
    let known = |(family, _, name): &&(Family, u16, &str)| (family.folder(), *name) == (place.family, place.name);
    READ_ON_NOTIFICATION.iter().find(known).map(|(family, attribute, _)| (*family, *attribute))
}

pub fn announced_by(attribute: Attribute) -> u16 {
    match attribute {
        Attribute::Forwarding => NETCONFA_FORWARDING,
        Attribute::RpFilter => NETCONFA_RP_FILTER,
    }
}

/// `struct netconfmsg` is one byte, and attributes start at the next multiple of four.
const HEADER_LEN: usize = 4;

/// One interface's settings, or those of `all` or `default`, as far as the message has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetconfMessage {
    /// `AF_INET` or `AF_INET6`
    pub family: u8,
    /// -1 is `all`, -2 is `default`; `None` only in a malformed message.
    pub ifindex: Option<i32>,
    pub forwarding: Option<i32>,
    pub rp_filter: Option<i32>,
    /// Another attribute that it carries, the last one, by its number.
    pub other: Option<u16>,
    /// How many settings it carries, unknown ones included: the kernel sends one for a write, and all when the interface's
    /// settings are created (`NETCONFA_ALL`).
    pub settings: u8,
}

impl Parseable<[u8]> for NetconfMessage {
    /// # Errors
    /// The bytes are no netconf message. Unknown attributes are skipped.
    fn parse(buf: &[u8]) -> Result<Self, DecodeError> {
        let (Some(family), Some(body)) = (buf.first(), buf.get(HEADER_LEN..)) else {
            return Err("a netconf message without its header".into());
        };
        let mut netconf = NetconfMessage { family: *family, ..NetconfMessage::default() };
        for attribute in message::attributes(body) {
            let (kind, value) = attribute?;
            let field = match kind {
                NETCONFA_IFINDEX => &mut netconf.ifindex,
                _ => {
                    netconf.settings = netconf.settings.saturating_add(1);
                    match kind {
                        NETCONFA_FORWARDING => &mut netconf.forwarding,
                        NETCONFA_RP_FILTER => &mut netconf.rp_filter,
                        _ => {
                            netconf.other = Some(kind);
                            continue;
                        }
                    }
                }
            };
            let value = <[u8; 4]>::try_from(value).map_err(|_| format!("attribute {kind} is no i32"))?;
            *field = Some(i32::from_ne_bytes(value));
        }
        Ok(netconf)
    }
}
