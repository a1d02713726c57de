//! Sleep and wake-up as logind and the sleep hook tell them, and a logind or a bus that goes and comes back.

mod bus;
mod common;

use bus::*;
use common::*;

fn wakes(guard: &Running) -> Vec<Record> {
    guard.records().into_iter().filter(|record| record["MESSAGE"].starts_with("Resumed")).collect()
}

fn lost_or_back(guard: &Running) -> Vec<(String, String)> {
    let told = |record: &Record| Some((record.get("SOURCE")?.clone(), record["MESSAGE"].clone()));
    guard.records().iter().filter_map(told).collect()
}

const PORTS: &str = "net/ipv4/ip_local_reserved_ports";
const PORTS_POLICY: &str = "net.ipv4.ip_local_reserved_ports = 5000\n";

/// Changes a setting that netconf does not announce, through another procfs, where inotify(7) on ours sees nothing either.
fn change_ports_unseen() {
    run("unshare --pid --fork --mount-proc sysctl -qw net.ipv4.ip_local_reserved_ports=6000");
    assert_eq!(sysctl_read(PORTS), "6000", "nothing looks yet");
}

fn wait_ports_repaired(guard: &Running) -> Record {
    let repair = guard.wait_record("the ports", |r| r.get("NEWVALUE").is_some_and(|value| value == "6000"));
    wait_sysctl(PORTS, "5000");
    repair
}

