//! Why traffic to a pod is not forwarded: by the kernel's own verdict, and by a test of each possible reason.
//!
//! No setting is written. If the kernel does not know the next hop, one empty datagram to the address makes the kernel resolve it.

mod counters;
mod fault;
mod firewall;
mod hops;
mod ingress;
mod judge;
mod links;
mod messages;
mod node;
mod path;
mod programs;
mod report;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io;
use std::net::IpAddr;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use netlink_packet_route::route::{RouteProtocol, RouteType};

use rustix::io::Errno;
use thiserror::Error;

use crate::setting::{ALL, Family, printable};
use crate::text::plain;
pub use counters::Counter;
pub use fault::{Fault, Way};
use firewall::Flow;
pub use firewall::Suspect;
pub use firewall::iptables::mark as parse_mark;
use hops::Hop;
use ingress::{Ingress, Packet};
pub use judge::Stop;
use judge::{Marks, Passage, Refusing, Settings};
use links::Link;
use messages::{Route, in_subnet, kind_name};
use node::{Lookup, Node};
pub use path::{Mark, Step};
use programs::{Firewall, Journal, Rules};
pub use report::{Arrival, Report};

/// How long the counters are sampled, and a next hop may take to answer.
const SAMPLE: Duration = Duration::from_secs(1);
/// How much longer the firewall and the journal may take.
const GRACE: Duration = Duration::from_millis(250);

/// A setting that hints at a possibility only is read of at most this many interfaces.
const READ_MAX: usize = 64;

/// The packet that the user describes.
pub struct Request {
    pub to: IpAddr,
    pub from: Option<IpAddr>,
    pub interface: Option<OsString>,
    /// Its mark, and which bits of it are known.
    pub mark: Option<(u32, u32)>,
}

