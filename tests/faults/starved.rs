//! Too few descriptors, too little memory, a disk that takes nothing.

use std::os::unix::process::ExitStatusExt;

use super::{assert_all_holds, attempt, broken};
use crate::common::{Namespace, Running, messages, reworded, run, sysctl_write, wait_sysctl};

fn limited<'c>(command: &'c mut std::process::Command, limit: &str) -> &'c mut std::process::Command {
    reworded(command, |words| ["prlimit", limit].map(Into::into).into_iter().chain(words).collect())
}

#[test]
fn few_descriptors_are_enough_or_one_line_says_so() {
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

/// More settings than there is room for: what only tells who wrote, or how soon, leaves room for repairs and the policy.
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
        let failed: Vec<_> = messages(&records).into_iter().filter(|text| text.contains("could not be set")).collect();
        assert!(failed.is_empty(), "with {limit}: {failed:?}");
    }
}

#[test]
fn without_another_descriptor_it_guards_on() {
    let ns = broken();
    let guard = Running::start(&ns, |command| command);
    run(&format!("prlimit --pid {} --nofile=3", guard.pid()));
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
