//! What the firewall's rules do with a packet, as far as its addresses, interfaces, mark and connection state decide it.
//!
//! A rule that matches anything else (a port, an ipset, a limit) may or may not match: it is passed over. A suspect is a rule or a
//! chain's policy that drops the packet for certain unless one of those accepted it before.

pub mod iptables;
pub mod nft;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::IpAddr;

use serde_json::{Value as Json, json};

use super::fault::Way;
use super::messages::in_subnet;
use crate::text::count;

/// The tool of suspects that are no rules.
const KERNEL: &str = "the kernel";

/// At most this many rules are evaluated for one packet, since a ruleset may jump without end.
const STEPS_MAX: usize = 200_000;
/// The kernel's limit of nested chains (`NFT_JUMP_STACK_SIZE`).
const DEPTH_MAX: usize = 16;

/// One packet, as a firewall sees it.
#[derive(Clone, Debug)]
pub struct Flow {
    pub from: IpAddr,
    pub to: IpAddr,
    pub arrives: String,
    pub leaves: String,
    /// Its conntrack state, as in `new`; empty if that is not known.
    pub state: &'static str,
    pub mark: u32,
    /// Bits of the mark that are known.
    pub known: u32,
}

/// A truth value; the least of several is their conjunction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    No,
    Maybe,
    Yes,
}

use Answer::{Maybe, No, Yes};

impl From<bool> for Answer {
    fn from(is: bool) -> Answer {
        if is { Yes } else { No }
    }
}

/// The field of a packet that is matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    From,
    To,
    Arrives,
    Leaves,
    State,
    Mark,
    Other,
}

/// A value to match a field with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Net(IpAddr, u8),
    Range(IpAddr, IpAddr),
    /// An interface; with `*` at the end, all with this prefix.
    Name(String),
    State(String),
    Mark(u32, u32),
    Other,
}

/// Whether a field is one of `values`, or with `not` none of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    pub field: Field,
    pub not: bool,
    pub values: Vec<Value>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Accept,
    Drop,
    Return,
    Jump(String),
    Goto(String),
    /// The bits of the mask are set to this value; `None`: to an unknown one.
    Mark(Option<u32>, u32),
    /// The packet belongs to no connection from then on.
    Untrack,
    /// It decides nothing: it counts, logs, or changes another field.
    Other,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The rule as its tool prints it; for nft its handle.
    pub text: String,
    pub packets: Option<u64>,
    pub matches: Vec<Match>,
    pub action: Action,
}

#[derive(Clone, Debug, Default)]
pub struct Chain {
    pub rules: Vec<Rule>,
    pub base: Option<Base>,
}

/// A chain that the kernel calls, ordered by hook and priority.
#[derive(Clone, Debug)]
pub struct Base {
    pub order: (Hook, i64),
    /// It sees the first packet of a connection only.
    pub nat: bool,
    /// A policy that drops, as its tool prints it, and its counter.
    pub drops: Option<(String, Option<u64>)>,
}

/// The hooks that a forwarded packet passes (linux/netfilter.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    Prerouting,
    Forward,
    Postrouting,
}

impl Hook {
    pub fn parse(name: &str) -> Option<Hook> {
        Some(match name {
            "prerouting" | "PREROUTING" => Hook::Prerouting,
            "forward" | "FORWARD" => Hook::Forward,
            "postrouting" | "POSTROUTING" => Hook::Postrouting,
            _ => return None,
        })
    }
}

/// A rule or a policy that drops the packet, or may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// The tool that prints it, or the kernel itself.
    pub tool: &'static str,
    pub table: String,
    pub chain: String,
    pub rule: String,
    pub packets: Option<u64>,
    /// It drops packets that belong to no connection, so it is a suspect only if its counter moved.
    pub if_moved: bool,
    /// By how much the counter moved while it was sampled.
    pub moved: Option<u64>,
    /// It drops the answer.
    pub back: bool,
}

impl Suspect {
    /// A reason of the kernel itself to drop the packet; `counted`: its counter, and by how much that moved.
    pub fn kernel(rule: String, counted: Option<(u64, u64)>, way: Way) -> Suspect {
        let (packets, moved) = (counted.map(|counted| counted.0), counted.map(|counted| counted.1));
        let (table, chain) = Default::default();
        Suspect { tool: KERNEL, table, chain, rule, packets, if_moved: false, moved, back: way == Way::Back }
    }

