//! A refusal of the kernel, as by SELinux, is not an absence: the guard logs the loss, and uses a fallback.

mod common;

use common::*;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// A call that is refused: all of its kind, or those with this one in the argument of this number.
#[derive(Clone, Copy)]
struct Refused(libc::c_long, Option<(u32, u32)>);

/// Requests to rtnetlink: everything else that the program sends, it sends with MSG_NOSIGNAL.
const QUESTIONS: Refused = Refused(libc::SYS_sendto, Some((3, 0)));
const NAMES: Refused = Refused(libc::SYS_ioctl, Some((1, libc::SIOCGIFNAME as u32)));
const INDICES: Refused = Refused(libc::SYS_ioctl, Some((1, libc::SIOCGIFINDEX as u32)));
const HINT: &str = "Permission denied; if SELinux refuses it, 'ausearch -m avc -ts recent' shows what";

/// Makes the kernel refuse these calls with EACCES (seccomp(2)) in the process that `command` becomes.
fn refuse<'a>(command: &'a mut Command, calls: &[Refused]) -> &'a mut Command {
    let step = |code: u32, when_false: u8, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: when_false, k };
    let load = |at| step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, at);
    let is = |value, otherwise| step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, otherwise, value);
    let end = |action| step(libc::BPF_RET | libc::BPF_K, 0, action);
    let deny = end(libc::SECCOMP_RET_ERRNO | libc::EACCES as u32);
    let mut filter = Vec::new();
    for Refused(number, argument) in calls {
        filter.push(load(0)); // seccomp_data.nr
        match argument {
            None => filter.extend([is(*number as u32, 1), deny]),
            Some((nth, value)) => {
                // The lower half of seccomp_data.args[nth].
                filter.extend([is(*number as u32, 3), load(16 + 8 * nth), is(*value, 1), deny]);
            }
        }
    }
    filter.push(end(libc::SECCOMP_RET_ALLOW));
    let apply = move || {
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
        // SAFETY: prctl(2) reads the program and its filter, which live until it returns, and keeps copies.
        let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
        if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: between fork and exec it makes one system call, and allocates nothing.
    unsafe { command.pre_exec(apply) }
}

fn lost(guard: &Running, source: &str) -> Record {
    guard.wait_record(source, |record| {
        record.get("SOURCE").is_some_and(|lost| lost == source) && !record["MESSAGE"].starts_with("Available again: ")
    })
}

fn prepared(policy: &str) -> Namespace {
    let ns = Namespace::enter();
    ns.veth("a0", "b0");
    ns.write("etc/fwdguard.d/10.conf", policy);
    ns
}

const POLICY: &str = "net.ipv4.ip_forward = 1\nnet.ipv4.conf.*.forwarding = 1\nnet.ipv4.conf.a0.rp_filter = 0\n\
                      net.ipv6.conf.all.forwarding = 1\n-net.ipv4.conf.b0.forwarding\nnet.core.somaxconn = 4000\n";

#[test]
fn every_interface_is_guarded_where_rtnetlink_answers_nothing() {
    let ns = prepared(POLICY);
    sysctl_write("net/ipv4/conf/a0/rp_filter", "1");
    let mut guard = Running::start(&ns, |command| refuse(command, &[QUESTIONS]));
    let record = lost(&guard, "rtnetlink dumps");
    assert!(record["MESSAGE"].contains(HINT), "{record:#?}");
    guard.wait_notified("lost: rtnetlink dumps");
    for (key, value) in [("a0/rp_filter", "0"), ("a0/forwarding", "1"), ("all/forwarding", "1"), ("b0/forwarding", "0")]
    {
        assert_eq!(sysctl_read(&format!("net/ipv4/conf/{key}")), value, "{key}: right before READY");
    }
    assert_eq!(sysctl_read("net/ipv6/conf/all/forwarding"), "1");
    // Interfaces that come later, and settings that change later.
    run("ip link add new0 type veth peer name new1");
    sysctl_write("net/ipv4/conf/new0/forwarding", "0");
    wait_sysctl("net/ipv4/conf/new0/forwarding", "1");
    run("ip link set new0 name other0");
    sysctl_write("net/ipv4/conf/other0/forwarding", "0");
    wait_sysctl("net/ipv4/conf/other0/forwarding", "1");
    sysctl_write("net/ipv4/ip_forward", "0");
    wait_sysctl("net/ipv4/ip_forward", "1");
    wait_sysctl("net/ipv4/conf/b0/forwarding", "0");
    guard.signal("USR1");
    guard.signal("HUP");
    guard.wait_notified("READY=1");
    let (_, records) = guard.stop();
    let logged = records.iter().filter(|record| record.get("SOURCE").is_some_and(|source| source == "rtnetlink dumps"));
    assert_eq!(logged.count(), 1, "once, however often everything is read: {:#?}", messages(&records));
}

