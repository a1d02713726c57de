//! A missing system bus, or a logind that refuses, costs little; the guard finds both once they are available.

mod bus;
mod common;

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use bus::*;
use common::*;

/// How often the event loop has gone to sleep.
fn sleeps(guard: &Running) -> u64 {
    let pid = guard.pid();
    let status = fs::read_to_string(format!("/proc/{pid}/task/{pid}/status")).expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).expect("a count");
    line.trim().parse().expect("a number")
}

/// Waits until the event loop has slept for that long without a break.
fn wait_asleep(guard: &Running) {
    const LONGER_THAN_FIRST_TRIES: Duration = Duration::from_secs(3);
    let deadline = Instant::now() + 10 * LONGER_THAN_FIRST_TRIES;
    loop {
        let before = sleeps(guard);
        sleep(LONGER_THAN_FIRST_TRIES);
        if sleeps(guard) == before {
            return;
        }
        assert!(Instant::now() < deadline, "something wakes it again and again");
    }
}

fn guard_of(ns: &Namespace, lost: &str) -> Running {
    let guard = Running::start(ns, |command| command.env("DBUS_SYSTEM_BUS_ADDRESS", ADDRESS));
    guard.wait_message(lost);
    guard
}

#[test]
fn a_bus_that_is_not_there_is_found_once_it_comes() {
    let ns = Namespace::enter();
    let mut bus = Bus::absent(&ns);
    let guard = guard_of(&ns, "Lost the system bus: ");
    wait_asleep(&guard);
    bus.restart();
    wait_source(&guard, "the system bus", "Available again", 1);
    // The same again after a bus was there: its socket remains, and no process listens on it.
    bus.kill();
    bus.restart();
    wait_source(&guard, "the system bus", "Available again", 2);
    bus.logind(false).wait_inhibitors(1, 1);
}

#[test]
fn a_logind_that_refuses_is_asked_again_and_as_soon_after_a_sleep() {
    let ns = Namespace::enter();
    let bus = Bus::start(&ns);
    let logind = bus.logind(false);
    logind.refuse(Some("not now".into()));
    let guard = guard_of(&ns, "Lost the sleep inhibitor: ");
    logind.wait_refused(3);
    wait_asleep(&guard);
    let before = logind.refused();
    let since = Instant::now();
    logind.sleep(true);
    logind.sleep(false);
    logind.wait_refused(before + 3);
    assert!(since.elapsed() < Duration::from_secs(4), "{:?}", since.elapsed());
    logind.refuse(None);
    guard.wait_message("Available again: the sleep inhibitor");
}
