//! A sysctl key: its path below `/proc/sys`, its names, the interface it belongs to, and which values are the same.

mod value;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::Arc;

use crate::error::Error;
pub use value::{number, same_value};

/// The two families that have per-interface settings and netconf messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const BOTH: [Family; 2] = [Family::V4, Family::V6];

    pub fn folder(self) -> &'static str {
        match self {
            Family::V4 => "ipv4",
            Family::V6 => "ipv6",
        }
    }

    /// `AF_INET` or `AF_INET6`
    pub fn number(self) -> u8 {
        match self {
            Family::V4 => libc::AF_INET as u8,
            Family::V6 => libc::AF_INET6 as u8,
        }
    }
}

/// The per-interface settings whose changes the kernel announces by netconf messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Attribute {
    Forwarding,
    RpFilter,
}

impl Attribute {
    pub fn file(self) -> &'static str {
        match self {
            Attribute::Forwarding => "forwarding",
            Attribute::RpFilter => "rp_filter",
        }
    }
}

/// `ifindex` of the pseudo interfaces in netconf messages (linux/netconf.h).
pub const ALL: i32 = -1;
pub const DEFAULT: i32 = -2;

const IP_FORWARD: &[u8] = b"net/ipv4/ip_forward";
/// Two names of one variable (net/ipv4/devinet.c, `ctl_forward_entry`; net/netfilter/nf_conntrack_standalone.c).
const TWINS: [[&[u8]; 2]; 2] =
    [[IP_FORWARD, b"net/ipv4/conf/all/forwarding"], [b"net/nf_conntrack_max", b"net/netfilter/nf_conntrack_max"]];
/// The same below `neigh` (net/core/neighbour.c, `neigh_sysctl_template`).
const NEIGH_TWINS: [[&str; 2]; 3] = [
    ["base_reachable_time", "base_reachable_time_ms"],
    ["retrans_time", "retrans_time_ms"],
    ["unres_qlen", "unres_qlen_bytes"],
];
/// The folders of `/proc/sys` beside `net`, on any kernel from 3.10 on.
const OTHER_TREES: &str =
    "abi appldata bus coda crypto debug dev fs fscache kernel lnet lustre s390dbf sunrpc user vm xen";
/// Folders below `/proc/sys` that people may take for a setting; for those of interfaces there is [`Key::lacks_interface`].
const FOLDERS: &str =
    "net/bridge net/core net/ipv4 net/ipv4/route net/ipv4/vs net/ipv6 net/ipv6/icmp net/ipv6/route net/mpls
    net/mpls/conf net/mptcp net/netfilter net/netfilter/nf_log net/sctp net/smc net/unix";

/// Settings of IPv6 of which a write to `all` is one to `default` and to every interface (`addrconf_sysctl_addr_gen_mode`,
/// `addrconf_disable_change`, `addrconf_force_forward_change`, `addrconf_linkdown_change` in net/ipv6/addrconf.c).
pub const FANNED_OUT_BY_ALL: [&str; 4] =
    ["addr_gen_mode", "disable_ipv6", "force_forwarding", "ignore_routes_with_linkdown"];

/// A path below `/proc/sys`, such as `net/ipv4/conf/eth0.100/rp_filter`.
///
/// Bytes and not a `String`: an interface name may hold any byte but `/`, `:` and white space. Shared, since copies that are made
/// and dropped with every repair would fragment the heap.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<[u8]>);

impl Key {
    /// Parses a key, or a pattern, as sysctl.d(5) describes: if the first separator is `.`, then `.` and `/` are exchanged (systemd's
    /// `sysctl_normalize`).
    ///
    /// # Errors
    /// The reason, for people, why fwdguard can't guard the key.
    pub fn parse(text: &str) -> Result<Key, Error> {
        if text.is_empty() {
            return Err(Error::NoKey);
        }
        if text.chars().any(char::is_control) {
            return Err(Error::ControlInKey);
        }
        if text.contains(is_invisible) {
            return Err(Error::UnseenInKey(printable(text.as_ref())));
        }
        if text.contains(' ') {
            return Err(Error::SpaceInKey(text.into()));
        }
        let mut path = text.as_bytes().to_vec();
        if path.iter().find(|b| matches!(b, b'/' | b'.')) == Some(&b'.') {
            path.iter_mut().for_each(swap_separators);
        }
        let path = path.strip_prefix(b"/").unwrap_or(&path);
        for part in path.split(|b| *b == b'/') {
            match part {
                b"" => return Err(Error::EmptyPart(text.into())),
                b"." | b".." => return Err(Error::DotPart(text.into())),
                _ => {}
            }
        }
        if let Some(below) = path.strip_prefix(b"proc/sys/") {
            return Err(Error::Path { text: text.into(), key: printable(OsStr::from_bytes(below)) });
        }
        if !path.starts_with(b"net/") {
            return Err(Error::NotNet(text.into()));
        }
        if path.ends_with(b"/route/flush") {
            return Err(Error::WriteOnly(text.into()));
        }
        Ok(Key(path.into()))
    }

