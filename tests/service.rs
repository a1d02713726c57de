//! The guard as a service: its notifications to the service manager, and a policy that changes while it runs.

mod common;

use common::*;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::{Duration, Instant};

const PING: &str = "WATCHDOG=1";

#[test]
fn ready_comes_after_the_first_full_pass() {
    let ns = Namespace::enter();
    let batch: String = (0..100).map(|n| format!("link add d{n} type veth peer name e{n}\n")).collect();
    ns.write("batch", &batch);
    run(&format!("ip -batch {}", ns.path("batch").display()));
    ns.write(
        "etc/fwdguard.d/10.conf",
        "net.ipv4.ip_forward = 1\nnet.ipv4.conf.*.forwarding = 1\nnet.ipv4.conf.e*.rp_filter = 2\nnet.ipv4.tcp_fin_timeout = 1234\n",
    );
    let mut guard = ns.guard();
    assert_eq!(sysctl_read("net/ipv4/ip_forward"), "1");
    assert_eq!(sysctl_read("net/ipv4/tcp_fin_timeout"), "1234");
    for n in 0..100 {
        assert_eq!(sysctl_read(&format!("net/ipv4/conf/d{n}/forwarding")), "1");
        assert_eq!(sysctl_read(&format!("net/ipv4/conf/e{n}/rp_filter")), "2");
    }
    guard.wait_notified("STATUS=Guarding ");
}

/// Elsewhere niceness counts only within a session (sched(7), "The autogroup feature").
#[test]
fn its_niceness_is_its_sessions() {
    let ns = Namespace::enter();
    let guard = Running::start(&ns, |command| {
        reworded(command, |words| ["nice", "-n", "5", "setsid"].map(Into::into).into_iter().chain(words).collect())
    });
    let own = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", guard.pid())).unwrap_or_default();
    let stat = own("stat");
    let fields: Vec<&str> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
    let (session, niceness) = (fields[3], fields[16]);
    assert_eq!(session, guard.pid().to_string());
    let group = own("autogroup");
    if group.is_empty() {
        left_out::not_in_this_kernel("it does not group processes by session");
    } else {
        assert!(group.trim_end().ends_with(&format!(" nice {niceness}")) && niceness != "0", "{group}, not {niceness}");
    }
}

#[test]
fn the_status_is_for_the_operator() {
    let ns = Namespace::enter();
    ns.write("etc/fwdguard.d/10.conf", "net.ipv4.ip_forward = 1\nnet.ipv4.conf.*.forwarding = 1\nkernal.panic = 1\n");
    let mut guard = ns.guard();
    guard.wait_notified("1 repair since start, last: net.ipv4.ip_forward at ");
    sysctl_write("net/ipv4/conf/lo/forwarding", "0");
    let status = guard.wait_notified("2 repairs since start, last: net.ipv4.conf.lo.forwarding at ");
    let writer =
        if fwdguard::kernel::fanotify::open().is_ok() { " (cause: write; written by " } else { " (cause: write)" };
    assert!(status.starts_with("STATUS=Guarding ") && status.contains(writer), "{status}");
    assert!(status.contains("; 1 policy error"), "{status}");
    guard.wait_message("Lost the system bus");
    sysctl_write("net/ipv4/ip_forward", "0");
    let status = guard.wait_notified("3 repairs since start");
    assert!(status.contains("; lost: the system bus"), "{status}");
}

#[test]
fn a_reload_is_announced_and_done_when_ready_comes() {
    let ns = Namespace::enter();
    ns.write("etc/fwdguard.d/10.conf", "net.ipv4.ip_forward = 1\n");
    let mut guard = ns.guard();
    for value in ["2000", "3000"] {
        ns.write("etc/fwdguard.d/20.conf", &format!("net.ipv4.tcp_fin_timeout = {value}\n"));
        guard.signal("HUP");
        let reloading = guard.wait_notified("RELOADING=1");
        let usec = reloading.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).expect("when it began");
        assert!(usec.parse::<u64>().is_ok_and(|usec| usec > 0), "{reloading}");
        guard.wait_notified("READY=1");
        assert_eq!(sysctl_read("net/ipv4/tcp_fin_timeout"), value);
    }
}

