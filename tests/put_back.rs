//! Settings that the guard's own write of `all.forwarding` changed and that it restored are re-checked for some seconds; a
//! manual write of them meanwhile stays.

mod common;

use common::*;
use std::time::Duration;

#[test]
fn a_manual_change_of_a_restored_interface_stays() {
    for family in ["ipv4", "ipv6"] {
        let ns = Namespace::enter();
        ns.veth("a0", "b0");
        ns.write("etc/fwdguard.d/10.conf", &format!("net.{family}.conf.all.forwarding = 1\n"));
        let key = |place| format!("net/{family}/conf/{place}/forwarding");
        sysctl_write(&key("all"), "1");
        sysctl_write(&key("b0"), "0");
        let _guard = ns.guard();
        sysctl_write(&key("all"), "0");
        wait_sysctl(&key("all"), "1");
        wait_sysctl(&key("b0"), "0");
        std::thread::sleep(Duration::from_millis(50));
        sysctl_write(&key("b0"), "1");
        // Longer than the guard checks what it wrote.
        std::thread::sleep(Duration::from_millis(1500));
        assert_eq!(sysctl_read(&key("b0")), "1", "{family}");
    }
}

#[test]
fn off_for_the_node_and_on_for_some_interfaces() {
    let ns = Namespace::enter();
    ns.veth("cali1", "eth0");
    ns.write(
        "etc/fwdguard.d/60-site.conf",
        "net.ipv4.ip_forward = 0\nnet.ipv4.conf.cali*.forwarding = 1\nnet.ipv4.conf.*.forwarding = 0\n",
    );
    let key = |place| format!("net/ipv4/conf/{place}/forwarding");
    let holds =
        || [("cali1", "1"), ("eth0", "0"), ("default", "0"), ("all", "0")].map(|(at, to)| wait_sysctl(&key(at), to));
    let _guard = ns.guard();
    holds();
    for (place, value) in [("all", "1"), ("cali1", "0"), ("eth0", "1"), ("default", "1")] {
        sysctl_write(&key(place), value);
        holds();
    }
    ns.veth("cali2", "eth1");
    wait_sysctl(&key("cali2"), "1");
    assert_eq!(sysctl_read(&key("eth1")), "0");
    assert_eq!(ns.fwdguard(&["check"]).status.code(), Some(0));
}

#[test]
fn a_bridge_that_podman_has_closed_stays_closed() {
    let ns = Namespace::enter();
    let key = |place| format!("net/ipv4/conf/{place}/forwarding");
    let _guard = ns.guard(); // by the built-in policy
    wait_sysctl(&key("default"), "1");
    ns.veth("podman1", "eth0");
    sysctl_write(&key("podman1"), "0");
    sysctl_write(&key("eth0"), "0");
    wait_sysctl(&key("eth0"), "1");
    sysctl_write(&key("all"), "0");
    wait_sysctl(&key("all"), "1");
    wait_sysctl(&key("eth0"), "1");
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(sysctl_read(&key("podman1")), "0");
    assert_eq!(ns.fwdguard(&["check"]).status.code(), Some(0));
}

#[test]
fn where_forwarding_is_off_podmans_bridges_are_closed_too() {
    let key = |place| format!("net/ipv4/conf/{place}/forwarding");
    for rest in ["", "net.ipv4.conf.*.forwarding = 0\n"] {
        let ns = Namespace::enter();
        ns.write("usr/lib/fwdguard.d/50-kubernetes.conf", include_str!("../packaging/50-kubernetes.conf"));
        ns.write("etc/fwdguard.d/60-site.conf", &format!("net.ipv4.ip_forward = 0\n{rest}"));
        ns.veth("podman2", "eth0");
        sysctl_write(&key("all"), "1");
        let _guard = ns.guard();
        ["all", "eth0", "podman2"].iter().for_each(|place| wait_sysctl(&key(place), "0"));
        std::thread::sleep(Duration::from_millis(1500));
        ["all", "eth0", "podman2"].iter().for_each(|place| assert_eq!(sysctl_read(&key(place)), "0", "{place} {rest}"));
        if !rest.is_empty() {
            sysctl_write(&key("podman2"), "1");
            wait_sysctl(&key("podman2"), "0");
        }
    }
}
