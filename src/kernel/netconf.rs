//! The netconf message of rtnetlink (linux/netconf.h), which netlink-packet-route does not have.

use netlink_packet_core::{DecodeError, NlasIterator, Parseable};

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
        let (Some(family), Some(attributes)) = (buf.first(), buf.get(HEADER_LEN..)) else {
            return Err("a netconf message without its header".into());
        };
        let mut message = NetconfMessage { family: *family, ..NetconfMessage::default() };
        for attribute in NlasIterator::new(attributes) {
            let attribute = attribute?;
            let field = match attribute.kind() {
                NETCONFA_IFINDEX => &mut message.ifindex,
                kind => {
                    message.settings = message.settings.saturating_add(1);
                    match kind {
                        NETCONFA_FORWARDING => &mut message.forwarding,
                        NETCONFA_RP_FILTER => &mut message.rp_filter,
                        _ => continue,
                    }
                }
            };
            let value =
                attribute.value().try_into().map_err(|_| format!("attribute {} is no i32", attribute.kind()))?;
            *field = Some(i32::from_ne_bytes(value));
        }
        Ok(message)
    }
}
