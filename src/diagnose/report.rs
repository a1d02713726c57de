//! The report of a diagnosis: the faults in a packet's order, the suspects, and the verdict.

use std::net::IpAddr;

use super::Diagnosis;
use super::counters::{Counter, REVERSE_PATH};
use super::fault::{Fault, Kind, Way};
use super::firewall::Suspect;
use super::hops;
use super::ingress::Ingress;
use super::judge::{self, Passage, Stop};
use super::links::Link;
use super::messages::Route;
use super::node::Node;
use super::path::{Mark, Step};
use super::programs::Repairs;
use crate::setting::printable;

/// At most this many interfaces, faults or suspects are named one by one.
const NAMED_MAX: usize = 4;

/// One interface that was checked.
pub struct Arrival {
    pub interface: String,
    pub from: IpAddr,
    pub expected: bool,
    /// The kernel's verdict there and back.
    pub there: Result<(), Stop>,
    pub back: Option<Result<(), Stop>>,
}

/// The result of a diagnosis.
#[derive(Default)]
pub struct Report {
    /// The node itself receives the packet.
    pub local: bool,
    /// `--from` was not given.
    pub assumed: bool,
    pub from: Option<IpAddr>,
    pub steps: Vec<Step>,
    pub faults: Vec<Fault>,
    pub warnings: Vec<String>,
    pub arrivals: Vec<Arrival>,
    pub counters: Vec<Counter>,
    /// Rules that may drop it, in the order in which it meets them.
    pub suspects: Vec<Suspect>,
    pub repairs: Repairs,
    pub not_checked: Vec<String>,
    /// All rules of the firewall were checked.
    pub all_rules: bool,
    /// The interface where it leaves, if it does.
    pub egress: Option<String>,
    /// The bridge that forwards it between ports, and whether the firewall sees that.
    pub bridged: Option<(String, bool)>,
}

