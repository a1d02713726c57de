//! Warnings of `check`: lines of the policy that do less than they seem to, and modules that are missing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::sync::Arc;

use super::check::{Compared, Verdict};
use crate::kernel::sysctl::Sysctl;
use crate::policy::effective::{Release, Together, is_unread, release, together};
use crate::policy::merge::Target;
use crate::policy::{Policy, Source};
use crate::setting::{Attribute, Family, Key, Place, number, printable};
use crate::text::count;

/// More interfaces are not named in one warning.
const NAMED_MAX: usize = 5;

/// Keys that a module makes, the module, and one of its keys that is always there with it.
const MODULES: [(&str, &str, &str); 6] = [
    ("net.bridge.", "br_netfilter", "net.bridge.bridge-nf-call-iptables"),
    ("net.ipv4.vs.", "ip_vs", "net.ipv4.vs.amemthresh"),
    ("net.netfilter.nf_conntrack_", "nf_conntrack", "net.netfilter.nf_conntrack_max"),
    ("net.nf_conntrack_max", "nf_conntrack", "net.netfilter.nf_conntrack_max"),
    ("net.sctp.", "sctp", "net.sctp.rto_min"),
    ("net.mpls.", "mpls_router", "net.mpls.platform_labels"),
];

/// A line of the policy that does less than it seems to.
pub struct Warning {
    pub key: String,
    pub source: Source,
    pub message: String,
}

/// Why a pattern of the policy has no effect now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Idle {
    MatchesNone,
    /// By other lines; the place of the first.
    Overridden(Source),
    Excluded,
}

impl Idle {
    pub fn message(&self, name: &str) -> String {
        match self {
            Idle::MatchesNone => format!("'{name}' currently matches no interface"),
            Idle::Overridden(source) => {
                let file = printable(source.file.as_os_str());
                format!("'{name}' currently has no effect: other lines override it, such as {file}:{}", source.line)
            }
            Idle::Excluded => format!("'{name}' currently has no effect: everything that it matches is excluded"),
        }
    }
}

/// As a verdict.
impl fmt::Display for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Idle::MatchesNone => f.write_str("matches none"),
            Idle::Overridden(source) => write!(f, "overridden by {source}"),
            Idle::Excluded => f.write_str("excluded"),
        }
    }
}

/// The patterns of the policy that decide nothing where these interfaces are.
pub fn idle(policy: &Policy, interfaces: &[OsString]) -> BTreeMap<usize, Idle> {
    let pseudo = ["all", "default"].map(OsString::from);
    let names: Vec<&OsString> = pseudo.iter().chain(interfaces).collect();
    let deciding: Vec<_> = names.iter().map(|name| policy.deciding(name)).collect();
    let decides: HashSet<usize> = deciding.iter().flat_map(|entries| entries.iter().copied()).collect();
    let mut idle = BTreeMap::new();
    for (index, entry) in policy.entries().iter().enumerate() {
        let Target::Many(pattern) = &entry.target else { continue };
        if entry.value.is_none() || decides.contains(&index) {
            continue;
        }
        let matched: Vec<_> = names.iter().zip(&deciding).filter(|(name, _)| pattern.matches(name)).collect();
        let is_of = |other: &usize| policy.entries()[*other].is_of(pattern);
        let instead = matched.iter().find_map(|(_, entries)| entries.iter().copied().find(is_of));
        let why = match instead {
            _ if matched.is_empty() => Idle::MatchesNone,
            Some(other) => Idle::Overridden(policy.entries()[other].source.clone()),
            None => Idle::Excluded,
        };
        idle.insert(index, why);
    }
    idle
}

/// The kernel's values now, each read once.
pub struct Numbers {
    pub door: Sysctl,
    release: Release,
    known: HashMap<Key, Option<i64>>,
}

impl Numbers {
    pub fn new() -> Numbers {
        let release = release(&rustix::system::uname().release().to_string_lossy()).unwrap_or_default();
        Numbers { door: Sysctl::new(Arc::default()), release, known: HashMap::new() }
    }

    fn number(&mut self, key: Key) -> Option<i64> {
        let Numbers { door, known, .. } = self;
        *known.entry(key).or_insert_with_key(|key| number(&door.read(key).ok()?))
    }

    fn of(&mut self, place: &Place, interface: &OsStr) -> Option<i64> {
        self.number(Key::in_table(place.family, place.table, interface, place.name))
    }

    /// Whether an interface forwards, where that decides.
    fn forwards(&mut self, together: Together, interface: &OsStr) -> Option<bool> {
        let decides = together == Together::ByForwarding;
        Some(decides && self.number(Key::conf(Family::V4, interface, Attribute::Forwarding))? != 0)
    }

