//! What a diagnosis comes to: the path step by step, the faults in a packet's order, and the verdict.

use std::net::IpAddr;

use super::Diagnosis;
use super::answers::{Link, Route};
use super::beside::Said;
use super::counters::REVERSE_PATH;
use super::fault::{Fault, Kind, Way};
use super::hops::{self, Hop, Resolution};
use super::ingress::Ingress;
use super::judge::{self, Passage, Stop};
use super::node::Node;
use crate::setting::{Family, printable};
use crate::text::errno_text;

/// Interfaces that are named one by one in a step.
const NAMED_MAX: usize = 4;

/// How one step of the path stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    Ok,
    Dropped,
    Warning,
    Unknown,
}

/// One step of the path: what it is, which one, and how it stands.
pub struct Step {
    pub step: &'static str,
    pub place: String,
    pub found: String,
    pub mark: Mark,
}

/// One interface that was asked.
pub struct Arrival {
    pub interface: String,
    pub from: IpAddr,
    pub expected: bool,
    /// The kernel's verdict there and back.
    pub there: Result<(), Stop>,
    pub back: Option<Result<(), Stop>>,
}

/// A counter, and by how much it moved during the look.
pub struct Moved {
    pub name: String,
    pub since_boot: u64,
    pub moved: u64,
}

/// All that was found.
pub struct Report {
    /// The address is the node's own: nothing has to be forwarded.
    pub local: bool,
    /// `--from` was not given.
    pub assumed: bool,
    pub from: Option<IpAddr>,
    pub steps: Vec<Step>,
    pub faults: Vec<Fault>,
    pub warnings: Vec<String>,
    pub arrivals: Vec<Arrival>,
    pub counters: Vec<Moved>,
    pub said: Said,
    /// Where it leaves, if it does.
    pub egress: Option<String>,
}

/// The faults of one that are not among those that are known: of others it is only counted.
fn add(faults: &mut Vec<Fault>, new: impl IntoIterator<Item = Fault>) {
    for fault in new {
        match faults.iter_mut().find(|known| known.is_same(&fault)) {
            Some(known) if fault.is_of_interface() && known.interface != fault.interface && known.way == fault.way => {
                known.more += 1;
            }
            Some(_) => {}
            None => faults.push(fault),
        }
    }
}

impl Report {
    pub(super) fn delivered_here(node: &Node, to: IpAddr, route: &Route) -> Report {
        let interface = route.hops.first().map(|hop| node.name(hop.interface)).unwrap_or_default();
        let place = node.addresses.iter().find(|own| own.local == to).map_or(interface, |own| node.name(own.interface));
        let step = Step { step: "delivered", place, found: format!("{to} is this node's own"), mark: Mark::Ok };
        Report {
            local: true,
            assumed: false,
            from: None,
            steps: vec![step],
            faults: Vec::new(),
            warnings: Vec::new(),
            arrivals: Vec::new(),
            counters: Vec::new(),
            said: Said::default(),
            egress: None,
        }
    }

    pub fn forwarded(&self) -> bool {
        self.faults.is_empty()
    }

    /// The one sentence.
    pub fn verdict(&self, to: IpAddr) -> String {
        if self.local {
            return format!("Delivered here: {to} is an address of this node, so nothing has to be forwarded");
        }
        let Some((first, rest)) = self.faults.split_first() else {
            let arrives = self
                .arrivals
                .first()
                .map(|arrival| format!(" what arrives on {} from {}", arrival.interface, arrival.from));
            let leaves = self.egress.as_ref().map(|egress| format!(" leaves by {egress}")).unwrap_or_default();
            return format!("Forwarded:{}{leaves} for {to}", arrives.unwrap_or_default());
        };
        let mut sentence = format!("Dropped here: {}", first.sentence());
        for fault in rest.iter().take(NAMED_MAX - 1) {
            sentence += &format!("; then {}", fault.sentence());
        }
        if rest.len() >= NAMED_MAX {
            sentence += &format!("; and {} more (--json names them)", rest.len() + 1 - NAMED_MAX);
        }
        sentence
    }