    /// The key of one of the announced settings of an interface, `all` or `default`.
    pub fn conf(family: Family, interface: &OsStr, attribute: Attribute) -> Key {
        Key::in_table(family.folder(), "conf", interface, attribute.file())
    }

    /// `net/FAMILY/TABLE/INTERFACE/NAME`
    pub fn in_table(family: &str, table: &str, interface: &OsStr, name: &str) -> Key {
        let parts: [&[u8]; 5] = [b"net", family.as_bytes(), table.as_bytes(), interface.as_bytes(), name.as_bytes()];
        Key(parts.join(&b'/').into())
    }

    /// `all.accept_redirects`, which the kernel sets with every change of `all.forwarding` (`inet_forward_change`).
    pub fn all_accept_redirects() -> Key {
        Key(b"net/ipv4/conf/all/accept_redirects".as_slice().into())
    }

    pub fn ip_forward() -> Key {
        Key(IP_FORWARD.into())
    }

    /// The setting's other name, where it has two.
    pub fn other_name(&self) -> Option<Key> {
        if let Some(pair) = TWINS.iter().find(|pair| pair.contains(&&*self.0)) {
            return Some(Key(pair[usize::from(*pair[0] == *self.0)].into()));
        }
        let Place { family, table, interface, name } = self.place().filter(|place| place.table == "neigh")?;
        let pair = NEIGH_TWINS.iter().find(|pair| pair.contains(&name))?;
        Some(Key::in_table(family, table, interface, pair[usize::from(pair[0] == name)]))
    }

    /// The same setting under the longer of its names, which for `net.ipv4.ip_forward` is `net.ipv4.conf.all.forwarding`.
    pub fn canonical(self) -> Key {
        match self.other_name() {
            Some(other) if other.0.len() > self.0.len() => other,
            _ => self,
        }
    }

    /// The key whose file the guard reads and writes: the policy's own, since the other name may have another unit or not exist
    /// (`net.nf_conntrack_max` in another network namespace than the first). `ip_forward` is announced as `all.forwarding`.
    pub fn to_write(self) -> Key {
        if *self.0 == *IP_FORWARD { self.canonical() } else { self }
    }

    /// A value of this key in the unit of the canonical one, where that is known. The units of IPv6's `retrans_time` (jiffies) and of
    /// `unres_qlen` (packets) depend on the kernel.
    pub fn in_canonical_unit(&self, value: &str) -> Option<String> {
        let Some(Place { family, table: "neigh", name, .. }) = self.place() else { return Some(value.into()) };
        let factor = match name {
            "base_reachable_time" => 1000,
            "retrans_time" if family == "ipv4" => 10, // USER_HZ is 100 on all that CentOS runs on
            "retrans_time" | "unres_qlen" => return None,
            _ => return Some(value.into()),
        };
        number(value)?.checked_mul(factor).map(|value| value.to_string())
    }

    /// The key with everything between `conf` or `neigh` and the last part as its interface: interface names have no slash, so
    /// `net.ipv4.conf.flannel.1.rp_filter` can only mean `flannel.1`. `None`: the interface is one part already.
    pub fn with_dotted_interface(&self) -> Option<Key> {
        let parts: Vec<&[u8]> = self.0.split(|byte| *byte == b'/').collect();
        let [net, family, table @ (b"conf" | b"neigh"), interface @ .., name] = &parts[..] else { return None };
        let interface = interface.join(&b'.');
        (parts.len() > 5).then(|| Key([*net, family, table, &interface, name].join(&b'/').into()))
    }

    /// Whether it is below `conf` or `neigh`, but names no interface or no setting of it.
    pub fn lacks_interface(&self) -> bool {
        let mut parts = self.0.split(|byte| *byte == b'/').skip(1);
        let of_family = matches!(parts.next(), Some(b"ipv4" | b"ipv6"));
        of_family && matches!(parts.next(), Some(b"conf" | b"neigh")) && parts.count() < 2
    }

    /// Whether it is a folder of settings, such as `net.ipv4`.
    pub fn is_folder(&self) -> bool {
        self.path().to_str().is_some_and(|path| is_listed(FOLDERS, path))
    }

    /// Whether `text` is a key of a folder of `/proc/sys` beside `net`.
    pub fn is_of_other_tree(text: &str) -> bool {
        let parts: Vec<&str> = text.strip_prefix('/').unwrap_or(text).split(['/', '.']).collect();
        parts.len() > 1
            && is_listed(OTHER_TREES, parts[0])
            && parts.iter().all(|part| !part.is_empty())
            && !text.contains(|c: char| c.is_whitespace() || c.is_control() || is_invisible(c))
    }

