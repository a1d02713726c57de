//! The netconf message of rtnetlink (linux/netconf.h), which netlink-packet-route does not have.

use netlink_packet_core::{DecodeError, Parseable};

use super::message;

pub const RTM_NEWNETCONF: u16 = 80;
pub const RTM_GETNETCONF: u16 = 82;

const NETCONFA_IFINDEX: u16 = 1;
const NETCONFA_FORWARDING: u16 = 2;
const NETCONFA_RP_FILTER: u16 = 3;

/// `struct netconfmsg` is one byte, and attributes start at the next multiple of four.
const HEADER_LEN: usize = 4;

/// One interface's settings, or those of `all` or `default`, as far as the message has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetconfMessage {
    /// `AF_INET` or `AF_INET6`
    pub family: u8,
    /// -1 is `all`, -2 is `default`; `None` only in a message that is broken.
    pub ifindex: Option<i32>,
    pub forwarding: Option<i32>,
    pub rp_filter: Option<i32>,
    /// How many settings it carries, those that fwdguard does not know included: the kernel sends one for a write and all
    /// when the interface's settings are made (`NETCONFA_ALL`).
    pub settings: u8,
}

impl Parseable<[u8]> for NetconfMessage {
    /// # Errors
    /// The bytes are no netconf message. Attributes that it does not know are passed over.
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
                        _ => continue,
                    }
                }
            };
            let value = <[u8; 4]>::try_from(value).map_err(|_| format!("attribute {kind} is no i32"))?;
            *field = Some(i32::from_ne_bytes(value));
        }
        Ok(netconf)
    }
}
