//! Routes and rules of rtnetlink(7), in the few fields that a diagnosis needs. netlink-packet-route decodes them, an attribute at a
//! time, so that one in an unknown format does not invalidate the others.

use std::net::IpAddr;

use netlink_packet_core::{NlaBuffer, NlasIterator, Parseable, ParseableParametrized};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteIp6Tunnel, RouteIpTunnel, RouteLwEnCapType,
    RouteLwTunnelEncap, RouteNextHop, RouteProtocol, RouteType, RouteVia,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleHeader};
use rustix::io::Errno;

/// MAX_ERRNO (linux/err.h)
const ERRNO_MAX: i32 = 4095;

pub const TABLE_LOCAL: u32 = 255;
pub const TABLE_MAIN: u32 = 254;
/// Lengths of the structs of those names, which attributes follow.
const RTMSG: usize = 12;
const FIB_RULE_HDR: usize = 12;

/// A route of the FIB, or the answer to a lookup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub kind: RouteType,
    pub table: u32,
    pub protocol: RouteProtocol,
    pub destination: Option<IpAddr>,
    pub prefix: u8,
    pub hops: Vec<NextHop>,
    /// `rta_error` of an answer: the errno of a refusing route, if the kernel sends it.
    pub error: Option<Errno>,
    /// IPv6 dumps its route cache, too.
    pub cached: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NextHop {
    pub interface: i32,
    pub gateway: Option<IpAddr>,
    /// The remote of a route that encapsulates by itself (lwtunnel).
    pub encapsulated_to: Option<IpAddr>,
}

/// A rule of ip-rule(8).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    pub priority: u32,
    pub table: u32,
    /// `fwmark`, and its mask.
    pub mark: Option<(u32, u32)>,
    /// The table is that of the interface's VRF.
    pub by_vrf: bool,
    /// It matches a protocol, a port or a type of service, which are not known here.
    pub by_more: bool,
    /// It refuses: the name of its action.
    pub refuses: Option<&'static str>,
}

/// The attributes behind a header that can be read.
pub fn attributes<A>(bytes: &[u8], header: usize, parse: impl Fn(&NlaBuffer<&[u8]>) -> Option<A>) -> Vec<A> {
    NlasIterator::new(bytes.get(header..).unwrap_or_default()).flatten().filter_map(|nla| parse(&nla)).collect()
}

fn address(address: RouteAddress) -> Option<IpAddr> {
    let address = match address {
        RouteAddress::Inet(v4) => v4.into(),
        RouteAddress::Inet6(v6) => v6.into(),
        _ => return None,
    };
    Some(address).filter(|address: &IpAddr| !address.is_unspecified())
}

impl NextHop {
    /// Takes over an attribute of the next hop.
    fn add(&mut self, attribute: RouteAttribute) {
        match attribute {
            RouteAttribute::Oif(index) => self.interface = index as i32,
            RouteAttribute::Gateway(gateway) => self.gateway = address(gateway),
            RouteAttribute::Via(RouteVia::Inet(v4)) => self.gateway = Some(v4.into()),
            RouteAttribute::Via(RouteVia::Inet6(v6)) => self.gateway = Some(v6.into()),
            RouteAttribute::Encap(encap) => {
                self.encapsulated_to = encap.into_iter().find_map(|encap| match encap {
                    RouteLwTunnelEncap::Ip(RouteIpTunnel::Destination(to)) => Some(to.into()),
                    RouteLwTunnelEncap::Ip6(RouteIp6Tunnel::Destination(to)) => Some(to.into()),
                    _ => None,
                });
            }
            _ => {}
        }
    }

    fn of(next: RouteNextHop) -> NextHop {
        let mut hop = NextHop { interface: next.interface_index as i32, ..NextHop::default() };
        next.attributes.into_iter().for_each(|attribute| hop.add(attribute));
        hop
    }
}

impl Route {
    pub fn parse(bytes: &[u8]) -> Option<Route> {
        let header = RouteHeader::parse(bytes).ok()?;
        let RouteHeader {
            address_family: family, destination_prefix_length: prefix, table, protocol, kind, flags, ..
        } = header;
        let cached = flags.contains(RouteFlags::Cloned);
        let mut route = Route {
            kind,
            table: table.into(),
            protocol,
            destination: None,
            prefix,
            hops: Vec::new(),
            error: None,
            cached,
        };
        let encapsulation = |nla: &NlaBuffer<&[u8]>| match RouteAttribute::parse_with_param(
            nla,
            (family, kind, RouteLwEnCapType::None),
        ) {
            Ok(RouteAttribute::EncapType(encapsulation)) => Some(encapsulation),
            _ => None,
        };
        let encapsulation = attributes(bytes, RTMSG, encapsulation).pop().unwrap_or_default();
        let mut hop = NextHop::default();
        for attribute in
            attributes(bytes, RTMSG, |nla| RouteAttribute::parse_with_param(nla, (family, kind, encapsulation)).ok())
        {
            match attribute {
                RouteAttribute::Destination(to) => route.destination = address(to),
                RouteAttribute::Table(table) => route.table = table,
                RouteAttribute::MultiPath(hops) => route.hops = hops.into_iter().map(NextHop::of).collect(),
                // IPv6 sends it as a negative number.
                RouteAttribute::CacheInfo(info) => {
                    route.error = Some((info.error as i32).saturating_abs())
                        .filter(|errno| (1..=ERRNO_MAX).contains(errno))
                        .map(Errno::from_raw_os_error)
                }
                attribute => hop.add(attribute),
            }
        }
        if hop.interface != 0 {
            route.hops.push(hop);
        }
        Some(route)
    }

