//! What rtnetlink answers, taken apart leniently: an attribute that nobody asks for breaks nothing (linux/rtnetlink.h).

use std::ffi::{OsStr, OsString};
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;

/// `rtm_type` of a route (linux/rtnetlink.h).
pub const RTN_UNICAST: u8 = 1;
pub const RTN_LOCAL: u8 = 2;
pub const RTN_BROADCAST: u8 = 3;
pub const RTN_ANYCAST: u8 = 4;
pub const RTN_MULTICAST: u8 = 5;
pub const RTN_BLACKHOLE: u8 = 6;
pub const RTN_UNREACHABLE: u8 = 7;
pub const RTN_PROHIBIT: u8 = 8;
pub const RTN_THROW: u8 = 9;
pub const RT_TABLE_MAIN: u32 = 254;
/// A route that a router advertisement made (`rtm_protocol`).
pub const RTPROT_RA: u8 = 9;
/// `RTNH_F_DEAD` and `RTNH_F_LINKDOWN`
const DOWN: u32 = 1 | 16;
/// Without the flags of nested and big-endian attributes.
const NLA_TYPE_MASK: u16 = 0x3fff;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_STATS64: u16 = 23;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const LWTUNNEL_ENCAP_IP: u16 = 2;
const LWTUNNEL_ENCAP_IP6: u16 = 4;
const LWTUNNEL_IP_DST: u16 = 2;

/// A route of the FIB, or the answer to a lookup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub kind: u8,
    pub table: u32,
    pub protocol: u8,
    pub destination: Option<IpAddr>,
    pub prefix: u8,
    pub hops: Vec<NextHop>,
    /// `rta_error` of an answer: the errno of a route that lets nothing through, where the kernel says so.
    pub error: i32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NextHop {
    pub interface: i32,
    pub gateway: Option<IpAddr>,
    /// The kernel holds it for dead, or its link is down.
    pub down: bool,
    /// Where the route itself encapsulates to (lwtunnel).
    pub encapsulated_to: Option<IpAddr>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    pub index: i32,
    pub name: OsString,
    pub flags: u32,
    pub mtu: u32,
    pub kind: String,
    /// 0 is none.
    pub master: i32,
    pub tunnel: Option<Tunnel>,
    pub dropped: u64,
}

impl Link {
    pub fn is_up(&self) -> bool {
        self.has(libc::IFF_UP)
    }

    pub fn has_carrier(&self) -> bool {
        self.has(libc::IFF_LOWER_UP)
    }

    pub fn is_loopback(&self) -> bool {
        self.has(libc::IFF_LOOPBACK)
    }

    /// Whether a next hop behind it has a link address that must be found out.
    pub fn resolves(&self) -> bool {
        !self.has(libc::IFF_NOARP) && !self.has(libc::IFF_POINTOPOINT) && !self.is_loopback()
    }

    fn has(&self, flag: i32) -> bool {
        self.flags & flag as u32 != 0
    }
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
    pub state: u16,
    pub address: Option<IpAddr>,
    pub lladdr: Vec<u8>,
}

/// The attributes behind a header of `header` bytes: type and value of each `struct rtattr`.
fn attributes(bytes: &[u8], header: usize) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes.get(header..).unwrap_or_default();
    std::iter::from_fn(move || {
        let [a, b, c, d] = *rest.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([c, d]) & NLA_TYPE_MASK, value))
    })
}

fn number(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes))
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let address = v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()?;
    Some(address).filter(|address| !address.is_unspecified())
}

/// `RTA_VIA`: a family and an address of it.
fn via(bytes: &[u8]) -> Option<IpAddr> {
    address(bytes.get(2..)?)
}

