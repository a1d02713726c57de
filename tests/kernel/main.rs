//! The guard against the real kernel, each test in a network namespace of its own.

#[path = "../common/mod.rs"]
mod common;
mod names;
mod values;

use common::*;
use std::time::Duration;

const RP_FILTER_POLICY: &str =
    "net.ipv4.ip_forward = 1\nnet.ipv4.conf.*.forwarding = 1\nnet.ipv4.conf.tunl0.rp_filter = 0\n";

#[test]
fn every_flip_of_ip_forward_has_one_repair_and_one_record() {
    let ns = Namespace::enter();
    ns.veth("a0", "b0");
    ns.veth("c0", "d0");
    let guard = ns.guard();
    assert_eq!(sysctl_read("net/ipv4/ip_forward"), "1", "repaired before READY");
    for flip in 0..300 {
        sysctl_write("net/ipv4/ip_forward", "0");
        wait_sysctl("net/ipv4/ip_forward", "1");
        for name in ["all", "default", "lo", "a0", "b0", "c0", "d0"] {
            wait_sysctl(&format!("net/ipv4/conf/{name}/forwarding"), "1");
        }
        // Let the guard receive the last messages of its own fan-out, so that the next flip is a drift of its own.
        if flip % 10 == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    let (status, records) = guard.stop();
    assert_eq!(status.code(), Some(0));
    let repairs: Vec<_> = records.iter().filter(|r| r.get("CAUSE").is_some_and(|c| c == "write")).collect();
    let summaries = records.iter().filter(|r| r["MESSAGE_ID"] == STILL_CONTESTED);
    let counted: usize = summaries.map(|r| r["COUNT"].parse::<usize>().expect("a count")).sum();
    // One of the budget's 250 went at the start.
    assert!(repairs.len() >= 249, "the budget of records: {}", repairs.len());
    assert_eq!(repairs.len() + counted, 300, "one record a drift, or its place in a summary");
    for record in repairs {
        assert_eq!(record["SYSCTL"], "net.ipv4.ip_forward");
        assert_eq!((&*record["OLDVALUE"], &*record["NEWVALUE"], &*record["OURVALUE"]), ("1", "0", "1"));
        assert_eq!(record["INTERFACES"], "5");
        assert!(record["LATENCY_USEC"].parse::<u64>().is_ok());
    }
}

#[test]
fn a_setting_that_drifts_right_after_a_repair_has_a_record_each_time() {
    let ns = Namespace::enter();
    ns.veth("a0", "b0");
    ns.write("etc/fwdguard.d/10.conf", "net.ipv4.conf.a0.rp_filter = 0\nnet.ipv4.conf.a0.forwarding = 1\n");
    sysctl_write("net/ipv4/conf/a0/rp_filter", "0");
    sysctl_write("net/ipv4/conf/a0/forwarding", "1");
    let guard = ns.guard();
    for flip in 0..200 {
        // Each setting once and again, at once and after up to 7 ms: while the guard reads back, while it publishes, and after that.
        let (name, wrong, right) = [("rp_filter", "1", "0"), ("forwarding", "0", "1")][flip / 3 % 2];
        let key = format!("net/ipv4/conf/a0/{name}");
        sysctl_write(&key, wrong);
        wait_sysctl(&key, right);
        // A writer that waits for the RTNL lock shows its value in passing (devinet_sysctl_forward); a write of the wrong one in
        // that moment changes nothing, and is no drift.
        while (0..20).any(|_| sysctl_read(&key) != right) {}
        std::thread::sleep(Duration::from_micros((flip * 7919 % 7000) as u64));
    }
    let (_, records) = guard.stop();
    let repairs = records.iter().filter(|r| r.get("CAUSE").is_some_and(|cause| cause == "write"));
    assert_eq!(repairs.count(), 200, "{:#?}", messages(&records));
    assert!(records.iter().any(|r| r["MESSAGE"].starts_with("Stopping after 200 repairs")), "{records:#?}");
}

#[test]
fn settings_that_drift_in_one_burst_have_one_repair_and_one_record_each() {
    let ns = Namespace::enter();
    ns.veth("a0", "b0");
    ns.write("etc/fwdguard.d/10.conf", "net.ipv4.ip_forward = 1\nnet.ipv4.conf.*.rp_filter = 0\n");
    run("sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.a0.rp_filter=0");
    let guard = ns.guard();
    let settings = [("ip_forward", "0", "1"), ("conf/all/rp_filter", "1", "0"), ("conf/a0/rp_filter", "2", "0")];
    for burst in 0..90 {
        // Another is first each time, as in a file that sysctl reads.
        let in_order = || (0..3).map(|at| settings[(at + burst) % 3]);
        in_order().for_each(|(name, wrong, _)| sysctl_write(&format!("net/ipv4/{name}"), wrong));
        in_order().for_each(|(name, _, right)| wait_sysctl(&format!("net/ipv4/{name}"), right));
        std::thread::sleep(Duration::from_micros((burst * 7919 % 7000) as u64));
    }
    let (_, records) = guard.stop();
    assert!(records.iter().any(|r| r["MESSAGE"].starts_with("Stopping after 270 repairs")), "{:#?}", records.last());
}

#[test]
fn an_interface_that_goes_with_all_right_after_its_repair_is_no_drift_of_its_own() {
    let ns = Namespace::enter();
    ns.veth("a0", "b0");
    ns.write("etc/fwdguard.d/10.conf", "net.ipv4.ip_forward = 1\nnet.ipv4.conf.*.forwarding = 1\n");
    run("sysctl -qw net.ipv4.ip_forward=1");
    let guard = ns.guard();
    let keys = ["net/ipv4/conf/a0/forwarding", "net/ipv4/conf/b0/forwarding", "net/ipv4/ip_forward"];
    for flip in 0..900 {
        sysctl_write(keys[flip % 3], "0");
        keys.iter().for_each(|key| wait_sysctl(key, "1"));
        std::thread::sleep(Duration::from_micros((flip * 7919 % 300) as u64));
    }
    let (_, records) = guard.stop();
    assert!(records.iter().any(|r| r["MESSAGE"].starts_with("Stopping after 900 repairs")), "{:#?}", records.last());
}

#[test]
fn writers_that_wait_for_the_rtnl_lock_undo_nothing_for_good() {
    let ns = Namespace::enter();
    ns.veth("a0", "b0");
    ns.veth("closed0", "d0");
    ns.write(
        "etc/fwdguard.d/10.conf",
        "net.ipv4.ip_forward = 1\nnet.ipv4.conf.*.forwarding = 1\n-net.ipv4.conf.closed0.forwarding\n",
    );
    sysctl_write("net/ipv4/ip_forward", "1");
    sysctl_write("net/ipv4/conf/closed0/forwarding", "0");
    let _guard = ns.guard();
    for _ in 0..3 {
        // A thread that holds the RTNL lock again and again, so that writers have to wait for it.
        let mut others = vec![std::thread::spawn(|| {
            for _ in 0..20 {
                run("ip link add churn0 type veth peer name churn1");
                run("ip link del churn0");
            }
        })];
        others.extend((0..2).map(|writer| {
            std::thread::spawn(move || {
                for turn in 0..600 {
                    let key = ["net/ipv4/ip_forward", "net/ipv4/conf/a0/forwarding"][(turn + writer) % 2];
                    sysctl_write(key, "0");
                    std::thread::sleep(Duration::from_micros((turn * 7919 % 2000) as u64));
                }
            })
        }));
        others.into_iter().for_each(|thread| thread.join().expect("a thread"));
        // The kernel announces nothing more: only a new check finds what the last of them undid.
        for (name, value) in [("all", "1"), ("a0", "1"), ("b0", "1"), ("closed0", "0")] {
            wait_sysctl(&format!("net/ipv4/conf/{name}/forwarding"), value);
        }
    }
}

#[test]
fn one_interface_under_a_global_1() {
    let ns = Namespace::enter();
    ns.veth("a0", "b0");
    let guard = ns.guard();
    sysctl_write("net/ipv4/conf/a0/forwarding", "0");
    wait_sysctl("net/ipv4/conf/a0/forwarding", "1");
    sysctl_write("net/ipv4/conf/default/forwarding", "0");
    wait_sysctl("net/ipv4/conf/default/forwarding", "1");
    sysctl_write("net/ipv4/conf/all/rp_filter", "1");
    wait_sysctl("net/ipv4/conf/all/rp_filter", "0");
    let record = guard.wait_message("Restored net.ipv4.conf.all.rp_filter to 0: it was 1");
    assert_eq!(record["CAUSE"], "write");
    let keys: Vec<_> = guard.repairs().into_iter().map(|r| (r["SYSCTL"].clone(), r["CAUSE"].clone())).collect();
    let expected = [
        ("net.ipv4.ip_forward", "start"),
        ("net.ipv4.conf.a0.forwarding", "write"),
        ("net.ipv4.conf.default.forwarding", "write"),
        ("net.ipv4.conf.all.rp_filter", "write"),
    ];
    assert_eq!(keys, expected.map(|(k, c)| (k.to_string(), c.to_string())));
}

#[test]
fn the_silent_fan_out_of_default_rp_filter() {
    let ns = Namespace::enter();
    ns.veth("tunl0", "t1");
    run("ip link set tunl0 down");
    ns.write("etc/fwdguard.d/10.conf", RP_FILTER_POLICY);
    let _guard = ns.guard();
    sysctl_write("net/ipv4/conf/default/rp_filter", "2");
    assert_eq!(sysctl_read("net/ipv4/conf/t1/rp_filter"), "2", "the kernel fans out without an announcement");
    wait_sysctl("net/ipv4/conf/tunl0/rp_filter", "0");
    assert_eq!(sysctl_read("net/ipv4/conf/default/rp_filter"), "2", "not the policy's");
}

#[test]
fn settings_outside_the_policy_stay_byte_for_byte() {
    let ns = Namespace::enter();
    ns.veth("a0", "b0");
    ns.veth("closed0", "d0");
    ns.veth("unnamed0", "e0");
    ns.write(
        "etc/fwdguard.d/50-kubernetes.conf",
        "net.ipv4.ip_forward = 1\nnet.ipv4.conf.[abd]*.forwarding = 1\n-net.ipv4.conf.closed0.forwarding\n",
    );
    sysctl_write("net/ipv4/ip_forward", "1");
    sysctl_write("net/ipv4/conf/closed0/forwarding", "0");
    sysctl_write("net/ipv4/conf/unnamed0/forwarding", "0");
    sysctl_write("net/ipv4/conf/all/accept_redirects", "1");
    sysctl_write("net/ipv6/conf/a0/accept_ra", "2");
    let before = all_settings();
    let guard = ns.guard();
    assert_eq!(different(&before), Vec::<String>::new(), "after start");
    for _ in 0..20 {
        sysctl_write("net/ipv4/ip_forward", "0");
        wait_sysctl("net/ipv4/ip_forward", "1");
        wait_sysctl("net/ipv4/conf/closed0/forwarding", "0");
        wait_sysctl("net/ipv4/conf/unnamed0/forwarding", "0");
        wait_sysctl("net/ipv4/conf/all/accept_redirects", "1");
        ns.veth("churn0", "churn1");
        run("ip link del churn0");
    }
    guard.stop();
    assert_eq!(different(&before), Vec::<String>::new(), "after flips, churn and stop");
}

/// Settings that are not as they were, but for counters that the kernel moves.
fn different(before: &std::collections::HashMap<std::path::PathBuf, Vec<u8>>) -> Vec<String> {
    let now = all_settings();
    let mut keys: Vec<_> =
        before.keys().filter(|key| now.get(*key) != before.get(*key)).map(|key| key.display().to_string()).collect();
    keys.retain(|key| !key.contains("/netfilter/") && !key.ends_with("/random/"));
    keys
}

#[test]
fn a_closed_interface_stays_closed_from_the_start() {
    let ns = Namespace::enter();
    ns.veth("a0", "b0");
    ns.write(
        "etc/fwdguard.d/10.conf",
        "net.ipv4.ip_forward = 1\nnet.ipv4.conf.*.forwarding = 1\n-net.ipv4.conf.b0.forwarding\n",
    );
    ns.write("etc/sysctl.d/10.conf", "");
    let before = sysctl_read("net/ipv4/conf/all/accept_redirects");
    assert_eq!(sysctl_read("net/ipv4/ip_forward"), "0");
    let _guard = ns.guard();
    assert_eq!(sysctl_read("net/ipv4/conf/a0/forwarding"), "1");
    wait_sysctl("net/ipv4/conf/b0/forwarding", "0");
    assert_eq!(sysctl_read("net/ipv4/conf/all/accept_redirects"), before);
    // Set while the guard runs: remembered, though the kernel does not announce it.
    sysctl_write("net/ipv4/conf/all/accept_redirects", "0");
    std::thread::sleep(Duration::from_millis(100));
    sysctl_write("net/ipv4/ip_forward", "0");
    wait_sysctl("net/ipv4/ip_forward", "1");
    wait_sysctl("net/ipv4/conf/all/accept_redirects", "0");
    wait_sysctl("net/ipv4/conf/b0/forwarding", "0");
}

#[test]
fn ipv6_forwarding_is_one_record_and_accept_ra_comes_first() {
    let ns = Namespace::enter();
    ns.veth("a0", "b0");
    ns.veth("c0", "d0");
    ns.write("etc/fwdguard.d/10.conf", "net.ipv6.conf.*.forwarding = 1\nnet.ipv6.conf.a0.accept_ra = 2\n");
    let guard = ns.guard();
    assert_eq!(sysctl_read("net/ipv6/conf/a0/accept_ra"), "2");
    guard.wait_message("Restored net.ipv6.conf.all.forwarding to 1: it was 0");
    let order: Vec<_> = guard.repairs().iter().map(|r| r["SYSCTL"].clone()).collect();
    assert_eq!(order, ["net.ipv6.conf.a0.accept_ra", "net.ipv6.conf.all.forwarding"]);
    for _ in 0..20 {
        sysctl_write("net/ipv6/conf/all/forwarding", "0");
        for name in ["all", "default", "a0", "b0", "c0", "d0"] {
            wait_sysctl(&format!("net/ipv6/conf/{name}/forwarding"), "1");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let (_, records) = guard.stop();
    let repairs: Vec<_> =
        records.iter().filter(|r| r.get("CAUSE").is_some_and(|c| c == "write")).map(|r| &*r["SYSCTL"]).collect();
    assert_eq!(repairs, ["net.ipv6.conf.all.forwarding"; 20]);
}

#[test]
fn a_storm_overruns_the_socket_and_nothing_is_missed() {
    let ns = Namespace::enter();
    for n in 0..40 {
        run(&format!("ip link add s{n} type veth peer name r{n}"));
    }
    let guard = ns.guard();
    guard.signal("STOP");
    for _ in 0..600 {
        sysctl_write("net/ipv4/ip_forward", "0");
        sysctl_write("net/ipv4/ip_forward", "1");
    }
    sysctl_write("net/ipv4/conf/s7/forwarding", "0");
    guard.signal("CONT");
    wait_sysctl("net/ipv4/conf/s7/forwarding", "1");
    sysctl_write("net/ipv4/ip_forward", "0");
    wait_sysctl("net/ipv4/ip_forward", "1");
    guard.wait_message("all settings were read again");
    let resyncs = guard.records().iter().filter(|r| r["MESSAGE"].contains("all settings were read again")).count();
    assert_eq!(resyncs, 1, "one record");
}
