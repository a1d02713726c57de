//! Derives faults from the kernel's answers and settings, in the order in which a packet meets them. It reads nothing itself.

use std::net::IpAddr;

use rustix::io::Errno;

use super::fault::{Fault, Kind, Way, add_route, delete_route, six};
use crate::setting::Family;
use crate::text::errno_text;

/// One packet's way through the node, as far as routing decides it.
#[derive(Clone, Debug)]
pub struct Passage {
    pub way: Way,
    pub from: IpAddr,
    pub to: IpAddr,
    /// Its name, and whether it is up and has a carrier.
    pub ingress: (String, bool, bool),
    /// The kernel's own verdict on a packet that arrives there.
    pub verdict: Result<(), Stop>,
    /// The result of a lookup without an ingress, which ignores forwarding and rp_filter.
    pub lookup: Result<(), Errno>,
    /// The refusing route.
    pub refusing: Option<Refusing>,
    /// An interface that is down, so that its routes are gone, and whether the address lies in its subnet.
    pub down: Option<(String, bool)>,
    pub settings: Settings,
    /// The kind of the source if it is no other host's: an address of this node, a broadcast address.
    pub own_source: Option<&'static str>,
    /// The interfaces that a route back to the source has, by name, and that route.
    pub reverse: Result<(Vec<String>, String), Errno>,
    pub marks: Marks,
    /// A route to the address in a table that no rule leads to: its text and its table.
    pub unruled: Option<(String, u32)>,
}

/// A route that drops packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusing {
    pub kind: &'static str,
    /// As `ip route` prints it.
    pub route: String,
    /// [`Route::is_by_hand`](super::messages::Route::is_by_hand)
    pub by_hand: bool,
}

/// The part of marks (`fwmark` of ip-rule(8)).
#[derive(Clone, Debug, Default)]
pub struct Marks {
    /// Rules or rp_filter depend on the mark, and the packet's is not known.
    pub unknown: bool,
    /// A mark with which there is a route to the address.
    pub leads: Option<u32>,
    /// Rules depend on protocols or ports, which are not known either.
    pub by_more: bool,
    /// A refusing rule: its priority and the name of its action.
    pub refusing: Option<(u32, &'static str)>,
    /// A mark with which the route back leads to where it arrived, which rp_filter would see if src_valid_mark were 1
    /// (`fib_validate_source`).
    pub hidden: Option<u32>,
}

/// Why the kernel does not forward a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It drops it, with an errno that has several possible reasons.
    Drops(Errno),
    /// It keeps it for the node itself, by a route of that kind; the route's text.
    Keeps(&'static str, String),
}

/// The settings in `conf` of all and of the ingress.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub all_forwarding: bool,
    pub forwarding: bool,
    pub all_rp_filter: i32,
    pub rp_filter: i32,
    /// IPv6's `force_forwarding` of the ingress (6.17 and later).
    pub forced: bool,
    /// The ingress has no IPv4 address: loose is as strict there (`__fib_validate_source`).
    pub unnumbered: bool,
    /// Packets from a loopback address are no martians (`ip_route_input_slow`).
    pub route_localnet: bool,
    /// An interface with routes from router advertisements, which it loses once IPv6 forwards unless its accept_ra is 2.
    pub advertised: Option<String>,
}

impl Settings {
    /// The kernel uses the higher (IN_DEV_RPFILTER).
    pub fn effective_rp_filter(&self) -> i32 {
        self.all_rp_filter.max(self.rp_filter)
    }
}

