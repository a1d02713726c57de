//! The values that the kernel accepts, where the type of the key is known.

use std::net::Ipv6Addr;
use std::ops::RangeInclusive;

use crate::error::Error;
use crate::setting::{Key, is_listed, number, same_value};
use crate::text::one_line;

/// How much of a refused value an error shows.
const SHOWN_MAX_CHARS: usize = 40;

/// Settings of `net.core` that are one number on every kernel from 3.10 on.
const NUMBERS_OF_CORE: &str = "busy_poll busy_read dev_weight message_burst message_cost netdev_budget
    netdev_budget_usecs netdev_max_backlog optmem_max rmem_default rmem_max rps_sock_flow_entries somaxconn
    wmem_default wmem_max";
/// The same of `net.ipv4`.
const NUMBERS_OF_IPV4: &str = "fib_multipath_hash_policy fib_multipath_use_neigh fwmark_reflect icmp_echo_ignore_all
    icmp_echo_ignore_broadcasts icmp_ignore_bogus_error_responses icmp_ratelimit ip_default_ttl ip_dynaddr
    ip_early_demux ip_forward_use_pmtu ip_no_pmtu_disc ip_nonlocal_bind ip_unprivileged_port_start
    tcp_abort_on_overflow tcp_dsack tcp_ecn tcp_fack tcp_fastopen tcp_fin_timeout tcp_keepalive_intvl
    tcp_keepalive_probes tcp_keepalive_time tcp_l3mdev_accept tcp_max_orphans tcp_max_syn_backlog tcp_max_tw_buckets
    tcp_moderate_rcvbuf tcp_mtu_probing tcp_no_metrics_save tcp_orphan_retries tcp_retries1 tcp_retries2 tcp_rfc1337
    tcp_sack tcp_slow_start_after_idle tcp_syn_retries tcp_synack_retries tcp_syncookies tcp_timestamps tcp_tw_reuse
    tcp_window_scaling";

/// Settings that are several numbers, and how many.
const VECTORS: [(&str, usize); 6] = [
    ("net/ipv4/ip_local_port_range", 2),
    ("net/ipv4/ping_group_range", 2),
    ("net/ipv4/tcp_mem", 3),
    ("net/ipv4/tcp_rmem", 3),
    ("net/ipv4/tcp_wmem", 3),
    ("net/ipv4/udp_mem", 3),
];

/// How many numbers a setting is, and in which range, if it is known to be numbers.
///
/// The kernel stores 3 as `rp_filter` and -1 as `forwarding` without complaint, but both are mistakes. Beyond that an integer's
/// bounds differ between kernels, so no value is refused that any of them takes: some are unsigned, and Linux 3.10 makes a
/// negative number of one that is too large (`do_proc_dointvec_conv`).
fn numbers(key: &Key) -> Option<(usize, RangeInclusive<i64>)> {
    const ANY: RangeInclusive<i64> = i32::MIN as i64..=u32::MAX as i64;
    let path = key.path().to_str()?;
    if let Some(place) = key.clone().canonical().place() {
        return match (place.table, place.name) {
            ("conf", "rp_filter") => Some((1, 0..=2)),
            ("conf", "forwarding") => Some((1, 0..=i64::from(i32::MAX))),
            ("conf", "stable_secret") => None, // an IPv6 address
            _ => Some((1, ANY)),
        };
    }
    if let Some((_, count)) = VECTORS.iter().find(|(vector, _)| *vector == path) {
        return Some((*count, ANY));
    }
    let known = path.starts_with("net/bridge/bridge-nf-")
        || path.starts_with("net/netfilter/nf_conntrack_")
        || path == "net/nf_conntrack_max"
        || path.strip_prefix("net/core/").is_some_and(|name| is_listed(NUMBERS_OF_CORE, name))
        || path.strip_prefix("net/ipv4/").is_some_and(|name| is_listed(NUMBERS_OF_IPV4, name));
    known.then_some((1, ANY))
}

/// The value without what the kernel ignores: an integer's handler takes the first number and the white space behind it
/// (`proc_get_long`, kernel/sysctl.c), a vector's takes as many numbers as it has. Other values are returned as they are.
pub fn first_number<'a>(key: &Key, value: &'a str) -> &'a str {
    let Some((count, _)) = numbers(key) else { return value };
    let mut end = 0;
    for word in value.split_ascii_whitespace().take(count) {
        if number(word).is_none() {
            return value;
        }
        end = word.as_ptr().addr() - value.as_ptr().addr() + word.len();
    }
    &value[..end]
}

/// Whether every kernel returns EINVAL for `value`: `key` is numbers, and it does not begin with one. Text behind a number
/// without white space makes it none (`proc_get_long`).
pub fn is_refused(key: &Key, value: &str) -> bool {
    numbers(key).is_some() && value.split_ascii_whitespace().next().and_then(number).is_none()
}