/// Why there is no diagnosis.
#[derive(Debug, Error)]
pub enum Error {
    #[error("ADDRESS and --from are of different families; specify both as IPv4 or both as IPv6")]
    Families,
    #[error("rtnetlink: {}", plain(&.0.to_string()))]
    Rtnetlink(#[from] io::Error),
    #[error("--in {0}: no such interface; 'ip link' lists them")]
    NoInterface(String),
    #[error("{0}: a {1} address; specify a pod's")]
    NoPod(IpAddr, &'static str),
}

/// Asks the kernel.
///
/// # Errors
/// The request is wrong, or the kernel refuses rtnetlink.
pub fn diagnose(request: &Request) -> Result<Report, Error> {
    let Request { to, from, interface, mark } = request;
    let family = if to.is_ipv4() { Family::V4 } else { Family::V6 };
    if from.is_some_and(|from| from.is_ipv4() != to.is_ipv4()) {
        return Err(Error::Families);
    }
    let mut node = Node::read(family)?;
    let interface = match interface {
        None => None,
        Some(name) => match node.interface(name).and_then(|index| node.links.get(&index)) {
            // A bridge receives the packets of its ports.
            Some(link) => Some(if node.is_port(link) { link.master } else { link.index }),
            None => return Err(Error::NoInterface(printable(name))),
        },
    };
    let lookup = node.route(*to, Lookup { mark: mark_of(*mark), ..Lookup::default() });
    if let Ok(route) = &lookup {
        match route.kind {
            RouteType::Local => return Ok(Report::delivered_here(&node, *to, route)),
            RouteType::Unicast => {}
            kind => return Err(Error::NoPod(*to, kind_name(kind).unwrap_or("special"))),
        }
    }
    let (firewall, journal) = (Firewall::ask(family), Journal::ask());
    let mut diagnosis = Diagnosis::new(node, Packet { to: *to, from: *from, interface, mark: *mark }, lookup);
    diagnosis.sample(firewall);
    let (repairs, missing) = journal.finish(diagnosis.began + SAMPLE + GRACE);
    diagnosis.rules.missing.extend(missing);
    Ok(diagnosis.report(repairs))
}

/// The known bits of a mark.
fn mark_of(mark: Option<(u32, u32)>) -> u32 {
    mark.map_or(0, |(value, mask)| value & mask)
}

/// The diagnosis in progress.
struct Diagnosis {
    node: Node,
    packet: Packet,
    lookup: Result<Route, Errno>,
    /// The route that lets nothing through.
    refusing: Option<Refusing>,
    /// An interface that is down, and whether the address is behind it.
    gone: Option<(String, bool)>,
    /// An interface that loses IPv6 routes to forwarding.
    advertised: Option<String>,
    /// A route to the address in a table that no rule leads to.
    unruled: Option<Route>,
    /// Marks that rules match.
    marks: Vec<u32>,
    began: Instant,
    counters: Vec<Counter>,
    watched: Vec<String>,
    hops: Vec<Hop>,
    probe: Option<JoinHandle<bool>>,
    passages: Vec<(Ingress, Passage, Option<Passage>)>,
    /// The bridge that forwards it between ports, and whether the firewall sees that.
    bridged: Option<(String, bool)>,
    rules: Rules,
}

impl Diagnosis {
    /// Everything that is read before the counters are sampled.
    fn new(mut node: Node, packet: Packet, lookup: Result<Route, Errno>) -> Diagnosis {
        let mark = mark_of(packet.mark);
        let whole = Lookup { whole: true, ..Lookup::default() };
        let reverse = packet.from.and_then(|from| node.route(from, whole).ok());
        let leaves = lookup.as_ref().ok().and_then(|route| route.hops.first()).map(|hop| hop.interface);
        let bridged = bridge(&node, packet, lookup.as_ref().ok(), reverse.as_ref());
        let bridged = bridged.map(|bridge| (node.name(bridge), node.is_bridge_filtered(bridge)));
        let arrivals = match bridged {
            Some(_) => Vec::new(),
            None => ingress::candidates(&node, packet, leaves, reverse.as_ref()),
        };
        // A rule may have a route for what arrives there alone, and one of several next hops is chosen by both addresses
        // (ip-rule(8), `fib_multipath_hash`).
        let arrives = arrivals.first().map(|ingress| (ingress.interface, ingress.from));
        let first = Lookup { arrives, mark, ..Lookup::default() };
        let ruled = arrives.and_then(|_| node.route(packet.to, first).ok()).filter(Route::is_unicast);
        let first = if ruled.is_some() { first } else { Lookup { arrives: None, ..first } };
        let taken = ruled.as_ref().or(lookup.as_ref().ok());
        let hops = taken.map(|route| hops::follow(&mut node, packet.to, route, first)).unwrap_or_default();
        let probe = hops::resolve_next_hops(&hops);
        let egress = hops.first().map(|hop| hop.link.index);
        let interfaces = hops.iter().map(|hop| hop.link.index).chain(arrivals.first().map(|ingress| ingress.interface));
        let mut watched: Vec<String> = interfaces.map(|interface| node.name(interface)).collect();
        watched.sort_unstable();
        watched.dedup();
        let refusing = lookup.as_ref().err().and_then(|errno| node.refusing(packet.to, *errno));
        let refusing = refusing.map(|route| Refusing {
            kind: kind_name(route.kind).unwrap_or("special"),
            route: node.text(&route),
            by_hand: route.is_by_hand(),
        });
        let unruled = node.unruled_route(packet.to);
        let marks = node.rules.iter().filter_map(|rule| rule.mark).map(|(mark, _)| mark).collect();
        let mut diagnosis = Diagnosis {
            node,
            packet,
            lookup,
            refusing,
            gone: None,
            advertised: None,
            unruled,
            marks,
            began: Instant::now(),
            counters: counters::read(packet.to, &watched),
            watched,
            hops,
            probe,
            passages: Vec::new(),
            bridged,
            rules: Rules::default(),
        };
        diagnosis.gone = diagnosis.gone();
        diagnosis.advertised = diagnosis.advertised();
        for ingress in arrivals {
            let there = diagnosis.passage(Way::There, ingress.interface, egress, ingress.from, packet.to);
            let back = egress.filter(|_| there.has_answer());
            let back = back
                .map(|egress| diagnosis.passage(Way::Back, egress, Some(ingress.interface), packet.to, ingress.from));
            diagnosis.passages.push((ingress, there, back));
        }
        diagnosis
    }

    /// The kernel's verdict on one packet that leaves by `leaves`, and the data for its reasons. Data that only a drop needs is
    /// read only then.
    fn passage(&mut self, way: Way, interface: i32, leaves: Option<i32>, from: IpAddr, to: IpAddr) -> Passage {
        // The mark of an answer is not known.
        let given = self.packet.mark.filter(|_| way == Way::There);
        let mark = mark_of(given);
        let node = &mut self.node;
        let whole = Lookup { whole: true, ..Lookup::default() };
        let verdict = match node.route(to, Lookup { arrives: Some((interface, from)), mark, ..whole }) {
            Ok(route) if route.is_unicast() => Ok(()),
            Ok(route) => Err(Stop::Keeps(kind_name(route.kind).unwrap_or("special"), node.text(&route))),
            Err(errno) => Err(Stop::Drops(errno)),
        };
        let (lookup, refusing) = match way {
            Way::There => (self.lookup.as_ref().map(|_| ()).map_err(|errno| *errno), self.refusing.clone()),
            // A passage back exists only where there is a route back.
            Way::Back => (Ok(()), None),
        };
        let src_valid_mark = from.is_ipv4() && node.is_on(interface, "src_valid_mark");
        let mark = if src_valid_mark { mark } else { 0 };
        // As the answer travels: rules may go by its source or where it comes in (`fib_validate_source` asks so, too).
        let answer = leaves.map(|leaves| Lookup { arrives: Some((leaves, to)), mark, ..whole });
        let answer = answer.and_then(|answer| node.route(from, answer).ok());
        let reverse = answer.map_or_else(|| node.route(from, Lookup { mark, ..whole }), Ok);
        let mut marks =
            Marks { unknown: given.is_none() && (src_valid_mark || !self.marks.is_empty()), ..Marks::default() };
        marks.by_more = node.rules.iter().any(|rule| rule.by_more);
        marks.refusing = node.rules.iter().find_map(|rule| Some((rule.priority, rule.refuses?)));
        if verdict.is_err() {
            let known = given.map_or_else(|| self.marks.clone(), |(value, mask)| vec![value & mask]);
            marks.leads = known.iter().copied().find(|mark| node.route(to, Lookup { mark: *mark, ..whole }).is_ok());
            let mut leads_back = |mark: &u32| {
                node.route(from, Lookup { mark: *mark, ..whole }).is_ok_and(|route| route.leads_to(interface))
            };
            marks.hidden = known.into_iter().filter(|mark| !src_valid_mark && *mark != 0).find(|mark| leads_back(mark));
        }
        let own_source = match reverse.as_ref().map(|route| route.kind) {
            Ok(RouteType::Broadcast) => Some("a broadcast address"),
            Ok(RouteType::Local) => Some("an address"),
            _ => node.is_own(from).then_some("an address"),
        };
        let reverse =
            reverse.map(|route| (route.hops.iter().map(|hop| node.name(hop.interface)).collect(), node.text(&route)));
        let link = node.links.get(&interface).cloned().unwrap_or_default();
        let (all, own) = (node.settings(ALL), node.settings(interface));
        let v6 = from.is_ipv6();
        let settings = Settings {
            all_forwarding: all.0 != 0,
            forwarding: own.0 != 0,
            all_rp_filter: all.1,
            rp_filter: own.1,
            forced: v6 && all.0 == 0 && node.conf(interface, "force_forwarding").is_some_and(|value| value != "0"),
            unnumbered: !v6 && node.addresses_of(interface).iter().all(|own| own.local.is_ipv6()),
            route_localnet: !v6 && from.is_loopback() && node.is_on(interface, "route_localnet"),
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
            marks,
            unruled: self.unruled.as_ref().filter(|_| way == Way::There).map(|route| (node.text(route), route.table)),
        }
    }

    /// An interface that is down and has the address in its subnet, closer than the remaining route; or, if no route remains, the
    /// only one that is down.
    fn gone(&self) -> Option<(String, bool)> {
        let (node, to) = (&self.node, self.packet.to);
        // Where a route for the address remains, the interface may be out of use.
        let taken = self.lookup.as_ref().ok().and_then(|_| node.matching(to, Route::is_unicast));
        if taken.is_some_and(|route| route.prefix > 0) {
            return None;
        }
        let is_down = |index: i32| node.links.get(&index).is_some_and(|link| !link.is_up());
        let has_ports = |index: i32| node.links.values().any(|link| link.master == index);
        let is_used = |index: i32| node.links.get(&index).is_none_or(|link| link.kind != "bridge") || has_ports(index);
        let mut near =
            node.addresses.iter().filter(|own| is_down(own.interface) && own.prefix > 0 && is_used(own.interface));
        if let Some(own) = near.find(|own| in_subnet(to, own.address, own.prefix)) {
            return Some((node.name(own.interface), true));
        }
        // Interfaces that the kernel creates by itself, or that no route uses, are always down.
        let used = |link: &&Link| {
            !link.is_up() && !link.is_loopback() && !matches!(&*link.kind, "dummy" | "ipip" | "gre" | "sit" | "ip6tnl")
        };
        let mut down = node.links.values().filter(used);
        let only = down.next().filter(|_| down.next().is_none() && self.lookup == Err(Errno::NETUNREACH))?;
        Some((printable(&only.name), false))
    }

    /// The interface that an IPv6 route from a router advertisement is on while its accept_ra is 1.
    fn advertised(&mut self) -> Option<String> {
        let routes = self.node.routes.iter().filter(|route| route.protocol == RouteProtocol::Ra);
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
            format!("{key} is 1, so the kernel ignores router advertisements while IPv6 forwards: sysctl -w {key}=2")
        };
        if let Some(name) = self.advertised() {
            return Some(format!(
                "the routes that {name} has from router advertisements will be lost; {}",
                remedy(&name)
            ));
        }
        let lost = self.lookup.is_err() || self.passages.iter().any(|(_, there, _)| there.reverse.is_err());
        if !lost || self.node.routes.iter().any(|route| route.prefix == 0 && route.is_unicast()) {
            return None;
        }
        let node = &self.node;
        let global = node.addresses.iter().filter(|own| ingress::is_global(own.local) && !own.local.is_loopback());
        let interfaces: Vec<i32> = global.map(|own| own.interface).take(READ_MAX).collect();
        let name = interfaces.into_iter().find_map(|interface| self.only_without_forwarding(interface))?;
        Some(format!("there is no default route; if {name} had it from router advertisements: {}", remedy(&name)))
    }

    /// Finds what the firewall does, which next hops answer, and which counters move.
    fn sample(&mut self, firewall: Firewall) {
        let deadline = self.began + SAMPLE + GRACE;
        self.rules = firewall.finish(&self.flows(), deadline);
        std::thread::sleep(SAMPLE.saturating_sub(self.began.elapsed()));
        if !self.rules.suspects.is_empty() {
            programs::check_again(self.node.family, &mut self.rules.suspects, deadline);
        }
        hops::check_again(&mut self.node, &mut self.hops, self.probe.take());
        let after = counters::read(self.packet.to, &self.watched);
        self.counters = counters::compare(&self.counters, after);
    }

    /// The packet and its answer as the firewall sees them, and whether it is the answer.
    fn flows(&self) -> Vec<(Flow, bool)> {
        let (to, (mark, known)) = (self.packet.to, self.packet.mark.unwrap_or((0, u32::MAX)));
        let (from, arrives, leaves) = match (&self.bridged, self.passages.first(), self.hops.first()) {
            (Some((bridge, true)), ..) => (self.packet.from.unwrap_or(to), bridge.clone(), bridge.clone()),
            (Some(_), ..) => return Vec::new(),
            (None, Some((ingress, there, _)), Some(hop)) => {
                (ingress.from, there.ingress.0.clone(), printable(&hop.link.name))
            }
            _ => return Vec::new(),
        };
        let there = Flow { from, to, arrives, leaves, state: "new", mark: mark & known, known };
        let reverse = self.passages.first().and_then(|(_, there, _)| there.reverse.as_ref().ok());
        let back = Flow {
            from: to,
            to: from,
            arrives: there.leaves.clone(),
            leaves: reverse.and_then(|(interfaces, _)| interfaces.first()).unwrap_or(&there.arrives).clone(),
            state: "established",
            // A mark that is kept for the connection is also given to the answer.
            known: if mark & known == 0 { known } else { 0 },
            mark: 0,
        };
        vec![(there, false), (back, true)]
    }
}

/// The bridge that both ends are on, without a gateway between them.
fn bridge(node: &Node, packet: Packet, to: Option<&Route>, from: Option<&Route>) -> Option<i32> {
    let on_link = |route: &Route| route.hops.first().filter(|hop| hop.gateway.is_none()).map(|hop| hop.interface);
    let bridge = on_link(to?)?;
    let is_bridge = node.links.get(&bridge).is_some_and(|link| link.kind == "bridge");
    let is_there = packet.interface.is_none_or(|interface| interface == bridge);
    (is_bridge && is_there && on_link(from?)? == bridge && from?.is_unicast()).then_some(bridge)
}
