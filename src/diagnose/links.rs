//! Links, addresses and neighbours of rtnetlink(7), in the few fields that a diagnosis needs.

use std::ffi::{OsStr, OsString};
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;

use netlink_packet_core::{NlaBuffer, NlasIterator, Parseable, ParseableParametrized};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressHeader};
use netlink_packet_route::link::{
    InfoBridge, InfoData, InfoGeneve, InfoGre, InfoGre6, InfoIpTunnel, InfoKind, InfoVxlan, LinkAttribute, LinkFlags,
    LinkHeader, LinkInfo, Prop,
};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourHeader, NeighbourState};

use super::messages::attributes;

/// Lengths of the structs of those names, which attributes follow.
const IFINFOMSG: usize = 16;
const IFADDRMSG: usize = 8;
const NDMSG: usize = 12;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;

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
    /// Of a bridge: its packets pass iptables and ip6tables, whatever bridge-nf-call is.
    pub filtered: [bool; 2],
}

/// The encapsulation of an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tunnel {
    pub remote: Option<IpAddr>,
    /// The interface that it is bound to; 0 is none.
    pub link: i32,
    /// Bytes that it puts before the inner packet.
    pub overhead: u32,
    /// Each route has the remote.
    pub external: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub interface: i32,
    pub local: IpAddr,
    /// The peer's address, or the same address again.
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
                Ok(LinkAttribute::LinkInfo(info)) => info.into_iter().for_each(|info| link.add(info)),
                Err(_) if nla.kind() == IFLA_LINKINFO => {
                    let kind =
                        |nla: &NlaBuffer<&[u8]>| InfoKind::parse(nla).ok().filter(|_| nla.kind() == IFLA_INFO_KIND);
                    attributes(nla.value(), 0, kind).into_iter().for_each(|kind| link.add(LinkInfo::Kind(kind)));
                }
                _ => {}
            }
        }
        Some(link)
    }

    fn add(&mut self, info: LinkInfo) {
        match info {
            LinkInfo::Kind(kind) => {
                self.kind = kind.to_string();
                self.tunnel = overhead(&self.kind).map(|overhead| Tunnel { overhead, ..Tunnel::default() });
            }
            LinkInfo::Data(InfoData::Bridge(infos)) => infos.iter().for_each(|info| match info {
                InfoBridge::NfCallIpTables(on) => self.filtered[0] = *on,
                InfoBridge::NfCallIp6Tables(on) => self.filtered[1] = *on,
                _ => {}
            }),
            LinkInfo::Data(data) => self.tunnel.iter_mut().for_each(|tunnel| tunnel.add(&data)),
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

    /// Whether a next hop behind it has a link address to be resolved.
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
    fn add(&mut self, data: &InfoData) {
        // Each kind has the same attributes in an enum of its own.
        macro_rules! add {
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
            InfoData::IpTunnel(infos) => add!(infos, InfoIpTunnel, InfoIpTunnel::CollectMetadata, Remote, Link),
            InfoData::GreTun(infos) | InfoData::GreTap(infos) => {
                add!(infos, InfoGre, InfoGre::CollectMetadata, Remote, Link)
            }
            InfoData::GreTun6(infos) => add!(infos, InfoGre6, InfoGre6::CollectMetadata, Remote, Link),
            InfoData::Vxlan(infos) => add!(infos, InfoVxlan, InfoVxlan::CollectMetadata(true), Group Group6, Link),
            InfoData::Geneve(infos) => add!(infos, InfoGeneve, InfoGeneve::CollectMetadata, Remote Remote6),
            _ => {}
        }
        self.remote = self.remote.filter(|remote| !remote.is_unspecified());
    }
}

impl Address {
    pub fn parse(bytes: &[u8]) -> Option<Address> {
        let header = AddressHeader::parse(bytes).ok()?;
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
