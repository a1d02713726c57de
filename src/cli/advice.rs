//! Warnings of `check`: lines of the policy that have less effect than they seem to, and modules that are missing.

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

/// Keys that a module creates, the module, and one of its keys that always exists with it.
const MODULES: [(&str, &str, &str); 6] = [
    ("net.bridge.", "br_netfilter", "net.bridge.bridge-nf-call-iptables"),
    ("net.ipv4.vs.", "ip_vs", "net.ipv4.vs.amemthresh"),
    ("net.netfilter.nf_conntrack_", "nf_conntrack", "net.netfilter.nf_conntrack_max"),
    ("net.nf_conntrack_max", "nf_conntrack", "net.netfilter.nf_conntrack_max"),
    ("net.sctp.", "sctp", "net.sctp.rto_min"),
    ("net.mpls.", "mpls_router", "net.mpls.platform_labels"),
];

/// A line of the policy that has less effect than it seems to.
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
                let place = source.with_path();
                format!("'{name}' currently has no effect: other lines override it, such as {place}")
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

/// The patterns of the policy that decide no setting of these interfaces.
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

/// The kernel's values, each read once.
pub struct KernelValues {
    pub sysctl: Sysctl,
    release: Release,
    known: HashMap<Key, Option<i64>>,
}

impl KernelValues {
    pub fn new() -> KernelValues {
        let release = release(&rustix::system::uname().release().to_string_lossy()).unwrap_or_default();
        KernelValues { sysctl: Sysctl::new(Arc::default()), release, known: HashMap::new() }
    }

    fn number(&mut self, key: Key) -> Option<i64> {
        let KernelValues { sysctl, known, .. } = self;
        *known.entry(key).or_insert_with_key(|key| number(&sysctl.read(key).ok()?))
    }

    fn all(&mut self, place: &Place) -> Option<i64> {
        self.number(place.of(OsStr::new("all")))
    }

    /// Whether an interface forwards, where `together` depends on it.
    fn forwards(&mut self, together: Together, interface: &OsStr) -> Option<bool> {
        let decides = together == Together::ByForwarding;
        Some(decides && self.number(Key::conf(Family::V4, interface, Attribute::Forwarding))? != 0)
    }

    /// The effective value of an interface whose setting is `found`, if the kernel combines it with `all`'s to another one. None
    /// where the values that it depends on can't be read.
    pub fn overruled(&mut self, key: &Key, found: &str) -> Option<Verdict> {
        let place = key.place().filter(Place::is_of_interface)?;
        let (together, own) = (together(&place, self.release)?, number(found)?);
        let (all, forwards) = (self.all(&place)?, self.forwards(together, place.interface)?);
        let effective = together.effective(own, all, forwards);
        (effective != own).then_some(Verdict::Overruled(effective))
    }

    /// The warnings about the policy's lines for `settings` on a node with these interfaces.
    pub fn warnings(&mut self, policy: &Policy, settings: &[Compared], interfaces: &[OsString]) -> Vec<Warning> {
        let named: HashSet<&Key> = settings.iter().map(|setting| &setting.key).collect();
        let mut forwards_nothing = HashSet::new();
        let mut warnings = Vec::new();
        for Compared { key, entry: index, .. } in settings.iter().filter(|setting| setting.verdict != Verdict::Absent) {
            let (entry, Some(place)) = (&policy.entries()[*index], key.place()) else { continue };
            let line = format!("'{} = {}'", policy.name(key, *index), policy.value(*index));
            let message = if entry.sets().is_some() && is_unread(key) {
                format!(
                    "{line} has no effect, because the kernel reads this setting only per interface: \
                     write it for 'default' and for the interfaces"
                )
            } else if place.interface == "all" && entry.number == Some(0) && !is_left_to_each(&place) {
                let unnamed = |own: &Key| !named.contains(own) && !policy.excludes(own);
                let on = self.left_on(&place, interfaces, unnamed);
                if on.is_empty() {
                    continue;
                }
                format!(
                    "{line} leaves it on for {}, because an interface's own value also counts: write '{} = 0' to \
                     switch it off everywhere",
                    list(&on),
                    place.of(OsStr::new("*"))
                )
            } else if place.announced() == Some((Family::V6, Attribute::Forwarding))
                && place.is_of_interface()
                && entry.number.is_some_and(|wanted| wanted != 0)
                && self.all(&place) == Some(0)
                // Since Linux 6.17 it opens the interface alone (ip6_forward).
                && self.number(Place { name: "force_forwarding", ..place }.of(place.interface)).is_none_or(|force| force == 0)
                && forwards_nothing.insert(*index)
            {
                let all = place.of(OsStr::new("all"));
                format!("{line} has no effect while {all} is 0: for IPv6 the kernel checks only that (ip6_forward)")
            } else {
                continue;
            };
            warnings.push(Warning { key: policy.name(key, *index), source: entry.source.clone(), message });
        }
        warnings
    }

    /// The interfaces whose own value leaves the setting on although `all`'s is 0, of those that `matters` selects.
    fn left_on<'a>(
        &mut self,
        place: &Place,
        interfaces: &'a [OsString],
        matters: impl Fn(&Key) -> bool,
    ) -> Vec<&'a OsString> {
        let Some(together) = together(place, self.release) else { return Vec::new() };
        let mut is_on = |interface: &OsString| {
            let own = place.of(interface);
            let is_on = |value, forwards| together.zero_leaves_on(value, forwards);
            matters(&own) && self.number(own).zip(self.forwards(together, interface)).is_some_and(|(v, f)| is_on(v, f))
        };
        interfaces.iter().filter(|interface| is_on(interface)).collect()
    }

    /// The module that would create `key`, which is absent; none where it is loaded.
    pub fn module(&mut self, key: &Key) -> Option<&'static str> {
        let (_, module, sign) = maker(key)?;
        Key::parse(sign).is_ok_and(|sign| self.number(sign).is_none()).then_some(module)
    }
}

/// 0 of `all` leaves these to each interface: CNIs set their own (Calico rp_filter on cali*, against spoofed addresses, and proxy_arp and
/// proxy_ndp, which answer for the pods' gateway), and 0 for `*` would turn that off.
fn is_left_to_each(place: &Place) -> bool {
    ["rp_filter", "proxy_arp", "proxy_arp_pvlan", "proxy_ndp"].contains(&place.name)
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

/// The last line of the output: how many patterns match no interface, and how many settings are absent (with the modules that would
/// create them), hold, and do not hold.
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
    let created = if names.len() < modules.len() { format!("{} of them", names.len()) } else { "them".into() };
    names.sort_unstable();
    names.dedup();
    match &names[..] {
        [] => String::new(),
        [name] => format!(" ('modprobe {name}' creates {created})"),
        names => format!(" ('modprobe -a {}' creates {created})", names.join(" ")),
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
            (3, &[bridge, bridge], 0, "2 settings are absent ('modprobe br_netfilter' creates them), 3 settings hold"),
            (
                1,
                &[vs, None, bridge],
                0,
                "3 settings are absent ('modprobe -a br_netfilter ip_vs' creates 2 of them), 1 setting holds",
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