#[test]
fn no_interface_is_logged_as_an_error() {
    let ns = prepared(POLICY);
    let mut guard = Running::start(&ns, |command| refuse(command, &[QUESTIONS, NAMES, INDICES]));
    let record = lost(&guard, "the interfaces");
    assert_eq!(record["PRIORITY"], "3");
    assert!(record["MESSAGE"].starts_with("No interface is guarded: "), "{record:#?}");
    guard.wait_notified("the interfaces");
    // Settings that need no interface are guarded.
    for key in ["net/ipv4/ip_forward", "net/ipv4/conf/default/forwarding"] {
        sysctl_write(key, "0");
        wait_sysctl(key, "1");
    }
    // The same for `fwdguard apply`.
    let output = refuse(&mut ns.command(), &[QUESTIONS, NAMES, INDICES])
        .args(["apply", "--root"])
        .arg(ns.root())
        .output()
        .expect("fwdguard runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("fwdguard: No interface is guarded: "), "{stderr}");
}

#[test]
fn apply_reports_the_settings_that_are_still_wrong() {
    let ns = prepared("net.ipv4.conf.a0.rp_filter = 0\n-net.core.somaxconn = 4000\n");
    sysctl_write("net/ipv4/conf/a0/rp_filter", "1");
    let output = refuse(&mut ns.command(), &[QUESTIONS, NAMES, INDICES])
        .args(["apply", "--root"])
        .arg(ns.root())
        .output()
        .expect("fwdguard runs");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.contains("1 failed"), "{stdout}");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("net.ipv4.conf.a0.rp_filter is 1, not 0"), "{stderr}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn refused_watches_of_settings_and_policy_are_logged() {
    let ns = prepared(POLICY);
    let mut guard = Running::start(&ns, |command| refuse(command, &[Refused(libc::SYS_inotify_add_watch, None)]));
    for source in ["inotify on settings", "the policy watch"] {
        let record = lost(&guard, source);
        assert_eq!(record["PRIORITY"], "4");
        assert!(record["MESSAGE"].contains(HINT), "{record:#?}");
    }
    guard.wait_notified("lost: inotify on settings, the policy watch");
    // Settings that netconf announces are guarded as ever, and the others by each check of everything.
    sysctl_write("net/ipv4/ip_forward", "0");
    wait_sysctl("net/ipv4/ip_forward", "1");
    sysctl_write("net/core/somaxconn", "1");
    ns.write("etc/fwdguard.d/10.conf", &POLICY.replace("= 4000", "= 4001"));
    guard.signal("HUP");
    wait_sysctl("net/core/somaxconn", "4001");
}

#[test]
fn refused_watches_of_writers_are_logged() {
    let ns = prepared(POLICY);
    let guard = Running::start(&ns, |command| refuse(command, &[Refused(libc::SYS_fanotify_mark, None)]));
    let is_watched = fwdguard::kernel::fanotify::open().is_ok();
    if is_watched {
        assert!(lost(&guard, "fanotify")["MESSAGE"].contains(HINT));
    }
    sysctl_write("net/ipv4/ip_forward", "0");
    let repair = guard.wait_record("ip_forward", |record| record.contains_key("WRITER_UNKNOWN"));
    let why =
        if is_watched { "the kernel does not let fwdguard watch its file for writers" } else { "without fanotify" };
    assert!(repair["WRITER_UNKNOWN"].contains(why), "{repair:#?}");
}

#[test]
fn unreadable_files_are_logged() {
    let ns = prepared(POLICY);
    ns.write("etc/sysctl.d/10.conf", "net.ipv4.ip_forward = 0\n");
    for path in ["etc/fwdguard.d/20.conf", "run/fwdguard.d/30.conf"] {
        ns.write(path, "net.ipv4.tcp_fin_timeout = 12\n");
    }
    // Root without CAP_DAC_OVERRIDE, as in the unit, may not read files of other users.
    for path in ["etc/sysctl.d/10.conf", "etc/fwdguard.d/20.conf", "run/fwdguard.d"] {
        let path = ns.path(path);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod");
        if chown(&path, Some(1000), None).is_err() {
            // A user namespace of its own has no other user.
            let map = fs::read_to_string("/proc/self/uid_map").expect("a map");
            return assert!(!map.contains("4294967295"), "{map}");
        }
    }
    let as_in_the_unit = |arguments: &[&str]| {
        let program = env!("CARGO_BIN_EXE_fwdguard");
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set=-all,+net_admin", "--inh-caps=-all", program]).args(arguments);
        let output = command.arg("--root").arg(ns.root()).output().expect("setpriv runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (status, stderr) = as_in_the_unit(&["check"]);
    for (path, end) in [
        ("etc/sysctl.d/10.conf", HINT),
        ("etc/fwdguard.d/20.conf", "cannot be read (Permission denied; "),
        ("run/fwdguard.d", "the directory is refused: "),
    ] {
        let logged = stderr.lines().any(|line| line.contains(&format!("{path}: {end}")));
        assert!(logged, "{path}: {stderr}");
    }
    assert_eq!(status, Some(1), "{stderr}");
}
