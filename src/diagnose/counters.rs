//! The kernel's own counters of dropped packets.

use std::fs::read_to_string;
use std::net::IpAddr;

pub const REVERSE_PATH: &str = "TcpExt IPReversePathFilter";

/// One counter: its value since boot, and by how much it moved while it was sampled.
pub struct Counter {
    pub name: String,
    pub value: u64,
    pub moved: u64,
}

/// All counters that can be read, with those of `interfaces`.
pub fn read(to: IpAddr, interfaces: &[String]) -> Vec<Counter> {
    let file = |name: &str| read_to_string(format!("/proc/net/{name}")).unwrap_or_default();
    let mut counters = Vec::new();
    let mut add =
        |name: String, value: Option<u64>| counters.extend(value.map(|value| Counter { name, value, moved: 0 }));
    if to.is_ipv4() {
        let netstat = file("netstat");
        add("Ip InAddrErrors".into(), in_pairs(&file("snmp"), "Ip:", "InAddrErrors"));
        add("IpExt InNoRoutes".into(), in_pairs(&netstat, "IpExt:", "InNoRoutes"));
        add(REVERSE_PATH.into(), in_pairs(&netstat, "TcpExt:", "IPReversePathFilter"));
    } else {
        let snmp = file("snmp6");
        for name in ["Ip6InAddrErrors", "Ip6InNoRoutes", "Ip6InDiscards"] {
            let value = |line: &str| line.strip_prefix(name)?.strip_prefix([' ', '\t'])?.trim().parse().ok();
            add(name.into(), snmp.lines().find_map(value));
        }
    }
    let conntrack = file("stat/nf_conntrack");
    for name in ["drop", "early_drop", "insert_failed"] {
        add(format!("nf_conntrack {name}"), by_processor(&conntrack, name));
    }
    let table = if to.is_ipv4() { "arp_cache" } else { "ndisc_cache" };
    add(format!("{table} table_fulls"), by_processor(&file(&format!("stat/{table}")), "table_fulls"));
    add("softnet dropped".into(), softnet(&file("softnet_stat")));
    let devices = file("dev");
    for interface in interfaces {
        add(format!("{interface} dropped"), dropped(&devices, interface));
    }
    counters
}

/// Sets by how much each counter of `after` moved since `before`. One that has come or gone meanwhile, as with its module, did not move.
pub fn compare(before: &[Counter], mut after: Vec<Counter>) -> Vec<Counter> {
    for counter in &mut after {
        let before = before.iter().find(|before| before.name == counter.name);
        counter.moved = before.map_or(0, |before| counter.value.saturating_sub(before.value));
    }
    after
}

/// Reads a line of names, and below it one of values, both beginning with `table`.
fn in_pairs(text: &str, table: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|line| line.starts_with(table)).map(str::split_ascii_whitespace);
    let (names, mut values) = (lines.next()?, lines.next()?);
    values.nth(names.into_iter().position(|n| n == name)?)?.parse().ok()
}

/// Reads a line of names, and below it a line of hexadecimal values for each processor.
fn by_processor(text: &str, name: &str) -> Option<u64> {
    let at = text.lines().next()?.split_ascii_whitespace().position(|n| n == name)?;
    text.lines().skip(1).map(|line| u64::from_str_radix(line.split_ascii_whitespace().nth(at)?, 16).ok()).sum()
}

/// Reads a line for each processor, whose second number, hexadecimal, counts packets that found its backlog full.
fn softnet(text: &str) -> Option<u64> {
    let dropped = |line: &str| u64::from_str_radix(line.split_ascii_whitespace().nth(1)?, 16).ok();
    text.lines().map(dropped).sum()
}

/// Adds the fourth and the twelfth number behind an interface's name: dropped while received and while sent.
fn dropped(text: &str, interface: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix(interface)?.strip_prefix(':'))?;
    let values: Vec<&str> = line.split_ascii_whitespace().collect();
    [3, 11].into_iter().map(|at| values.get(at)?.parse::<u64>().ok()).sum()
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
        let conntrack = "entries  insert_failed drop early_drop\n00000001  00000000 0000000a 00000002\n00000001  00000000 00000001 00000000\n";
        assert_eq!(
            ["drop", "early_drop", "table_fulls"].map(|name| by_processor(conntrack, name)),
            [Some(11), Some(2), None]
        );
        let devices = "Inter-|   Receive  |  Transmit\n face |bytes    packets errs drop\n    lo: 1 2 3 4 5 6 7 8 9 10 11 12\n  eth0: 1 2 3 40 5 6 7 8 9 10 11 2 13\n";
        assert_eq!([dropped(devices, "eth0"), dropped(devices, "eth")], [Some(42), None]);
    }

    #[test]
    fn a_counter_that_came_or_went_moves_no_other() {
        let counters = |values: &[(&str, u64)]| -> Vec<Counter> {
            values.iter().map(|(name, value)| Counter { name: (*name).into(), value: *value, moved: 0 }).collect()
        };
        let before = counters(&[("a", 1), ("gone", 500), ("b", 10)]);
        let after = compare(&before, counters(&[("new", 900), ("a", 3), ("b", 10)]));
        let moved: Vec<_> = after.iter().map(|counter| (&*counter.name, counter.moved)).collect();
        assert_eq!(moved, [("new", 0), ("a", 2), ("b", 0)]);
    }
}