impl Route {
    /// `struct rtmsg`
    pub fn parse(bytes: &[u8]) -> Option<Route> {
        let [_, prefix, _, _, table, protocol, _, kind, flags @ ..] = *bytes.first_chunk::<12>()?;
        let mut route =
            Route { kind, table: table.into(), protocol, destination: None, prefix, hops: Vec::new(), error: 0 };
        let mut hop = NextHop { down: number(&flags) & DOWN != 0, ..NextHop::default() };
        let mut encapsulation = (0, None);
        for (kind, value) in attributes(bytes, 12) {
            match kind {
                libc::RTA_DST => route.destination = address(value),
                libc::RTA_OIF => hop.interface = number(value) as i32,
                libc::RTA_GATEWAY => hop.gateway = address(value),
                libc::RTA_VIA => hop.gateway = via(value),
                libc::RTA_TABLE => route.table = number(value),
                libc::RTA_ENCAP_TYPE => encapsulation.0 = value.first().copied().unwrap_or(0).into(),
                libc::RTA_ENCAP => encapsulation.1 = Some(value),
                libc::RTA_MULTIPATH => route.hops = multipath(value),
                // The fourth field of `struct rta_cacheinfo`; IPv6 writes it with its sign.
                libc::RTA_CACHEINFO => {
                    route.error = value.get(12..).map_or(0, |error| (number(error) as i32).saturating_abs());
                }
                _ => {}
            }
        }
        if let (LWTUNNEL_ENCAP_IP | LWTUNNEL_ENCAP_IP6, Some(value)) = encapsulation {
            let to = attributes(value, 0).find(|(kind, _)| *kind == LWTUNNEL_IP_DST);
            hop.encapsulated_to = to.and_then(|(_, to)| address(to));
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
        let errno = match self.kind {
            RTN_BLACKHOLE => libc::EINVAL,
            RTN_UNREACHABLE => libc::EHOSTUNREACH,
            RTN_PROHIBIT => libc::EACCES,
            RTN_THROW => libc::ENETUNREACH,
            _ => return Ok(self),
        };
        // EAGAIN has a lookup go on with the next table, and there was none.
        Err(Some(self.error).filter(|error| !matches!(*error, 0 | libc::EAGAIN)).unwrap_or(errno))
    }

    /// The answer to an IPv4 packet that is dropped and counted nowhere: `ip_error` counts by the errno, and there is none.
    pub fn is_silent(&self) -> bool {
        self.kind == RTN_UNREACHABLE && self.error == 0 && self.destination.is_some_and(|address| address.is_ipv4())
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        self.destination.map_or(self.prefix == 0, |network| in_subnet(address, network, self.prefix))
    }
}

/// `struct rtnexthop`: length, flags, hops, interface, and attributes.
fn multipath(mut bytes: &[u8]) -> Vec<NextHop> {
    let mut hops = Vec::new();
    while let Some([a, b, flags, _, index @ ..]) = bytes.first_chunk::<8>() {
        let length = usize::from(u16::from_ne_bytes([*a, *b]));
        let Some(this) = bytes.get(..length).filter(|this| this.len() >= 8) else { break };
        let gateway = attributes(this, 8).find_map(|(kind, value)| match kind {
            libc::RTA_GATEWAY => address(value),
            libc::RTA_VIA => via(value),
            _ => None,
        });
        let down = u32::from(*flags) & DOWN != 0;
        hops.push(NextHop { interface: i32::from_ne_bytes(*index), gateway, down, encapsulated_to: None });
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    hops
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
    /// `struct ifinfomsg`
    pub fn parse(bytes: &[u8]) -> Option<Link> {
        let field = |at: usize| bytes.get(at..at + 4).map(number);
        let mut link = Link { index: field(4)? as i32, flags: field(8)?, ..Link::default() };
        let mut info = None;
        for (kind, value) in attributes(bytes, 16) {
            match kind {
                IFLA_IFNAME => link.name = OsStr::from_bytes(value.split(|b| *b == 0).next()?).into(),
                IFLA_MTU => link.mtu = number(value),
                IFLA_MASTER => link.master = number(value) as i32,
                IFLA_LINKINFO => info = Some(value),
                // `struct rtnl_link_stats64`: the seventh and eighth count what was dropped on the way in and out.
                IFLA_STATS64 => {
                    let count = |at: usize| value.get(at * 8..at * 8 + 8).and_then(|b| b.try_into().ok());
                    link.dropped = [6, 7].into_iter().filter_map(count).map(u64::from_ne_bytes).sum();
                }
                _ => {}
            }
        }
        let mut data: &[u8] = &[];
        for (kind, value) in attributes(info.unwrap_or_default(), 0) {
            match kind {
                IFLA_INFO_KIND => {
                    let name = value.split(|b| *b == 0).next()?;
                    link.kind = String::from_utf8_lossy(name).into_owned();
                }
                IFLA_INFO_DATA => data = value,
                _ => {}
            }
        }
        link.tunnel = Tunnel::parse(&link.kind, data);
        Some(link)
    }
}

impl Tunnel {
    /// linux/if_tunnel.h and linux/if_link.h number the same things differently for each kind.
    fn parse(kind: &str, data: &[u8]) -> Option<Tunnel> {
        // Attributes of the link, of the remote address in both families, and of external mode; bytes of outer headers.
        let (link, remotes, external, overhead): (u16, [u16; 2], u16, u32) = match kind {
            "ipip" | "sit" => (1, [3, 3], 19, 20),
            "ip6tnl" => (1, [3, 3], 19, 40),
            "gre" => (1, [7, 7], 18, 24),
            "gretap" => (1, [7, 7], 18, 38),
            "ip6gre" => (1, [7, 7], 18, 44),
            "vxlan" => (3, [2, 16], 25, 50),
            "geneve" => (0, [2, 7], 6, 50),
            _ => return None,
        };
        let mut tunnel = Tunnel { overhead, ..Tunnel::default() };
        for (kind, value) in attributes(data, 0) {
            match kind {
                kind if kind == link => tunnel.link = number(value) as i32,
                // A flag, or for VXLAN a byte.
                kind if kind == external => tunnel.external = value != [0],
                kind if remotes.contains(&kind) => tunnel.remote = address(value).or(tunnel.remote),
                _ => {}
            }
        }
        Some(tunnel)
    }
}

impl Address {
    /// `struct ifaddrmsg`
    pub fn parse(bytes: &[u8]) -> Option<Address> {
        let [_, prefix, _, _, index @ ..] = *bytes.first_chunk::<8>()?;
        let (mut local, mut other) = (None, None);
        for (kind, value) in attributes(bytes, 8) {
            match kind {
                IFA_LOCAL => local = address(value),
                IFA_ADDRESS => other = address(value),
                _ => {}
            }
        }
        let local = local.or(other)?;
        Some(Address { interface: i32::from_ne_bytes(index), local, address: other.unwrap_or(local), prefix })
    }
}

impl Neighbour {
    /// `struct ndmsg`, of a neighbour or of a bridge's or VXLAN's forwarding table.
    pub fn parse(bytes: &[u8]) -> Option<Neighbour> {
        let [_, _, _, _, a, b, c, d, e, f, ..] = *bytes.first_chunk::<12>()?;
        let (interface, state) = (i32::from_ne_bytes([a, b, c, d]), u16::from_ne_bytes([e, f]));
        let mut neighbour = Neighbour { interface, state, address: None, lladdr: Vec::new() };
        for (kind, value) in attributes(bytes, 12) {
            match kind {
                libc::NDA_DST => neighbour.address = address(value),
                libc::NDA_LLADDR => neighbour.lladdr = value.to_vec(),
                _ => {}
            }
        }
        Some(neighbour)
    }
}
