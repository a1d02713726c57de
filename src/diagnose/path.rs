//! The path of a packet, step by step.

use super::Diagnosis;
use super::fault::{Fault, Kind, Way};
use super::hops::{Hop, Resolution};
use super::judge::{Passage, Stop};
use super::links::Link;
use super::report::{Arrival, Report, listed};
use crate::setting::{Family, printable};
use crate::text::errno_text;

/// The state of one step of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    Ok,
    Dropped,
    Warning,
    Unknown,
}

/// One step of the path: its kind, its place and its state.
pub struct Step {
    pub step: &'static str,
    pub place: String,
    pub found: String,
    pub mark: Mark,
}

impl Diagnosis {
    pub(super) fn steps(&mut self, report: &Report, there: &[Vec<Fault>]) -> Vec<Step> {
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
            (not, "would be dropped; check it alone with --in", Mark::Ok),
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
            let what = if gone { "a remaining route" } else { "the kernel uses it" };
            add(route, hop.route.clone(), what.into(), mark(gone));
            let (state, mark) = link_state(&hop.link);
            add(leaves, printable(&hop.link.name), state, mark);
            tunnel_and_next(hop, next, &mut add);
        }
        if let Some((index, bridge)) = self.bridge() {
            let family = if self.node.family == Family::V4 { "iptables" } else { "ip6tables" };
            let found = match self.node.bridge_setting() {
                Some(value) => format!("br_netfilter is loaded, bridge-nf-call-{family} is {value}"),
                None => "br_netfilter is not loaded".into(),
            };
            let traverses = if self.node.is_bridge_filtered(index) { "traverses" } else { "does not traverse" };
            let found = format!("{found}: what crosses {bridge} {traverses} FORWARD");
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
    fn bridge(&self) -> Option<(i32, String)> {
        let ends = self.hops.iter().map(|hop| hop.link.index);
        let mut ends = ends.chain(self.passages.first().map(|(ingress, ..)| ingress.interface));
        let bridge = |index: i32| {
            let link = self.node.links.get(&index)?;
            let master = self.node.links.get(&link.master);
            [Some(link), master].into_iter().flatten().find(|link| link.kind == "bridge")
        };
        ends.find_map(bridge).map(|link| (link.index, printable(&link.name)))
    }
}

/// The state of an ingress.
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
        Resolution::Unknown => ("not resolved by the kernel yet".to_string(), Mark::Unknown),
    };
    add(next, hop.next.to_string(), found, mark);
    if let Some(wrapped) = &hop.wrapped {
        let place = wrapped.remote.map_or("remote not known".into(), |remote| format!("remote {remote}"));
        let room = wrapped
            .room
            .map_or(String::new(), |room| format!("mtu {}, encapsulation leaves room for {room}", hop.link.mtu));
        let (found, mark) = match &wrapped.unreachable {
            Some(unreachable) => (unreachable.why.clone(), Mark::Dropped),
            None if wrapped.room.is_some_and(|room| room < hop.link.mtu) => (room, Mark::Warning),
            None if wrapped.remote.is_none() => ("its remote is not known here".into(), Mark::Unknown),
            None => (room, Mark::Ok),
        };
        add("tunnel", place, found, mark);
    }
}
