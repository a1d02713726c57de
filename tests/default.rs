//! A write to `default`, which interfaces follow without an announcement as long as their own setting was never written
//! (`devinet_copy_dflt_conf`).

mod common;

use common::*;

#[test]
fn a_guarded_setting_that_follows_default_is_put_back() {
    let ns = Namespace::enter();
    // Made before default is ever written here; if the first namespace's default was written, nothing follows it.
    ns.veth("a0", "b0");
    let key = |place| format!("net/ipv4/conf/{place}/log_martians");
    let is = sysctl_read(&key("a0"));
    let other = if is == "0" { "1" } else { "0" };
    ns.write("etc/fwdguard.d/10.conf", &format!("net.ipv4.conf.[ab]0.log_martians = {is}\n"));
    let mut guard = ns.guard();
    sysctl_write(&key("default"), other);
    for name in ["a0", "b0"] {
        wait_sysctl(&key(name), &is);
    }
    assert_eq!(sysctl_read(&key("default")), other, "the policy does not name it");
    let repaired = guard.repairs().len();

    // The interfaces are put back, too, when the policy no longer has a line for default.
    ns.veth("a1", "b1");
    ns.write("etc/fwdguard.d/10.conf", &format!("net.ipv4.conf.*.log_martians = {is}\n"));
    guard.signal("HUP");
    guard.wait_notified("READY=1");
    wait_sysctl(&key("default"), &is);
    ns.write("etc/fwdguard.d/10.conf", &format!("net.ipv4.conf.[ab]?.log_martians = {is}\n"));
    guard.signal("HUP");
    guard.wait_notified("READY=1");
    sysctl_write(&key("default"), other);
    for name in ["a0", "b0", "a1", "b1"] {
        wait_sysctl(&key(name), &is);
    }
    assert!(repaired <= 2, "each once: {:?}", messages(&guard.records()));
}

/// The guard's own write of default changes the interfaces that follow it, too.
#[test]
fn a_policy_that_changes_default_leaves_the_interfaces_that_it_names() {
    let ns = Namespace::enter();
    ns.veth("a0", "b0");
    let key = |place| format!("net/ipv4/conf/{place}/rp_filter");
    let is = sysctl_read(&key("a0"));
    let other = if is == "0" { "1" } else { "0" };
    let lines =
        |default: &str| format!("net.ipv4.conf.default.rp_filter = {default}\nnet.ipv4.conf.a0.rp_filter = {is}\n");
    ns.write("etc/fwdguard.d/10.conf", &lines(&is));
    let mut guard = ns.guard();
    ns.write("etc/fwdguard.d/10.conf", &lines(other));
    guard.signal("HUP");
    guard.wait_notified("READY=1");
    wait_sysctl(&key("default"), other);
    wait_sysctl(&key("a0"), &is);
}
