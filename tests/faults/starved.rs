//! Too few descriptors, too little memory, a full disk.

use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{assert_all_holds, attempt, broken};
use crate::common::{Namespace, Record, Running, messages, reworded, run, sysctl_read, sysctl_write, wait_sysctl};

fn limited<'c>(command: &'c mut std::process::Command, limit: &str) -> &'c mut std::process::Command {
    reworded(command, |words| ["prlimit", limit].map(Into::into).into_iter().chain(words).collect())
}

#[test]
fn few_descriptors_are_enough_or_one_line_reports_it() {
    let ns = broken();
    let (mut ended, mut ready) = (0, 0);
    for limit in [4, 16, 40, 63, 64, 80, 128, 1024] {
        super::break_all();
        let outcome = attempt(&ns, |command| limited(command, &format!("--nofile={limit}")));
        match outcome.ended {
            None => {
                assert_all_holds(&format!("with {limit} descriptors"));
                ready += 1;
            }
            Some(status) => {
                assert_eq!(status.code(), Some(1), "with {limit} descriptors: {}", outcome.reason());
                assert_eq!(ready, 0, "with {limit} descriptors, though fewer were enough");
                outcome.reason();
                ended += 1;
            }
        }
    }
    assert_eq!((ended, ready), (4, 4), "ended, and READY");
}

/// More settings than descriptors: files that serve only the writer's name or the latency leave room for repairs and the policy.
#[test]
fn few_descriptors_are_for_repairs_first() {
    for limit in [64, 100, 400] {
        let ns = Namespace::enter();
        let links: String = (0..60).map(|n| format!("link add p{n} type veth peer name x{n}\n")).collect();
        ns.write("batch", &links);
        run(&format!("ip -batch {}", ns.path("batch").display()));
        ns.write(
            "etc/fwdguard.d/10.conf",
            "net.ipv4.conf.*.forwarding = 1\nnet.ipv4.conf.p*.arp_ignore = 1\nnet.ipv4.ip_forward = 1\n",
        );
        let guard = Running::start(&ns, |command| limited(command, &format!("--nofile={limit}")));
        for n in 0..60 {
            let key = format!("net/ipv4/conf/p{n}/forwarding");
            sysctl_write(&key, "0");
            wait_sysctl(&key, "1");
        }
        sysctl_write("net/ipv4/conf/p7/arp_ignore", "0");
        guard.signal("USR1");
        wait_sysctl("net/ipv4/conf/p7/arp_ignore", "1");
        ns.write("etc/fwdguard.d/20.conf", "net.core.somaxconn = 4000\n");
        wait_sysctl("net/core/somaxconn", "4000");
        let (status, records) = guard.stop();
        assert!(status.success());
        let failed: Vec<_> = messages(&records).into_iter().filter(|text| text.starts_with("Failed to set ")).collect();
        assert!(failed.is_empty(), "with {limit}: {failed:?}");
    }
}

/// However many repairs the start takes: files that stay open after them leave room for the notification to the service manager.
#[test]
fn few_descriptors_are_enough_for_ready() {
    let ns = Namespace::enter();
    let links: String = (0..22).map(|n| format!("link add p{n} type veth peer name x{n}\n")).collect();
    ns.write("batch", &links);
    run(&format!("ip -batch {}", ns.path("batch").display()));
    for repairs in 20..44 {
        let keys = (0..repairs).map(|n| format!("net/ipv4/conf/{}{}/arp_ignore", ["p", "x"][n % 2], n / 2));
        let keys: Vec<String> = keys.collect();
        ns.write("etc/fwdguard.d/10.conf", &keys.iter().map(|key| format!("{key} = 1\n")).collect::<String>());
        let guard = Running::start(&ns, |command| limited(command, "--nofile=64"));
        assert!(guard.stop().0.success());
        keys.iter().for_each(|key| sysctl_write(key, "0"));
    }
}

#[test]
fn without_another_descriptor_it_guards_on() {
    let ns = broken();
    let guard = Running::start(&ns, |command| command);
    // All of these are in use, and poll(2) takes no more descriptors than the limit.
    run(&format!("prlimit --pid {} --nofile=4", guard.pid()));
    for _ in 0..3 {
        for (key, wrong, right) in super::WRONG {
            sysctl_write(key, wrong);
            wait_sysctl(key, right);
        }
    }
    let (status, _) = guard.stop();
    assert!(status.success());
}

