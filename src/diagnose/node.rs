//! The node as the kernel describes it: dumped once, and then asked for routes and neighbours.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::net::IpAddr;

use netlink_packet_core::{Emitable, NLM_F_DUMP};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage};
use netlink_packet_route::route::{RouteAttribute, RouteFlags, RouteMessage};

use rustix::io::Errno;

use super::links::{Address, Link, Neighbour};
use super::messages::{NextHop, Route, Rule, TABLE_LOCAL, TABLE_MAIN, kind_name, refusal};
use crate::kernel::socket::Dumps;
use crate::kernel::sysctl::Sysctl;
use crate::setting::{Family, Key, printable};

/// The parameters of a route lookup beside the address.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lookup {
    /// The interface where the packet arrives, and its source: the kernel applies forwarding and rp_filter (IPv4).
    pub arrives: Option<(i32, IpAddr)>,
    /// The interface where it has to leave; 0 is any.
    pub leaves: i32,
    /// Ask for the whole route instead of one packet's part of it. Kernels before 4.13 ignore this.
    pub whole: bool,
    pub mark: u32,
}

pub struct Node {
    dumps: Dumps,
    sysctl: Sysctl,
    pub family: Family,
    pub links: BTreeMap<i32, Link>,
    /// Sorted by interface.
    pub addresses: Vec<Address>,
    own: HashSet<IpAddr>,
    pub routes: Vec<Route>,
    pub rules: Vec<Rule>,
    /// forwarding and rp_filter; of `all` under [`crate::setting::ALL`].
    settings: HashMap<i32, (i32, i32)>,
    /// The kernel drops packets for forwarding that is off without counting them.
    pub is_silent: bool,
}

fn bytes(message: &impl Emitable) -> Vec<u8> {
    let mut bytes = vec![0; message.buffer_len()];
    message.emit(&mut bytes);
    bytes
}