/// The kernel keeps times in jiffies, rounded up; HZ is at least 100.
const JIFFY_MAX_MSEC: i64 = 10;

/// Whether a kernel shows `found` after `wanted` was written to `key`, as far as that is known without writing it.
pub fn means(key: &Key, wanted: &str, found: &str) -> bool {
    if same_value(wanted, found) {
        return true;
    }
    if let Some((count @ 2.., _)) = numbers(key) {
        // The kernel keeps the numbers that are not given.
        let (wanted, found) = (wanted.split_ascii_whitespace(), found.split_ascii_whitespace());
        return wanted.take(count).zip(found).all(|(wanted, found)| same_value(wanted, found));
    }
    match key.place() {
        Some(place) if place.table == "neigh" && place.name.ends_with("_ms") => number(wanted)
            .zip(number(found))
            .is_some_and(|(wanted, found)| (0..JIFFY_MAX_MSEC).contains(&found.saturating_sub(wanted))),
        Some(place) if place.name == "stable_secret" => {
            let address = |text: &str| text.parse::<Ipv6Addr>().ok();
            address(wanted).is_some_and(|wanted| Some(wanted) == address(found))
        }
        None if key.path() == "net/ipv4/tcp_fastopen_key" => {
            fastopen_keys(wanted).is_some_and(|wanted| Some(wanted) == fastopen_keys(found))
        }
        _ => false,
    }
}

/// The keys in a list such as `0-0-0-1`, each four hexadecimal numbers (`proc_tcp_fastopen_key`).
fn fastopen_keys(text: &str) -> Option<Vec<[u32; 4]>> {
    let key = |text: &str| {
        let parts = text.trim().split('-').map(|part| u32::from_str_radix(part, 16).ok());
        parts.collect::<Option<Vec<_>>>()?.try_into().ok()
    };
    text.split(',').map(key).collect()
}