    /// One command line for all that can be mended by one.
    pub fn mend(&self) -> Option<String> {
        let (mut settings, mut commands) = (String::new(), Vec::new());
        for command in self.faults.iter().filter_map(|fault| fault.mend.as_deref()).take(NAMED_MAX) {
            match command.strip_prefix("sysctl -w") {
                Some(more) => settings += more,
                None => commands.push(command.to_string()),
            }
        }
        if !settings.is_empty() {
            commands.insert(0, format!("sysctl -w{settings}"));
        }
        (!commands.is_empty()).then(|| commands.join(" && "))
    }
}

impl Diagnosis {
    pub(super) fn report(&mut self, counters: Vec<Moved>, mut said: Said) -> Report {
        // An interface that the source should not come from may well drop it, unless something is being dropped for it.
        let dropping = counters.iter().any(|counter| counter.name == REVERSE_PATH && counter.moved > 0);
        let counts = |ingress: &Ingress| ingress.expected || dropping;
        let mut faults = Vec::new();
        let passages = self.passages.iter().filter(|(ingress, ..)| counts(ingress));
        let there: Vec<Vec<Fault>> = passages.clone().map(|(_, there, _)| judge::faults(there)).collect();
        for found in &there {
            // Of a source that nobody gave, nothing is said.
            add(
                &mut faults,
                found.iter().filter(|fault| fault.kind != Kind::Source || self.packet.from.is_some()).cloned(),
            );
        }
        let (out, mut warnings) = hops::faults(&self.hops);
        add(&mut faults, out);
        for (_, _, back) in passages {
            add(&mut faults, back.iter().flat_map(judge::faults));
        }
        warnings.extend(self.lost_to_forwarding());
        warnings.extend(self.silent_uplinks());
        if dropping && !faults.iter().any(|fault: &Fault| fault.kind == Kind::ReversePath) {
            warnings.push(
                "rp_filter is dropping packets right now; --from and --in, as they come, name what it stumbles over"
                    .into(),
            );
        }
        if self.node.is_silent {
            said.not_looked_at.push("drops for forwarding that is off (this kernel counts them nowhere)".into());
        }
        let mut report = Report {
            local: false,
            assumed: self.packet.from.is_none(),
            from: self.passages.first().map(|(ingress, ..)| ingress.from).or(self.packet.from),
            steps: Vec::new(),
            warnings,
            arrivals: self.passages.iter().map(|(ingress, there, back)| self.arrival(ingress, there, back)).collect(),
            counters,
            said,
            egress: self.hops.first().map(|hop| printable(&hop.link.name)),
            faults,
        };
        report.steps = self.steps(&report, &there);
        report
    }

    fn arrival(&self, ingress: &Ingress, there: &Passage, back: &Option<Passage>) -> Arrival {
        Arrival {
            interface: self.node.name(ingress.interface),
            from: ingress.from,
            expected: ingress.expected,
            there: there.verdict.clone(),
            back: back.as_ref().map(|back| back.verdict.clone()),
        }
    }

    /// Interfaces with an address that nothing can arrive on, where nobody said where it arrives.
    fn silent_uplinks(&self) -> Option<String> {
        // A bridge without ports, or an interface that holds an address and no more, is quiet by nature.
        let quiet = |link: &Link| link.is_loopback() || matches!(&*link.kind, "dummy" | "bridge");
        let dead = |link: &&Link| !(quiet(link) || link.is_up() && link.has_carrier());
        let silent =
            self.node.links.values().filter(dead).filter(|link| !self.node.addresses_of(link.index).is_empty());
        let silent: Vec<_> = silent.map(|link| printable(&link.name)).collect();
        let asked = self.packet.interface.is_some() || self.packet.from.is_some();
        (!asked && !silent.is_empty()).then(|| format!("nothing arrives on {}: down, or no carrier", listed(&silent)))
    }