#[test]
fn little_memory_is_enough_or_it_ends() {
    let ns = broken();
    let (mut ended, mut ready) = (0, 0);
    for mib in [6, 10, 14, 18, 22, 26, 32, 64, 512] {
        super::break_all();
        let outcome = attempt(&ns, |command| limited(command, &format!("--as={}", mib << 20)));
        match outcome.ended {
            None => {
                assert_all_holds(&format!("with {mib} MiB"));
                ready += 1;
            }
            Some(status) => {
                // The loader, the allocator or a thread that could not be started; or a stack that could not grow.
                let killed = [libc::SIGABRT, libc::SIGSEGV].map(Some).contains(&status.signal());
                assert!(killed || status.code().is_some_and(|code| code > 0), "{status}");
                ended += 1;
            }
        }
    }
    assert!(ended > 0 && ready > 2, "{ended} ended, {ready} READY");
}

/// So many changes that the socket overruns, and a table of interfaces that has to grow, while the kernel gives no page more.
#[test]
fn out_of_memory_is_survived_or_repaired_by_the_next_start() {
    let ns = broken();
    let guard = Running::start(&ns, |command| command);
    let status = std::fs::read_to_string(format!("/proc/{}/status", guard.pid())).expect("it runs");
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")).expect("VmSize");
    let kib: u64 = size.trim().trim_end_matches(" kB").parse().expect("a number");
    run(&format!("prlimit --pid {} --as={}", guard.pid(), kib << 10));
    guard.signal("STOP");
    let file = std::fs::OpenOptions::new().write(true).open("/proc/sys/net/ipv4/conf/b0/rp_filter").expect("a setting");
    for number in 0..80_000 {
        file.write_at([b"1", b"2"][number % 2], 0).expect("a write");
    }
    let links: String = (0..100).map(|n| format!("link add m{n} type veth peer name w{n}\n")).collect();
    ns.write("batch", &links);
    run(&format!("ip -batch {}", ns.path("batch").display()));
    super::break_all();
    sysctl_write("net/ipv4/conf/m99/rp_filter", "1");
    guard.signal("CONT");
    let right_values = super::WRONG.map(|(key, _, right)| (key, right));
    let right_values =
        right_values.into_iter().chain([("net/ipv4/conf/b0/rp_filter", "0"), ("net/ipv4/conf/m99/rp_filter", "0")]);
    let deadline = std::time::Instant::now() + crate::common::TIMEOUT;
    let of_overrun = |record: &Record| record.get("CAUSE").is_some_and(|cause| cause == "overrun");
    // The guard may also end between a repair and its record.
    let mut survived = false;
    while !survived && guard.is_running() {
        let holds = right_values.clone().all(|(key, right)| sysctl_read(key) == right);
        survived = holds && guard.records().iter().any(of_overrun);
        assert!(
            std::time::Instant::now() < deadline,
            "it runs, and a setting is wrong, or a repair not logged ({holds}): {:?}",
            guard.stderr
        );
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    if !survived {
        drop(guard);
        let next = attempt(&ns, |command| command);
        assert!(next.ended.is_none(), "{}", next.reason());
        right_values.for_each(|(key, right)| assert_eq!(sysctl_read(key), right, "{key} when READY again"));
    }
}

/// Files that are written without end beside the policy's, and beside its folders, leave the event loop its time.
#[test]
fn files_that_are_written_without_end_hold_nothing_up() {
    let ns = broken();
    // Two each, since the kernel makes one event of several that are alike.
    let noise = [["noise", "more"], ["etc/fwdguard.d/.10.conf.swp", "etc/fwdguard.d/.10.conf.swx"]];
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let over = &over;
        for paths in noise {
            let files = paths.map(|path| std::fs::File::create(ns.path(path)).expect("a file"));
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    files.iter().for_each(|file| _ = file.write_at(b"x", 0).expect("a write"));
                }
            });
        }
        let _ends = Ends(over);
        let mut guard = ns.guard();
        assert_all_holds("when READY");
        ns.write("etc/fwdguard.d/20.conf", "net.core.somaxconn = 5000\n");
        wait_sysctl("net/core/somaxconn", "5000");
        guard.signal("HUP");
        guard.wait_notified("READY=1");
        assert!(guard.stop().0.success());
    });
}

/// Ends the writers with the test, however it ends.
struct Ends<'o>(&'o AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_disk_that_takes_nothing_is_not_needed() {
    let ns = broken();
    let full = || drop(std::fs::write("/run/full", vec![0; 1 << 20]));
    run("mount -o remount,size=64k /run");
    full();
    run("mount --bind / /");
    run("mount -o remount,bind,ro /");
    let outcome = attempt(&ns, |command| command);
    assert!(outcome.ended.is_none(), "{}", outcome.reason());
    assert_all_holds("on a read-only disk");
    run("mount -o remount,bind,rw /");
}
