//! The way out of the node: the egress, the next hop behind it, and for a tunnel the same again for its outer packets.

use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::thread::JoinHandle;
use std::time::Duration;

use netlink_packet_route::neighbour::NeighbourState;

use rustix::io::Errno;

use super::fault::{Fault, Kind, Way, add_route, delete_route};
use super::links::{Link, Neighbour};
use super::messages::{Route, kind_name};
use super::node::{Lookup, Node, width};
use crate::setting::printable;
use crate::text::errno_text;

/// A tunnel in a tunnel in a tunnel is followed no further.
const DEPTH_MAX: usize = 3;
/// discard (RFC 863)
const DISCARD_PORT: u16 = 9;
/// The first segment is sent again after one second.
const PROBE_TIMEOUT: Duration = Duration::from_millis(900);
/// The MAC address of the default entry in a VXLAN's forwarding table.
const DEFAULT_ENTRY: [u8; 6] = [0; 6];

/// The result of one route lookup on the way out.
#[derive(Clone, Debug)]
pub struct Hop {
    pub link: Link,
    pub to: IpAddr,
    /// The gateway, or the address itself.
    pub next: IpAddr,
    pub route: String,
    pub neighbour: Resolution,
    pub wrapped: Option<Wrapped>,
    /// The route is a single pod's, and this node does not answer the pod's ARP requests for its gateway.
    pub unproxied: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    NotNeeded,
    Known(NeighbourState),
    Unanswered(NeighbourState),
    /// The kernel has not resolved it yet, and could not be made to.
    Unknown,
}

/// The outer packets of a tunnel.
#[derive(Clone, Debug)]
pub struct Wrapped {
    pub remote: Option<IpAddr>,
    pub unreachable: Option<Unreachable>,
    /// No route leads to it: the kernel treats it as a neighbour on the interface that the tunnel is bound to.
    pub unrouted: bool,

    /// The largest inner packet that fits into an outer one, if that is known.
    pub room: Option<u32>,
}

/// Why a tunnel's remote can't be reached.
#[derive(Clone, Debug, Default)]
pub struct Unreachable {
    pub why: String,
    /// The route that causes it, if one does, as `ip route` prints it.
    route: Option<String>,
    /// The command that repairs it, if one does.
    fix: Option<String>,
}

/// Follows a route, and tunnels on it, to where packets leave the node. `asked` are the parameters of its lookup.
pub fn follow(node: &mut Node, to: IpAddr, route: &Route, asked: Lookup) -> Vec<Hop> {
    let (mut hops, mut to, mut route) = (Vec::<Hop>::new(), to, route.clone());
    while hops.len() < DEPTH_MAX {
        let Some(next_hop) = route.hops.first() else { break };
        let Some(link) = node.links.get(&next_hop.interface).cloned() else { break };
        let next = next_hop.gateway.unwrap_or(to);
        let asked = if hops.is_empty() { asked } else { Lookup::default() };
        let whole = node.route(to, Lookup { whole: true, ..asked }).unwrap_or_else(|_| route.clone());
        let is_the_pods = hops.is_empty() && to.is_ipv4() && whole.prefix == width(to) && next_hop.gateway.is_none();
        let unproxied = is_the_pods
            && link.resolves()
            && node.addresses_of(link.index).is_empty()
            && !["proxy_arp", "proxy_arp_pvlan"].into_iter().any(|name| node.is_on(link.index, name));
        let text = node.text(&whole);
        let mut hop = Hop { to, next, route: text, neighbour: Resolution::NotNeeded, wrapped: None, unproxied, link };
        let known = node.neighbour(hop.link.index, next);
        hop.neighbour = resolution(&hop.link, known.as_ref());
        let outer = wrap(node, &mut hop, next_hop.encapsulated_to, known.as_ref());
        let remote = hop.wrapped.as_ref().and_then(|wrapped| wrapped.remote);
        hops.push(hop);
        match (outer, remote) {
            (Some(outer), Some(remote)) => (to, route) = (remote, outer),
            _ => break,
        }
    }
    hops
}

