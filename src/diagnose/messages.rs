//! What rtnetlink(7) says, in the few fields that a diagnosis needs: decoded by netlink-packet-route, an attribute at a time, so
//! that one of an unknown shape breaks none of the others.

use std::ffi::{OsStr, OsString};
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;

use netlink_packet_core::{NlaBuffer, NlasIterator, Parseable, ParseableParametrized};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::AddressAttribute;
use netlink_packet_route::link::{
    InfoData, InfoGeneve, InfoGre, InfoGre6, InfoIpTunnel, InfoKind, InfoVxlan, LinkAttribute, LinkFlags, LinkHeader,
    LinkInfo, Prop,
};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourHeader, NeighbourState};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteIp6Tunnel, RouteIpTunnel, RouteLwEnCapType,
    RouteLwTunnelEncap, RouteNextHop, RouteProtocol, RouteType, RouteVia,
};
use netlink_packet_route::rule::{RuleAttribute, RuleHeader};

pub const TABLE_LOCAL: u32 = 255;
pub const TABLE_MAIN: u32 = 254;
/// Lengths of the structs of those names, which attributes follow.
const RTMSG: usize = 12;
const IFINFOMSG: usize = 16;
const IFADDRMSG: usize = 8;
const NDMSG: usize = 12;
const FIB_RULE_HDR: usize = 12;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;

/// A route of the FIB, or the answer to a lookup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub kind: RouteType,
    pub table: u32,
    pub protocol: RouteProtocol,
    pub destination: Option<IpAddr>,
    pub prefix: u8,
    pub hops: Vec<NextHop>,
    /// `rta_error` of an answer: the errno of a route that lets nothing through, where the kernel says so.
    pub error: i32,
    /// IPv6 has its cache of routes in the same dump.
    pub cached: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NextHop {
    pub interface: i32,
    pub gateway: Option<IpAddr>,
    /// Where the route itself encapsulates to (lwtunnel).
    pub encapsulated_to: Option<IpAddr>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    pub index: i32,
    pub name: OsString,
    /// Its other names (ip-link(8), altname).
    pub other_names: Vec<String>,
    pub flags: LinkFlags,
    pub mtu: u32,
    pub kind: String,
    /// 0 is none.
    pub master: i32,
    pub tunnel: Option<Tunnel>,
}

/// What an interface wraps packets into.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tunnel {
    pub remote: Option<IpAddr>,
    /// The interface that it is bound to; 0 is none.
    pub link: i32,
    /// Bytes that it puts before the inner packet.
    pub overhead: u32,
    /// Where it wraps to is each route's to say.
    pub external: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub interface: i32,
    pub local: IpAddr,
    /// The other end, or the same address again.
    pub address: IpAddr,
    pub prefix: u8,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    pub interface: i32,
    pub state: NeighbourState,
    pub address: Option<IpAddr>,
    pub lladdr: Vec<u8>,
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
}

/// The attributes behind a header that can be read.
fn attributes<A>(bytes: &[u8], header: usize, parse: impl Fn(&NlaBuffer<&[u8]>) -> Option<A>) -> Vec<A> {
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
    /// What `attribute` says of the next hop.
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
            error: 0,
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
                // IPv6 writes it with its sign.
                RouteAttribute::CacheInfo(info) => route.error = (info.error as i32).saturating_abs(),
                attribute => hop.add(attribute),
            }
        }
        if hop.interface != 0 {
            route.hops.push(hop);
        }
        Some(route)
    }

    /// What a lookup comes to, of which this is the answer. For a packet that comes in where nothing is forwarded, Linux
    /// before 4.19 answers with an unreachable route (`ip_route_input_slow`), and before 4.13 whatever IPv6's lookup ends at
    /// (`inet6_rtm_getroute`), where later ones answer with the error.
    ///
    /// # Errors
    /// The route lets nothing through.
    pub fn answer(self) -> Result<Route, i32> {
        let Some(errno) = refusal(self.kind) else { return Ok(self) };
        // EAGAIN has a lookup go on with the next table, and there was none.
        Err(Some(self.error).filter(|error| !matches!(*error, 0 | libc::EAGAIN)).unwrap_or(errno))
    }

    /// The answer to an IPv4 packet that is dropped and counted nowhere: `ip_error` counts by the errno, and there is none.
    pub fn is_silent(&self) -> bool {
        self.kind == RouteType::Unreachable
            && self.error == 0
            && self.destination.is_some_and(|address| address.is_ipv4())
    }

    pub fn is_unicast(&self) -> bool {
        self.kind == RouteType::Unicast
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        self.destination.map_or(self.prefix == 0, |network| in_subnet(address, network, self.prefix))
    }

    pub fn leads_to(&self, interface: i32) -> bool {
        self.hops.iter().any(|hop| hop.interface == interface)
    }
}

