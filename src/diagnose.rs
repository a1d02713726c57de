//! Why traffic to a pod is not forwarded: the kernel is asked for its verdict, then each reason is tested by itself.
//!
//! Nothing is written. One empty datagram goes to the address, where the kernel does not know its next hop, so that it looks
//! for it.

mod answers;
mod beside;
mod counters;
mod fault;
mod hops;
mod ingress;
mod judge;
mod node;
mod report;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::setting::{ALL, Family, printable};
use crate::text::plain;
use answers::{Link, RTN_BROADCAST, RTN_LOCAL, RTN_UNICAST, RTPROT_RA, Route, in_subnet};
use beside::Beside;
use counters::Counter;
pub use fault::{Fault, Way};
use hops::Hop;
use ingress::{Ingress, Packet};
pub use judge::Stop;
use judge::{Passage, Settings};
use node::{Lookup, Node, kind_name};
pub use report::{Arrival, Mark, Moved, Report, Step};

/// How long the counters are looked at, and a next hop may take to answer.
const LOOK: Duration = Duration::from_secs(1);
/// How much longer the firewall and the journal may take.
const GRACE: Duration = Duration::from_millis(250);

/// Interfaces that are asked for a setting that tells of a possibility only.
const LOOKED_AT_MAX: usize = 64;

/// What is asked.
pub struct Request {
    pub to: IpAddr,
    pub from: Option<IpAddr>,
    pub interface: Option<OsString>,
}

/// Asks the kernel.
///
/// # Errors
/// What is wrong with the request, or why rtnetlink can't be asked; one line.
pub fn diagnose(request: &Request) -> Result<Report, String> {
    let Request { to, from, interface } = request;
    let family = if to.is_ipv4() { Family::V4 } else { Family::V6 };
    if from.is_some_and(|from| from.is_ipv4() != to.is_ipv4()) {
        return Err("ADDRESS and --from are of two families: give both as IPv4 or both as IPv6".into());
    }
    let mut node = Node::look(family).map_err(|error| format!("rtnetlink: {}", plain(&error.to_string())))?;
    let interface = match interface {
        None => None,
        Some(name) => match node.links.values().find(|link| link.name == *name) {
            Some(link) => Some(link.index),
            None => return Err(format!("--in {}: no such interface; 'ip link' lists them", printable(name))),
        },
    };
    let lookup = node.route(*to, Lookup::default());
    if let Ok(route) = &lookup {
        match route.kind {
            RTN_LOCAL => return Ok(Report::delivered_here(&node, *to, route)),
            RTN_UNICAST => {}
            kind => return Err(format!("{to}: a {} address; give a pod's", kind_name(kind).unwrap_or("special"))),
        }
    }
    let beside = Beside::ask(family);
    let mut diagnosis = Diagnosis::new(node, Packet { to: *to, from: *from, interface }, lookup);
    let counters = diagnosis.look();
    let said = beside.finish(diagnosis.began + LOOK + GRACE);
    Ok(diagnosis.report(counters, said))
}

