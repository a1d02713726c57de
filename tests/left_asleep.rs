//! A system bus that is not there, or a logind that refuses, costs nothing; both are found once they come round.

mod bus;
mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::thread::sleep;
use std::time::{Duration, Instant};

use bus::*;
use common::*;

const NO_BUS: &str = "Lost the system bus: ";

/// As often as the event loop went to sleep.
fn sleeps(guard: &Running) -> u64 {
    let pid = guard.pid();
    let status = fs::read_to_string(format!("/proc/{pid}/task/{pid}/status")).expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).expect("a count");
    line.trim().parse().expect("a number")
}

/// Waits until the event loop has slept through so long a time.
fn wait_asleep(guard: &Running) {
    const LONGER_THAN_BETWEEN_TRIES: Duration = Duration::from_secs(6);
    let deadline = Instant::now() + 5 * LONGER_THAN_BETWEEN_TRIES;
    loop {
        let before = sleeps(guard);
        sleep(LONGER_THAN_BETWEEN_TRIES);
        if sleeps(guard) == before {
            return;
        }
        assert!(Instant::now() < deadline, "something wakes it again and again");
    }
}

fn guard_of(ns: &Namespace, address: &str, audit_interval: &str, lost: &str) -> Running {
    let guard = Running::start(ns, |command| {
        command.env("DBUS_SYSTEM_BUS_ADDRESS", address);
        reworded(command, |words| {
            words.into_iter().map(|word| if word == "86400" { audit_interval.into() } else { word }).collect()
        })
    });
    guard.wait_message(lost);
    guard
}

/// A logind that refuses, and a guard that has asked it as often as it does in a row.
fn refused_until_asleep(ns: &Namespace, bus: &Bus, audit_interval: &str) -> (Logind, Running) {
    let logind = bus.logind(false);
    logind.refuse(Some("not now".into()));
    let guard = guard_of(ns, ADDRESS, audit_interval, "Lost the sleep inhibitor: ");
    logind.wait_refused(4);
    wait_asleep(&guard);
    (logind, guard)
}

#[test]
fn it_is_waited_for_asleep() {
    let ns = Namespace::enter();
    let mut bus = Bus::absent(&ns);
    let guard = guard_of(&ns, ADDRESS, "86400", NO_BUS);
    wait_asleep(&guard);
    bus.restart();
    wait_source(&guard, "the system bus", "is back", 1);
    // Once it was there, the same again: its socket stays behind, and nobody listens.
    bus.kill();
    wait_asleep(&guard);
    bus.restart();
    wait_source(&guard, "the system bus", "is back", 2);
    bus.logind(false).wait_inhibitors(1, 1);
}

#[test]
fn its_folder_may_be_missing_or_come_by_a_link() {
    let ns = Namespace::enter();
    let guard = guard_of(&ns, "unix:path=/run/early/bus/socket", "86400", NO_BUS);
    wait_asleep(&guard);
    fs::create_dir("/run/late").expect("a folder");
    symlink("/run/late", "/run/early").expect("a link");
    wait_asleep(&guard);
    fs::create_dir("/run/late/bus").expect("a folder");
    wait_asleep(&guard);
    let bus = Bus::start(&ns);
    fs::rename("/run/bus.socket", "/run/late/bus/socket").expect("rename");
    guard.wait_message("the system bus is back");
    drop(bus);
}

#[test]
fn one_that_came_unseen_is_found_after_an_audit() {
    let ns = Namespace::enter();
    fs::create_dir("/run/late").expect("a folder");
    let guard = guard_of(&ns, "unix:path=/run/late/socket", "10", NO_BUS);
    let bus = Bus::start(&ns);
    run("mount -t tmpfs tmpfs /run/late");
    symlink("/run/bus.socket", "/run/late/socket").expect("a link");
    guard.wait_message("the system bus is back");
    drop(bus);
}

#[test]
fn a_logind_that_refuses_is_asked_again_after_an_audit() {
    let ns = Namespace::enter();
    let bus = Bus::start(&ns);
    let (logind, guard) = refused_until_asleep(&ns, &bus, "15");
    logind.refuse(None);
    guard.wait_message("the sleep inhibitor is back");
}

#[test]
fn a_logind_that_refuses_is_asked_as_often_again_after_a_sleep() {
    let ns = Namespace::enter();
    let bus = Bus::start(&ns);
    let (logind, _guard) = refused_until_asleep(&ns, &bus, "86400");
    logind.sleep(true);
    logind.sleep(false);
    logind.wait_refused(8);
}
