//! What one write changes of other settings: of those that follow `default`, and of IPv6's that are written with `all`.

mod common;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use common::*;

fn v6(interface: &str) -> String {
    format!("net/ipv6/conf/{interface}/disable_ipv6")
}

#[test]
fn interfaces_that_went_with_all_of_ipv6_are_as_they_were() {
    let ns = Namespace::enter();
    ns.veth("a0", "b0");
    ns.veth("c0", "d0");
    sysctl_write(&v6("b0"), "1");
    let policy =
        "net.ipv6.conf.all.disable_ipv6 = 0\nnet.ipv6.conf.a0.disable_ipv6 = 0\nnet.ipv6.conf.c0.disable_ipv6 = 1\n";
    ns.write("etc/fwdguard.d/10.conf", policy);
    let guard = ns.guard();
    let as_they_were = |b0: &str| {
        for (interface, value) in [("all", "0"), ("default", "0"), ("a0", "0"), ("b0", b0), ("c0", "1"), ("d0", "0")] {
            wait_sysctl(&v6(interface), value);
        }
    };
    for _ in 0..5 {
        sysctl_write(&v6("all"), "1");
        as_they_were("1");
    }
    let record = guard.wait_message("Restored net.ipv6.conf.all.disable_ipv6 to 0: it was 1");
    assert!(
        record["MESSAGE"].contains("static IPv6 addresses that were lost with it must be added again"),
        "{record:?}"
    );
    let unknown = guard.repairs().into_iter().filter(|record| record["MESSAGE"].contains("writer unknown")).count();
    assert_eq!(unknown, 0, "{:?}", messages(&guard.repairs()));
    // A value that the administrator writes, even if the guard does not see the write, is the one that is restored from then on.
    sysctl_write(&v6("b0"), "0");
    std::thread::sleep(std::time::Duration::from_millis(50));
    sysctl_write(&v6("all"), "1");
    as_they_were("0");
    sysctl_write_unseen(&v6("b0"), "1");
    guard.signal("USR1");
    guard.wait_message("Resumed");
    sysctl_write_unseen(&v6("all"), "1");
    guard.signal("USR1");
    as_they_were("1");
    // An interface that comes later, and is closed by the process that made it.
    ns.veth("e0", "f0");
    std::thread::sleep(std::time::Duration::from_millis(100));
    sysctl_write(&v6("e0"), "1");
    std::thread::sleep(std::time::Duration::from_millis(50));
    sysctl_write(&v6("all"), "1");
    as_they_were("1");
    wait_sysctl(&v6("e0"), "1");
    wait_sysctl(&v6("f0"), "0");
}

#[test]
fn at_start_only_excluded_settings_are_kept() {
    let ns = Namespace::enter();
    ns.veth("a0", "b0");
    sysctl_write(&v6("all"), "1");
    ns.write("etc/fwdguard.d/10.conf", "net.ipv6.conf.all.disable_ipv6 = 0\n-net.ipv6.conf.b0.disable_ipv6\n");
    let _guard = ns.guard();
    for (interface, value) in [("all", "0"), ("a0", "0"), ("b0", "1")] {
        wait_sysctl(&v6(interface), value);
    }
}

#[test]
fn a_guarded_interface_does_not_follow_an_unguarded_all() {
    let ns = Namespace::enter();
    ns.veth("a0", "b0");
    ns.write("etc/fwdguard.d/10.conf", "net.ipv6.conf.a0.disable_ipv6 = 0\n");
    let guard = ns.guard();
    sysctl_write(&v6("all"), "1");
    wait_sysctl(&v6("a0"), "0");
    assert_eq!((sysctl_read(&v6("all")), sysctl_read(&v6("b0"))), ("1".into(), "1".into()));
    let record = guard.wait_message("Restored net.ipv6.conf.a0.disable_ipv6 to 0: it was 1");
    assert_eq!(record["CAUSE"], "write");
}