    pub fn by(&self) -> &'static str {
        if self.tool == KERNEL { KERNEL } else { "the firewall" }
    }

    pub fn text(&self) -> String {
        let counted = self.packets.map(|packets| {
            let moved = self.moved.map(|moved| format!(", +{moved} in 1 s")).unwrap_or_default();
            format!(" ({}{moved})", count(packets as usize, "packet"))
        });
        let way = if self.back && self.tool != KERNEL { ", on the way back" } else { "" };
        let place = match self.tool {
            KERNEL => String::new(),
            tool => format!("{tool}, table {}, chain {}{way}: ", self.table, self.chain),
        };
        format!("{place}{}{}", self.rule, counted.unwrap_or_default())
    }

    pub fn json(&self) -> Json {
        let name = |name: &str| (!name.is_empty()).then(|| name.to_string());
        json!({
            "tool": self.tool, "table": name(&self.table), "chain": name(&self.chain), "rule": self.rule,
            "packets": self.packets, "moved": self.moved,
            "way": if self.back { "back" } else { "there" }, "text": self.text(),
        })
    }

    /// Notes the counter's present value.
    pub fn count(&mut self, after: Option<u64>) {
        self.moved = self.packets.and_then(|before| Some(after?.saturating_sub(before)));
        self.packets = after.or(self.packets);
    }
}

/// The chains of one tool, by table and name.
#[derive(Clone, Debug, Default)]
pub struct Ruleset {
    pub tool: &'static str,
    pub chains: HashMap<(String, String), Chain>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// It is accepted or dropped.
    Decided,
    Returned,
}

impl Match {
    fn is_met(&self, flow: &Flow) -> Answer {
        let met = self.values.iter().map(|value| self.field.is(flow, value)).max().unwrap_or(No);
        match met {
            Maybe => Maybe,
            met => Answer::from((met == Yes) != self.not),
        }
    }
}

impl Field {
    fn is(self, flow: &Flow, value: &Value) -> Answer {
        let address = match self {
            Field::From => flow.from,
            _ => flow.to,
        };
        match (self, value) {
            (Field::From | Field::To, Value::Net(network, prefix)) => in_subnet(address, *network, *prefix).into(),
            (Field::From | Field::To, Value::Range(first, last)) => (*first..=*last).contains(&address).into(),
            (Field::Arrives | Field::Leaves, Value::Name(name)) => {
                let interface = if self == Field::Arrives { &flow.arrives } else { &flow.leaves };
                name.strip_suffix('*').map_or(name == interface, |start| interface.starts_with(start)).into()
            }
            (Field::State, Value::State(state)) => match &state[..] {
                _ if flow.state.is_empty() => Maybe,
                "new" | "established" | "related" | "invalid" | "untracked" => (state == flow.state).into(),
                _ => Maybe,
            },
            (Field::Mark, Value::Mark(mark, mask)) if mask & !flow.known == 0 => (flow.mark & mask == *mark).into(),
            // The known bits may be enough to decide.
            (Field::Mark, Value::Mark(mark, mask)) if (flow.mark ^ mark) & mask & flow.known != 0 => No,
            _ => Maybe,
        }
    }
}

impl Rule {
    fn is_met(&self, flow: &Flow) -> Answer {
        self.matches.iter().map(|one| one.is_met(flow)).min().unwrap_or(Yes)
    }

    /// Whether it drops packets that belong to no connection, as far as its other matches are known.
    fn drops_invalid(&self, flow: &Flow) -> bool {
        let invalid =
            |one: &Match| one.field == Field::State && one.values == [Value::State("invalid".into())] && !one.not;
        self.action == Action::Drop
            && self.matches.iter().any(invalid)
            && self.matches.iter().all(|one| invalid(one) || one.is_met(flow) != No)
    }
}

