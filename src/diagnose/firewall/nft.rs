//! The rules of nftables, as `nft -j list ruleset` prints them (libnftables-json(5)).

use std::collections::{HashMap, HashSet};

use serde_json::Value as Json;

use super::{Action, Base, Chain, Field, Hook, Match, Rule, Ruleset, Suspect, Value};
use crate::setting::Family;

/// Reads the rules for packets of the family, without base chains that another tool shows (`is_known`). `None`: the text is not
/// nft's JSON.
pub fn parse(text: &str, family: Family, is_known: impl Fn(&str, &str) -> bool) -> Option<Ruleset> {
    let object: Json = serde_json::from_str(text).ok()?;
    let objects = object.get("nftables")?.as_array()?;
    objects.iter().find(|object| object.get("metainfo").is_some())?;
    let own = if family == Family::V4 { "ip" } else { "ip6" };
    let dormant: HashSet<String> = objects
        .iter()
        .filter_map(|object| object.get("table"))
        .filter(|table| table.get("flags").is_some_and(|flags| flags.to_string().contains("dormant")))
        .filter_map(|table| Some(format!("{} {}", field(table, "family")?, field(table, "name")?)))
        .collect();
    let of = |kind: &'static str| {
        objects.iter().filter_map(move |object| object.get(kind)).filter_map(|object| {
            let (of, table) = (field(object, "family")?, field(object, "table")?);
            let table = format!("{of} {table}");
            ((of == own || of == "inet") && !dormant.contains(&table)).then_some((table, object))
        })
    };
    let mut ruleset = Ruleset { tool: "nft", ..Ruleset::default() };
    for (table, chain) in of("chain") {
        let (nat, name) = (field(chain, "type") == Some("nat"), field(chain, "name")?);
        let hook = field(chain, "hook").and_then(Hook::parse).filter(|_| !is_known(&table, name));
        let drops = (field(chain, "policy") == Some("drop")).then(|| ("policy drop".to_string(), None));
        let order = chain.get("prio").and_then(Json::as_i64).unwrap_or(0);
        let base = hook.map(|hook| Base { order: (hook, order), nat, drops });
        ruleset.chains.insert((table, name.into()), Chain { rules: Vec::new(), base });
    }
    let sets: HashMap<_, _> = of("set")
        .chain(of("map"))
        .filter_map(|(table, set)| Some(((table, field(set, "name")?), set.get("elem").unwrap_or(&Json::Null))))
        .collect();
    for (table, rule) in of("rule") {
        let set = |name: &str| sets.get(&(table.clone(), name)).copied();
        let reader = Reader { own, set: &set };
        let rules = reader.rules(rule);
        if let Some(chain) = ruleset.chains.get_mut(&(table.clone(), field(rule, "chain")?.into())) {
            chain.rules.extend(rules);
        }
    }
    Some(ruleset)
}

fn field<'a>(object: &'a Json, name: &str) -> Option<&'a str> {
    object.get(name)?.as_str()
}

fn number(value: &Json) -> Option<u32> {
    value.as_u64()?.try_into().ok()
}

/// A match that may be met or not.
fn unknown() -> Match {
    Match { field: Field::Other, not: false, values: vec![Value::Other] }
}

struct Reader<'a> {
    /// The protocol of the packets: `ip` or `ip6`.
    own: &'a str,
    set: &'a dyn Fn(&str) -> Option<&'a Json>,
}