/// The faults of a passage.
///
/// IPv4's order is that of `ip_route_input_slow` and `ip_error`: a packet whose lookup failed is dropped for the ingress's
/// forwarding before it is dropped for the route, then comes `fib_validate_source`. IPv6 looks up first (`ip6_pkt_discard`), and
/// `ip6_forward` checks forwarding.
pub fn faults(passage: &Passage) -> Vec<Fault> {
    let mut faults = Vec::new();
    let Passage { ingress: (name, up, carrier), from, .. } = passage;
    // The way back begins where the way there ends, and that link is judged there.
    let link = match (up, carrier) {
        _ if passage.way == Way::Back => None,
        (false, _) => {
            let text = format!("{name}, where it would arrive, is down");
            Some(passage.fault(Kind::IngressDown, text).fix(format!("ip link set {name} up")))
        }
        (_, false) => {
            let text = format!("{name}, where it would arrive, has no carrier: it receives nothing");
            Some(passage.fault(Kind::IngressDown, text))
        }
        _ => None,
    };
    let comes_in = link.is_none();
    faults.extend(link);
    if let Some(reason) = passage.never_forwarded() {
        let fault = passage.fault(Kind::Source, format!("the source {from} is {reason}; no router forwards from it"));
        let localnet = passage.key(name, "route_localnet");
        faults.push(match from {
            IpAddr::V4(v4) if v4.is_loopback() => {
                Fault { text: format!("{} while {localnet} is 0", fault.text), ..fault }.key(&localnet, 0)
            }
            _ => fault,
        });
        return faults;
    }
    if let Err(Stop::Keeps(kind, route)) = &passage.verdict {
        let text = format!(
            "the route '{route}' makes this node keep packets for {} that arrive on {name} ({kind})",
            passage.to
        );
        let fault = passage.fault(Kind::Refused, text).route(route);
        faults.push(fault.fix(delete_route(*from, route)));
        return faults;
    }
    let forwarding = passage.forwarding();
    let route = passage.route();
    let (first, second) = if from.is_ipv4() { (forwarding, route) } else { (route, forwarding) };
    faults.extend(first.into_iter().chain(second));
    if let Some(what) = passage.own_source.filter(|_| !passage.is_localnet()) {
        // Linux before 4.14 checks the source only if rp_filter or a rule requires it (fib_validate_source).
        let comes_of_it = match passage.verdict {
            Ok(()) => "no answer to it leaves the node",
            Err(_) => "packets that arrive with it are dropped as spoofed",
        };
        let text = format!("the source {from} is {what} of this node: {comes_of_it}");
        faults.push(passage.fault(Kind::Source, text));
    } else if comes_in {
        // The routes of an interface that is down are gone, too.
        faults.extend(passage.reverse_path());
        faults.extend(passage.answerable().filter(|_| passage.way == Way::There));
    }
    if let (Err(Stop::Drops(errno)), true) = (&passage.verdict, faults.is_empty()) {
        let drops = format!("the kernel drops it ({})", errno_text(*errno));
        faults.push(match passage.marks.refusing {
            Some((priority, how)) => {
                let text = format!("{drops}, possibly because of rule {priority} of 'ip rule' ({how})");
                passage.fault(Kind::Refused, text)
            }
            None => passage.fault(Kind::Unexplained, format!("{drops}, for a reason that fwdguard does not know")),
        });
    }
    faults
}

impl Passage {
    /// Whether an answer to the source would be forwarded, too.
    pub fn has_answer(&self) -> bool {
        let kept = matches!(self.verdict, Err(Stop::Keeps(..)));
        self.reverse.is_ok() && self.own_source.is_none() && !kept && self.never_forwarded().is_none()
    }