    /// Relative to `/proc/sys`.
    pub fn path(&self) -> &OsStr {
        OsStr::from_bytes(&self.0)
    }

    /// The parts of an interface's key, if this is one: family, table (`conf` or `neigh`), interface, name.
    pub fn place(&self) -> Option<Place<'_>> {
        let mut parts = self.0.split(|b| *b == b'/');
        let (_net, family, table, interface, name) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let text = |part| str::from_utf8(part).ok();
        let (family, table, name) = (text(family)?, text(table)?, text(name)?);
        let known = matches!(family, "ipv4" | "ipv6") && matches!(table, "conf" | "neigh");
        let interface = OsStr::from_bytes(interface);
        (known && parts.next().is_none()).then_some(Place { family, table, interface, name })
    }

    /// The setting whose write also changes this one, without a notification: for an interface's in IPv4 and of its neighbours,
    /// `default`'s, until it is first written itself (`devinet_copy_dflt_conf`, `neigh_copy_dflt_parms`); for some of IPv6, `all`'s.
    pub fn follows(&self) -> Option<Key> {
        let place = self.place().filter(|place| place.interface != "all")?;
        let leader = match (place.family, place.table) {
            ("ipv6", "conf") if FANNED_OUT_BY_ALL.contains(&place.name) => "all",
            ("ipv6", "conf") => return None,
            _ => "default",
        };
        (place.interface != leader).then(|| place.of(leader.as_ref()))
    }

    pub fn has_wildcard(&self) -> bool {
        self.0.iter().any(|b| matches!(b, b'*' | b'?' | b'['))
    }

    /// Whether a write of this key takes the kernel's RTNL lock (`devinet_sysctl_forward`, `addrconf_sysctl_forward`).
    pub fn waits_for_rtnl(&self) -> bool {
        self.0.ends_with(b"/forwarding")
    }
}

/// The canonical name of a setting below `neigh` that has two; any other's own.
pub fn canonical_name<'a>(table: &str, name: &'a str) -> &'a str {
    NEIGH_TWINS.iter().find(|pair| table == "neigh" && pair[0] == name).map_or(name, |pair| pair[1])
}

/// The parts of an interface's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    pub family: &'a str,
    pub table: &'a str,
    pub interface: &'a OsStr,
    pub name: &'a str,
}

impl Place<'_> {
    /// The same setting of another interface.
    pub fn of(&self, interface: &OsStr) -> Key {
        Key::in_table(self.family, self.table, interface, self.name)
    }

    /// Whether it is neither of `all` nor of `default`.
    pub fn is_of_interface(&self) -> bool {
        self.interface != "all" && self.interface != "default"
    }

    /// Which announced setting this is, if it is one. IPv6 has no `rp_filter`.
    pub fn announced(&self) -> Option<(Family, Attribute)> {
        match (self.family, self.table, self.name) {
            ("ipv4", "conf", "forwarding") => Some((Family::V4, Attribute::Forwarding)),
            ("ipv4", "conf", "rp_filter") => Some((Family::V4, Attribute::RpFilter)),
            ("ipv6", "conf", "forwarding") => Some((Family::V6, Attribute::Forwarding)),
            _ => None,
        }
    }
}

/// Whether `word` is one of `list`, which white space separates.
pub fn is_listed(list: &str, word: &str) -> bool {
    list.split_ascii_whitespace().any(|listed| listed == word)
}

fn swap_separators(byte: &mut u8) {
    *byte = match *byte {
        b'.' => b'/',
        b'/' => b'.',
        other => other,
    }
}

/// The name with dots, as `sysctl` prints it: `net.ipv4.conf.eth0/100.rp_filter`.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut dotted = self.0.to_vec();
        dotted.iter_mut().for_each(swap_separators);
        f.write_str(&printable(&OsString::from_vec(dotted)))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text from outside, made safe for a terminal and a journal line: control and invisible characters and invalid UTF-8 are escaped.
pub fn printable(text: &OsStr) -> String {
    let mut out = String::new();
    for chunk in text.as_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            if must_escape(c) { out.extend(c.escape_default()) } else { out.push(c) }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

/// Whether a terminal or the journal would interpret it: control characters, and invisible ones, some of which change the direction
/// of text.
pub fn must_escape(c: char) -> bool {
    c.is_control() || is_invisible(c)
}

/// Characters that are invisible or look like a space: other spaces, and Unicode's format (Cf) and default ignorable ones.
pub fn is_invisible(c: char) -> bool {
    matches!(c, '\u{a0}' | '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}'
        | '\u{890}'..='\u{891}' | '\u{8e2}' | '\u{115f}'..='\u{1160}' | '\u{1680}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{2000}'..='\u{200f}' | '\u{2028}'..='\u{202f}' | '\u{205f}'..='\u{206f}'
        | '\u{2800}' | '\u{3000}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests;