impl Reader<'_> {
    /// A rule; with a verdict map or a set of concatenations, one for each of its elements.
    fn rules(&self, rule: &Json) -> Vec<Rule> {
        let handle = rule.get("handle").map(Json::to_string).unwrap_or_default();
        let mut one = Rule { text: handle, packets: None, matches: Vec::new(), action: Action::Other };
        let (mut rules, mut either) = (Vec::new(), vec![Vec::new()]);
        let statements = rule.get("expr").and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
        for (name, statement) in statements.iter().filter_map(Json::as_object).flatten() {
            let part = |name| statement.get(name).unwrap_or(&Json::Null);
            let mut with = |matches: &[Match], action: Action| {
                rules.extend(either.iter().map(|other| {
                    let matches = [&one.matches[..], other, matches].concat();
                    Rule { matches, action: action.clone(), ..one.clone() }
                }));
            };
            match &name[..] {
                "match" => {
                    let (left, how, right) = (part("left"), part("op").as_str().unwrap_or_default(), part("right"));
                    match self.tuples(left, right).filter(|_| matches!(how, "==" | "in")) {
                        Some(tuples) if either == [[]] => either = tuples,
                        Some(_) => one.matches.push(unknown()),
                        None => one.matches.push(self.compare(left, how, right)),
                    }
                }
                "counter" => one.packets = statement.get("packets").and_then(Json::as_u64),
                "vmap" => {
                    let (key, data) = (part("key"), part("data"));
                    let named = data.as_str().and_then(|name| (self.set)(name.strip_prefix('@')?));
                    let elements = named.unwrap_or_else(|| data.get("set").unwrap_or(&Json::Null));
                    for element in elements.as_array().into_iter().flatten() {
                        let verdict = element[1].as_object().and_then(|verdict| verdict.iter().next());
                        let action = verdict.and_then(|(name, to)| verdict_of(name, to)).unwrap_or(Action::Other);
                        let tuple = self.tuple(key, &element[0]);
                        with(&tuple.unwrap_or_else(|| vec![self.compare(key, "==", &element[0])]), action);
                    }
                }
                "mangle" if statement.pointer("/key/meta/key").and_then(Json::as_str) == Some("mark") => {
                    let (value, mask) = statement.get("value").map_or((None, u32::MAX), marked);
                    with(&[], Action::Mark(value, mask));
                }
                "notrack" => with(&[], Action::Untrack),
                "log" | "mangle" | "flow" | "dup" | "tproxy" | "secmark" | "synproxy" => {}
                "set" if statement.get("stmt").is_none() => {}
                name => match verdict_of(name, statement) {
                    Some(action) => one.action = action,
                    // For instance a limit.
                    None => one.matches.push(unknown()),
                },
            }
        }
        let whole = |other: Vec<Match>| Rule { matches: [&one.matches[..], &other].concat(), ..one.clone() };
        rules.extend(either.into_iter().map(whole));
        rules
    }

    /// The alternatives of a concatenation: for each element on the right, the matches of all its parts.
    fn tuples(&self, left: &Json, right: &Json) -> Option<Vec<Vec<Match>>> {
        left.get("concat")?;
        let named = right.as_str().and_then(|name| (self.set)(name.strip_prefix('@')?));
        let elements = named.or_else(|| right.get("set")).unwrap_or(right);
        match elements.as_array() {
            Some(several) => several.iter().map(|one| self.tuple(left, one)).collect(),
            None => Some(vec![self.tuple(left, elements)?]),
        }
    }

    fn tuple(&self, left: &Json, element: &Json) -> Option<Vec<Match>> {
        let element = element.pointer("/elem/val").unwrap_or(element);
        let (left, right) = (left.get("concat")?.as_array()?, element.get("concat")?.as_array()?);
        Some(left.iter().zip(right).map(|(left, right)| self.compare(left, "==", right)).collect())
    }

    fn compare(&self, left: &Json, how: &str, right: &Json) -> Match {
        let key = |kind: &str| left.get(kind).and_then(|kind| field(kind, "key"));
        let payload = left.get("payload");
        let payload = payload.and_then(|payload| Some((field(payload, "protocol")?, field(payload, "field")?)));
        let mask = left.get("&").and_then(|parts| (parts[0]["meta"]["key"] == "mark").then(|| number(&parts[1]))?);
        let not = matches!(how, "!=" | "!");
        let field = match (key("meta"), key("ct"), payload) {
            (Some("iif" | "iifname"), ..) => Field::Arrives,
            (Some("oif" | "oifname"), ..) => Field::Leaves,
            (Some("mark"), ..) => Field::Mark,
            (Some("nfproto" | "protocol"), ..) => {
                let is = |value: &Json| match value.as_str() {
                    Some("ipv4" | "ip") => self.own == "ip",
                    Some("ipv6" | "ip6") => self.own == "ip6",
                    _ => false,
                };
                let several = right.as_array().or_else(|| right.get("set")?.as_array());
                let is = several.map_or_else(|| is(right), |several| several.iter().any(is));
                // A match of no value is never met, and one of none of them always.
                return Match { field: Field::Other, not: is != not, values: Vec::new() };
            }
            (_, Some("state"), _) => Field::State,
            (.., Some((protocol, "saddr"))) if protocol == self.own => Field::From,
            (.., Some((protocol, "daddr"))) if protocol == self.own => Field::To,
            (.., Some(("ip" | "ip6", "saddr" | "daddr"))) => {
                return Match { field: Field::Other, not: false, values: Vec::new() };
            }
            _ if mask.is_some() => Field::Mark,
            _ => return unknown(),
        };
        if !matches!(how, "==" | "in" | "!=" | "!") {
            return unknown();
        }
        let mut values = Vec::new();
        self.values(field, right, mask.unwrap_or(u32::MAX), &mut values);
        Match { field, not, values }
    }

    /// Reads the right side of a match: a value, a list or a set of them, or the name of a set.
    fn values(&self, field: Field, right: &Json, mask: u32, values: &mut Vec<Value>) {
        let several = right.as_array().or_else(|| right.get("set")?.as_array());
        if let Some(several) = several {
            return several.iter().for_each(|one| self.values(field, one, mask, values));
        }
        if let Some(value) = right.get("elem").and_then(|element| element.get("val")) {
            return self.values(field, value, mask, values);
        }
        if let Some(named) = right.as_str().and_then(|text| text.strip_prefix('@')) {
            return match (self.set)(named) {
                Some(elements) if !elements.is_null() => self.values(field, elements, mask, values),
                Some(_) => {}
                None => values.push(Value::Other),
            };
        }
        let address = |value: &Json| value.as_str()?.parse().ok();
        let value = match field {
            Field::From | Field::To => {
                let prefix = right.get("prefix").and_then(|prefix| {
                    Some(Value::Net(address(prefix.get("addr")?)?, number(prefix.get("len")?)?.try_into().ok()?))
                });
                let range = || Some(Value::Range(address(&right["range"][0])?, address(&right["range"][1])?));
                let single = || address(right).map(|address| Value::Net(address, super::super::node::width(address)));
                prefix.or_else(range).or_else(single)
            }
            Field::Mark => number(right).map(|mark| Value::Mark(mark, mask)),
            Field::State => right.as_str().map(|state| Value::State(state.into())),
            _ => right.as_str().map(|name| Value::Name(name.into())),
        };
        values.push(value.unwrap_or(Value::Other));
    }
}

