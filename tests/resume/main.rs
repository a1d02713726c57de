//! Sleep and resume as announced by logind and the sleep hook, and a logind or a bus that disappears and returns.

#[path = "../bus/mod.rs"]
mod bus;
mod bus_gone;
#[path = "../common/mod.rs"]
mod common;
mod hook;

use bus::*;
use common::*;

fn wakes(guard: &Running) -> Vec<Record> {
    guard.records().into_iter().filter(|record| record["MESSAGE"].starts_with("Resumed")).collect()
}

fn lost_or_back(guard: &Running) -> Vec<(String, String)> {
    let source = |record: &Record| Some((record.get("SOURCE")?.clone(), record["MESSAGE"].clone()));
    guard.records().iter().filter_map(source).collect()
}

const PORTS: &str = "net/ipv4/ip_local_reserved_ports";
const PORTS_POLICY: &str = "net.ipv4.ip_local_reserved_ports = 5000\n";

/// Changes a setting that netconf does not announce, through another procfs, where inotify(7) on ours sees nothing either.
fn change_ports_unseen() {
    run("unshare --pid --fork --mount-proc sysctl -qw net.ipv4.ip_local_reserved_ports=6000");
    assert_eq!(sysctl_read(PORTS), "6000", "nothing is checked yet");
}

fn wait_ports_repaired(guard: &Running) -> Record {
    let repair = guard.wait_record("the ports", |r| r.get("NEWVALUE").is_some_and(|value| value == "6000"));
    wait_sysctl(PORTS, "5000");
    repair
}

#[test]
fn a_resume_names_the_settings_that_had_changed() {
    let ns = Namespace::enter();
    ns.veth("a0", "b0");
    ns.write(
        "etc/fwdguard.d/10.conf",
        "net.ipv4.ip_forward = 1\nnet.ipv4.conf.*.forwarding = 1\nnet.ipv4.ip_local_reserved_ports = 5000\n",
    );
    let bus = Bus::start(&ns);
    let logind = bus.logind(false);
    let guard = bus.guard(&ns);
    let inhibitor = logind.wait_inhibitors(1, 1).remove(0);
    assert_eq!((&*inhibitor.what, &*inhibitor.who, &*inhibitor.mode), ("sleep", "fwdguard", "delay"));
    assert!(!inhibitor.why.is_empty());
    // This is before the sleep, so it does not count for it.
    sysctl_write("net/ipv4/conf/b0/forwarding", "0");
    wait_sysctl("net/ipv4/conf/b0/forwarding", "1");

    logind.sleep(true);
    logind.wait_inhibitors(1, 0);
    // The node sleeps; some of the changes meanwhile are announced, and some are not.
    guard.signal("STOP");
    sysctl_write("net/ipv4/conf/a0/forwarding", "0");
    sysctl_write_unseen("net/ipv4/ip_local_reserved_ports", "6000");
    logind.sleep(false);
    guard.signal("CONT");

    let record = guard.wait_message("Resumed after ");
    wait_sysctl("net/ipv4/conf/a0/forwarding", "1");
    assert_eq!(sysctl_read("net/ipv4/ip_local_reserved_ports"), "5000", "repaired before it is logged");
    assert_eq!((&*record["CAUSE"], &*record["PRIORITY"]), ("resume", "6"));
    assert!(record["SLEEP_USEC"].parse::<u64>().is_ok_and(|usec| usec > 0), "{record:?}");
    let message = &record["MESSAGE"];
    assert!(message.contains(" of sleep; 2 settings had changed: "), "{message}");
    assert!(message.contains("net.ipv4.conf.a0.forwarding"), "{message}");
    assert!(message.contains("net.ipv4.ip_local_reserved_ports"), "{message}");
    let silent =
        guard.wait_record("the ports", |r| r.get("CAUSE").is_some_and(|c| c == "resume") && r.contains_key("SYSCTL"));
    assert_eq!(silent["SYSCTL"], "net.ipv4.ip_local_reserved_ports");
    logind.wait_inhibitors(2, 1);

    // The next sleep is another one, in which nothing changes.
    logind.sleep(true);
    logind.wait_inhibitors(2, 0);
    logind.sleep(false);
    guard.wait_message("of sleep; no setting had changed");
    logind.wait_inhibitors(3, 1);
    assert_eq!(wakes(&guard).len(), 2);
    assert_eq!(lost_or_back(&guard), []);
}