/// Adds new faults; the same fault on another interface is only counted.
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
        let own = node.is_own(to).then(|| format!("{to} is an address of this node"));
        let found = own.unwrap_or_else(|| {
            format!("the route '{}' delivers packets for {to} to this node itself", node.text(route))
        });
        let step = Step { step: "delivered", place, found, mark: Mark::Ok };
        Report { local: true, steps: vec![step], ..Report::default() }
    }

    pub fn forwarded(&self) -> bool {
        self.faults.is_empty()
    }

    /// The verdict, in one sentence.
    pub fn verdict(&self, to: IpAddr) -> String {
        if self.local {
            let why = self.steps.first().map_or(to.to_string(), |step| step.found.clone());
            return format!("Delivered here: {why}, so nothing has to be forwarded");
        }
        if let Some((first, rest)) = self.faults.split_first() {
            let mut sentence = format!("Dropped here: {}", first.sentence());
            for fault in rest.iter().take(NAMED_MAX - 1) {
                sentence += &format!("; then {}", fault.sentence());
            }
            if rest.len() >= NAMED_MAX {
                sentence += &format!("; and {} more (--json names them)", rest.len() + 1 - NAMED_MAX);
            }
            return sentence;
        }
        let way = if self.bridged.is_some() { "Bridged" } else { "Routed" };
        if !self.suspects.is_empty() {
            let may = |suspect: &Suspect| format!("{} may drop it: {}", suspect.by(), suspect.text());
            return format!("{way}; {}", self.suspects.iter().take(NAMED_MAX).map(may).collect::<Vec<_>>().join("; "));
        }
        if let Some((bridge, met)) = &self.bridged {
            let traverses = if *met { "traverses FORWARD" } else { "does not traverse FORWARD" };
            let from = self.from.map(|from| format!(" from {from}")).unwrap_or_default();
            return format!("{way}: what arrives on a port of {bridge}{from} for {to} crosses it, and {traverses}");
        }
        let arrives = self
            .arrivals
            .first()
            .map(|arrival| format!(" what arrives on {} from {}", arrival.interface, arrival.from));
        let leaves = self.egress.as_ref().map(|egress| format!(" leaves by {egress}")).unwrap_or_default();
        let (way, but) = match self.all_rules {
            true => ("Forwarded", ""),
            false => (way, "; the firewall was not checked"),
        };
        format!("{way}:{}{leaves} for {to}{but}", arrives.unwrap_or_default())
    }

    /// One command line for all faults that a command fixes.
    pub fn fix(&self) -> Option<String> {
        let (mut settings, mut commands) = (String::new(), Vec::new());
        for command in self.faults.iter().filter_map(|fault| fault.fix.as_deref()).take(NAMED_MAX) {
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
    pub(super) fn report(&mut self, repairs: Repairs) -> Report {
        let counters = std::mem::take(&mut self.counters);
        // An interface where the source is not expected may rightly drop it, unless rp_filter is dropping packets now.
        let dropping = counters.iter().any(|counter| counter.name == REVERSE_PATH && counter.moved > 0);
        let counts = |ingress: &Ingress| ingress.expected || dropping;
        let mut faults = Vec::new();
        let passages = self.passages.iter().filter(|(ingress, ..)| counts(ingress));
        let passes = self.passages.first().is_some_and(|(_, there, _)| there.verdict.is_ok());
        let there: Vec<Vec<Fault>> = passages.clone().map(|(_, there, _)| judge::faults(there)).collect();
        for found in &there {
            // No faults of an assumed source; nor of the route if the kernel forwards from the likeliest ingress.
            let assumed = |kind| match kind {
                Kind::Source => true,
                Kind::NoRoute | Kind::Refused => passes,
                _ => false,
            };
            add(&mut faults, found.iter().filter(|fault| self.packet.from.is_some() || !assumed(fault.kind)).cloned());
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
                "rp_filter is dropping packets right now; specify their source with --from and --in to find the reason"
                    .into(),
            );
        }
        if self.node.is_silent {
            self.rules.missing.push("drops while forwarding is off (this kernel does not count them)".into());
        }
        warnings.extend(self.by_marks());
        warnings.extend(self.closer_unruled());
        let (suspected, faults): (Vec<Fault>, Vec<Fault>) = faults.into_iter().partition(|fault| fault.suspected);
        let filtered = counters.iter().find(|counter| counter.name == REVERSE_PATH);
        let count = |kind| filtered.filter(|_| kind == Kind::ReversePath).map(|counter| (counter.value, counter.moved));
        let suspected =
            suspected.into_iter().map(|fault| Suspect::kernel(fault.sentence(), count(fault.kind), fault.way));
        let suspects = suspected.chain(self.full_conntrack()).chain(std::mem::take(&mut self.rules.suspects)).collect();
        let mut report = Report {
            local: false,
            assumed: self.packet.from.is_none(),
            from: self.passages.first().map(|(ingress, ..)| ingress.from).or(self.packet.from),
            steps: Vec::new(),
            warnings,
            arrivals: self.passages.iter().map(|(ingress, there, back)| self.arrival(ingress, there, back)).collect(),
            counters,
            suspects,
            repairs,
            not_checked: std::mem::take(&mut self.rules.missing),
            all_rules: self.rules.whole,
            egress: self.hops.first().map(|hop| printable(&hop.link.name)),
            bridged: self.bridged.clone(),
            faults,
        };
        report.steps = self.steps(&report, &there);
        report
    }

    /// A warning if rules or rp_filter depend on the mark, and none was specified.
    fn by_marks(&self) -> Option<String> {
        let rules = self.node.rules.iter().filter_map(|rule| rule.mark);
        let rules: Vec<String> = rules
            .map(|(mark, mask)| if mask == u32::MAX { format!("{mark:#x}") } else { format!("{mark:#x}/{mask:#x}") })
            .collect();
        let unknown = self.passages.iter().any(|(_, there, _)| there.marks.unknown);
        unknown.then(|| match rules.is_empty() {
            true => "src_valid_mark is 1, so rp_filter depends on the packet's mark; specify it with --mark".into(),
            false => {
                format!("rules of 'ip rule' depend on the packet's mark ({}); specify it with --mark", listed(&rules))
            }
        })
    }

    /// A closer route than the chosen one, in a table that no rule leads to.
    fn closer_unruled(&self) -> Option<String> {
        let (unruled, taken) = (self.unruled.as_ref()?, self.lookup.as_ref().ok()?);
        let taken = self.node.matching(self.packet.to, |route| {
            route.leads_to(taken.hops.first().map_or(0, |hop| hop.interface)) && route.table != unruled.table
        })?;
        (unruled.prefix > taken.prefix)
            .then(|| format!("no rule of 'ip rule' leads to the table of '{}'", self.node.text(unruled)))
    }

    /// A full connection table, which drops new connections (`__nf_conntrack_alloc`).
    fn full_conntrack(&mut self) -> Option<Suspect> {
        let mut number = |name| self.node.setting(&format!("net/netfilter/nf_conntrack_{name}"))?.parse::<u64>().ok();
        let (count, max) = (number("count")?, number("max")?);
        let text = format!(
            "net.netfilter.nf_conntrack_count is {count} and nf_conntrack_max {max}: new connections are dropped"
        );
        (max > 0 && count >= max).then(|| Suspect::kernel(text, None, Way::There))
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

    /// Interfaces with an address where no packet can arrive, if neither interface nor source was specified.
    fn silent_uplinks(&self) -> Option<String> {
        // A bridge without ports, or an interface that only holds an address, never receives a packet.
        let quiet = |link: &Link| link.is_loopback() || matches!(&*link.kind, "dummy" | "bridge");
        let dead = |link: &&Link| !(quiet(link) || link.is_up() && link.has_carrier());
        let silent =
            self.node.links.values().filter(dead).filter(|link| !self.node.addresses_of(link.index).is_empty());
        let silent: Vec<_> = silent.map(|link| printable(&link.name)).collect();
        let asked = self.packet.interface.is_some() || self.packet.from.is_some();
        (!asked && !silent.is_empty()).then(|| format!("nothing arrives on {}: down, or no carrier", listed(&silent)))
    }
}

/// `a0, b0 and 3 more`
pub fn listed(names: &[String]) -> String {
    match names.len().saturating_sub(NAMED_MAX) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names[..NAMED_MAX].join(", ")),
    }
}
