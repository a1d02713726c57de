//! The kernel's own counts of what it dropped: since boot, and whether they move.

use std::fs::read_to_string;
use std::net::IpAddr;

use super::node::Node;

pub const REVERSE_PATH: &str = "TcpExt IPReversePathFilter";

/// One counter at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counter {
    pub name: String,
    pub value: u64,
}

/// All that can be read, with those of `interfaces`.
pub fn read(node: &mut Node, to: IpAddr, interfaces: &[i32]) -> Vec<Counter> {
    let file = |name: &str| read_to_string(format!("/proc/net/{name}")).unwrap_or_default();
    let mut counters = Vec::new();
    let mut add = |name: String, value: Option<u64>| counters.extend(value.map(|value| Counter { name, value }));
    if to.is_ipv4() {
        let snmp = file("snmp");
        add("Ip InAddrErrors".into(), in_pairs(&snmp, "Ip:", "InAddrErrors"));
        add("IpExt InNoRoutes".into(), in_pairs(&file("netstat"), "IpExt:", "InNoRoutes"));
        add(REVERSE_PATH.into(), in_pairs(&file("netstat"), "TcpExt:", "IPReversePathFilter"));
    } else {
        let snmp = file("snmp6");
        let of = |name: &str| {
            let mut lines = snmp.lines().map(str::split_ascii_whitespace);
            lines.find_map(|mut words| (words.next() == Some(name)).then(|| words.next()?.parse().ok())?)
        };
        for name in ["Ip6InAddrErrors", "Ip6InNoRoutes", "Ip6InDiscards"] {
            add(name.into(), of(name));
        }
    }
    add("softnet dropped".into(), softnet(&file("softnet_stat")));
    for interface in interfaces {
        add(format!("{} dropped", node.name(*interface)), node.dropped(*interface));
    }
    counters
}

/// A line of names, and below it one of values, both begun by `table`.
fn in_pairs(text: &str, table: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|line| line.starts_with(table)).map(str::split_ascii_whitespace);
    let (names, mut values) = (lines.next()?, lines.next()?);
    values.nth(names.into_iter().position(|n| n == name)?)?.parse().ok()
}

/// A line for each processor; the second number, hexadecimal, is what it dropped since its backlog was full.
fn softnet(text: &str) -> Option<u64> {
    let dropped = |line: &str| u64::from_str_radix(line.split_ascii_whitespace().nth(1)?, 16).ok();
    text.lines().map(dropped).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_proc() {
        let snmp = "Ip: Forwarding InHdrErrors InAddrErrors\nIp: 1 0 42\nIcmp: InMsgs\nIcmp: 7\n";
        assert_eq!(in_pairs(snmp, "Ip:", "InAddrErrors"), Some(42));
        assert_eq!(in_pairs(snmp, "Icmp:", "InMsgs"), Some(7));
        assert_eq!(in_pairs(snmp, "Ip:", "InNoRoutes"), None);
        assert_eq!(in_pairs("Ip: A B\nIp: 1\n", "Ip:", "B"), None);
        assert_eq!(softnet("0000 0000000a 0\n0001 00000001 0\n"), Some(11));
    }
}
