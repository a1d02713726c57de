//! What Linux does at a write, at an interface that comes and at one that goes (net/ipv4/devinet.c, net/ipv6/addrconf.c).

use std::collections::BTreeMap;
use std::sync::OnceLock;

use super::settings::{
    ATTRIBUTES, FORWARDING, V4, V6, all_forwarding, all_of_its, all_redirects, apart, canonical, key, links, observe,
};
use crate::common::{Namespace, run, sysctl_read, sysctl_write};

/// Whether a setting of an interface was ever set by itself; else it follows `default` (`devinet_copy_dflt_conf`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bit {
    Clear,
    Set,
    Unknown,
}

/// The settings as they should be, by key.
#[derive(Clone, Debug, Default)]
pub struct Kernel {
    pub values: BTreeMap<String, String>,
    bits: BTreeMap<String, Bit>,
    pub links: Vec<String>,
}

impl Kernel {
    /// The settings of this namespace, with interfaces none of whose settings has been written.
    pub fn fresh() -> Kernel {
        let mut kernel = Kernel { values: observe(), bits: BTreeMap::new(), links: links() };
        for name in follow_default().keys() {
            for place in kernel.links.clone().iter().map(String::as_str).chain(["default"]) {
                // An address sets them all, and lo has one (ipv4_devconf_setall).
                let bit = if place == "lo" { Bit::Unknown } else { follow_default()[name] };
                kernel.bits.insert(key(V4, place, name), bit);
            }
        }
        kernel
    }

    pub fn bit(&self, key: &str) -> Bit {
        self.bits.get(key).copied().unwrap_or(Bit::Set)
    }

    pub fn set_bit(&mut self, key: &str, bit: Bit) {
        if let Some(known) = self.bits.get_mut(key) {
            *known = bit;
        }
    }

    /// The model knows nothing of an interface that came unseen.
    pub fn know_bits(&mut self) {
        for link in &self.links {
            for name in follow_default().keys() {
                self.bits.entry(key(V4, link, name)).or_insert(Bit::Unknown);
            }
        }
    }

    /// The other settings that a write of `key` can change.
    pub fn fan_out(&self, key_written: &str) -> Vec<String> {
        let everywhere = |folder, name| {
            let of_links = self.links.iter().map(move |link| key(folder, link, name));
            of_links.filter(|key| self.values.contains_key(key)).collect::<Vec<_>>()
        };
        match apart(key_written) {
            Some((folder, "all", name)) if all_of_its(folder, name).is_some() => {
                let mut keys = everywhere(folder, name);
                keys.push(key(folder, "default", name));
                keys.extend((folder == V4).then(all_redirects));
                keys
            }
            Some((V4, "default", name)) if name != FORWARDING => {
                everywhere(V4, name).into_iter().filter(|key| self.bit(key) != Bit::Set).collect()
            }
            _ => Vec::new(),
        }
    }

    /// A write that the kernel accepts. Returns the settings that it may have changed or not.
    pub fn write(&mut self, key: &str, value: &str) -> Vec<String> {
        let key = canonical(key);
        let Some(before) = self.values.insert(key.clone(), value.to_string()) else {
            self.values.remove(&key);
            return Vec::new();
        };
        let (fans, mut unsure) = (self.fan_out(&key), Vec::new());
        match apart(&key) {
            // Acts only on a change (devinet_sysctl_forward); IPv6's always do (addrconf_fixup_forwarding, addrconf_disable_ipv6).
            Some((V4, "all", FORWARDING)) if before == value => {}
            Some((folder, "all", name)) if all_of_its(folder, name).is_some() => {
                for fan in fans {
                    let value = if fan == all_redirects() { opposite(value) } else { value };
                    self.values.insert(fan, value.to_string());
                }
            }
            Some((V4, _, FORWARDING)) => {}
            Some((V4, ..)) => {
                self.set_bit(&key, Bit::Set);
                for fan in fans {
                    match self.bit(&fan) {
                        Bit::Unknown => unsure.push(fan),
                        _ => _ = self.values.insert(fan, value.to_string()),
                    }
                }
            }
            _ => {}
        }
        unsure
    }

    /// An interface comes, and gets the values of `default`. Returns the settings whose value is not known.
    pub fn come(&mut self, link: &str) -> Vec<String> {
        let mut unknown = Vec::new();
        for attribute in &ATTRIBUTES {
            let (its, default) =
                (key(attribute.folder, link, attribute.name), key(attribute.folder, "default", attribute.name));
            match self.values.get(&default).cloned() {
                Some(value) => _ = self.values.insert(its.clone(), value),
                None => unknown.push(its.clone()),
            }
            if let Some(bit) = self.bits.get(&default).copied() {
                self.bits.insert(its, bit);
            }
        }
        self.links.push(link.to_string());
        self.links.sort();
        unknown
    }

    pub fn go(&mut self, link: &str) {
        self.links.retain(|name| name != link);
        for attribute in &ATTRIBUTES {
            let key = key(attribute.folder, link, attribute.name);
            self.values.remove(&key);
            self.bits.remove(&key);
        }
    }

    /// A rename keeps all values.
    pub fn rename(&mut self, from: &str, to: &str) {
        let old = self.clone();
        self.go(from);
        self.come(to);
        for attribute in &ATTRIBUTES {
            let (its, was) = (key(attribute.folder, to, attribute.name), key(attribute.folder, from, attribute.name));
            old.values.get(&was).into_iter().for_each(|value| _ = self.values.insert(its.clone(), value.clone()));
            old.bits.get(&was).into_iter().for_each(|bit| _ = self.bits.insert(its.clone(), *bit));
        }
    }

    /// The kernel makes the IPv6 settings of an interface again, as after a small MTU.
    pub fn renew_v6(&mut self, link: &str) {
        for attribute in ATTRIBUTES.iter().filter(|attribute| attribute.folder == V6) {
            let default = self.values[&key(V6, "default", attribute.name)].clone();
            self.values.insert(key(V6, link, attribute.name), default);
        }
    }
}

pub fn opposite(value: &str) -> &'static str {
    if value == "0" { "1" } else { "0" }
}

/// Whether interfaces follow a write of `default`, which this kernel's first namespace decides: a new one takes over what
/// was ever written there.
fn follow_default() -> &'static BTreeMap<&'static str, Bit> {
    static FOLLOW: OnceLock<BTreeMap<&'static str, Bit>> = OnceLock::new();
    FOLLOW.get_or_init(|| {
        let look = || {
            let _ns = Namespace::enter();
            run("ip link add p0 type ifb");
            let of_name = |name| {
                let (default, link) = (key(V4, "default", name), key(V4, "p0", name));
                let other = opposite(&sysctl_read(&link));
                sysctl_write(&default, other);
                (name, if sysctl_read(&link) == other { Bit::Clear } else { Bit::Set })
            };
            let of_v4 = ATTRIBUTES.iter().filter(|attribute| attribute.folder == V4 && attribute.name != FORWARDING);
            of_v4.map(|attribute| of_name(attribute.name)).collect()
        };
        std::thread::spawn(look).join().expect("a namespace")
    })
}

/// The `all` with which a setting changes.
pub fn all_of(key: &str) -> Option<String> {
    match apart(key)? {
        (V4, "all", "accept_redirects") => Some(all_forwarding(V4)),
        (folder, _, name) => all_of_its(folder, name),
    }
}