    /// What counts for an interface whose setting is `found`, where the kernel makes something else of it with `all`'s. Nothing
    /// is said where what it depends on can't be read.
    pub fn overruled(&mut self, key: &Key, found: &str) -> Option<Verdict> {
        let place = key.place().filter(is_of_interface)?;
        let (together, own) = (together(&place, self.release)?, number(found)?);
        let (all, forwards) = (self.of(&place, OsStr::new("all"))?, self.forwards(together, place.interface)?);
        let effective = together.effective(own, all, forwards);
        (effective != own).then_some(Verdict::Overruled(effective))
    }

    /// The warnings about the policy's lines for `settings` on a node with these interfaces.
    pub fn warnings(&mut self, policy: &Policy, settings: &[Compared], interfaces: &[OsString]) -> Vec<Warning> {
        let named: HashSet<&Key> = settings.iter().map(|setting| &setting.key).collect();
        let mut forwards_nothing = HashSet::new();
        let mut warnings = Vec::new();
        for Compared { key, entry: index, verdict, .. } in settings {
            let (entry, Some(place)) = (&policy.entries()[*index], key.place()) else { continue };
            let line = format!("'{} = {}'", policy.name(key, *index), policy.value(*index));
            let message = if *verdict == Verdict::Absent {
                continue;
            } else if entry.sets().is_some() && is_unread(key) {
                format!(
                    "{line} has no effect, because the kernel reads this setting only per interface: \
                     write it for 'default' and for the interfaces"
                )
            } else if place.interface == "all" && entry.number == Some(0) && !is_left_to_each(&place) {
                let Some(together) = together(&place, self.release) else { continue };
                let mut on = Vec::new();
                for interface in interfaces {
                    let own = Key::in_table(place.family, place.table, interface, place.name);
                    let is_named = named.contains(&own) || policy.excludes(&own);
                    if let (false, Some(value), Some(forwards)) =
                        (is_named, self.of(&place, interface), self.forwards(together, interface))
                        && together.zero_leaves_on(value, forwards)
                    {
                        on.push(interface);
                    }
                }
                if on.is_empty() {
                    continue;
                }
                format!(
                    "{line} leaves it on for {}, because an interface's own value also counts: write '{} = 0' to \
                     switch it off everywhere",
                    list(&on),
                    Key::in_table(place.family, place.table, OsStr::new("*"), place.name)
                )
            } else if place.announced() == Some((Family::V6, Attribute::Forwarding))
                && is_of_interface(&place)
                && entry.number.is_some_and(|wanted| wanted != 0)
                && self.of(&place, OsStr::new("all")) == Some(0)
                // Which counts for the interface alone, since Linux 6.17 (ip6_forward).
                && self.of(&Place { name: "force_forwarding", ..place }, place.interface).is_none_or(|force| force == 0)
                && forwards_nothing.insert(*index)
            {
                let all = Key::conf(Family::V6, OsStr::new("all"), Attribute::Forwarding);
                format!("{line} has no effect while {all} is 0: for IPv6 the kernel checks only that (ip6_forward)")
            } else {
                continue;
            };
            warnings.push(Warning { key: policy.name(key, *index), source: entry.source.clone(), message });
        }
        warnings
    }

    /// The module that would make `key`, which is absent; none where it is loaded.
    pub fn module(&mut self, key: &Key) -> Option<&'static str> {
        let (_, module, sign) = maker(key)?;
        Key::parse(sign).is_ok_and(|sign| self.number(sign).is_none()).then_some(module)
    }
}

/// `all.rp_filter = 0` is there to leave it to each interface: CNIs set their own (Calico on cali*, against spoofed addresses),
/// and to write 0 for `*` would switch that off.
fn is_left_to_each(place: &Place) -> bool {
    place.announced() == Some((Family::V4, Attribute::RpFilter))
}

fn is_of_interface(place: &Place) -> bool {
    place.interface != "all" && place.interface != "default"
}

fn maker(key: &Key) -> Option<&'static (&'static str, &'static str, &'static str)> {
    let name = key.to_string();
    MODULES.iter().find(|(keys, ..)| name.starts_with(keys))
}

fn list(interfaces: &[&OsString]) -> String {
    let mut names: Vec<String> = interfaces.iter().take(NAMED_MAX).map(|name| printable(name)).collect();
    if interfaces.len() > NAMED_MAX {
        names.push(format!("{} more", interfaces.len() - NAMED_MAX));
    }
    let last = names.pop().unwrap_or_default();
    if names.is_empty() { last } else { format!("{} and {last}", names.join(", ")) }
}