/// The kernel looks for an altname under the RTNL lock, which another process may hold for long.
#[test]
fn the_event_loop_waits_for_no_altname() {
    let ns = Namespace::enter();
    ns.write("etc/fwdguard.d/10.conf", "net.ipv4.conf.tunl0.rp_filter = 0\n");
    let mut guard = ns.guard();
    let trace = Trace::of(guard.pid(), &ns);
    guard.signal("HUP");
    guard.wait_notified("READY=1");
    let trace = trace.finish();
    assert!(trace.contains("READY=1"), "its main thread runs the event loop: {trace}");
    assert!(!trace.contains("AF_NETLINK"), "{trace}");
}

#[test]
fn a_reload_is_answered_though_nothing_has_changed() {
    let ns = Namespace::enter();
    let mut guard = ns.guard();
    for _ in 0..3 {
        guard.signal("HUP");
        guard.wait_notified("RELOADING=1");
        guard.wait_notified("READY=1");
    }
}

/// Status lines alone fill its queue in a quarter of an hour.
#[test]
fn a_service_manager_that_hangs_holds_nothing_up() {
    let ns = Namespace::enter();
    ns.write("etc/fwdguard.d/10.conf", "net.ipv4.ip_forward = 1\n");
    let mut guard = Running::start(&ns, with_watchdog);
    guard.fill_notifications();
    for round in 1..=3 {
        sysctl_write("net/ipv4/ip_forward", "0");
        wait_sysctl("net/ipv4/ip_forward", "1");
        let deadline = Instant::now() + TIMEOUT;
        while guard.repairs().len() < round + 1 {
            assert!(Instant::now() < deadline, "repaired, and not logged: {:?}", messages(&guard.records()));
            std::thread::sleep(Duration::from_millis(5));
        }
        // Long enough for a status line.
        std::thread::sleep(Duration::from_millis(300));
    }
    guard.signal("HUP");
    ns.write("etc/fwdguard.d/20.conf", "net.core.somaxconn = 4000\n");
    wait_sysctl("net/core/somaxconn", "4000");
    // The service manager reads again: it receives what it waits for after all.
    guard.wait_notified("READY=1");
    guard.fill_notifications();
    guard.signal("TERM");
    let deadline = Instant::now() + TIMEOUT;
    while guard.is_running() {
        assert!(Instant::now() < deadline, "it does not stop");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(guard.stop().0.success());
}

#[test]
fn it_stops_on_a_signal() {
    for signal in ["TERM", "INT"] {
        let ns = Namespace::enter();
        let mut guard = ns.guard();
        guard.signal(signal);
        guard.wait_notified("STOPPING=1");
        guard.wait_message("Stopping after 1 repair; settings are no longer guarded");
        let (status, _) = guard.stop();
        assert_eq!(status.code(), Some(0));
    }
}

/// As systemd sets it up: the variables name this very process.
fn with_watchdog(command: &mut Command) -> &mut Command {
    command.env("WATCHDOG_USEC", "300000");
    reworded(command, |words| {
        let shell = ["sh", "-c", "WATCHDOG_PID=$$ exec \"$0\" \"$@\""].map(Into::into);
        shell.into_iter().chain(words).collect()
    })
}

#[test]
fn the_watchdog_is_pinged_for_as_long_as_the_guard_thread_turns() {
    let ns = Namespace::enter();
    let mut guard = Running::start(&ns, with_watchdog);
    for _ in 0..5 {
        guard.wait_notified(PING);
    }
    let thread = Traced::stop(guard_thread(guard.pid()) as libc::pid_t);
    guard.notifications();
    std::thread::sleep(Duration::from_secs(1));
    let pings = guard.notifications().iter().filter(|state| state.contains(PING)).count();
    assert!(pings <= 1, "{pings} pings in ten periods, while the guard thread stands still");
    drop(thread);
    for _ in 0..3 {
        guard.wait_notified(PING);
    }
    sysctl_write("net/ipv4/ip_forward", "0");
    wait_sysctl("net/ipv4/ip_forward", "1");
}

#[test]
fn another_processs_watchdog_is_not_pinged() {
    let ns = Namespace::enter();
    let mut guard = Running::start(&ns, |command| command.env("WATCHDOG_USEC", "30000").env("WATCHDOG_PID", "1"));
    std::thread::sleep(Duration::from_millis(200));
    assert!(!guard.notifications().iter().any(|state| state.contains(PING)));
}

/// One thread that is stopped (ptrace(2)), while the others of its process go on.
struct Traced(libc::pid_t);

impl Traced {
    fn stop(tid: libc::pid_t) -> Traced {
        let null = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: neither request reads or writes this process's memory, and a status may be absent.
        unsafe {
            assert_eq!(libc::ptrace(libc::PTRACE_SEIZE, tid, null, null), 0, "{}", std::io::Error::last_os_error());
            assert_eq!(libc::ptrace(libc::PTRACE_INTERRUPT, tid, null, null), 0);
            assert_eq!(libc::waitpid(tid, std::ptr::null_mut(), libc::__WALL), tid);
        }
        Traced(tid)
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        let null = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: as above; a thread that has ended is no longer traced, and the call fails.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, self.0, null, null) };
    }
}