    fn steps(&mut self, report: &Report, there: &[Vec<Fault>]) -> Vec<Step> {
        let mut steps = Vec::new();
        let mark = |dropped: bool| if dropped { Mark::Dropped } else { Mark::Ok };
        let mut add = |step, place: String, found: String, mark| steps.push(Step { step, place, found, mark });
        let kinds = |kinds: &[Kind]| report.faults.iter().any(|f| f.way == Way::There && kinds.contains(&f.kind));
        if let Some((ingress, passage, _)) = self.passages.first() {
            let assumed = if report.assumed { " (assumed)" } else { "" };
            let place = format!("{} from {}{assumed}", self.node.name(ingress.interface), ingress.from);
            let dropped = there.first().is_some_and(|faults| {
                faults.iter().any(|f| !matches!(f.kind, Kind::NoRoute | Kind::Refused | Kind::EgressDown))
            });
            add("arrives", place, arrives(passage, self.node.family), mark(dropped));
        }
        let others: Vec<_> = report.arrivals.iter().skip(1).collect();
        let (good, bad): (Vec<&Arrival>, Vec<_>) = others.iter().partition(|arrival| arrival.there.is_ok());
        let (expected, not): (Vec<&Arrival>, Vec<_>) = bad.into_iter().partition(|arrival| arrival.expected);
        for (arrivals, what, mark) in [
            (good, "the kernel forwards it from there, too", Mark::Ok),
            (expected, "the kernel drops what arrives there", Mark::Dropped),
            (not, "would be dropped; --in asks for it alone", Mark::Ok),
        ] {
            if !arrivals.is_empty() {
                let names: Vec<String> = arrivals.iter().map(|arrival| arrival.interface.clone()).collect();
                add("also", listed(&names), what.into(), mark);
            }
        }
        if self.hops.is_empty() {
            let (place, found) = match report
                .faults
                .iter()
                .find(|fault| matches!(fault.kind, Kind::Refused | Kind::NoRoute | Kind::EgressDown))
            {
                Some(Fault { route: Some(route), .. }) => (route.clone(), "it lets nothing through".to_string()),
                Some(fault) => ("none".into(), fault.text.clone()),
                None => ("none".into(), self.lookup.as_ref().err().map_or(String::new(), |errno| errno_text(*errno))),
            };
            add("route", place, found, Mark::Dropped);
        }
        for (at, hop) in self.hops.iter().enumerate() {
            let (route, leaves, next) =
                if at == 0 { ("route", "leaves", "next hop") } else { ("outer route", "leaves", "outer next hop") };
            let gone = at == 0 && kinds(&[Kind::EgressDown]) && hop.link.is_up();
            let what = if gone { "what is left of the routes" } else { "the kernel takes it" };
            add(route, hop.route.clone(), what.into(), mark(gone));
            let (state, mark) = link_state(&hop.link);
            add(leaves, printable(&hop.link.name), state, mark);
            tunnel_and_next(hop, next, &mut add);
        }
        if let Some(bridge) = self.bridge() {
            let call = self.node.setting(if self.node.family == Family::V4 {
                "net/bridge/bridge-nf-call-iptables"
            } else {
                "net/bridge/bridge-nf-call-ip6tables"
            });
            let found = match call {
                Some(value) => format!("br_netfilter is loaded, bridge-nf-call is {value}"),
                None => "br_netfilter is not loaded: bridged frames bypass iptables".into(),
            };
            steps.push(Step { step: "bridge", place: bridge, found, mark: Mark::Ok });
        }
        let back = self.passages.first().and_then(|(_, _, back)| back.as_ref());
        if let Some(back) = back {
            let dropped = report.faults.iter().any(|fault| fault.way == Way::Back) || back.verdict.is_err();
            let found = match &back.verdict {
                Ok(()) => arrives(back, self.node.family),
                Err(Stop::Drops(errno)) => format!("the kernel drops the answer ({})", errno_text(*errno)),
                Err(Stop::Keeps(kind, _)) => format!("the kernel keeps the answer ({kind})"),
            };
            let place = format!("{} to {}", back.ingress.0, back.to);
            steps.push(Step { step: "way back", place, found, mark: mark(dropped) });
        }
        steps
    }

