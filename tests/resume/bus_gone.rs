//! A bus, a logind and a NetworkManager that go and come back.

use super::*;

#[test]
fn logind_goes_and_comes_back() {
    let ns = Namespace::enter();
    ns.write("etc/fwdguard.d/10.conf", "net.ipv4.ip_local_reserved_ports = 5000\n");
    let bus = Bus::start(&ns);
    let (guard, target) = {
        let logind = bus.logind(false);
        let guard = bus.guard(&ns);
        (guard, logind.wait_inhibitors(1, 1).remove(0).holder)
    };
    let lost = wait_source(&guard, "logind", "Lost logind: ", 1);
    assert_eq!(lost["PRIORITY"], "4");
    // Only logind's own signals count, whether it is there or not.
    bus.lie_about_sleep(&target, false);
    sysctl_write_unseen("net/ipv4/ip_local_reserved_ports", "6000");

    let logind = bus.logind(false);
    let back = wait_source(&guard, "logind", "Available again: logind", 1);
    assert_eq!(back["PRIORITY"], "6");
    logind.wait_inhibitors(1, 1);
    wait_sysctl("net/ipv4/ip_local_reserved_ports", "5000");
    let repair = guard.wait_record("the ports", |r| r.get("OLDVALUE").is_some_and(|v| v == "5000"));
    assert_eq!(repair["CAUSE"], "manager-restart");
    logind.sleep(true);
    logind.wait_inhibitors(1, 0);
    logind.sleep(false);
    guard.wait_message("Resumed after ");
    assert_eq!(wakes(&guard).len(), 1);
}

#[test]
fn logind_comes_later() {
    let ns = Namespace::enter();
    let bus = Bus::start(&ns);
    let guard = bus.guard(&ns);
    wait_source(&guard, "logind", "Lost logind: it is not on the system bus", 1);
    let logind = bus.logind(false);
    wait_source(&guard, "logind", "Available again: logind", 1);
    logind.wait_inhibitors(1, 1);
}

#[test]
fn the_bus_goes_and_comes_back() {
    let ns = Namespace::enter();
    let mut bus = Bus::start(&ns);
    let guard = {
        let logind = bus.logind(false);
        let guard = bus.guard(&ns);
        logind.wait_inhibitors(1, 1);
        guard
    };
    wait_source(&guard, "logind", "Lost logind", 1);
    for round in 1..=2 {
        bus.kill();
        wait_source(&guard, "the system bus", "Lost the system bus: ", round);
        sysctl_write("net/ipv4/ip_forward", "0");
        wait_sysctl("net/ipv4/ip_forward", "1");
        bus.restart();
        wait_source(&guard, "the system bus", "Available again: the system bus", round);
    }
    let logind = bus.logind(false);
    logind.wait_inhibitors(1, 1);
    wait_source(&guard, "logind", "Available again: logind", 1);
    logind.sleep(true);
    logind.wait_inhibitors(1, 0);
    logind.sleep(false);
    guard.wait_message("Resumed after ");
}

#[test]
fn logind_and_bus_go_together() {
    let ns = Namespace::enter();
    let mut bus = Bus::start(&ns);
    let guard = {
        let logind = bus.logind(false);
        let guard = bus.guard(&ns);
        logind.wait_inhibitors(1, 1);
        bus.signal("KILL");
        guard
    };
    wait_source(&guard, "the system bus", "Lost the system bus: ", 1);
    bus.restart();
    let logind = bus.logind(false);
    wait_source(&guard, "the system bus", "Available again: the system bus", 1);
    logind.wait_inhibitors(1, 1);
}

#[test]
fn no_bus_at_start() {
    let ns = Namespace::enter();
    let mut bus = Bus::absent(&ns);
    let mut guard = bus.guard(&ns);
    wait_source(&guard, "the system bus", "Lost the system bus: ", 1);
    guard.wait_notified("lost: the system bus");
    sysctl_write("net/ipv4/ip_forward", "0");
    wait_sysctl("net/ipv4/ip_forward", "1");
    bus.restart();
    let logind = bus.logind(false);
    wait_source(&guard, "the system bus", "Available again: the system bus", 1);
    logind.wait_inhibitors(1, 1);
    let lost = guard.records().iter().filter(|r| r["MESSAGE"].contains("Lost the system bus")).count();
    assert_eq!(lost, 1, "logged once, however often it was tried");
}

#[test]
fn a_hanging_bus_is_logged_and_awaited() {
    let ns = Namespace::enter();
    let bus = Bus::start(&ns);
    bus.signal("STOP");
    let guard = bus.guard(&ns);
    sysctl_write("net/ipv4/ip_forward", "0");
    wait_sysctl("net/ipv4/ip_forward", "1");
    wait_source(&guard, "the system bus", "Lost the system bus: ", 1);
    bus.signal("CONT");
    wait_source(&guard, "the system bus", "Available again: the system bus", 1);
    bus.logind(false).wait_inhibitors(1, 1);
}

#[test]
fn a_restart_of_a_network_manager_triggers_checks() {
    let ns = Namespace::enter();
    ns.write("etc/fwdguard.d/10.conf", PORTS_POLICY);
    let bus = Bus::start(&ns);
    let logind = bus.logind(false);
    for (round, (name, there, stays)) in [
        ("org.freedesktop.NetworkManager", false, true),
        ("org.freedesktop.NetworkManager", true, false),
        ("org.freedesktop.NetworkManager", true, true),
        ("org.freedesktop.network1", false, true),
        ("org.freedesktop.network1", true, false),
    ]
    .into_iter()
    .enumerate()
    {
        let before = there.then(|| bus.manager(name));
        let guard = bus.guard(&ns);
        logind.wait_inhibitors(round + 1, 1);
        change_ports_unseen();
        let _after = stays.then(|| bus.manager(name));
        drop(before);
        let repair = wait_ports_repaired(&guard);
        assert_eq!(repair["CAUSE"], "manager-restart", "{name}, there before: {there}, after: {stays}");
        assert_eq!(lost_or_back(&guard), [], "a manager that is not there is no loss");
    }
}

#[test]
fn a_restart_of_logind_without_a_gap_triggers_checks() {
    let ns = Namespace::enter();
    ns.write("etc/fwdguard.d/10.conf", PORTS_POLICY);
    let bus = Bus::start(&ns);
    let first = bus.logind(false);
    let guard = bus.guard(&ns);
    first.wait_inhibitors(1, 1);
    change_ports_unseen();
    let second = bus.logind(false);
    assert_eq!(wait_ports_repaired(&guard)["CAUSE"], "manager-restart");
    second.wait_inhibitors(1, 1);
    first.wait_inhibitors(1, 0);
    assert_eq!(lost_or_back(&guard), []);
}