/// The last line of the table: how many patterns of the policy match no interface, and how many settings are absent, with the
/// modules that would make them, hold, and do not hold.
pub fn summary(unmatched: usize, holding: usize, modules: &[Option<&str>], bad: usize, apply_helps: bool) -> String {
    let verb = |n: usize, one: &'static str, many: &'static str| if n == 1 { one } else { many };
    let held = format!("{} {}", count(holding, "setting"), verb(holding, "holds", "hold"));
    let mut parts = Vec::new();
    if unmatched > 0 {
        parts.push(format!("{} {} no interface", count(unmatched, "pattern"), verb(unmatched, "matches", "match")));
    }
    match (holding, modules.len(), bad) {
        (_, 0, _) if unmatched > 0 => {}
        (0, 0, 0) => return "The policy has no settings".into(),
        (2.., 0, 0) => return format!("All {held}"),
        (_, 0, _) => {}
        (_, absent, _) => {
            let until = until(modules);
            parts.push(format!("{} {} absent{until}", count(absent, "setting"), verb(absent, "is", "are")));
        }
    }
    parts.push(held);
    if bad > 0 {
        parts.push(format!("{bad} {} not hold", verb(bad, "does", "do")));
    }
    parts.join(", ") + if apply_helps { "; 'fwdguard apply' repairs once" } else { "" }
}

fn until(modules: &[Option<&str>]) -> String {
    let mut names: Vec<&str> = modules.iter().copied().flatten().collect();
    let some = if names.len() < modules.len() { format!("{} ", names.len()) } else { String::new() };
    names.sort_unstable();
    names.dedup();
    match &names[..] {
        [] => String::new(),
        [name] => format!(" ({some}until 'modprobe {name}')"),
        names => format!(" ({some}until 'modprobe -a {}')", names.join(" ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_counts_absent_settings_separately() {
        let (bridge, vs) = (Some("br_netfilter"), Some("ip_vs"));
        for (holding, modules, bad, expected) in [
            (0, &[][..], 0, "The policy has no settings"),
            (1, &[], 0, "1 setting holds"),
            (3, &[], 0, "All 3 settings hold"),
            (0, &[None], 0, "1 setting is absent, 0 settings hold"),
            (3, &[None, None], 0, "2 settings are absent, 3 settings hold"),
            (3, &[bridge, bridge], 0, "2 settings are absent (until 'modprobe br_netfilter'), 3 settings hold"),
            (
                1,
                &[vs, None, bridge],
                0,
                "3 settings are absent (2 until 'modprobe -a br_netfilter ip_vs'), 1 setting holds",
            ),
            (0, &[], 1, "0 settings hold, 1 does not hold; 'fwdguard apply' repairs once"),
            (3, &[None], 2, "1 setting is absent, 3 settings hold, 2 do not hold; 'fwdguard apply' repairs once"),
        ] {
            assert_eq!(summary(0, holding, modules, bad, bad > 0), expected);
        }
        for (unmatched, holding, modules, expected) in [
            (1, 0, &[][..], "1 pattern matches no interface, 0 settings hold"),
            (2, 3, &[], "2 patterns match no interface, 3 settings hold"),
            (1, 1, &[None], "1 pattern matches no interface, 1 setting is absent, 1 setting holds"),
        ] {
            assert_eq!(summary(unmatched, holding, modules, 0, false), expected);
        }
    }

    #[test]
    fn modules_by_their_keys() {
        let module = |key| maker(&Key::parse(key).unwrap()).map(|maker| maker.1);
        for (key, expected) in [
            ("net.bridge.bridge-nf-call-ip6tables", Some("br_netfilter")),
            ("net.ipv4.vs.conntrack", Some("ip_vs")),
            ("net.nf_conntrack_max", Some("nf_conntrack")),
            ("net.netfilter.nf_conntrack_tcp_timeout_established", Some("nf_conntrack")),
            ("net.netfilter.nf_log.2", None),
            ("net.ipv4.conf.c9.rp_filter", None),
        ] {
            assert_eq!(module(key), expected, "{key}");
        }
    }

    #[test]
    fn lists_are_short() {
        let names: Vec<OsString> = (0..7).map(|n| format!("e{n}").into()).collect();
        let names: Vec<&OsString> = names.iter().collect();
        assert_eq!(list(&names), "e0, e1, e2, e3, e4 and 2 more");
        assert_eq!((list(&names[..2]), list(&names[..1])), ("e0 and e1".into(), "e0".into()));
    }
}
