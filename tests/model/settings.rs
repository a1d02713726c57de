//! The settings that sequences write: those of an interface, `all` and `default`, and those that belong to none.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// A setting that every interface has.
pub struct Attribute {
    pub folder: &'static str,
    pub name: &'static str,
    pub values: &'static [&'static str],
}

const fn attribute(folder: &'static str, name: &'static str, values: &'static [&'static str]) -> Attribute {
    Attribute { folder, name, values }
}

pub const V4: &str = "net/ipv4/conf";
pub const V6: &str = "net/ipv6/conf";
pub const FORWARDING: &str = "forwarding";
/// This many come first: the settings that the program is for.
pub const FORWARDING_AND_RP_FILTER: u8 = 3;
pub const DISABLE_IPV6: &str = "disable_ipv6";
pub const WITH_LINKDOWN: &str = "ignore_routes_with_linkdown";
pub const ATTRIBUTES: [Attribute; 13] = [
    attribute(V4, FORWARDING, &["0", "1"]),
    attribute(V4, "rp_filter", &["0", "1", "2"]),
    attribute(V6, FORWARDING, &["0", "1"]),
    attribute(V4, "accept_redirects", &["0", "1"]),
    attribute(V4, "arp_ignore", &["0", "1", "2"]),
    attribute(V4, "log_martians", &["0", "1"]),
    attribute(V4, "tag", &["0", "7"]),
    attribute(V6, "accept_ra", &["0", "1", "2"]),
    attribute(V6, DISABLE_IPV6, &["0", "1"]),
    attribute(V6, WITH_LINKDOWN, &["0", "1"]),
    attribute(V4, "proxy_arp", &["0", "1"]),
    attribute(V6, "hop_limit", &["64", "100"]),
    attribute("net/ipv4/neigh", "gc_stale_time", &["60", "90"]),
];

/// The kernel refuses this one.
pub const REFUSED: &str = "300";
pub const IP_FORWARD: &str = "net/ipv4/ip_forward";
pub const GLOBAL: [(&str, &[&str]); 5] = [
    (IP_FORWARD, &["0", "1"]),
    ("net/core/somaxconn", &["128", "4096"]),
    ("net/ipv4/ip_local_reserved_ports", &["5000", "6000-6003"]),
    ("net/ipv4/tcp_keepalive_time", &["600", "7200"]),
    ("net/ipv4/ip_default_ttl", &["32", "64", REFUSED]),
];

pub fn key(folder: &str, place: &str, name: &str) -> String {
    format!("{folder}/{place}/{name}")
}

/// Folder, place and name of a setting that has them.
pub fn apart(key: &str) -> Option<(&str, &str, &str)> {
    let (rest, name) = key.rsplit_once('/')?;
    let (folder, place) = rest.rsplit_once('/')?;
    ATTRIBUTES.iter().any(|attribute| attribute.folder == folder).then_some((folder, place, name))
}

/// One setting, one name.
pub fn canonical(key: &str) -> String {
    if key == IP_FORWARD { all_forwarding(V4) } else { key.to_string() }
}

pub fn all_forwarding(folder: &str) -> String {
    key(folder, "all", FORWARDING)
}

/// The settings of which a write to `all` is one to `default` and to every interface.
pub const FANNED_OUT: [(&str, &str); 4] = [(V4, FORWARDING), (V6, FORWARDING), (V6, DISABLE_IPV6), (V6, WITH_LINKDOWN)];

/// The `all` of such a setting.
pub fn all_of_its(folder: &str, name: &str) -> Option<String> {
    FANNED_OUT.contains(&(folder, name)).then(|| key(folder, "all", name))
}

pub fn all_redirects() -> String {
    key(V4, "all", "accept_redirects")
}

/// The kernel's values of all these settings now.
pub fn observe() -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    let mut read = |key: String| {
        if let Ok(value) = fs::read_to_string(Path::new("/proc/sys").join(&key)) {
            values.insert(key, value.trim().to_string());
        }
    };
    for place in links().iter().map(String::as_str).chain(["all", "default"]) {
        ATTRIBUTES.iter().for_each(|attribute| read(key(attribute.folder, place, attribute.name)));
    }
    GLOBAL.iter().filter(|(key, _)| *key != IP_FORWARD).for_each(|(key, _)| read(key.to_string()));
    values
}

/// The interfaces, in the order of their names.
pub fn links() -> Vec<String> {
    let folder = fs::read_dir(Path::new("/proc/sys").join(V4)).expect("net.ipv4.conf");
    let mut links: Vec<String> =
        folder.flatten().map(|entry| entry.file_name().into_string().expect("ASCII")).collect();
    links.retain(|name| name != "all" && name != "default");
    links.sort();
    links
}

/// Whether sequences write a setting.
pub fn is_written(key: &str) -> bool {
    GLOBAL.iter().any(|(written, _)| *written == key)
        || apart(key).is_some_and(|(folder, _, name)| ATTRIBUTES.iter().any(|a| (a.folder, a.name) == (folder, name)))
}
