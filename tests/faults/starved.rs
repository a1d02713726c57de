//! Too few descriptors, too little memory, a disk that takes nothing.

use std::os::unix::process::ExitStatusExt;

use super::{assert_all_holds, attempt, broken};
use crate::common::{Running, reworded, run, sysctl_write, wait_sysctl};

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
                // The loader, the allocator or a thread that could not be started.
                assert!(
                    status.signal() == Some(libc::SIGABRT) || status.code().is_some_and(|code| code > 0),
                    "{status}"
                );
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