/// Fills in where a tunnel sends its outer packets, and returns the route that these take.
fn wrap(node: &mut Node, hop: &mut Hop, encapsulated_to: Option<IpAddr>, known: Option<&Neighbour>) -> Option<Route> {
    let tunnel = hop.link.tunnel.clone()?;
    let unicast = |address: &IpAddr| !address.is_multicast();
    let remote = encapsulated_to.or(tunnel.remote).or_else(|| match hop.link.kind.as_str() {
        "vxlan" | "geneve" => forwarding_entry(node, hop.link.index, known),
        // An interface with many remotes, such as Calico's tunl0: the gateway is the remote.
        _ => Some(hop.next).filter(|next| *next != hop.to),
    });
    let mut wrapped = Wrapped { remote: remote.filter(unicast), unreachable: None, unrouted: false, room: None };
    let mut outer = None;
    if let Some(remote) = wrapped.remote {
        let lookup = Lookup { leaves: tunnel.link, ..Lookup::default() };
        wrapped.unrouted = tunnel.link != 0 && node.route(remote, Lookup::default()).is_err();
        match node.route(remote, lookup) {
            Ok(route) if !route.is_unicast() => {
                let kind = kind_name(route.kind).unwrap_or("special");
                let why = format!("it is a {kind} address of this node");
                wrapped.unreachable = Some(Unreachable { why, ..Default::default() });
            }
            Ok(route) if route.hops.first().is_some_and(|next| next.interface == hop.link.index) => {
                let route = node.route(remote, Lookup { whole: true, ..lookup }).unwrap_or(route);
                wrapped.unreachable = Some(Unreachable {
                    why: "its outer packets would be routed into the tunnel again".into(),
                    route: Some(node.text(&route)),
                    fix: Some(add_route(remote)),
                });
            }
            Ok(route) => {
                let mtu = route.hops.first().and_then(|next| node.links.get(&next.interface)).map(|link| link.mtu);
                // IPv6's outer header has 20 bytes more; the overhead of kinds for IPv6 alone includes them.
                let longer = if remote.is_ipv6() && !hop.link.kind.starts_with("ip6") { 20 } else { 0 };
                wrapped.room = mtu.map(|mtu| mtu.saturating_sub(tunnel.overhead + longer));
                outer = Some(route);
            }
            Err(errno) => {
                let refusing = node.refusing(remote, errno);
                let route = refusing.as_ref().map(|route| node.text(route));
                let why = match &route {
                    Some(text) => format!("the route '{text}' lets nothing through to it"),
                    None if errno == Errno::NETUNREACH => "no route leads to it".into(),
                    None => format!("the kernel finds no way to it ({})", errno_text(errno)),
                };
                let fix = match (&refusing, &route) {
                    (Some(refusing), Some(route)) => refusing.is_by_hand().then(|| delete_route(remote, route)),
                    _ => Some(add_route(remote)),
                };
                wrapped.unreachable = Some(Unreachable { why, route, fix });
            }
        }
    } else if remote.is_none() && known.is_some_and(|known| !is_unanswered(known.state)) && !tunnel.external {
        let why = "it has no remote for that next hop".into();
        wrapped.unreachable = Some(Unreachable { why, ..Default::default() });
    }
    hop.wrapped = Some(wrapped);
    outer
}

/// Where a VXLAN interface sends frames for a neighbour (`vxlan_xmit`): the neighbour's entry, or the default one.
fn forwarding_entry(node: &mut Node, interface: i32, known: Option<&Neighbour>) -> Option<IpAddr> {
    let entries = node.forwarding_table(interface);
    let of = |mac: &[u8]| entries.iter().find(|entry| entry.lladdr == mac && entry.address.is_some());
    known.and_then(|known| of(&known.lladdr)).or_else(|| of(&DEFAULT_ENTRY))?.address
}

fn is_unanswered(state: NeighbourState) -> bool {
    matches!(state, NeighbourState::Incomplete | NeighbourState::Failed)
}

fn resolution(link: &Link, known: Option<&Neighbour>) -> Resolution {
    match known.map(|neighbour| neighbour.state) {
        _ if !link.resolves() => Resolution::NotNeeded,
        Some(state) if is_unanswered(state) => Resolution::Unanswered(state),
        // Without a state the kernel has not tried to resolve it.
        Some(state) if state != NeighbourState::None => Resolution::Known(state),
        _ => Resolution::Unknown,
    }
}

