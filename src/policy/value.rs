//! What the kernel takes for a value, where the type of the key is known.

use std::ops::RangeInclusive;

use crate::report::text::one_line;
use crate::setting::{Key, number};

/// Of a value that is refused, as much is shown.
const SHOWN_MAX_CHARS: usize = 40;

/// Settings of `net.core` and `net.ipv4` that are one number on every kernel from 3.10 on.
const NUMBERS: [&str; 57] = [
    "net/core/busy_poll",
    "net/core/busy_read",
    "net/core/dev_weight",
    "net/core/message_burst",
    "net/core/message_cost",
    "net/core/netdev_budget",
    "net/core/netdev_budget_usecs",
    "net/core/netdev_max_backlog",
    "net/core/optmem_max",
    "net/core/rmem_default",
    "net/core/rmem_max",
    "net/core/rps_sock_flow_entries",
    "net/core/somaxconn",
    "net/core/wmem_default",
    "net/core/wmem_max",
    "net/ipv4/fib_multipath_hash_policy",
    "net/ipv4/fib_multipath_use_neigh",
    "net/ipv4/fwmark_reflect",
    "net/ipv4/icmp_echo_ignore_all",
    "net/ipv4/icmp_echo_ignore_broadcasts",
    "net/ipv4/icmp_ignore_bogus_error_responses",
    "net/ipv4/icmp_ratelimit",
    "net/ipv4/ip_default_ttl",
    "net/ipv4/ip_dynaddr",
    "net/ipv4/ip_early_demux",
    "net/ipv4/ip_forward_use_pmtu",
    "net/ipv4/ip_no_pmtu_disc",
    "net/ipv4/ip_nonlocal_bind",
    "net/ipv4/ip_unprivileged_port_start",
    "net/ipv4/tcp_abort_on_overflow",
    "net/ipv4/tcp_dsack",
    "net/ipv4/tcp_ecn",
    "net/ipv4/tcp_fack",
    "net/ipv4/tcp_fastopen",
    "net/ipv4/tcp_fin_timeout",
    "net/ipv4/tcp_keepalive_intvl",
    "net/ipv4/tcp_keepalive_probes",
    "net/ipv4/tcp_keepalive_time",
    "net/ipv4/tcp_l3mdev_accept",
    "net/ipv4/tcp_max_orphans",
    "net/ipv4/tcp_max_syn_backlog",
    "net/ipv4/tcp_max_tw_buckets",
    "net/ipv4/tcp_moderate_rcvbuf",
    "net/ipv4/tcp_mtu_probing",
    "net/ipv4/tcp_no_metrics_save",
    "net/ipv4/tcp_orphan_retries",
    "net/ipv4/tcp_retries1",
    "net/ipv4/tcp_retries2",
    "net/ipv4/tcp_rfc1337",
    "net/ipv4/tcp_sack",
    "net/ipv4/tcp_slow_start_after_idle",
    "net/ipv4/tcp_syn_retries",
    "net/ipv4/tcp_synack_retries",
    "net/ipv4/tcp_syncookies",
    "net/ipv4/tcp_timestamps",
    "net/ipv4/tcp_tw_reuse",
    "net/ipv4/tcp_window_scaling",
];

/// Settings that are so many numbers.
const VECTORS: [(&str, usize); 6] = [
    ("net/ipv4/ip_local_port_range", 2),
    ("net/ipv4/ping_group_range", 2),
    ("net/ipv4/tcp_mem", 3),
    ("net/ipv4/tcp_rmem", 3),
    ("net/ipv4/tcp_wmem", 3),
    ("net/ipv4/udp_mem", 3),
];

/// The numbers that a setting takes, if it is known to be one number.
///
/// The kernel stores 3 as `rp_filter` and -1 as `forwarding` without complaint, and nobody means them. Beyond that an integer's
/// bounds differ between kernels, so nothing is refused that any of them takes: some are unsigned, and Linux 3.10 makes a
/// negative number of what is too large (`do_proc_dointvec_conv`).
fn numbers(key: &Key) -> Option<RangeInclusive<i64>> {
    const ANY: RangeInclusive<i64> = i32::MIN as i64..=u32::MAX as i64;
    let path = key.path().to_str()?;
    if let Some(place) = key.clone().canonical().place() {
        return match (place.table, place.name) {
            ("conf", "rp_filter") => Some(0..=2),
            ("conf", "forwarding") => Some(0..=i64::from(i32::MAX)),
            ("conf", "stable_secret") => None, // an IPv6 address
            _ => Some(ANY),
        };
    }
    let known = path.starts_with("net/bridge/bridge-nf-")
        || path.starts_with("net/netfilter/nf_conntrack_")
        || path == "net/nf_conntrack_max"
        || NUMBERS.contains(&path);
    known.then_some(ANY)
}

/// The value without what the kernel passes over: an integer's handler takes the first number and what white space follows it
/// (`proc_get_long`, kernel/sysctl.c). Others are left as they are.
pub fn first_number<'a>(key: &Key, value: &'a str) -> &'a str {
    let first = value.split_ascii_whitespace().next().filter(|word| number(word).is_some());
    first.filter(|_| numbers(key).is_some()).unwrap_or(value)
}

/// # Errors
/// Why no kernel takes `value` for `key`, for people.
pub fn check(key: &Key, value: &str) -> Result<(), String> {
    if key.path().as_encoded_bytes().starts_with(b"net/core/bpf_jit_") {
        // proc_dointvec_minmax_bpf_enable and _restricted (net/core/sysctl_net_core.c)
        return Err(format!("'{key}' takes CAP_SYS_ADMIN, which the guard gives up; leave it to sysctl.d"));
    }
    let shown = one_line(&value.chars().take(SHOWN_MAX_CHARS).collect::<String>());
    if let Some((_, count)) = VECTORS.iter().find(|(path, _)| key.path() == *path)
        && value.split_ascii_whitespace().take(*count).any(|word| number(word).is_none())
    {
        return Err(format!("'{shown}' is not {count} numbers, which '{key}' has to be"));
    }
    let Some(range) = numbers(key) else { return Ok(()) };
    match number(first_number(key, value)) {
        Some(number) if range.contains(&number) => Ok(()),
        Some(_) if *range.start() == 0 && *range.end() == 2 => {
            Err(format!("'{key}' is 0 (off), 1 (strict) or 2 (loose), and not '{shown}'"))
        }
        Some(_) => Err(format!("'{shown}' is no number that '{key}' takes")),
        None => Err(format!("'{shown}' is no number, which '{key}' has to be; write the number alone")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_kernel_takes() {
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
}