    /// The bridge in the path, if there is one.
    fn bridge(&self) -> Option<String> {
        let ends = self.hops.iter().map(|hop| hop.link.index);
        let mut ends = ends.chain(self.passages.first().map(|(ingress, ..)| ingress.interface));
        let bridge = |index: i32| {
            let link = self.node.links.get(&index)?;
            let master = self.node.links.get(&link.master);
            [Some(link), master].into_iter().flatten().find(|link| link.kind == "bridge")
        };
        ends.find_map(bridge).map(|link| printable(&link.name))
    }
}

/// `a0, b0 and 3 more`
fn listed(names: &[String]) -> String {
    match names.len().saturating_sub(NAMED_MAX) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names[..NAMED_MAX].join(", ")),
    }
}

/// How an ingress stands.
fn arrives(passage: &Passage, family: Family) -> String {
    let (_, up, carrier) = passage.ingress;
    let state = match (up, carrier) {
        (false, _) => "down",
        (_, false) => "no carrier",
        _ => "up",
    };
    let on = |value: bool| if value { "on" } else { "off" };
    let settings = &passage.settings;
    match family {
        Family::V6 => format!("{state}, all.forwarding {}", on(settings.all_forwarding || settings.forced)),
        Family::V4 => {
            let rp_filter = match settings.effective_rp_filter() {
                ..=0 => "0".to_string(),
                effective => format!("{effective} (all {}, own {})", settings.all_rp_filter, settings.rp_filter),
            };
            format!("{state}, forwarding {}, rp_filter {rp_filter}", on(settings.forwarding))
        }
    }
}

fn link_state(link: &Link) -> (String, Mark) {
    let kind = if link.kind.is_empty() { String::new() } else { format!("{}, ", link.kind) };
    match (link.is_up(), link.has_carrier()) {
        (true, true) => (format!("{kind}up, mtu {}", link.mtu), Mark::Ok),
        (true, false) => (format!("{kind}up, but no carrier"), Mark::Dropped),
        _ => (format!("{kind}down"), Mark::Dropped),
    }
}

fn tunnel_and_next(hop: &Hop, next: &'static str, mut add: impl FnMut(&'static str, String, String, Mark)) {
    let (found, mark) = match &hop.neighbour {
        Resolution::NotNeeded => ("needs no link address".to_string(), Mark::Ok),
        Resolution::Known(state) => (format!("its link address is known ({state})"), Mark::Ok),
        Resolution::Unanswered(state) => (format!("does not answer ({state})"), Mark::Dropped),
        Resolution::Unknown => ("not asked for by the kernel yet".to_string(), Mark::Unknown),
    };
    add(next, hop.next.to_string(), found, mark);
    if let Some(wrapped) = &hop.wrapped {
        let place = wrapped.remote.map_or("remote not known".into(), |remote| format!("remote {remote}"));
        let room = wrapped
            .room
            .map_or(String::new(), |room| format!("mtu {}, and outer packets have room for {room}", hop.link.mtu));
        let (found, mark) = match &wrapped.unreachable {
            Some((why, _)) => (why.clone(), Mark::Dropped),
            None if wrapped.room.is_some_and(|room| room < hop.link.mtu) => (room, Mark::Warning),
            None if wrapped.remote.is_none() => ("where it wraps to is not known here".into(), Mark::Unknown),
            None => (room, Mark::Ok),
        };
        add("tunnel", place, found, mark);
    }
}