#[test]
fn a_sleep_is_noted_and_its_end_told_with_what_had_changed() {
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
    // Before the sleep, so not of it.
    sysctl_write("net/ipv4/conf/b0/forwarding", "0");
    wait_sysctl("net/ipv4/conf/b0/forwarding", "1");

    logind.sleep(true);
    logind.wait_inhibitors(1, 0);
    // The node sleeps; what happens in the meantime is announced or is not.
    guard.signal("STOP");
    sysctl_write("net/ipv4/conf/a0/forwarding", "0");
    sysctl_write_unseen("net/ipv4/ip_local_reserved_ports", "6000");
    logind.sleep(false);
    guard.signal("CONT");

    let record = guard.wait_message("Resumed after ");
    wait_sysctl("net/ipv4/conf/a0/forwarding", "1");
    assert_eq!(sysctl_read("net/ipv4/ip_local_reserved_ports"), "5000", "repaired before it is told");
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

/// The package's hook, run as systemd-sleep(8) runs it, with a `systemctl` that does what systemd's does with a signal.
struct SleepHook(std::path::PathBuf);

impl SleepHook {
    fn of(ns: &Namespace, systemctl: &str) -> SleepHook {
        use std::os::unix::fs::PermissionsExt;
        ns.write("bin/systemctl", &format!("#!/bin/sh\n{systemctl}\n"));
        let program = ns.path("bin/systemctl");
        std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        SleepHook(ns.path("bin"))
    }

    fn to(ns: &Namespace, guard: &Running) -> SleepHook {
        let told = r#"[ "$1 $2 $4" = 'kill --kill-who=main fwdguard.service' ] && exec kill -s "${3#--signal=}" PID"#;
        SleepHook::of(ns, &told.replace("PID", &guard.pid().to_string()))
    }

    fn runs(&self, when: &str) {
        let path = format!("{}:{}", self.0.display(), std::env::var("PATH").expect("a PATH"));
        let mut hook = std::process::Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/system-sleep.sh"));
        let output = hook.args([when, "suspend"]).env("PATH", path).output().expect("the hook runs");
        assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
    }
}

#[test]
fn past_logind_the_hook_tells_of_a_sleep() {
    let ns = Namespace::enter();
    ns.write("etc/fwdguard.d/10.conf", &format!("net.ipv4.ip_forward = 1\n{PORTS_POLICY}"));
    let guard = ns.guard();
    let hook = SleepHook::to(&ns, &guard);
    // As the hook of another, which runs beside this one.
    sysctl_write("net/ipv4/ip_forward", "0");
    wait_sysctl("net/ipv4/ip_forward", "1");
    hook.runs("pre");
    change_ports_unseen();
    hook.runs("post");
    assert_eq!(wait_ports_repaired(&guard)["CAUSE"], "resume", "at once, long before it is told");
    assert_eq!(wakes(&guard).len(), 0);
    let record = guard.wait_message("Resumed after ");
    let message = &record["MESSAGE"];
    let named = "of sleep; 2 settings had changed: net.ipv4.ip_forward, net.ipv4.ip_local_reserved_ports \
                 (noticed by the sleep hook)";
    assert!(message.ends_with(named), "{message}");
    assert_eq!((&*record["CAUSE"], &*record["NOTICED_BY"]), ("resume", "the sleep hook"));
    assert!(record.contains_key("SLEEP_USEC"));
    assert_eq!(wakes(&guard).len(), 1);
}

#[test]
fn the_hook_never_fails_and_holds_nothing_up() {
    let ns = Namespace::enter();
    let begun = std::time::Instant::now();
    SleepHook::of(&ns, "exec sleep 60").runs("pre");
    assert!(begun.elapsed() < std::time::Duration::from_secs(30), "a systemd that hangs");
    SleepHook::of(&ns, "echo no such unit; echo none >&2; exit 1").runs("post");
    let never = SleepHook::of(&ns, "touch \"$0.ran\"");
    never.runs("before");
    assert!(!ns.path("bin/systemctl.ran").exists(), "nothing is known of that");
}

#[test]
fn whoever_tells_of_it_and_whenever_one_sleep_is_one_record() {
    let ns = Namespace::enter();
    ns.write("etc/fwdguard.d/10.conf", &format!("net.ipv4.ip_forward = 1\n{PORTS_POLICY}"));
    let bus = Bus::start(&ns);
    let logind = bus.logind(false);
    let guard = bus.guard(&ns);
    let hook = SleepHook::to(&ns, &guard);
    for (round, logind_first) in [true, false].into_iter().enumerate() {
        logind.wait_inhibitors(2 * round + 1, 1);
        logind.sleep(true);
        logind.wait_inhibitors(2 * round + 1, 0);
        hook.runs("pre");
        // A hook does what `network stop` does.
        sysctl_write("net/ipv4/ip_forward", "0");
        wait_sysctl("net/ipv4/ip_forward", "1");
        if !logind_first {
            hook.runs("post");
        }
        logind.sleep(false);
        logind.wait_inhibitors(2 * round + 2, 1);
        if logind_first {
            hook.runs("post");
        }
        // What runs late.
        std::thread::sleep(std::time::Duration::from_millis(400));
        sysctl_write("net/ipv4/ip_local_reserved_ports", "6000");
        wait_sysctl("net/ipv4/ip_local_reserved_ports", "5000");
        // And the next sleep, which is told of apart.
        logind.sleep(true);
        logind.wait_inhibitors(2 * round + 2, 0);
        assert_eq!(sysctl_read("net/ipv4/ip_forward"), "1");
        logind.sleep(false);
        guard.wait_record("the end of two sleeps", |_| wakes(&guard).len() == 2 * (round + 1));
    }
    let told = wakes(&guard);
    let named = "2 settings had changed: net.ipv4.ip_forward, net.ipv4.ip_local_reserved_ports \
                 (noticed by logind and the sleep hook)";
    for (first, second) in [(&told[0], &told[1]), (&told[2], &told[3])] {
        assert!(first["MESSAGE"].ends_with(named), "{:?}", messages(&told));
        assert!(second["MESSAGE"].ends_with("no setting had changed (noticed by logind)"), "{:?}", messages(&told));
    }
    assert_eq!(wakes(&guard).len(), 4);
}

#[test]
fn what_follows_is_told_apart_and_a_guard_that_stops_tells_what_it_owes() {
    let ns = Namespace::enter();
    ns.write("etc/fwdguard.d/10.conf", "net.ipv4.ip_forward = 1\n");
    let bus = Bus::start(&ns);
    let logind = bus.logind(false);
    let guard = bus.guard(&ns);
    logind.wait_inhibitors(1, 1);
    logind.sleep(true);
    logind.wait_inhibitors(1, 0);
    logind.sleep(false);
    guard.wait_message("no setting had changed");
    sysctl_write("net/ipv4/ip_forward", "0");
    wait_sysctl("net/ipv4/ip_forward", "1");
    logind.wait_inhibitors(2, 1);
    logind.sleep(true);
    logind.wait_inhibitors(2, 0);
    let more = guard.wait_message("1 setting had changed since that was told: net.ipv4.ip_forward (noticed by logind)");
    assert!(more["MESSAGE"].starts_with("Resumed after "), "{more:?}");
    sysctl_write("net/ipv4/ip_forward", "0");
    wait_sysctl("net/ipv4/ip_forward", "1");
    logind.sleep(false);
    logind.wait_inhibitors(3, 1);
    let (_, records) = guard.stop();
    let told: Vec<_> = messages(&records).into_iter().filter(|text| text.starts_with("Resumed")).collect();
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[2].ends_with("1 setting had changed: net.ipv4.ip_forward (noticed by logind)"), "{told:?}");
}

