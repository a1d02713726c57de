//! Sleeps that the hooks of systemd-sleep and of hypervisors announce.

use super::*;

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
        let kill = r#"[ "$1 $2 $4" = 'kill --kill-who=main fwdguard.service' ] && exec kill -s "${3#--signal=}" PID"#;
        SleepHook::of(ns, &kill.replace("PID", &guard.pid().to_string()))
    }

    fn runs(&self, when: &str) {
        let path = format!("{}:{}", self.0.display(), std::env::var("PATH").expect("a PATH"));
        let mut hook = std::process::Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/system-sleep.sh"));
        let output = hook.args([when, "suspend"]).env("PATH", path).output().expect("the hook runs");
        assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
    }
}

#[test]
fn the_sleep_hook_announces_a_sleep_without_logind() {
    let ns = Namespace::enter();
    ns.write("etc/fwdguard.d/10.conf", &format!("net.ipv4.ip_forward = 1\n{PORTS_POLICY}"));
    let guard = ns.guard();
    let hook = SleepHook::to(&ns, &guard);
    // As another package's hook does, which runs beside this one.
    sysctl_write("net/ipv4/ip_forward", "0");
    wait_sysctl("net/ipv4/ip_forward", "1");
    hook.runs("pre");
    change_ports_unseen();
    hook.runs("post");
    assert_eq!(wait_ports_repaired(&guard)["CAUSE"], "resume", "at once, long before it is logged");
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
fn one_sleep_is_one_record_whatever_announces_it() {
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
        // A hook that runs late.
        std::thread::sleep(std::time::Duration::from_millis(400));
        sysctl_write("net/ipv4/ip_local_reserved_ports", "6000");
        wait_sysctl("net/ipv4/ip_local_reserved_ports", "5000");
        // The next sleep has a record of its own.
        logind.sleep(true);
        logind.wait_inhibitors(2 * round + 2, 0);
        assert_eq!(sysctl_read("net/ipv4/ip_forward"), "1");
        logind.sleep(false);
        guard.wait_record("the end of two sleeps", |_| wakes(&guard).len() == 2 * (round + 1));
    }
    let resumes = wakes(&guard);
    let named = "2 settings had changed: net.ipv4.ip_forward, net.ipv4.ip_local_reserved_ports \
                 (noticed by logind and the sleep hook)";
    for (first, second) in [(&resumes[0], &resumes[1]), (&resumes[2], &resumes[3])] {
        assert!(first["MESSAGE"].ends_with(named), "{:?}", messages(&resumes));
        assert!(second["MESSAGE"].ends_with("no setting had changed (noticed by logind)"), "{:?}", messages(&resumes));
    }
    assert_eq!(wakes(&guard).len(), 4);
}

#[test]
fn later_repairs_have_a_second_record_which_is_written_at_stop_at_the_latest() {
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
    let more =
        guard.wait_message("1 setting had changed since the previous record: net.ipv4.ip_forward (noticed by logind)");
    assert!(more["MESSAGE"].starts_with("Resumed after "), "{more:?}");
    sysctl_write("net/ipv4/ip_forward", "0");
    wait_sysctl("net/ipv4/ip_forward", "1");
    logind.sleep(false);
    logind.wait_inhibitors(3, 1);
    let (_, records) = guard.stop();
    let resumes: Vec<_> = messages(&records).into_iter().filter(|text| text.starts_with("Resumed")).collect();
    assert_eq!(resumes.len(), 3, "{resumes:?}");
    assert!(resumes[2].ends_with("1 setting had changed: net.ipv4.ip_forward (noticed by logind)"), "{resumes:?}");
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
    let resumes: Vec<_> = records.iter().filter(|record| record["MESSAGE"].starts_with("Resumed")).collect();
    assert_eq!(resumes.len(), 3, "{:?}", messages(&records));
    let changed = "Resumed (sleep duration unknown); 1 setting had changed: net.ipv4.ip_forward \
                   (noticed by the hypervisor's hook)";
    assert_eq!(resumes[0]["MESSAGE"], changed);
    assert!(resumes.iter().all(|record| record["CAUSE"] == "hypervisor"), "{resumes:?}");
    assert!(resumes[1..].iter().all(|record| record["MESSAGE"].contains("no setting had changed")), "{resumes:?}");
}
