//! The node as the kernel describes it: dumped once, and asked for routes and neighbours.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::net::IpAddr;

use netlink_packet_core::NLM_F_DUMP;

use super::answers::{
    Address, Link, Neighbour, NextHop, RT_TABLE_MAIN, RTN_ANYCAST, RTN_BLACKHOLE, RTN_BROADCAST, RTN_LOCAL,
    RTN_MULTICAST, RTN_PROHIBIT, RTN_THROW, RTN_UNREACHABLE, Route,
};
use crate::kernel::socket::Dumps;
use crate::kernel::sysctl::Door;
use crate::setting::{Family, Key, printable};

/// The matching route of the FIB, all its next hops, rather than the one for this packet. Kernels before 4.13 pass over it.
const RTM_F_FIB_MATCH: u32 = 0x2000;
const IFLA_EXT_MASK: u16 = 29;
const RTEXT_FILTER_SKIP_STATS: u32 = 8;
const RTM_F_CLONED: u32 = 0x200;

/// What a lookup is asked for, beside the address.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lookup {
    /// It arrives there from that address: the kernel applies forwarding and rp_filter (IPv4).
    pub arrives: Option<(i32, IpAddr)>,
    /// It leaves there.
    pub leaves: i32,
    /// The route, and not what is left of it for one packet.
    pub whole: bool,
}

pub struct Node {
    dumps: Dumps,
    door: Door,
    pub family: Family,
    pub links: BTreeMap<i32, Link>,
    /// Sorted by interface.
    pub addresses: Vec<Address>,
    own: HashSet<IpAddr>,
    pub routes: Vec<Route>,
    /// forwarding and rp_filter; of `all` under [`crate::setting::ALL`].
    settings: HashMap<i32, (i32, i32)>,
    /// The kernel drops packets for forwarding that is off without counting them.
    pub is_silent: bool,
}

impl Node {
    /// # Errors
    /// The kernel's reason why rtnetlink can't be asked.
    pub fn look(family: Family) -> io::Result<Node> {
        let mut dumps = Dumps::open()?;
        let settings = dumps.netconf(family)?;
        let (mut links, mut addresses, mut routes) = (BTreeMap::new(), Vec::new(), Vec::new());
        let mut body = vec![0; 16];
        attribute(&mut body, IFLA_EXT_MASK, &RTEXT_FILTER_SKIP_STATS.to_ne_bytes());
        dumps.ask(libc::RTM_GETLINK, NLM_F_DUMP, &body, |answer| {
            links.extend(Link::parse(answer).map(|link| (link.index, link)));
        })?;
        dumps.ask(libc::RTM_GETADDR, NLM_F_DUMP, &[family.number(), 0, 0, 0, 0, 0, 0, 0], |answer| {
            addresses.extend(Address::parse(answer));
        })?;
        dumps.ask(libc::RTM_GETROUTE, NLM_F_DUMP, &rtmsg(family.number(), 0, 0, 0), |answer| {
            // IPv6 has its cache of routes in the same dump.
            let cached = answer.get(8..12).is_some_and(|flags| flags[1] & (RTM_F_CLONED >> 8) as u8 != 0);
            routes.extend(Route::parse(answer).filter(|_| !cached));
        })?;
        addresses.sort_by_key(|own: &Address| own.interface);
        let own = addresses.iter().map(|own| own.local).collect();
        let value = |value: Option<i32>| value.unwrap_or(0);
        let settings =
            settings.into_iter().filter_map(|m| Some((m.ifindex?, (value(m.forwarding), value(m.rp_filter)))));
        let settings = settings.collect();
        let door = Door::new(Default::default());
        Ok(Node { dumps, door, family, links, addresses, own, routes, settings, is_silent: false })
    }