/// Waits until `text` has been logged `times` times.
fn wait_times(guard: &Running, text: &str, times: usize) {
    let deadline = Instant::now() + TIMEOUT;
    while guard.records().iter().filter(|r| r["MESSAGE"].contains(text)).count() < times {
        assert!(Instant::now() < deadline, "not {times} times {text:?}: {:#?}", messages(&guard.records()));
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A key that only the policy changes, so that its value shows which policy holds.
const KEY: &str = "net/ipv4/tcp_fin_timeout";

fn line(value: u32) -> String {
    format!("net.ipv4.tcp_fin_timeout = {value}\n")
}

#[test]
fn a_policy_file_takes_effect_however_it_is_saved() {
    let ns = Namespace::enter();
    let guard = ns.guard();
    wait_times(&guard, "Policy loaded: 5 lines", 1);
    // The folder is not there yet, nor is the folder above it.
    assert!(!ns.path("etc").exists());
    ns.write("etc/fwdguard.d/10.conf", &line(1001));
    wait_sysctl(KEY, "1001");
    wait_times(&guard, "Policy loaded", 2);
    // In place.
    ns.write("etc/fwdguard.d/10.conf", &line(1002));
    wait_sysctl(KEY, "1002");
    // By rename, as editors do.
    ns.write("etc/fwdguard.d/.10.conf.new", &line(1003));
    fs::rename(ns.path("etc/fwdguard.d/.10.conf.new"), ns.path("etc/fwdguard.d/10.conf")).expect("rename");
    wait_sysctl(KEY, "1003");
    // In place once more, in the file that was renamed to it.
    ns.write("etc/fwdguard.d/10.conf", &line(1004));
    wait_sysctl(KEY, "1004");
    // Added to, by a name that is read later.
    ns.write("usr/lib/fwdguard.d/20.conf", &line(1005));
    wait_sysctl(KEY, "1005");
    // Masked, the earlier file's line counts again.
    symlink("/dev/null", ns.path("etc/fwdguard.d/20.conf")).expect("a link");
    wait_sysctl(KEY, "1004");
    // Unmasked.
    fs::remove_file(ns.path("etc/fwdguard.d/20.conf")).expect("remove");
    wait_sysctl(KEY, "1005");
    // Deleted.
    fs::remove_file(ns.path("usr/lib/fwdguard.d/20.conf")).expect("remove");
    wait_sysctl(KEY, "1004");
    let loads = guard.records().iter().filter(|r| r["MESSAGE"].starts_with("Policy loaded")).count();
    assert!(loads >= 8, "{:#?}", messages(&guard.records()));
    let causes: Vec<_> = guard
        .repairs()
        .into_iter()
        .filter(|r| r["SYSCTL"] == "net.ipv4.tcp_fin_timeout")
        .map(|r| r["CAUSE"].clone())
        .collect();
    assert!(causes.len() >= 7 && causes.iter().all(|cause| cause == "reload"), "{causes:?}");
}

#[test]
fn folders_come_and_go() {
    let ns = Namespace::enter();
    ns.write("usr/lib/fwdguard.d/50.conf", &line(1001));
    let guard = ns.guard();
    for _ in 0..3 {
        ns.write("etc/fwdguard.d/60.conf", &line(1002));
        wait_sysctl(KEY, "1002");
        fs::remove_dir_all(ns.path("etc/fwdguard.d")).expect("remove");
        wait_sysctl(KEY, "1001");
        ns.write("etc/other/60.conf", &line(1003));
        fs::rename(ns.path("etc/other"), ns.path("etc/fwdguard.d")).expect("rename");
        wait_sysctl(KEY, "1003");
        fs::remove_dir_all(ns.path("etc")).expect("remove");
        wait_sysctl(KEY, "1001");
    }
    guard.stop();
}

#[test]
fn links_are_followed() {
    let ns = Namespace::enter();
    ns.write("srv/one", &line(1001));
    ns.write("srv/two", &line(1002));
    ns.write("etc/fwdguard.d/00.conf", "net.ipv4.ip_forward = 1\n");
    symlink("/srv/current", ns.path("etc/fwdguard.d/10.conf")).expect("a link");
    symlink("one", ns.path("srv/current")).expect("a link");
    let guard = ns.guard();
    assert_eq!(sysctl_read(KEY), "1001");
    // The target has new content.
    ns.write("srv/one", &line(1003));
    wait_sysctl(KEY, "1003");
    // A link on the way leads elsewhere, changed in one step as ConfigMaps are.
    symlink("two", ns.path("srv/next")).expect("a link");
    fs::rename(ns.path("srv/next"), ns.path("srv/current")).expect("rename");
    wait_sysctl(KEY, "1002");
    // There, too, a write takes effect.
    ns.write("srv/two", &line(1004));
    wait_sysctl(KEY, "1004");
    // The link leads nowhere, which is logged; then somewhere again.
    fs::remove_file(ns.path("srv/two")).expect("remove");
    guard.wait_message("10.conf: cannot be read");
    ns.write("srv/two", &line(1005));
    wait_sysctl(KEY, "1005");
}

#[test]
fn an_invalid_line_is_logged_and_the_valid_ones_take_effect() {
    let ns = Namespace::enter();
    ns.write("etc/fwdguard.d/10.conf", &line(1001));
    let guard = ns.guard();
    ns.write("etc/fwdguard.d/10.conf", &format!("this is no setting\n{}kernal.panic = 1\n", line(1002)));
    wait_sysctl(KEY, "1002");
    let first = guard.wait_message("10.conf:1: ");
    assert_eq!((&*first["PRIORITY"], &*first["POLICY_LINE"]), ("4", "1"));
    guard.wait_message("10.conf:3: ");
    guard.wait_message("Policy loaded: 1 line, 2 errors");
    sysctl_write("net/ipv4/tcp_fin_timeout", "17");
    guard.signal("USR1");
    wait_sysctl(KEY, "1002");
}

#[test]
fn a_policy_that_can_t_be_read_leaves_the_last_good_one() {
    let ns = Namespace::enter();
    ns.write("etc/fwdguard.d/10.conf", &line(1001));
    let mut guard = ns.guard();
    fs::remove_file(ns.path("etc/fwdguard.d/10.conf")).expect("remove");
    symlink("/nowhere", ns.path("etc/fwdguard.d/10.conf")).expect("a link");
    let logged = guard.wait_message("10.conf: cannot be read");
    assert_eq!((&*logged["PRIORITY"], &*logged["POLICY_LINE"]), ("4", "0"));
    // A reload by SIGHUP changes nothing.
    guard.signal("HUP");
    guard.wait_notified("RELOADING=1");
    guard.wait_notified("READY=1");
    sysctl_write(KEY, "17");
    guard.signal("USR1");
    wait_sysctl(KEY, "1001");
    // Once repaired, it takes effect by itself.
    fs::remove_file(ns.path("etc/fwdguard.d/10.conf")).expect("remove");
    ns.write("etc/fwdguard.d/10.conf", &line(1002));
    wait_sysctl(KEY, "1002");
}

#[test]
fn the_same_policy_again_is_no_news() {
    let ns = Namespace::enter();
    ns.write("etc/fwdguard.d/10.conf", &line(1001));
    let guard = ns.guard();
    ns.write("etc/fwdguard.d/10.conf", &line(1001));
    ns.write("etc/fwdguard.d/README", "no policy");
    std::thread::sleep(Duration::from_millis(200));
    ns.write("etc/fwdguard.d/10.conf", &line(1002));
    wait_sysctl(KEY, "1002");
    wait_times(&guard, "Policy loaded", 2);
    let (_, records) = guard.stop();
    // A write in place is two steps, and the file may have been read between them.
    let loads = records.iter().filter(|r| r["MESSAGE"] == "Policy loaded: 1 line").count();
    assert!(loads <= 3, "{:#?}", messages(&records));
}
