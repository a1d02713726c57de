//! Peers on the bus that send false, oversized or excessive messages.

use std::fs;

use super::POLICY;
use crate::bus::{Bus, MANAGER};
use crate::common::{Namespace, Running, messages, sysctl_write, wait_sysctl};

const LONG: usize = 64 << 10;
const MEMORY_KIB: u64 = 8 << 10;
/// The interface of the bus's own signals, which a peer may fake.
const DRIVER: &str = "org.freedesktop.DBus";

fn resident_kib(guard: &Running) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", guard.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

fn assert_it_repairs() {
    sysctl_write("net/ipv4/ip_forward", "0");
    wait_sysctl("net/ipv4/ip_forward", "1");
}

#[test]
fn long_texts_wrong_types_and_floods_are_no_news() {
    let ns = Namespace::enter();
    ns.veth("a0", "b0");
    ns.write("etc/fwdguard.d/10.conf", POLICY);
    let bus = Bus::start(&ns);
    let logind = bus.logind(false);
    let guard = bus.guard(&ns);
    let target = logind.wait_inhibitors(1, 1).remove(0).holder;
    assert_it_repairs();
    let (before, earlier) = (resident_kib(&guard), guard.records().len());
    let long = "\x1b[31m\n".repeat(LONG / 6);
    bus.lie(&target, MANAGER, "PrepareForSleep", &long);
    bus.lie(&target, MANAGER, "PrepareForSleep", &(true, long.as_str()));
    bus.lie(&target, DRIVER, "NameOwnerChanged", &("org.freedesktop.login1", long.as_str(), long.as_str()));
    bus.lie(&target, DRIVER, "NameOwnerChanged", &0_u64);
    assert_it_repairs();
    bus.flood(&target, MANAGER, "PrepareForSleep", 10_000);
    assert_it_repairs();
    // From logind itself, too, a malformed signal is no sleep.
    logind.say("PrepareForSleep", &long);
    logind.say("PrepareForSleep", &7_u32);
    assert_it_repairs();
    logind.sleep(true);
    logind.wait_inhibitors(1, 0);
    logind.sleep(false);
    logind.wait_inhibitors(2, 1);
    let grown = resident_kib(&guard).saturating_sub(before);
    assert!(grown < MEMORY_KIB, "{grown} KiB more");
    let (status, records) = guard.stop();
    assert!(status.success());
    let new: Vec<_> = messages(&records[earlier..]).into_iter().filter(|text| !text.contains("ip_forward")).collect();
    assert!(new.len() <= 4, "{new:?}");
    assert!(new.iter().all(|text| text.len() < 2048 && !text.contains(char::is_control)), "{new:?}");
}

#[test]
fn a_logind_that_refuses_with_a_long_text_is_one_short_record() {
    let ns = Namespace::enter();
    ns.veth("a0", "b0");
    ns.write("etc/fwdguard.d/10.conf", POLICY);
    let bus = Bus::start(&ns);
    let logind = bus.logind(false);
    logind.refuse(Some("\x1b]0;\n".repeat(LONG / 5)));
    let guard = bus.guard(&ns);
    let record = guard.wait_record("logind", |record| record.contains_key("SOURCE"));
    assert!(record["MESSAGE"].len() < 2048 && !record["MESSAGE"].contains(char::is_control), "{record:.200?}");
    assert_it_repairs();
    // The guard asks again, and does not log that again.
    logind.wait_refused(2);
    logind.refuse(None);
    logind.wait_inhibitors(1, 1);
    guard.wait_message("Available again: the sleep inhibitor");
    let (_, records) = guard.stop();
    assert_eq!(super::lost(&records), ["the sleep inhibitor"; 2]);
}

#[test]
fn a_logind_that_answers_with_no_lock_or_never_is_one_short_record() {
    for answer in [Some(String::new()), Some("\x1b]0;\n".repeat(LONG / 5)), None] {
        let ns = Namespace::enter();
        ns.veth("a0", "b0");
        ns.write("etc/fwdguard.d/10.conf", POLICY);
        let bus = Bus::start(&ns);
        let what = answer.as_ref().map_or("never".into(), |text| format!("{} bytes", text.len()));
        let false_one = bus.false_logind(answer);
        let mut guard = bus.guard(&ns);
        // The guard repairs before the answer comes, or without one.
        assert_it_repairs();
        let lost = guard.wait_record(&what, |record| record.get("SOURCE").is_some_and(|s| s == "the sleep inhibitor"));
        assert!(lost["MESSAGE"].len() < 2048 && !lost["MESSAGE"].contains(char::is_control), "{what}: {lost:.200?}");
        guard.wait_notified("lost: the sleep inhibitor");
        assert_it_repairs();
        // A logind that follows its interface works as ever.
        let logind = bus.logind(false);
        logind.wait_inhibitors(1, 1);
        guard.wait_message("Available again: the sleep inhibitor");
        drop(false_one);
        let (status, records) = guard.stop();
        assert!(status.success(), "{what}");
        let lost = super::lost(&records);
        assert_eq!(lost, ["the sleep inhibitor"; 2], "{what}: {:?}", messages(&records));
    }
}
