//! Where traffic could arrive, and from which address, if none is given.

use std::collections::HashMap;
use std::net::IpAddr;

use super::links::{Address, Link};
use super::messages::{Route, in_subnet};
use super::node::{Node, width};

/// At most this many hosts of a subnet are tried for one that is not the node's own.
const TRIED: u128 = 64;

/// An interface that traffic for the address could arrive on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ingress {
    pub interface: i32,
    pub from: IpAddr,
    /// Traffic from this source should arrive here; other interfaces are checked, too, and may rightly drop it.
    pub expected: bool,
}

/// The packet as the user described it.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    pub to: IpAddr,
    pub from: Option<IpAddr>,
    pub interface: Option<i32>,
    /// Its mark, and which bits of it are known.
    pub mark: Option<(u32, u32)>,
}

/// The interfaces to be checked, the likeliest first. `reverse` is the route to the source, if one is given.
pub fn candidates(node: &Node, packet: Packet, egress: Option<i32>, reverse: Option<&Route>) -> Vec<Ingress> {
    let sources = sources(node, packet.to);
    if let Some(interface) = packet.interface {
        let from = packet.from.or_else(|| sources.get(&interface).copied()).unwrap_or_else(|| documentation(packet.to));
        return vec![Ingress { interface, from, expected: true }];
    }
    let leads_back = |interface: i32| reverse.is_some_and(|route| route.leads_to(interface));
    let connected = |interface: i32, from: IpAddr| {
        node.addresses_of(interface)
            .iter()
            .any(|own| in_subnet(from, own.address, own.prefix) && own.prefix < width(from))
    };
    // Traffic for an address does not arrive from its own subnet.
    let leaves = |interface: i32| egress == Some(interface) || connected(interface, packet.to);
    let could =
        |link: &Link| !link.is_loopback() && !node.is_port(link) && (!leaves(link.index) || leads_back(link.index));
    let alive = |link: &Link| link.is_up() && link.has_carrier();
    let is_connected = packet.from.is_some_and(|from| node.links.keys().any(|interface| connected(*interface, from)));
    let candidate = |link: &Link| {
        let (from, expected) = match packet.from {
            Some(from) => {
                let anywhere = reverse.is_none() && !is_connected;
                (from, anywhere || leads_back(link.index) || connected(link.index, from))
            }
            None => (*sources.get(&link.index)?, true),
        };
        (alive(link) || (expected && packet.from.is_some() && connected(link.index, from))).then_some(Ingress {
            interface: link.index,
            from,
            expected,
        })
    };
    let mut found: Vec<_> = node.links.values().filter(|link| could(link)).filter_map(candidate).collect();
    if found.is_empty() {
        // Only the egress exists, or no interface is up.
        let rest = node.links.values().filter(|link| !link.is_loopback() && !node.is_port(link));
        let with_source = rest.filter_map(|link| Some((link, packet.from.or(sources.get(&link.index).copied())?)));
        found.extend(with_source.map(|(link, from)| Ingress { interface: link.index, from, expected: true }));
    }
    if found.is_empty() {
        // No host is known behind any interface; route and forwarding can be judged nevertheless.
        let any = node.links.values().max_by_key(|link| (!link.is_loopback(), alive(link), link.index));
        let from = packet.from.unwrap_or_else(|| documentation(packet.to));
        found.extend(any.map(|link| Ingress { interface: link.index, from, expected: true }));
    }
    let default =
        node.routes.iter().find(|route| route.prefix == 0 && route.is_unicast() && node.is_led_to(route.table));
    let is_default = |interface: i32| default.is_some_and(|route| route.leads_to(interface));
    found.sort_by_key(|ingress| {
        (!ingress.expected, !leads_back(ingress.interface), !is_default(ingress.interface), ingress.interface)
    });
    found
}

/// An address behind each interface: a host of its subnet, else one that a route through it leads to.
fn sources(node: &Node, to: IpAddr) -> HashMap<i32, IpAddr> {
    let mut sources = HashMap::new();
    let fits = |address: IpAddr| address != to && !node.is_own(address) && is_global(address);
    for own in node.addresses.iter().filter(|own| own.prefix < width(to) && is_global(own.local)) {
        if let Some(host) = neighbour_of(own, fits) {
            sources.entry(own.interface).or_insert(host);
        }
    }
    let mut routes: Vec<&Route> = node.routes.iter().filter(|route| route.is_unicast()).collect();
    // Default routes last: they are the weakest evidence of a source.
    routes.sort_by_key(|route| route.prefix == 0);
    for route in routes {
        for hop in &route.hops {
            if sources.contains_key(&hop.interface) {
                continue;
            }
            let host = match route.destination {
                None => Some(documentation(to)),
                Some(network) => hosts(network, route.prefix).find(|host| fits(*host)),
            };
            sources.extend(host.map(|host| (hop.interface, host)));
        }
    }
    sources
}

fn neighbour_of(own: &Address, fits: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    if own.address != own.local {
        return Some(own.address);
    }
    hosts(own.local, own.prefix).find(|host| fits(*host))
}

/// The first hosts of a subnet.
fn hosts(network: IpAddr, prefix: u8) -> impl Iterator<Item = IpAddr> {
    let free = u32::from(width(network) - prefix.min(width(network)));
    // The first and the last address of an IPv4 subnet are no hosts, unless it has only two.
    let range = match free {
        0 => 0..1,
        1 => 0..2,
        _ => 1..(1u128 << free.min(100)).saturating_sub(1).min(TRIED),
    };
    range.map(move |host| match network {
        IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() & u32::MAX.checked_shl(free).unwrap_or(0) | host as u32).into()),
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & u128::MAX.checked_shl(free).unwrap_or(0) | host).into()),
    })
}

/// An address outside (RFC 5737, RFC 3849).
fn documentation(to: IpAddr) -> IpAddr {
    match to {
        IpAddr::V4(_) => [192, 0, 2, 1].into(),
        IpAddr::V6(_) => [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into(),
    }
}

pub fn is_global(address: IpAddr) -> bool {
    !address.is_multicast() && !matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}
