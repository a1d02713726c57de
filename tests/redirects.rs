//! `all.accept_redirects`, which the kernel sets with every change of `all.forwarding`, without an announcement.

mod common;

use common::*;
use std::time::Duration;

const REDIRECTS: &str = "net/ipv4/conf/all/accept_redirects";
const FORWARD: &str = "net/ipv4/ip_forward";

/// Long enough for the guard's checks of what it wrote itself.
fn after_the_looks() {
    std::thread::sleep(Duration::from_millis(1500));
}

#[test]
fn a_manual_write_after_the_repair_stays() {
    let ns = Namespace::enter();
    ns.write("etc/fwdguard.d/10.conf", "net.ipv4.ip_forward = 1\n");
    sysctl_write(FORWARD, "1");
    sysctl_write(REDIRECTS, "1");
    let _guard = ns.guard();
    sysctl_write(FORWARD, "0");
    wait_sysctl(FORWARD, "1");
    wait_sysctl(REDIRECTS, "1");
    std::thread::sleep(Duration::from_millis(50));
    sysctl_write(REDIRECTS, "0");
    after_the_looks();
    assert_eq!(sysctl_read(REDIRECTS), "0", "not the guard's any more");
}

#[test]
fn a_policy_that_comes_to_guard_forwarding_keeps_what_is_there_by_then() {
    let ns = Namespace::enter();
    ns.write("etc/fwdguard.d/10.conf", "");
    sysctl_write(FORWARD, "0");
    let mut guard = ns.guard();
    assert_eq!(sysctl_read(REDIRECTS), "1");
    sysctl_write(FORWARD, "1"); // sets REDIRECTS to 0, without an announcement
    ns.write("etc/fwdguard.d/10.conf", "net.ipv4.ip_forward = 0\n");
    guard.signal("HUP");
    guard.wait_notified("READY=1");
    wait_sysctl(FORWARD, "0");
    after_the_looks();
    assert_eq!(sysctl_read(REDIRECTS), "0");
}

#[test]
fn its_baseline_survives_a_manual_repair_of_forwarding() {
    let ns = Namespace::enter();
    ns.write("etc/fwdguard.d/10.conf", "net.ipv4.ip_forward = 1\n");
    sysctl_write(FORWARD, "1");
    sysctl_write(REDIRECTS, "1");
    let guard = ns.guard();
    guard.signal("STOP");
    sysctl_write(FORWARD, "0");
    sysctl_write(FORWARD, "1");
    assert_eq!(sysctl_read(REDIRECTS), "0");
    guard.signal("CONT");
    after_the_looks();
    sysctl_write(FORWARD, "0");
    wait_sysctl(FORWARD, "1");
    after_the_looks();
    assert_eq!(sysctl_read(REDIRECTS), "0", "not what stood there before the other's writes");
}

#[test]
fn it_is_guarded_where_forwarding_is_not() {
    let ns = Namespace::enter();
    ns.write("etc/fwdguard.d/10.conf", "net.ipv4.conf.all.accept_redirects = 1\n");
    sysctl_write(FORWARD, "0");
    let guard = ns.guard();
    assert_eq!(sysctl_read(REDIRECTS), "1");
    sysctl_write(FORWARD, "1");
    wait_sysctl(REDIRECTS, "1");
    let record = guard.wait_record("the repair", |record| record["MESSAGE_ID"] == REPAIRED);
    assert_eq!((&*record["SYSCTL"], &*record["CAUSE"]), ("net.ipv4.conf.all.accept_redirects", "write"));
    assert_eq!(sysctl_read(FORWARD), "1");
}