/// The diagnosis while it is made.
struct Diagnosis {
    node: Node,
    packet: Packet,
    lookup: Result<Route, i32>,
    /// The route that lets nothing through: its kind, and its text.
    refusing: Option<(&'static str, String)>,
    /// An interface that is down, and whether the address is behind it.
    gone: Option<(String, bool)>,
    /// An interface that loses IPv6 routes to forwarding.
    advertised: Option<String>,
    began: Instant,
    before: Vec<Counter>,
    watched: Vec<i32>,
    hops: Vec<Hop>,
    passages: Vec<(Ingress, Passage, Option<Passage>)>,
}

impl Diagnosis {
    /// Everything that is asked at the beginning of the look.
    fn new(mut node: Node, packet: Packet, lookup: Result<Route, i32>) -> Diagnosis {
        let whole = Lookup { whole: true, ..Lookup::default() };
        let reverse = packet.from.and_then(|from| node.route(from, whole).ok());
        let leaves = lookup.as_ref().ok().and_then(|route| route.hops.first()).map(|hop| hop.interface);
        let arrivals = ingress::candidates(&node, packet, leaves, reverse.as_ref());
        // A rule may have a route for what arrives there alone (ip-rule(8)).
        let first = arrivals
            .first()
            .map(|ingress| Lookup { arrives: Some((ingress.interface, ingress.from)), ..Lookup::default() });
        let ruled = first.filter(|_| lookup.is_err()).and_then(|first| node.route(packet.to, first).ok());
        let ruled = ruled.filter(|route| route.kind == RTN_UNICAST);
        let taken = lookup.as_ref().ok().or(ruled.as_ref());
        let hops = taken.map(|route| hops::follow(&mut node, packet.to, route)).unwrap_or_default();
        hops::provoke(&hops);
        let egress = hops.first().map(|hop| hop.link.index);
        let mut watched: Vec<i32> = hops.iter().map(|hop| hop.link.index).collect();
        watched.extend(arrivals.first().map(|ingress| ingress.interface));
        watched.sort_unstable();
        watched.dedup();
        let refusing = lookup.as_ref().err().and_then(|errno| node.refusing(packet.to, *errno));
        let refusing = refusing.map(|route| (kind_name(route.kind).unwrap_or("special"), node.text(&route)));
        let began = Instant::now();
        let before = counters::read(&mut node, packet.to, &watched);
        let mut diagnosis = Diagnosis {
            node,
            packet,
            lookup,
            refusing,
            gone: None,
            advertised: None,
            began,
            before,
            watched,
            hops,
            passages: Vec::new(),
        };
        diagnosis.gone = diagnosis.gone();
        diagnosis.advertised = diagnosis.advertised();
        for ingress in arrivals {
            let there = diagnosis.passage(Way::There, ingress.interface, ingress.from, packet.to);
            let back = egress
                .filter(|_| there.has_answer())
                .map(|egress| diagnosis.passage(Way::Back, egress, packet.to, ingress.from));
            diagnosis.passages.push((ingress, there, back));
        }
        diagnosis
    }

    /// The kernel's verdict on one packet, and what its reasons are made of. What is not needed unless it drops is not asked.
    fn passage(&mut self, way: Way, interface: i32, from: IpAddr, to: IpAddr) -> Passage {
        let node = &mut self.node;
        let whole = Lookup { whole: true, ..Lookup::default() };
        let verdict = match node.route(to, Lookup { arrives: Some((interface, from)), ..whole }) {
            Ok(route) if route.kind == RTN_UNICAST => Ok(()),
            Ok(route) => Err(Stop::Keeps(kind_name(route.kind).unwrap_or("special"), node.text(&route))),
            Err(errno) => Err(Stop::Drops(errno)),
        };
        let (lookup, refusing) = match way {
            Way::There => (self.lookup.as_ref().map(|_| ()).map_err(|errno| *errno), self.refusing.clone()),
            // It is asked for where there is a route back.
            Way::Back => (Ok(()), None),
        };
        let name = |node: &Node, route: &Route| route.hops.iter().map(|hop| node.name(hop.interface)).collect();
        let reverse = node.route(from, whole);
        let own_source = match reverse.as_ref().map(|route| route.kind) {
            Ok(RTN_BROADCAST) => Some("a broadcast address"),
            Ok(RTN_LOCAL) => Some("an address"),
            _ => node.is_own(from).then_some("an address"),
        };
        let reverse = reverse.map(|route| (name(node, &route), node.text(&route)));
        let link = node.links.get(&interface).cloned().unwrap_or_default();
        let (all, own) = (node.settings(ALL), node.settings(interface));
        let v6 = from.is_ipv6();
        let settings = Settings {
            all_forwarding: all.0 != 0,
            forwarding: own.0 != 0,
            all_rp_filter: all.1,
            rp_filter: own.1,
            forced: v6 && all.0 == 0 && node.conf(interface, "force_forwarding").is_some_and(|value| value != "0"),
            advertised: self.advertised.clone(),
        };
        Passage {
            way,
            from,
            to,
            ingress: (node.name(interface), link.is_up(), link.has_carrier()),
            verdict,
            lookup,
            refusing,
            down: self.gone.clone().filter(|_| way == Way::There),
            settings,
            own_source,
            reverse,
        }
    }