    /// # Errors
    /// The kernel's errno, which never says why by itself.
    pub fn route(&mut self, to: IpAddr, lookup: Lookup) -> Result<Route, i32> {
        let (family, width) = (number_of(to), if to.is_ipv4() { 32 } else { 128 });
        let source = if lookup.arrives.is_some() { width } else { 0 };
        let mut body =
            rtmsg(family, width, source, if lookup.whole { RTM_F_FIB_MATCH } else { 0 } | libc::RTM_F_LOOKUP_TABLE);
        attribute(&mut body, libc::RTA_DST, &octets(to));
        if let Some((interface, from)) = lookup.arrives {
            attribute(&mut body, libc::RTA_SRC, &octets(from));
            attribute(&mut body, libc::RTA_IIF, &interface.to_ne_bytes());
        }
        if lookup.leaves != 0 {
            attribute(&mut body, libc::RTA_OIF, &lookup.leaves.to_ne_bytes());
        }
        let mut route = None;
        let asked = self.dumps.ask(libc::RTM_GETROUTE, 0, &body, |answer| route = Route::parse(answer));
        match asked {
            Ok(_) => {
                let route = route.ok_or(libc::EBADMSG)?;
                self.is_silent |= lookup.arrives.is_some() && route.is_silent();
                route.answer().map(|route| if lookup.whole { whole(&self.routes, to, route) } else { route })
            }
            Err(error) => Err(error.raw_os_error().unwrap_or(libc::EBADMSG)),
        }
    }