/// The errno of a route that lets nothing through (`fib_props`, net/ipv4/fib_semantics.c); one that throws ends the lookup in
/// its table.
pub fn refusal(kind: RouteType) -> Option<i32> {
    match kind {
        RouteType::BlackHole => Some(libc::EINVAL),
        RouteType::Unreachable => Some(libc::EHOSTUNREACH),
        RouteType::Prohibit => Some(libc::EACCES),
        RouteType::Throw => Some(libc::ENETUNREACH),
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

/// Whether both addresses have the first `prefix` bits in common.
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

impl Link {
    pub fn parse(bytes: &[u8]) -> Option<Link> {
        let header = LinkHeader::parse(bytes).ok()?;
        let mut link = Link { index: header.index as i32, flags: header.flags, ..Link::default() };
        for nla in NlasIterator::new(bytes.get(IFINFOMSG..).unwrap_or_default()).flatten() {
            // A name need not be UTF-8.
            if nla.kind() == IFLA_IFNAME {
                link.name = OsStr::from_bytes(nla.value().split(|byte| *byte == 0).next()?).into();
                continue;
            }
            match LinkAttribute::parse_with_param(&nla, AddressFamily::Unspec) {
                Ok(LinkAttribute::Mtu(mtu)) => link.mtu = mtu,
                Ok(LinkAttribute::Controller(master)) => link.master = master as i32,
                Ok(LinkAttribute::PropList(props)) => {
                    link.other_names.extend(props.into_iter().filter_map(|prop| match prop {
                        Prop::AltIfName(name) => Some(name),
                        _ => None,
                    }));
                }
                Ok(LinkAttribute::LinkInfo(info)) => info.into_iter().for_each(|info| link.learn(info)),
                Err(_) if nla.kind() == IFLA_LINKINFO => {
                    let kind =
                        |nla: &NlaBuffer<&[u8]>| InfoKind::parse(nla).ok().filter(|_| nla.kind() == IFLA_INFO_KIND);
                    attributes(nla.value(), 0, kind).into_iter().for_each(|kind| link.learn(LinkInfo::Kind(kind)));
                }
                _ => {}
            }
        }
        Some(link)
    }

    fn learn(&mut self, info: LinkInfo) {
        match info {
            LinkInfo::Kind(kind) => {
                self.kind = kind.to_string();
                self.tunnel = overhead(&self.kind).map(|overhead| Tunnel { overhead, ..Tunnel::default() });
            }
            LinkInfo::Data(data) => self.tunnel.iter_mut().for_each(|tunnel| tunnel.learn(&data)),
            _ => {}
        }
    }

    pub fn is_up(&self) -> bool {
        self.flags.contains(LinkFlags::Up)
    }

    pub fn has_carrier(&self) -> bool {
        self.flags.contains(LinkFlags::LowerUp)
    }

    pub fn is_loopback(&self) -> bool {
        self.flags.contains(LinkFlags::Loopback)
    }

    /// Whether a next hop behind it has a link address that must be found out.
    pub fn resolves(&self) -> bool {
        !self.flags.intersects(LinkFlags::Noarp | LinkFlags::Pointopoint | LinkFlags::Loopback)
    }
}

/// Bytes of the outer headers of a tunnel.
fn overhead(kind: &str) -> Option<u32> {
    Some(match kind {
        "ipip" | "sit" => 20,
        "ip6tnl" => 40,
        "gre" => 24,
        "gretap" => 38,
        "ip6gre" => 44,
        "vxlan" | "geneve" => 50,
        _ => return None,
    })
}

impl Tunnel {
    fn learn(&mut self, data: &InfoData) {
        // Each kind says the same in an enum of its own.
        macro_rules! learn {
            ($infos:ident, $info:ident, $external:pat, $($remote:ident)+ $(, $link:ident)?) => {
                for info in $infos {
                    match info {
                        $($info::$remote(to) => self.remote = Some(IpAddr::from(*to)),)+
                        $($info::$link(link) => self.link = *link as i32,)?
                        $external => self.external = true,
                        _ => {}
                    }
                }
            };
        }
        match data {
            InfoData::IpTunnel(infos) => learn!(infos, InfoIpTunnel, InfoIpTunnel::CollectMetadata, Remote, Link),
            InfoData::GreTun(infos) | InfoData::GreTap(infos) => {
                learn!(infos, InfoGre, InfoGre::CollectMetadata, Remote, Link)
            }
            InfoData::GreTun6(infos) => learn!(infos, InfoGre6, InfoGre6::CollectMetadata, Remote, Link),
            InfoData::Vxlan(infos) => learn!(infos, InfoVxlan, InfoVxlan::CollectMetadata(true), Group Group6, Link),
            InfoData::Geneve(infos) => learn!(infos, InfoGeneve, InfoGeneve::CollectMetadata, Remote Remote6),
            _ => {}
        }
        self.remote = self.remote.filter(|remote| !remote.is_unspecified());
    }
}

impl Address {
    pub fn parse(bytes: &[u8]) -> Option<Address> {
        let header = netlink_packet_route::address::AddressHeader::parse(bytes).ok()?;
        let (mut local, mut other) = (None, None);
        for attribute in attributes(bytes, IFADDRMSG, |nla| AddressAttribute::parse(nla).ok()) {
            match attribute {
                AddressAttribute::Local(address) => local = Some(address),
                AddressAttribute::Address(address) => other = Some(address),
                _ => {}
            }
        }
        let local = local.or(other)?;
        Some(Address {
            interface: header.index as i32,
            local,
            address: other.unwrap_or(local),
            prefix: header.prefix_len,
        })
    }
}

impl Neighbour {
    /// A neighbour, or an entry of a VXLAN's forwarding table, whose address is of either family (`vxlan_fdb_info`).
    pub fn parse(bytes: &[u8]) -> Option<Neighbour> {
        let header = NeighbourHeader::parse(bytes).ok()?;
        let mut neighbour =
            Neighbour { interface: header.ifindex as i32, state: header.state, address: None, lladdr: Vec::new() };
        for attribute in attributes(bytes, NDMSG, |nla| NeighbourAttribute::parse_with_param(nla, header.family).ok()) {
            match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => neighbour.address = Some(v4.into()),
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => neighbour.address = Some(v6.into()),
                NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => {
                    let v4 = <[u8; 4]>::try_from(&bytes[..]).map(IpAddr::from).ok();
                    neighbour.address = v4.or_else(|| Some(<[u8; 16]>::try_from(&bytes[..]).ok()?.into()));
                }
                NeighbourAttribute::LinkLayerAddress(lladdr) => neighbour.lladdr = lladdr,
                _ => {}
            }
        }
        Some(neighbour)
    }
}

impl Rule {
    pub fn parse(bytes: &[u8]) -> Option<Rule> {
        let header = RuleHeader::parse(bytes).ok()?;
        let mut rule = Rule { table: header.table.into(), ..Rule::default() };
        let (mut mark, mut mask) = (None, u32::MAX);
        for attribute in attributes(bytes, FIB_RULE_HDR, |nla| RuleAttribute::parse(nla).ok()) {
            match attribute {
                RuleAttribute::Priority(priority) => rule.priority = priority,
                RuleAttribute::Table(table) => rule.table = table,
                RuleAttribute::FwMark(value) => mark = Some(value),
                RuleAttribute::FwMask(value) => mask = value,
                RuleAttribute::L3MDev(by_vrf) => rule.by_vrf = by_vrf,
                _ => {}
            }
        }
        rule.mark = mark.map(|mark| (mark, mask));
        Some(rule)
    }
}