#[test]
fn a_resume_that_is_announced_twice_is_one_record() {
    let ns = Namespace::enter();
    let bus = Bus::start(&ns);
    let logind = bus.logind(false);
    let guard = bus.guard(&ns);
    logind.wait_inhibitors(1, 1);
    logind.sleep(true);
    logind.wait_inhibitors(1, 0);
    logind.sleep(false);
    logind.sleep(false);
    logind.wait_inhibitors(3, 1);
    // Another sleep marks the end of what the test has to wait for.
    logind.sleep(true);
    logind.wait_inhibitors(3, 0);
    logind.sleep(false);
    logind.wait_inhibitors(4, 1);
    let (_, records) = guard.stop();
    assert_eq!(records.iter().filter(|r| r["MESSAGE"].starts_with("Resumed")).count(), 2);
}

#[test]
fn a_resume_without_a_sleep_has_no_duration() {
    let ns = Namespace::enter();
    ns.write("etc/fwdguard.d/10.conf", "net.ipv4.ip_local_reserved_ports = 5000\n");
    let bus = Bus::start(&ns);
    let logind = bus.logind(false);
    let guard = bus.guard(&ns);
    logind.wait_inhibitors(1, 1);
    sysctl_write_unseen("net/ipv4/ip_local_reserved_ports", "6000");
    logind.sleep(false);
    let record = guard.wait_message("Resumed (sleep duration unknown); 1 setting had changed: ");
    assert_eq!(record["CAUSE"], "resume");
    assert!(!record.contains_key("SLEEP_USEC"));
    assert_eq!(sysctl_read("net/ipv4/ip_local_reserved_ports"), "5000");
    logind.wait_inhibitors(2, 1);
}

#[test]
fn started_in_the_middle_of_a_sleep() {
    let ns = Namespace::enter();
    let bus = Bus::start(&ns);
    let logind = bus.logind(true);
    let guard = bus.guard(&ns);
    // The answer is on its way, and the signal comes after it.
    logind.wait_asked();
    logind.sleep(false);
    let record = guard.wait_message("Resumed after ");
    assert!(record.contains_key("SLEEP_USEC"));
    logind.wait_inhibitors(1, 1);
    assert_eq!(logind.refused(), 0, "no lock is asked for while none is to be had");
    assert_eq!(lost_or_back(&guard), []);
}

#[test]
fn only_logind_is_believed() {
    let ns = Namespace::enter();
    ns.write("etc/fwdguard.d/10.conf", PORTS_POLICY);
    let bus = Bus::start(&ns);
    let logind = bus.logind(false);
    let guard = bus.guard(&ns);
    let target = logind.wait_inhibitors(1, 1).remove(0).holder;
    change_ports_unseen();
    bus.lie_about_sleep(&target, true);
    bus.lie_about_sleep(&target, false);
    bus.lie_about_sleep(&target, true);
    for name in ["org.freedesktop.login1", "org.freedesktop.NetworkManager", "org.freedesktop.network1"] {
        bus.lie(&target, "org.freedesktop.DBus", "NameOwnerChanged", &(name, name, ""));
    }
    assert_eq!(sysctl_read(PORTS), "6000", "only the bus announces a manager");
    logind.sleep(false);
    logind.wait_inhibitors(2, 1);
    assert_eq!(wait_ports_repaired(&guard)["CAUSE"], "resume");
    let (_, records) = guard.stop();
    let wakes: Vec<_> = records.iter().filter(|r| r["MESSAGE"].starts_with("Resumed")).collect();
    assert_eq!(wakes.len(), 1, "{:?}", messages(&records));
    assert!(!wakes[0].contains_key("SLEEP_USEC"), "the sleep was a lie");
    assert!(records.iter().all(|r| !r.contains_key("SOURCE")), "{:?}", messages(&records));
}