    /// An interface that is down and has the address in its subnet, closer than the route that is left; or, if no route is
    /// left at all, the only one that is down.
    fn gone(&self) -> Option<(String, bool)> {
        let (node, to) = (&self.node, self.packet.to);
        let closest = match &self.lookup {
            Ok(_) => node.matching(to, |route| route.kind == RTN_UNICAST).map_or(0, |route| route.prefix),
            Err(_) => 0,
        };
        let is_down = |index: i32| node.links.get(&index).is_some_and(|link| !link.is_up());
        let mut near = node.addresses.iter().filter(|own| is_down(own.interface) && own.prefix > closest);
        if let Some(own) = near.find(|own| in_subnet(to, own.address, own.prefix)) {
            return Some((node.name(own.interface), true));
        }
        // Interfaces that the kernel makes for itself, or that nobody routes through, are down all the time.
        let used = |link: &&Link| {
            !link.is_up() && !link.is_loopback() && !matches!(&*link.kind, "dummy" | "ipip" | "gre" | "sit" | "ip6tnl")
        };
        let mut down = node.links.values().filter(used);
        let only = down.next().filter(|_| down.next().is_none() && self.lookup == Err(libc::ENETUNREACH))?;
        Some((printable(&only.name), false))
    }

    /// The interface that an IPv6 route from a router advertisement is on while its accept_ra is 1.
    fn advertised(&mut self) -> Option<String> {
        let routes = self.node.routes.iter().filter(|route| route.protocol == RTPROT_RA);
        let interface = routes.flat_map(|route| &route.hops).map(|hop| hop.interface).next()?;
        self.only_without_forwarding(interface)
    }

    /// Its name, if it takes router advertisements only while IPv6 does not forward (`ipv6_accept_ra`).
    fn only_without_forwarding(&mut self, interface: i32) -> Option<String> {
        let accepts = self.node.conf(interface, "accept_ra").filter(|_| self.node.family == Family::V6)?;
        (accepts == "1").then(|| self.node.name(interface))
    }

    /// Routes from router advertisements that forwarding has taken, or will.
    fn lost_to_forwarding(&mut self) -> Option<String> {
        if self.node.settings(ALL).0 == 0 {
            return None;
        }
        let remedy = |name: &str| {
            let key = format!("net.ipv6.conf.{}.accept_ra", name.replace('.', "/"));
            format!("{key} is 1, which takes no router advertisements while IPv6 forwards: sysctl -w {key}=2")
        };
        if let Some(name) = self.advertised() {
            return Some(format!("the routes that {name} has from router advertisements will go; {}", remedy(&name)));
        }
        let lost = self.lookup.is_err() || self.passages.iter().any(|(_, there, _)| there.reverse.is_err());
        if !lost || self.node.routes.iter().any(|route| route.prefix == 0 && route.kind == RTN_UNICAST) {
            return None;
        }
        let node = &self.node;
        let global = node.addresses.iter().filter(|own| ingress::is_global(own.local) && !own.local.is_loopback());
        let interfaces: Vec<i32> = global.map(|own| own.interface).take(LOOKED_AT_MAX).collect();
        let name = interfaces.into_iter().find_map(|interface| self.only_without_forwarding(interface))?;
        Some(format!("there is no default route; if {name} had it from router advertisements: {}", remedy(&name)))
    }

    /// The end of the look: which next hops have answered, and which counters moved.
    fn look(&mut self) -> Vec<Moved> {
        std::thread::sleep(LOOK.saturating_sub(self.began.elapsed()));
        hops::look_again(&mut self.node, &mut self.hops);
        let after = counters::read(&mut self.node, self.packet.to, &self.watched);
        let moved = |(before, after): (&Counter, Counter)| Moved {
            moved: after.value.saturating_sub(before.value),
            name: after.name,
            since_boot: after.value,
        };
        self.before.iter().zip(after).map(moved).collect()
    }
}