fn verdict_of(name: &str, statement: &Json) -> Option<Action> {
    let target = || field(statement, "target").unwrap_or_default().to_string();
    Some(match name {
        "accept" | "dnat" | "snat" | "masquerade" | "redirect" => Action::Accept,
        "drop" | "reject" => Action::Drop,
        "return" => Action::Return,
        "jump" => Action::Jump(target()),
        "goto" => Action::Goto(target()),
        _ => return None,
    })
}

/// The new value of the mark, if it is known, and the mask of the bits that are set.
fn marked(value: &Json) -> (Option<u32>, u32) {
    let with = |operator: &str| {
        let parts = value.get(operator)?;
        number(&parts[1]).filter(|_| parts[0]["meta"]["key"] == "mark")
    };
    match (number(value), with("|"), with("&")) {
        (Some(value), ..) => (Some(value), u32::MAX),
        (_, Some(bits), _) => (Some(bits), bits),
        (.., Some(kept)) => (Some(0), !kept),
        _ => (None, u32::MAX),
    }
}

/// Gives a suspect the text of its rule, as `nft list` prints it, and its present counter. `list` runs nft.
pub fn name(suspect: &mut Suspect, list: impl FnOnce(&[&str]) -> Option<String>) {
    let (Some((family, table)), handle) = (suspect.table.split_once(' '), format!(" # handle {}", suspect.rule)) else {
        return;
    };
    let text = list(&["-a", "list", "chain", family, table, &suspect.chain]).unwrap_or_default();
    let line = text.lines().find_map(|line| line.trim_start().strip_suffix(&handle));
    let after = line.and_then(|line| line.split_once("counter packets ")?.1.split(' ').next()?.parse().ok());
    suspect.count(after);
    if suspect.rule.starts_with(|c: char| c.is_ascii_digit()) {
        suspect.rule = line.map_or_else(|| format!("rule with handle {}", suspect.rule), str::to_string);
    }
}