#[test]
fn each_hypervisors_hook_is_answered() {
    let ns = Namespace::enter();
    ns.write("etc/fwdguard.d/10.conf", "net.ipv4.ip_forward = 1\n");
    let guard = ns.guard();
    // open-vm-tools stops the network before the host pauses the machine.
    sysctl_write("net/ipv4/ip_forward", "0");
    wait_sysctl("net/ipv4/ip_forward", "1");
    for round in 1..=2 {
        guard.signal("USR1");
        guard.wait_record("the look", |_| wakes(&guard).len() == round);
    }
    guard.signal("USR1");
    let (_, records) = guard.stop();
    let told: Vec<_> = records.iter().filter(|record| record["MESSAGE"].starts_with("Resumed")).collect();
    assert_eq!(told.len(), 3, "{:?}", messages(&records));
    let changed = "Resumed (how long it slept is not known); 1 setting had changed: net.ipv4.ip_forward \
                   (noticed by the hypervisor's hook)";
    assert_eq!(told[0]["MESSAGE"], changed);
    assert!(told.iter().all(|record| record["CAUSE"] == "hypervisor"), "{told:?}");
    assert!(told[1..].iter().all(|record| record["MESSAGE"].contains("no setting had changed")), "{told:?}");
}

#[test]
fn a_wake_up_that_is_told_twice_is_one_record() {
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
    // A sleep of its own marks the end of what there is to wait for.
    logind.sleep(true);
    logind.wait_inhibitors(3, 0);
    logind.sleep(false);
    logind.wait_inhibitors(4, 1);
    let (_, records) = guard.stop();
    assert_eq!(records.iter().filter(|r| r["MESSAGE"].starts_with("Resumed")).count(), 2);
}

#[test]
fn a_wake_up_without_a_sleep_is_told_with_no_duration() {
    let ns = Namespace::enter();
    ns.write("etc/fwdguard.d/10.conf", "net.ipv4.ip_local_reserved_ports = 5000\n");
    let bus = Bus::start(&ns);
    let logind = bus.logind(false);
    let guard = bus.guard(&ns);
    logind.wait_inhibitors(1, 1);
    sysctl_write_unseen("net/ipv4/ip_local_reserved_ports", "6000");
    logind.sleep(false);
    let record = guard.wait_message("Resumed (how long it slept is not known); 1 setting had changed: ");
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
    assert_eq!(sysctl_read(PORTS), "6000", "nobody but the bus tells of a manager");
    logind.sleep(false);
    logind.wait_inhibitors(2, 1);
    assert_eq!(wait_ports_repaired(&guard)["CAUSE"], "resume");
    let (_, records) = guard.stop();
    let wakes: Vec<_> = records.iter().filter(|r| r["MESSAGE"].starts_with("Resumed")).collect();
    assert_eq!(wakes.len(), 1, "{:?}", messages(&records));
    assert!(!wakes[0].contains_key("SLEEP_USEC"), "the sleep was a lie");
    assert!(records.iter().all(|r| !r.contains_key("SOURCE")), "{:?}", messages(&records));
}

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
    // Nobody but logind speaks for logind, whether it is there or not.
    bus.lie_about_sleep(&target, false);
    sysctl_write_unseen("net/ipv4/ip_local_reserved_ports", "6000");

    let logind = bus.logind(false);
    let back = wait_source(&guard, "logind", "logind is back", 1);
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
    wait_source(&guard, "logind", "logind is back", 1);
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
        wait_source(&guard, "the system bus", "the system bus is back", round);
    }
    let logind = bus.logind(false);
    logind.wait_inhibitors(1, 1);
    wait_source(&guard, "logind", "logind is back", 1);
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
    wait_source(&guard, "the system bus", "the system bus is back", 1);
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
    wait_source(&guard, "the system bus", "the system bus is back", 1);
    logind.wait_inhibitors(1, 1);
    let lost = guard.records().iter().filter(|r| r["MESSAGE"].contains("Lost the system bus")).count();
    assert_eq!(lost, 1, "told once, however often it was tried");
}

#[test]
fn a_bus_that_hangs_is_told_and_awaited() {
    let ns = Namespace::enter();
    let bus = Bus::start(&ns);
    bus.signal("STOP");
    let guard = bus.guard(&ns);
    sysctl_write("net/ipv4/ip_forward", "0");
    wait_sysctl("net/ipv4/ip_forward", "1");
    wait_source(&guard, "the system bus", "Lost the system bus: ", 1);
    bus.signal("CONT");
    wait_source(&guard, "the system bus", "the system bus is back", 1);
    bus.logind(false).wait_inhibitors(1, 1);
}

#[test]
fn a_network_manager_that_comes_goes_or_restarts_is_looked_after() {
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
fn a_logind_that_restarts_without_a_gap_is_looked_after() {
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