    /// The result of the lookup that this answers. Where forwarding is off, Linux before 4.19 answers with an unreachable route
    /// (`ip_route_input_slow`), and IPv6 before 4.13 with the last route of its lookup (`inet6_rtm_getroute`); later kernels answer
    /// with the error.
    ///
    /// # Errors
    /// The route refuses.
    pub fn answer(self) -> Result<Route, Errno> {
        let Some(errno) = refusal(self.kind) else { return Ok(self) };
        // EAGAIN makes a lookup continue in the next table, and there was none.
        Err(self.error.filter(|error| *error != Errno::AGAIN).unwrap_or(errno))
    }

    /// The answer to an IPv4 packet that is dropped without being counted: `ip_error` counts by the errno, and there is none.
    pub fn is_silent(&self) -> bool {
        self.kind == RouteType::Unreachable
            && self.error.is_none()
            && self.destination.is_some_and(|address| address.is_ipv4())
    }

    pub fn is_unicast(&self) -> bool {
        self.kind == RouteType::Unicast
    }

    /// An administrator made it. A routing daemon or the kernel would make it again.
    pub fn is_by_hand(&self) -> bool {
        matches!(self.protocol, RouteProtocol::Boot | RouteProtocol::Static | RouteProtocol::Unspec)
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        self.destination.map_or(self.prefix == 0, |network| in_subnet(address, network, self.prefix))
    }

    pub fn leads_to(&self, interface: i32) -> bool {
        self.hops.iter().any(|hop| hop.interface == interface)
    }
}

/// The errno of a refusing route (`fib_props`, net/ipv4/fib_semantics.c); a throw route ends the lookup in its table.
pub fn refusal(kind: RouteType) -> Option<Errno> {
    match kind {
        RouteType::BlackHole => Some(Errno::INVAL),
        RouteType::Unreachable => Some(Errno::HOSTUNREACH),
        RouteType::Prohibit => Some(Errno::ACCESS),
        RouteType::Throw => Some(Errno::NETUNREACH),
        _ => None,
    }
}

/// As `ip route` names it; a unicast route has no name there.
pub fn kind_name(kind: RouteType) -> Option<&'static str> {
    Some(match kind {
        RouteType::Local => "local",
        RouteType::Broadcast => "broadcast",
        RouteType::Anycast => "anycast",
        RouteType::Multicast => "multicast",
        RouteType::BlackHole => "blackhole",
        RouteType::Unreachable => "unreachable",
        RouteType::Prohibit => "prohibit",
        RouteType::Throw => "throw",
        _ => return None,
    })
}

/// Whether the first `prefix` bits of both addresses are the same.
pub fn in_subnet(one: IpAddr, other: IpAddr, prefix: u8) -> bool {
    let shift = |width: u8| u32::from(width.saturating_sub(prefix));
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            (one.to_bits() ^ other.to_bits()).checked_shr(shift(32)).unwrap_or(0) == 0
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => {
            (one.to_bits() ^ other.to_bits()).checked_shr(shift(128)).unwrap_or(0) == 0
        }
        _ => false,
    }
}

impl Rule {
    pub fn parse(bytes: &[u8]) -> Option<Rule> {
        let header = RuleHeader::parse(bytes).ok()?;
        let refuses = match header.action {
            RuleAction::Blackhole => Some("blackhole"),
            RuleAction::Unreachable => Some("unreachable"),
            RuleAction::Prohibit => Some("prohibit"),
            _ => None,
        };
        let mut rule = Rule { table: header.table.into(), by_more: header.tos != 0, refuses, ..Rule::default() };
        let (mut mark, mut mask) = (None, u32::MAX);
        for attribute in attributes(bytes, FIB_RULE_HDR, |nla| RuleAttribute::parse(nla).ok()) {
            match attribute {
                RuleAttribute::Priority(priority) => rule.priority = priority,
                RuleAttribute::Table(table) => rule.table = table,
                RuleAttribute::FwMark(value) => mark = Some(value),
                RuleAttribute::FwMask(value) => mask = value,
                RuleAttribute::L3MDev(by_vrf) => rule.by_vrf = by_vrf,
                RuleAttribute::IpProtocol(_)
                | RuleAttribute::SourcePortRange(_)
                | RuleAttribute::DestinationPortRange(_)
                | RuleAttribute::UidRange(_) => rule.by_more = true,
                _ => {}
            }
        }
        rule.mark = mark.map(|mark| (mark, mask));
        Some(rule)
    }
}