/// # Errors
/// Why every kernel refuses `value` for `key`.
pub fn check(key: &Key, value: &str) -> Result<(), Error> {
    let name = key.to_string();
    if key.path().as_encoded_bytes().starts_with(b"net/core/bpf_jit_") {
        // proc_dointvec_minmax_bpf_enable and _restricted (net/core/sysctl_net_core.c)
        return Err(Error::TakesSysAdmin(name));
    }
    let Some((count, range)) = numbers(key) else { return Ok(()) };
    let shown = one_line(&value.chars().take(SHOWN_MAX_CHARS).collect::<String>());
    let numbers: Option<Vec<i64>> = value.split_ascii_whitespace().take(count).map(number).collect();
    match numbers.as_deref() {
        Some(_) if count > 1 => Ok(()),
        None if count > 1 => Err(Error::NotNumbers { key: name, value: shown, count }),
        Some([number]) if range.contains(number) => Ok(()),
        Some([_]) if range == (0..=2) => Err(Error::NotRpFilter { key: name, value: shown }),
        Some([_]) => Err(Error::OutOfRange { key: name, value: shown }),
        _ => Err(Error::NotNumber { key: name, value: shown }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_the_policy_refuses() {
        for (keys, good, bad) in [
            (
                vec!["net.ipv4.ip_forward", "net.ipv4.conf.all.forwarding", "net.ipv6.conf.*.forwarding"],
                vec!["0", "1", "01", "0x1", "2", "1 2"],
                vec![
                    "1;",
                    "'1'",
                    "\"1\"",
                    "yes",
                    "true",
                    "on",
                    "1#x",
                    "-1",
                    "+1",
                    "1,",
                    "08",
                    "4294967295",
                    "1.0",
                    "$x",
                ],
            ),
            (
                vec!["net.ipv4.conf.all.rp_filter", "net.ipv4.conf.e*.rp_filter"],
                vec!["0", "1", "2", "02", "0x2"],
                vec!["3", "-1", "strict", "2;", "4294967296", "99999999999999999999"],
            ),
            (
                vec!["net.ipv4.conf.a.accept_local", "net.ipv6.conf.a.use_tempaddr", "net.netfilter.nf_conntrack_max"],
                vec!["-1", "0", "70000", "4294967295", "-2147483648"],
                vec!["1;", "yes", "4294967296", "-2147483649", "-", "0x"],
            ),
            (
                vec!["net.ipv6.conf.a.router_solicitations", "net.ipv4.neigh.default.gc_thresh1", "net.core.somaxconn"],
                vec!["-1", "128"],
                vec!["128;", "many"],
            ),
            (
                vec!["net.ipv4.ip_local_port_range"],
                vec!["1024 65000", "1024\t65000 x", "1024"],
                vec!["1024 65000;", "\"1024 65000\"", "many", "1024-65000", "1024, 65000"],
            ),
            (
                vec!["net.ipv6.conf.a.stable_secret", "net.ipv4.tcp_congestion_control", "net.foo.bar"],
                vec!["fd00::1", "bbr", "yes", "1;", "4096 87380 6291456"],
                vec![],
            ),
            (vec!["net.core.bpf_jit_harden", "net.core.bpf_jit_enable"], vec![], vec!["1"]),
        ] {
            for key in keys.iter().map(|key| Key::parse(key).unwrap()) {
                good.iter().for_each(|value| assert_eq!(check(&key, value), Ok(()), "{key} {value}"));
                bad.iter().for_each(|value| assert!(check(&key, value).is_err(), "{key} {value}"));
            }
        }
    }

    #[test]
    fn text_that_the_kernel_ignores_is_dropped() {
        for (key, value, taken) in [
            ("net.ipv4.tcp_rmem", "4096 87380 16777216 // max", "4096 87380 16777216"),
            ("net.ipv4.tcp_rmem", "4096\t87380  16777216", "4096\t87380  16777216"),
            ("net.ipv4.tcp_wmem", "4096", "4096"),
            ("net.ipv4.ip_local_port_range", "1024 65000 x", "1024 65000"),
            ("net.ipv4.ip_local_port_range", "1024 x 65000", "1024 x 65000"),
            ("net.ipv4.conf.a.rp_filter", "1 strict", "1"),
            ("net.ipv4.tcp_congestion_control", "bbr x", "bbr x"),
        ] {
            assert_eq!(first_number(&Key::parse(key).unwrap(), value), taken, "{key} {value}");
        }
    }

    /// As Linux 6.18 reads back what it was given.
    #[test]
    fn values_compare_by_their_meaning() {
        for (key, wanted, found, same) in [
            ("net.ipv4.tcp_wmem", "4096", "4096\t16384\t4194304", true),
            ("net.ipv4.tcp_wmem", "4096 16384", "4096\t16385\t4194304", false),
            ("net.ipv4.tcp_wmem", "4097", "4096\t16384\t4194304", false),
            ("net.ipv4.tcp_wmem", "4096 16384 4194304", "4096\t16384\t4194305", false),
            ("net.ipv4.neigh.e0.base_reachable_time_ms", "30001", "30004", true),
            ("net.ipv6.neigh.e0.retrans_time_ms", "1001", "1010", true),
            ("net.ipv4.neigh.e0.base_reachable_time_ms", "30000", "30010", false),
            ("net.ipv4.neigh.e0.base_reachable_time_ms", "30004", "30001", false),
            ("net.ipv4.neigh.e0.base_reachable_time", "30", "31", false),
            ("net.ipv6.conf.e0.stable_secret", "fd00::1", "fd00:0000:0000:0000:0000:0000:0000:0001", true),
            ("net.ipv6.conf.e0.stable_secret", "fd00::1", "fd00:0000:0000:0000:0000:0000:0000:0002", false),
            ("net.ipv4.tcp_fastopen_key", "0-0-0-1", "00000000-00000000-00000000-00000001", true),
            ("net.ipv4.tcp_fastopen_key", "0-0-0-A,1-2-3-4", "0-0-0-a,00000001-2-3-4", true),
            ("net.ipv4.tcp_fastopen_key", "0-0-0-1", "0-0-0-1,1-2-3-4", false),
            ("net.ipv4.tcp_fastopen_key", "0-0-1", "0-0-2", false),
            ("net.ipv4.ip_local_reserved_ports", "8080,", "8080", true),
            ("net.ipv4.tcp_congestion_control", "bbr", "cubic", false),
        ] {
            assert_eq!(means(&Key::parse(key).unwrap(), wanted, found), same, "{key} {wanted} {found}");
        }
    }

    #[test]
    fn values_that_every_kernel_refuses() {
        for (key, value, refused) in [
            ("net.ipv4.ip_forward", "0;", true),
            ("net.ipv4.conf.a.rp_filter", "1#x", true),
            ("net.ipv4.conf.a.rp_filter", "1 # x", false),
            ("net.ipv4.conf.a.rp_filter", "3", false),
            ("net.ipv4.conf.all.forwarding", "-1", false),
            ("net.ipv4.tcp_rmem", "x", true),
            ("net.ipv4.tcp_rmem", "4096", false),
            ("net.ipv4.tcp_congestion_control", "0;", false),
            ("net.core.bpf_jit_enable", "1", false),
        ] {
            assert_eq!(is_refused(&Key::parse(key).unwrap(), value), refused, "{key} {value}");
        }
    }
}
