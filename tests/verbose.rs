//! `fwdguard run -v` logs each decision with its reason, `-vv` also each event; without either, only records are logged.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::*;

const DEBUG: &str = "7";
const POLICY: &str = "net.ipv4.ip_forward = 1\nnet.ipv4.conf.*.forwarding = 1\n-net.ipv4.conf.closed0.forwarding\n";

/// A guard with these options, its network, and its log of a drift of one interface, an excluded one and one that no
/// line names.
fn logged(options: &[&str]) -> (Namespace, Running) {
    let ns = Namespace::enter();
    ns.veth("a0", "closed0");
    ns.write("/etc/fwdguard.d/10.conf", POLICY);
    let guard = Running::start(&ns, |command| command.args(options));
    sysctl_write("net/ipv4/conf/a0/forwarding", "0");
    sysctl_write("net/ipv4/conf/closed0/forwarding", "0");
    sysctl_write("net/ipv4/conf/a0/rp_filter", "2");
    guard.wait_message("Restored net.ipv4.conf.a0.forwarding to 1: it was 0");
    (ns, guard)
}

fn debug(guard: &Running) -> Vec<Record> {
    guard.records().into_iter().filter(|record| record["PRIORITY"] == DEBUG).collect()
}

#[test]
fn each_decision_has_its_reason() {
    let (_ns, guard) = logged(&["-v"]);
    let written = guard.wait_message("net.ipv4.conf.a0.forwarding 0, wanted 1, written in ");
    assert_eq!((&*written["SYSCTL"], &*written["NEWVALUE"]), ("net.ipv4.conf.a0.forwarding", "0"), "{written:?}");
    assert_eq!((&*written["OURVALUE"], &*written["PRIORITY"]), ("1", DEBUG), "{written:?}");
    assert!(written["MESSAGE"].ends_with(" (cause: write)"), "{written:?}");
    guard.wait_message("net.ipv4.conf.a0.forwarding 1, wanted 1, correct");
    guard.wait_message("net.ipv4.conf.closed0.forwarding 0, no action: the policy excludes it");
    guard.wait_message("net.ipv4.conf.a0.rp_filter 2, no action: the policy does not name it");
    assert!(!messages(&debug(&guard)).iter().any(|message| message.starts_with("netconf: ")));
}

#[test]
fn each_event_is_logged_before_its_decision() {
    let (_ns, guard) = logged(&["-vv"]);
    let records = debug(&guard);
    let at = |text: &str| messages(&records).iter().position(|message| message.starts_with(text));
    let received = at("netconf: ipv4 a0 forwarding 0");
    assert!(
        received.is_some() && received < at("net.ipv4.conf.a0.forwarding 0, wanted 1"),
        "{:#?}",
        messages(&records)
    );
    guard.signal("HUP");
    guard.wait_message("request: apply the reloaded policy");
    run("ip link set a0 down");
    guard.wait_record("a link", |r| r["MESSAGE"].starts_with("link: a0 (") && r["MESSAGE"].ends_with("), down"));
}

#[test]
fn a_deferred_repair_is_logged_with_delay_and_reason() {
    let (_ns, guard) = logged(&["-v"]);
    let goes_on = &AtomicBool::new(true);
    std::thread::scope(|threads| {
        threads.spawn(move || {
            while goes_on.load(Ordering::Relaxed) {
                sysctl_write("net/ipv4/conf/a0/forwarding", "0");
            }
        });
        let deadline = Instant::now() + TIMEOUT;
        let is = |message: &str| {
            message.starts_with("net.ipv4.conf.a0.forwarding 0, wanted 1, deferred ")
                && message.ends_with("s: over its budget")
        };
        while Instant::now() < deadline && !messages(&guard.records()).iter().any(|message| is(message)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        goes_on.store(false, Ordering::Relaxed);
        assert!(messages(&guard.records()).iter().any(|message| is(message)), "never deferred");
    });
}

#[test]
fn without_the_option_only_records_are_written() {
    let (ns, guard) = logged(&[]);
    // The policy has a notice, whose priority is not debug.
    ns.write("/etc/fwdguard.d/20.conf", "vm.swappiness = 1\n");
    let notice = guard.wait_message("left to sysctl.d");
    assert_eq!(notice["PRIORITY"], "5");
    let strange: Vec<_> = guard.records().into_iter().filter(|record| !record.contains_key("MESSAGE_ID")).collect();
    assert!(strange.is_empty() && debug(&guard).is_empty(), "{strange:#?}");
}