    /// The neighbours behind an interface.
    pub fn neighbours(&mut self, interface: i32, family: u8) -> Vec<Neighbour> {
        let mut body = vec![family, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        attribute(&mut body, libc::NDA_IFINDEX, &interface.to_ne_bytes());
        self.neighbour_dump(interface, &body)
    }

    /// Which MAC address a VXLAN interface finds behind which remote.
    pub fn forwarding_table(&mut self, interface: i32) -> Vec<Neighbour> {
        self.neighbour_dump(interface, &[libc::AF_BRIDGE as u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    }

    /// Older kernels don't filter.
    fn neighbour_dump(&mut self, interface: i32, body: &[u8]) -> Vec<Neighbour> {
        let mut neighbours = Vec::new();
        let each = |answer: &[u8]| neighbours.extend(Neighbour::parse(answer).filter(|n| n.interface == interface));
        _ = self.dumps.ask(libc::RTM_GETNEIGH, NLM_F_DUMP, body, each);
        neighbours
    }

    /// What an interface has dropped until now.
    pub fn dropped(&mut self, interface: i32) -> Option<u64> {
        let mut body = vec![0; 16];
        body[4..8].copy_from_slice(&interface.to_ne_bytes());
        let mut dropped = None;
        let asked =
            self.dumps.ask(libc::RTM_GETLINK, 0, &body, |answer| dropped = Link::parse(answer).map(|l| l.dropped));
        asked.ok().and(dropped)
    }

    /// forwarding and rp_filter of an interface or of [`crate::setting::ALL`].
    pub fn settings(&self, interface: i32) -> (i32, i32) {
        self.settings.get(&interface).copied().unwrap_or_default()
    }

    /// A setting by its key with slashes. `None`: it is not there, or may not be read.
    pub fn setting(&mut self, key: &str) -> Option<String> {
        self.door.read(&Key::parse(key).ok()?).ok()
    }

    /// A setting of an interface of this family's `conf`.
    pub fn conf(&mut self, interface: i32, name: &str) -> Option<String> {
        let interface = self.links.get(&interface)?.name.clone();
        self.door.read(&Key::in_table(self.family.folder(), "conf", &interface, name)).ok()
    }

    pub fn name(&self, interface: i32) -> String {
        self.links.get(&interface).map_or_else(|| format!("interface {interface}"), |link| printable(&link.name))
    }

    pub fn is_own(&self, address: IpAddr) -> bool {
        self.own.contains(&address)
    }

    pub fn addresses_of(&self, interface: i32) -> &[Address] {
        let from = self.addresses.partition_point(|own| own.interface < interface);
        let length = self.addresses[from..].partition_point(|own| own.interface == interface);
        &self.addresses[from..from + length]
    }

    /// The best route of the FIB that contains `to` and is so, of the main table before others: what policy routing
    /// would choose among tables is not asked.
    pub fn matching(&self, to: IpAddr, is: impl Fn(&Route) -> bool) -> Option<Route> {
        let matching = self.routes.iter().filter(|route| route.contains(to) && is(route));
        matching.max_by_key(|route| (route.table == RT_TABLE_MAIN, route.prefix)).cloned()
    }

    /// The route that makes a lookup fail so.
    pub fn refusing(&self, to: IpAddr, errno: i32) -> Option<Route> {
        let refusing = self.matching(to, |route| refuses(route.kind, errno));
        // Before 4.0, IPv4's lookup in the tables that every node has made ENETUNREACH of any of them (`fib_lookup`).
        refusing.or_else(|| {
            let best = self.matching(to, |_| true).filter(|best| best.table == RT_TABLE_MAIN);
            best.filter(|best| errno == libc::ENETUNREACH && to.is_ipv4() && lets_nothing_through(best.kind))
        })
    }

    /// As `ip route` prints it.
    pub fn text(&self, route: &Route) -> String {
        let mut text = match kind_name(route.kind) {
            Some(kind) => format!("{kind} "),
            None => String::new(),
        };
        text += &match route.destination {
            None => "default".into(),
            Some(address) if route.prefix == if address.is_ipv4() { 32 } else { 128 } => address.to_string(),
            Some(address) => format!("{address}/{}", route.prefix),
        };
        for hop in &route.hops {
            if let Some(gateway) = hop.gateway {
                text += &format!(" via {gateway}");
            }
            text += &format!(" dev {}", self.name(hop.interface));
        }
        if route.table != RT_TABLE_MAIN {
            text += &format!(" table {}", if route.table == 255 { "local".into() } else { route.table.to_string() });
        }
        text
    }
}

/// The kinds of routes that let nothing through, and others that are named.
pub fn kind_name(kind: u8) -> Option<&'static str> {
    Some(match kind {
        RTN_LOCAL => "local",
        RTN_BROADCAST => "broadcast",
        RTN_ANYCAST => "anycast",
        RTN_MULTICAST => "multicast",
        RTN_BLACKHOLE => "blackhole",
        RTN_UNREACHABLE => "unreachable",
        RTN_PROHIBIT => "prohibit",
        RTN_THROW => "throw",
        _ => return None,
    })
}

/// Whether a route of that kind makes a lookup fail so (`fib_props`, net/ipv4/fib_semantics.c). One that throws ends the
/// lookup in its table.
fn refuses(kind: u8, errno: i32) -> bool {
    match kind {
        RTN_BLACKHOLE => errno == libc::EINVAL,
        RTN_UNREACHABLE => errno == libc::EHOSTUNREACH,
        RTN_PROHIBIT => errno == libc::EACCES,
        RTN_THROW => errno == libc::ENETUNREACH,
        _ => false,
    }
}

fn lets_nothing_through(kind: u8) -> bool {
    matches!(kind, RTN_BLACKHOLE | RTN_UNREACHABLE | RTN_PROHIBIT | RTN_THROW)
}

/// The route of `routes` that an answer was made of, where the answer has no more than the address and one next hop of it.
pub fn whole(routes: &[Route], to: IpAddr, answer: Route) -> Route {
    let is_of_the_address = answer.destination == Some(to);
    let makes = |route: &&Route| {
        let leads = |hop: &NextHop| route.hops.iter().any(|h| (h.interface, h.gateway) == (hop.interface, hop.gateway));
        route.kind == answer.kind && route.contains(to) && answer.hops.first().is_some_and(leads)
    };
    let made_of = routes.iter().filter(makes).max_by_key(|route| (route.prefix, route.table == RT_TABLE_MAIN));
    made_of.filter(|_| is_of_the_address).cloned().unwrap_or(answer)
}

pub fn number_of(address: IpAddr) -> u8 {
    if address.is_ipv4() { Family::V4.number() } else { Family::V6.number() }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// `struct rtmsg`
fn rtmsg(family: u8, destination: u8, source: u8, flags: u32) -> Vec<u8> {
    [&[family, destination, source, 0, 0, 0, 0, 0][..], &flags.to_ne_bytes()].concat()
}

/// Adds a `struct rtattr`.
fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend((4 + value.len() as u16).to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}