#[test]
fn changes_by_the_guards_own_write_of_default_have_no_other_writer() {
    let ns = Namespace::enter();
    ns.veth("a0", "b0");
    for name in ["rp_filter", "log_martians"] {
        let key = |place: &str| format!("net/ipv4/conf/{place}/{name}");
        let is = sysctl_read(&key("a0"));
        let other = if is == "0" { "1" } else { "0" };
        ns.write(
            "etc/fwdguard.d/10.conf",
            &format!("net.ipv4.conf.default.{name} = {other}\nnet.ipv4.conf.a0.{name} = {is}\n"),
        );
        let applied = ns.fwdguard(&["apply"]);
        let printed = String::from_utf8_lossy(&applied.stdout).into_owned();
        assert_eq!(
            (applied.status.code(), sysctl_read(&key("default")), sysctl_read(&key("a0"))),
            (Some(0), other.into(), is.clone())
        );
        assert!(printed.contains("cause: start") && !printed.contains("cause: write"), "{printed}");
    }
    // The same with the service.
    ns.veth("c0", "d0");
    let is = sysctl_read("net/ipv4/conf/c0/arp_notify");
    let other = if is == "0" { "1" } else { "0" };
    let lines = format!("net.ipv4.conf.default.arp_notify = {other}\nnet.ipv4.conf.c0.arp_notify = {is}\n");
    ns.write("etc/fwdguard.d/10.conf", &lines);
    let guard = ns.guard();
    assert_eq!(sysctl_read("net/ipv4/conf/c0/arp_notify"), is);
    let record = guard.wait_message("Restored net.ipv4.conf.default.arp_notify to ");
    assert!(
        record["CAUSE"] == "start" && !["written by", "writer"].iter().any(|by| record["MESSAGE"].contains(by)),
        "{record:?}"
    );
    assert_eq!(guard.repairs().len(), 1, "{:?}", messages(&guard.repairs()));
}

/// When the guard has never read the interfaces before it writes `all`.
#[test]
fn a_policy_that_changes_all_has_no_record_of_an_interface_that_was_right() {
    let name = "ignore_routes_with_linkdown";
    let ns = Namespace::enter();
    ns.veth("a0", "b0");
    let lines = format!("net.ipv6.conf.all.{name} = 1\nnet.ipv6.conf.*.{name} = 0\n");
    let all = format!("net.ipv6.conf.all.{name}");
    let expect_one = |guard: &Running| {
        guard.wait_record(&all, |record| record.get("SYSCTL") == Some(&all));
        ["lo", "a0", "b0"].iter().for_each(|it| wait_sysctl(&format!("net/ipv6/conf/{it}/{name}"), "0"));
        guard.signal("USR1");
        guard.wait_message("Resumed");
        assert_eq!(guard.repairs().len(), 1, "{:?}", messages(&guard.repairs()));
    };
    ns.write("etc/fwdguard.d/10.conf", "net.core.somaxconn = 4096\n");
    sysctl_write("net/core/somaxconn", "4096");
    let guard = ns.guard();
    ns.write("etc/fwdguard.d/10.conf", &lines);
    expect_one(&guard);
    guard.stop();
    sysctl_write(&format!("net/ipv6/conf/all/{name}"), "0");
    expect_one(&ns.guard());
}

/// When a process opens a file to write it (O_TRUNC), the guard receives an event before the write.
#[test]
fn one_write_to_all_is_one_record_and_closes_nothing_for_good() {
    let ns = Namespace::enter();
    ns.veth("a0", "b0");
    ns.veth("c0", "d0");
    sysctl_write(&v6("c0"), "1");
    let policy = "net.ipv6.conf.all.disable_ipv6 = 0\nnet.ipv6.conf.a0.disable_ipv6 = 0\nnet.ipv6.conf.b0.disable_ipv6 = 1\n\
                  net.ipv6.conf.all.addr_gen_mode = 0\nnet.ipv6.conf.a0.addr_gen_mode = 3\n";
    ns.write("etc/fwdguard.d/10.conf", policy);
    let guard = ns.guard();
    for _ in 0..10 {
        sysctl_write(&v6("all"), "1");
        sysctl_write("net/ipv6/conf/all/addr_gen_mode", "1");
        for (interface, value) in [("all", "0"), ("a0", "0"), ("b0", "1"), ("c0", "1")] {
            wait_sysctl(&v6(interface), value);
        }
        wait_sysctl("net/ipv6/conf/a0/addr_gen_mode", "3");
    }
    // Between any two reads of the guard: `all` was right, and what follows it is wrong.
    for pause in (0..200).map(Duration::from_micros) {
        let mut all = File::create(Path::new("/proc/sys").join(v6("all"))).expect("a setting");
        let opened = Instant::now();
        while opened.elapsed() < pause {}
        all.write_all(b"1").expect("a value");
        ["all", "a0"].iter().for_each(|interface| wait_sysctl(&v6(interface), "0"));
    }
    let of_interface = |record: &&Record| record["CAUSE"] == "write" && !record["SYSCTL"].contains(".all.");
    let of_interfaces = guard.repairs().iter().filter(of_interface).count();
    assert_eq!(of_interfaces, 0, "{:#?}", messages(&guard.repairs()));
    // As fast as possible: the guard's own writes close c0 each time.
    for _ in 0..20 {
        for _ in 0..50 {
            sysctl_write(&v6("all"), "1");
        }
        wait_sysctl(&v6("all"), "0");
        wait_sysctl(&v6("c0"), "1");
    }
}