/// Makes the kernel resolve the neighbours that it does not know, by one empty datagram for each. A pod that may not resolve its
/// gateway is sent a TCP connection to an unused port: only a pod that knows the way back can refuse it.
pub fn resolve_next_hops(hops: &[Hop]) -> Option<JoinHandle<bool>> {
    for hop in hops.iter().filter(|hop| matches!(hop.neighbour, Resolution::Unknown | Resolution::Unanswered(_))) {
        let any: IpAddr = if hop.to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
        // The result is in the neighbour table.
        _ = UdpSocket::bind((any, 0)).and_then(|socket| socket.send_to(&[], (hop.to, DISCARD_PORT)));
    }
    let pod = SocketAddr::new(hops.iter().find(|hop| hop.unproxied)?.to, DISCARD_PORT);
    Some(std::thread::spawn(move || match TcpStream::connect_timeout(&pod, PROBE_TIMEOUT) {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
    }))
}

/// Resolves again the next hops that were not known.
pub fn check_again(node: &mut Node, hops: &mut [Hop], probe: Option<JoinHandle<bool>>) {
    let answers = probe.is_some_and(|probe| probe.join().unwrap_or(false));
    for hop in hops {
        hop.unproxied &= !answers;
        if matches!(hop.neighbour, Resolution::Unknown | Resolution::Unanswered(_)) {
            hop.neighbour = resolution(&hop.link, node.neighbour(hop.link.index, hop.next).as_ref());
        }
    }
}

/// The faults on the way out, and the warnings. A next hop that can't be resolved because its tunnel is broken is no fault of its
/// own.
pub fn faults(hops: &[Hop]) -> (Vec<Fault>, Vec<String>) {
    let (mut faults, mut warnings) = (Vec::<Fault>::new(), Vec::new());
    for (at, hop) in hops.iter().enumerate().rev() {
        let link = &printable(&hop.link.name);
        let fault = |kind, text| Fault::new(kind, Way::There, link, text);
        let mut here = Vec::new();
        if !hop.link.is_up() {
            let text = format!("{link}, where it would leave, is down");
            here.push(fault(Kind::EgressDown, text).fix(format!("ip link set {link} up")));
        } else if !hop.link.has_carrier() {
            let text = format!("{link}, where it would leave, has no carrier: the other end is down or unplugged");
            here.push(fault(Kind::NoCarrier, text));
        }
        if let Some(wrapped) = &hop.wrapped {
            here.extend(wrapped.fault(hop, link));
            if let Some(room) = wrapped.room.filter(|room| *room < hop.link.mtu) {
                let has =
                    format!("the mtu of {link} is {}, but its encapsulation leaves room for {room}", hop.link.mtu);
                warnings.push(format!("{has}: ip link set {link} mtu {room}"));
            }
        }
        if let (Resolution::Unanswered(state), true) = (&hop.neighbour, here.is_empty() && faults.is_empty()) {
            let how = if hop.next.is_ipv4() { "ARP" } else { "neighbour discovery" };
            let mut text = format!(
                "the next hop {} on {link} does not answer {how} ({})",
                hop.next,
                state.to_string().to_uppercase()
            );
            if let Some((before, wrapped)) =
                at.checked_sub(1).and_then(|at| Some((&hops[at], hops[at].wrapped.as_ref()?)))
            {
                text +=
                    &format!(", so the tunnel {} does not reach its remote {}", printable(&before.link.name), hop.to);
                text += if wrapped.unrouted { ", which no route leads to" } else { "" };
            }
            here.push(fault(Kind::NextHop, text).route(&hop.route));
        }
        if hop.unproxied && here.is_empty() {
            let key = format!("net.ipv4.conf.{}.proxy_arp", link.replace('.', "/"));
            let text = format!("{key} is 0 and {link} has no address: the pod cannot resolve its gateway");
            here.push(Fault::new(Kind::ProxyArp, Way::Back, link, text).key(&key, 0).fix(format!("sysctl -w {key}=1")));
        }
        here.append(&mut faults);
        faults = here;
    }
    (faults, warnings)
}

impl Wrapped {
    /// Why outer packets do not reach the remote.
    fn fault(&self, hop: &Hop, link: &str) -> Option<Fault> {
        let Unreachable { why, route, fix } = self.unreachable.as_ref()?;
        let to = self.remote.unwrap_or(hop.next);
        let text = format!("the tunnel {link} ({}) encapsulates packets to {to}, and {why}", hop.link.kind);
        let fault = Fault::new(Kind::Tunnel, Way::There, link, text);
        let fault = match route {
            Some(route) => fault.route(route),
            None => fault,
        };
        Some(match fix {
            Some(fix) => fault.fix(fix.clone()),
            None => fault,
        })
    }
}