    fn never_forwarded(&self) -> Option<&'static str> {
        never_forwarded(self.from).filter(|_| !self.is_localnet())
    }

    /// From a loopback address, where route_localnet permits it.
    pub fn is_localnet(&self) -> bool {
        self.from.is_ipv4() && self.from.is_loopback() && self.settings.route_localnet
    }

    fn fault(&self, kind: Kind, text: String) -> Fault {
        Fault::new(kind, self.way, &self.ingress.0, text)
    }

    fn key(&self, scope: &str, name: &str) -> String {
        let family = if self.from.is_ipv4() { Family::V4 } else { Family::V6 };
        // A dot in an interface's name is a slash in its key (sysctl.d(5)).
        format!("net.{}.conf.{}.{name}", family.folder(), scope.replace('.', "/"))
    }

    fn forwarding(&self) -> Option<Fault> {
        let (name, settings) = (&self.ingress.0, &self.settings);
        let (key, what) = if self.from.is_ipv6() {
            // The lookup ignores forwarding, so the settings alone decide (ip6_forward).
            if settings.all_forwarding || settings.forced {
                return None;
            }
            ("net.ipv6.conf.all.forwarding".to_string(), "the node forwards no IPv6".to_string())
        } else {
            if settings.forwarding || self.verdict.is_ok() {
                return None;
            }
            match settings.all_forwarding {
                false => ("net.ipv4.ip_forward".into(), format!("what arrives on {name} is not forwarded")),
                true => (self.key(name, "forwarding"), format!("what arrives on {name} is not forwarded")),
            }
        };
        // Forwarding removes the advertised routes unless accept_ra is 2 before (addrconf_sysctl_forward).
        let (first, note) = match settings.advertised.as_ref().map(|interface| self.key(interface, "accept_ra")) {
            Some(key) => {
                (format!("{key}=2 "), format!(" (set {key} first, or its routes from router advertisements are lost)"))
            }
            None => Default::default(),
        };
        let fault = self.fault(Kind::ForwardingOff, format!("{key} is 0: {what}{note}"));
        Some(fault.key(&key, 0).fix(format!("sysctl -w {first}{key}=1")))
    }

    fn route(&self) -> Option<Fault> {
        let to = self.to;
        if let Some((down, true)) = &self.down {
            let text = format!("{down}, which {to} is behind, is down, and the routes through it are gone");
            return Some(self.fault(Kind::EgressDown, text).at(down).fix(format!("ip link set {down} up")));
        }
        self.verdict.as_ref().err().and(self.lookup.err())?;
        if let Some(Refusing { kind, route, by_hand }) = &self.refusing {
            let fault = self.fault(Kind::Refused, format!("the route '{route}' lets nothing through to {to} ({kind})"));
            let fault = fault.route(route);
            let fix = delete_route(to, route);
            return Some(self.by_mark(if *by_hand { fault.fix(fix) } else { fault }));
        }
        if self.lookup != Err(Errno::NETUNREACH) {
            return None;
        }
        let text = format!("no route leads to {to}");
        let fault = match (&self.down, &self.unruled) {
            (_, Some((route, table))) => {
                let fault =
                    self.fault(Kind::NoRoute, format!("{text}: '{route}' does, and no rule leads to that table"));
                fault.route(route).fix(format!("ip{} rule add to {to} lookup {table}", six(to)))
            }
            (Some((down, _)), None) => {
                let text = format!("{text}; {down} is down, and the routes through it are gone");
                self.fault(Kind::NoRoute, text).at(down).fix(format!("ip link set {down} up"))
            }
            (None, None) => self.fault(Kind::NoRoute, text).fix(add_route(to)),
        };
        Some(self.by_mark(fault))
    }

    /// Notes that a missing or refusing route may be so only for a packet without a mark.
    fn by_mark(&self, fault: Fault) -> Fault {
        let but = match self.marks.leads.filter(|_| self.marks.unknown) {
            Some(mark) => format!(" without a mark; with {mark:#x} one does"),
            None if self.marks.by_more => ", but rules of 'ip rule' also depend on protocol or port".to_string(),
            None => return fault,
        };
        Fault { text: fault.text.clone() + &but, ..fault }.suspected()
    }

    fn reverse_path(&self) -> Option<Fault> {
        let (name, settings) = (&self.ingress.0, &self.settings);
        self.verdict.as_ref().err().filter(|_| self.from.is_ipv4())?;
        let effective = settings.effective_rp_filter();
        let is_strict = effective == 1 || settings.unnumbered;
        let mismatch = match &self.reverse {
            _ if effective <= 0 => return None,
            Ok((interfaces, _)) if interfaces.contains(name) || !is_strict => return None,
            Ok((interfaces, route)) => {
                format!("the route back to {} leads to {} ({route})", self.from, interfaces.join(" and "))
            }
            Err(_) => format!("no route leads back to {}", self.from),
        };
        let how = match (effective, settings.unnumbered) {
            (1, _) => "strict",
            (_, true) => "loose, which is strict on an interface without an address",
            (_, false) => "loose",
        };
        if let Some(mark) = self.marks.hidden {
            let key = "net.ipv4.conf.all.src_valid_mark";
            let carried = if self.marks.unknown { ", which such packets may carry" } else { "" };
            let heeds = format!("rp_filter ({how}) on {name} ignores the mark {mark:#x}{carried}");
            let text = format!("{key} is 0, so {heeds}, and {mismatch}");
            return Some(self.fault(Kind::ReversePath, text).key(key, 0).fix(format!("sysctl -w {key}=1")));
        }
        let all = ("net.ipv4.conf.all.rp_filter".to_string(), settings.all_rp_filter);
        let own = (self.key(name, "rp_filter"), settings.rp_filter);
        let on: Vec<_> = [all, own].into_iter().filter(|(_, value)| *value > 0).collect();
        // The settings that have the effective value.
        let keys: Vec<&str> = on.iter().filter(|(_, value)| *value == effective).map(|(key, _)| key.as_str()).collect();
        let text = format!("{} {} {effective} ({how}) on {name}, and {mismatch}", keys.join(" and "), is(keys.len()));
        let zeroes: String = on.iter().map(|(key, _)| format!(" {key}=0")).collect();
        let fault = self.fault(Kind::ReversePath, text).key(keys[0], effective);
        // A loose one wants a route back.
        let fault = if is_strict { fault.fix(format!("sysctl -w{zeroes}")) } else { fault };
        let fault = match &self.reverse {
            Ok((_, route)) => fault.route(route),
            Err(_) => fault,
        };
        Some(if self.marks.unknown { fault.suspected() } else { fault })
    }

    /// Forwarded or not, no answer can be sent.
    fn answerable(&self) -> Option<Fault> {
        self.reverse.as_ref().err()?;
        let text = format!("the source {} cannot be answered: no route leads back to it", self.from);
        Some(self.fault(Kind::Source, text).fix(add_route(self.from)))
    }
}

fn is(keys: usize) -> &'static str {
    if keys == 1 { "is" } else { "are" }
}

/// Addresses that no router forwards from (`ip_route_input_slow`, `ip6_forward`).
fn never_forwarded(address: IpAddr) -> Option<&'static str> {
    match address {
        _ if address.is_multicast() => Some("a multicast address"),
        _ if address.is_loopback() => Some("a loopback address"),
        IpAddr::V4(v4) if v4.octets()[0] == 0 => Some("not a host address"),
        IpAddr::V4(v4) if v4.is_broadcast() => Some("a broadcast address"),
        IpAddr::V6(v6) if v6.is_unspecified() => Some("not a host address"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some("link-local"),
        _ => None,
    }
}