impl Ruleset {
    /// The rules that drop the packet, in the order in which it meets them: at most one in each base chain, and those that drop
    /// packets of no connection. The flag: all rules could be followed.
    pub fn suspects(&self, flow: &Flow, back: bool) -> (Vec<Suspect>, bool) {
        let mut base: Vec<_> = self.chains.iter().filter_map(|(at, chain)| Some((chain.base.as_ref()?, at))).collect();
        // Packets of a known connection do not pass the chains of `nat`.
        base.retain(|(base, _)| !base.nat || flow.state == "new");
        base.sort_by_key(|(base, at)| (base.order, *at));
        let (mut flow, mut suspects, mut steps) = (flow.clone(), Vec::new(), 0);
        for (base, (table, chain)) in base {
            let mut walk = Walk { ruleset: self, table, suspects: &mut suspects, steps: &mut steps, depth: 0, back };
            if walk.chain(chain, &mut flow, true) == End::Returned
                && let Some((policy, packets)) = &base.drops
            {
                walk.suspect(chain, policy.clone(), *packets, false);
            }
        }
        (suspects, steps <= STEPS_MAX)
    }

    /// The bits of the mark that some rule sets.
    pub fn sets_marks(&self) -> u32 {
        let rules = self.chains.values().flat_map(|chain| &chain.rules);
        rules.map(|rule| if let Action::Mark(_, mask) = rule.action { mask } else { 0 }).fold(0, |all, mask| all | mask)
    }
}

struct Walk<'a> {
    ruleset: &'a Ruleset,
    table: &'a str,
    suspects: &'a mut Vec<Suspect>,
    steps: &'a mut usize,
    depth: usize,
    back: bool,
}

impl Walk<'_> {
    fn suspect(&mut self, chain: &str, rule: String, packets: Option<u64>, if_moved: bool) {
        let (table, chain) = (self.table.to_string(), chain.to_string());
        let tool = self.ruleset.tool;
        self.suspects.push(Suspect { tool, table, chain, rule, packets, if_moved, moved: None, back: self.back });
    }

    /// `certain`: the packet is known to reach this chain.
    fn chain(&mut self, name: &str, flow: &mut Flow, certain: bool) -> End {
        let at = (self.table.to_string(), name.to_string());
        let Some(chain) = self.ruleset.chains.get(&at) else { return End::Returned };
        if self.depth == DEPTH_MAX {
            *self.steps = STEPS_MAX + 1;
        }
        self.depth += 1;
        let end = self.rules(name, &chain.rules, flow, certain);
        self.depth -= 1;
        end
    }

    fn rules(&mut self, name: &str, rules: &[Rule], flow: &mut Flow, certain: bool) -> End {
        for rule in rules {
            *self.steps += 1;
            if *self.steps > STEPS_MAX {
                return End::Decided;
            }
            let met = rule.is_met(flow);
            if rule.drops_invalid(flow) && rule.packets.is_some() {
                self.suspect(name, rule.text.clone(), rule.packets, true);
            }
            match (&rule.action, met) {
                (_, No) | (Action::Other, _) => {}
                (Action::Mark(Some(value), mask), Yes) => {
                    (flow.mark, flow.known) = (flow.mark & !mask | value & mask, flow.known | mask);
                }
                (Action::Mark(_, mask), _) => flow.known &= !mask,
                (Action::Untrack, met) => flow.state = if met == Yes { "untracked" } else { "" },
                (Action::Jump(to) | Action::Goto(to), Maybe) => {
                    let mut there = flow.clone();
                    self.chain(to, &mut there, false);
                    flow.known &= there.known & !(flow.mark ^ there.mark);
                    flow.state = if flow.state == there.state { flow.state } else { "" };
                }
                (_, Maybe) => {}
                (Action::Accept, Yes) => return End::Decided,
                (Action::Return, Yes) => return End::Returned,
                (Action::Drop, Yes) => {
                    if certain {
                        self.suspect(name, rule.text.clone(), rule.packets, false);
                    }
                    return End::Decided;
                }
                (Action::Jump(to), Yes) => {
                    if self.chain(to, flow, certain) == End::Decided {
                        return End::Decided;
                    }
                }
                (Action::Goto(to), Yes) => return self.chain(to, flow, certain),
            }
        }
        End::Returned
    }
}