fn family_of(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

pub fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

impl Node {
    /// # Errors
    /// The kernel's reason why rtnetlink can't be asked.
    pub fn read(family: Family) -> io::Result<Node> {
        let mut dumps = Dumps::open()?;
        let mut settings = HashMap::new();
        for message in dumps.netconf(family)? {
            let value = |value: Option<i32>| value.unwrap_or(0);
            settings
                .extend(message.ifindex.map(|index| (index, (value(message.forwarding), value(message.rp_filter)))));
        }
        let mut node = Node {
            dumps,
            sysctl: Sysctl::new(Default::default()),
            family,
            links: BTreeMap::new(),
            addresses: Vec::new(),
            own: HashSet::new(),
            routes: Vec::new(),
            rules: Vec::new(),
            settings,
            is_silent: false,
        };
        let mut links = LinkMessage::default();
        links.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        node.links =
            node.dump(libc::RTM_GETLINK, &links, Link::parse)?.into_iter().map(|link| (link.index, link)).collect();
        let [mut routes, mut rules] = [RouteMessage::default(), RouteMessage::default()];
        (routes.header.address_family, rules.header.address_family) = (node.family(), node.family());
        node.routes = node.dump(libc::RTM_GETROUTE, &routes, Route::parse)?;
        node.routes.retain(|route| !route.cached);
        // Without CONFIG_IP_MULTIPLE_TABLES there are none.
        node.rules = node.dump(libc::RTM_GETRULE, &rules, Rule::parse).unwrap_or_default();
        node.addresses = node.dump(libc::RTM_GETADDR, &rules, Address::parse)?;
        node.addresses.sort_by_key(|own| own.interface);
        node.own = node.addresses.iter().map(|own| own.local).collect();
        Ok(node)
    }

    fn family(&self) -> AddressFamily {
        self.family.number().into()
    }

    fn dump<T>(
        &mut self,
        kind: u16,
        question: &impl Emitable,
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        let mut answers = Vec::new();
        self.dumps.ask(kind, NLM_F_DUMP, &bytes(question), |answer| answers.extend(parse(answer)))?;
        Ok(answers)
    }

    /// # Errors
    /// The kernel's errno, which has several possible reasons.
    pub fn route(&mut self, to: IpAddr, lookup: Lookup) -> Result<Route, Errno> {
        let mut question = RouteMessage::default();
        let header = &mut question.header;
        header.address_family = family_of(to);
        header.destination_prefix_length = width(to);
        header.flags = RouteFlags::LookupTable;
        header.flags.set(RouteFlags::FibMatch, lookup.whole);
        question.attributes.push(RouteAttribute::Destination(to.into()));
        if let Some((interface, from)) = lookup.arrives {
            header.source_prefix_length = width(to);
            question.attributes.extend([RouteAttribute::Source(from.into()), RouteAttribute::Iif(interface as u32)]);
        }
        if lookup.leaves != 0 {
            question.attributes.push(RouteAttribute::Oif(lookup.leaves as u32));
        }
        if lookup.mark != 0 {
            question.attributes.push(RouteAttribute::Mark(lookup.mark));
        }
        let mut route = None;
        let asked = self.dumps.ask(libc::RTM_GETROUTE, 0, &bytes(&question), |answer| route = Route::parse(answer));
        asked.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::BADMSG))?;
        let route = route.ok_or(Errno::BADMSG)?;
        self.is_silent |= lookup.arrives.is_some() && route.is_silent();
        route.answer().map(|route| if lookup.whole { whole(&self.routes, to, route) } else { route })
    }

    /// The neighbour with this address behind an interface.
    pub fn neighbour(&mut self, interface: i32, address: IpAddr) -> Option<Neighbour> {
        let neighbours = self.neighbours_of(interface, family_of(address));
        neighbours.into_iter().find(|neighbour| neighbour.address == Some(address))
    }

    /// Which MAC address a VXLAN interface finds behind which remote.
    pub fn forwarding_table(&mut self, interface: i32) -> Vec<Neighbour> {
        self.neighbours_of(interface, AddressFamily::Bridge)
    }

    fn neighbours_of(&mut self, interface: i32, family: AddressFamily) -> Vec<Neighbour> {
        let mut question = NeighbourMessage::default();
        question.header.family = family;
        if family != AddressFamily::Bridge {
            question.attributes.push(NeighbourAttribute::IfIndex(interface as u32));
        }
        // Older kernels ignore the interface.
        let all = self.dump(libc::RTM_GETNEIGH, &question, Neighbour::parse).unwrap_or_default();
        all.into_iter().filter(|neighbour| neighbour.interface == interface).collect()
    }

    /// forwarding and rp_filter of an interface or of [`crate::setting::ALL`].
    pub fn settings(&self, interface: i32) -> (i32, i32) {
        self.settings.get(&interface).copied().unwrap_or_default()
    }

    /// A setting by its key. `None`: it does not exist, or may not be read.
    pub fn setting(&mut self, key: &str) -> Option<String> {
        self.sysctl.read(&Key::parse(key).ok()?).ok()
    }

    /// A setting of an interface of this family's `conf`.
    pub fn conf(&mut self, interface: i32, name: &str) -> Option<String> {
        let interface = self.links.get(&interface)?.name.clone();
        self.sysctl.read(&Key::in_table(self.family.folder(), "conf", &interface, name)).ok()
    }

    /// A setting of this family that is on if it is so for all or for the interface (`IN_DEV_ORCONF`).
    pub fn is_on(&mut self, interface: i32, name: &str) -> bool {
        let all = self.setting(&format!("net/{}/conf/all/{name}", self.family.folder()));
        [all, self.conf(interface, name)].into_iter().flatten().any(|value| value != "0")
    }

    /// Whether packets that cross a bridge pass this family's firewall (`br_nf_pre_routing`).
    pub fn is_bridge_filtered(&mut self, bridge: i32) -> bool {
        let setting = self.bridge_setting();
        let own = self.links.get(&bridge).is_some_and(|link| link.filtered[usize::from(self.family == Family::V6)]);
        setting.is_some_and(|value| value != "0" || own)
    }

    /// The setting for it. `None`: br_netfilter is not loaded.
    pub fn bridge_setting(&mut self) -> Option<String> {
        let name = if self.family == Family::V4 { "iptables" } else { "ip6tables" };
        self.setting(&format!("net/bridge/bridge-nf-call-{name}"))
    }

    pub fn name(&self, interface: i32) -> String {
        self.links.get(&interface).map_or_else(|| format!("interface {interface}"), |link| printable(&link.name))
    }

    /// The interface with this name or alternative name.
    pub fn interface(&self, name: &OsStr) -> Option<i32> {
        let is = |link: &&Link| link.name == name || link.other_names.iter().any(|other| other.as_str() == name);
        self.links.values().find(is).map(|link| link.index)
    }

    /// Whether a bridge or bond receives the packets of this interface.
    pub fn is_port(&self, link: &Link) -> bool {
        self.links.get(&link.master).is_some_and(|master| master.kind != "vrf")
    }

    pub fn is_own(&self, address: IpAddr) -> bool {
        self.own.contains(&address)
    }

    pub fn addresses_of(&self, interface: i32) -> &[Address] {
        let from = self.addresses.partition_point(|own| own.interface < interface);
        let length = self.addresses[from..].partition_point(|own| own.interface == interface);
        &self.addresses[from..from + length]
    }

    /// The best route of the FIB that contains `to` and for which `is` holds; the main table comes before others, since policy
    /// routing is not evaluated here.
    pub fn matching(&self, to: IpAddr, is: impl Fn(&Route) -> bool) -> Option<Route> {
        let matching = self.routes.iter().filter(|route| route.contains(to) && is(route));
        matching.max_by_key(|route| (route.table == TABLE_MAIN, route.prefix)).cloned()
    }

    /// Whether a rule leads to that table.
    pub fn is_led_to(&self, table: u32) -> bool {
        self.rules.is_empty() || self.rules.iter().any(|rule| rule.table == table || rule.by_vrf)
    }

    /// The best route to `to` in a table that no rule leads to.
    pub fn unruled_route(&self, to: IpAddr) -> Option<Route> {
        // Old kernels do not report the tables of VRFs and of some rules.
        if self.rules.is_empty() || self.rules.iter().any(|rule| rule.by_vrf || rule.table == 0) {
            return None;
        }
        // A default route, which other tables often have, is no evidence for this address.
        self.matching(to, |route| route.prefix > 0 && route.is_unicast() && !self.is_led_to(route.table))
    }

    /// The route that makes a lookup fail with this errno.
    pub fn refusing(&self, to: IpAddr, errno: Errno) -> Option<Route> {
        let refusing = self.matching(to, |route| refusal(route.kind) == Some(errno));
        // Before 4.0, IPv4's lookup in local and main returned ENETUNREACH for each of these kinds (`fib_lookup`).
        refusing.or_else(|| {
            let best = self.matching(to, |_| true).filter(|best| best.table == TABLE_MAIN);
            best.filter(|best| errno == Errno::NETUNREACH && to.is_ipv4() && refusal(best.kind).is_some())
        })
    }

    /// As `ip route` prints it.
    pub fn text(&self, route: &Route) -> String {
        let mut text = kind_name(route.kind).map(|kind| format!("{kind} ")).unwrap_or_default();
        text += &match route.destination {
            None => "default".into(),
            Some(address) if route.prefix == width(address) => address.to_string(),
            Some(address) => format!("{address}/{}", route.prefix),
        };
        for hop in &route.hops {
            text += &hop.gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
            text += &format!(" dev {}", self.name(hop.interface));
        }
        match route.table {
            TABLE_MAIN => {}
            TABLE_LOCAL => text += " table local",
            table => text += &format!(" table {table}"),
        }
        text
    }
}

/// The route in `routes` from which an answer was made that has only the address and one next hop.
pub fn whole(routes: &[Route], to: IpAddr, answer: Route) -> Route {
    let is_of_the_address = answer.destination == Some(to);
    let makes = |route: &&Route| {
        let leads = |hop: &NextHop| route.hops.iter().any(|h| (h.interface, h.gateway) == (hop.interface, hop.gateway));
        route.kind == answer.kind && route.contains(to) && answer.hops.first().is_some_and(leads)
    };
    let made_of = routes.iter().filter(makes).max_by_key(|route| (route.prefix, route.table == TABLE_MAIN));
    made_of.filter(|_| is_of_the_address).cloned().unwrap_or(answer)
}
