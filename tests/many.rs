//! A node with many interfaces, all of which change with `ip_forward`.

mod common;

use std::time::{Duration, Instant};

use common::*;

const MANY: usize = 300;

#[test]
fn interfaces_that_went_with_all_are_known_all_the_same() {
    let ns = Namespace::enter();
    let interfaces: String = (0..MANY).map(|number| format!("link add if{number} type ifb\n")).collect();
    std::fs::write(ns.path("interfaces"), interfaces).expect("write");
    run(&format!("ip -batch {}", ns.path("interfaces").display()));
    ns.write(
        "etc/fwdguard.d/10.conf",
        "net.ipv4.ip_forward = 1\nnet.ipv4.conf.*.forwarding = 1\n-net.ipv4.conf.if7.forwarding\n\
         net.ipv4.conf.if8.forwarding = 0\n",
    );
    let of = |name: &str| format!("net/ipv4/conf/{name}/forwarding");
    sysctl_write("net/ipv4/ip_forward", "1");
    sysctl_write(&of("if7"), "0");
    let guard = ns.guard();
    // An interface that is changed before the record is made counts separately.
    let wait_records = |count: usize| -> Vec<Record> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let mut records = guard.repairs();
            records.retain(|record| record["MESSAGE"].starts_with("Restored net.ipv4.ip_forward to 1: it was 0"));
            if records.len() >= count || Instant::now() > deadline {
                return records;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    for round in 1..=3 {
        sysctl_write("net/ipv4/ip_forward", "0");
        wait_sysctl("net/ipv4/ip_forward", "1");
        for (name, value) in [("if7", "0"), ("if8", "0"), ("if9", "1"), ("default", "1")] {
            wait_sysctl(&of(name), value);
        }
        wait_records(round);
        // The guard compares new messages with the values that it knows.
        for (name, wrong, right) in [("if9", "0", "1"), ("if8", "1", "0")] {
            sysctl_write(&of(name), wrong);
            wait_sysctl(&of(name), right);
        }
        sysctl_write(&of("if7"), "1");
        sysctl_write(&of("if7"), "0");
    }
    // One interface came and one went in between: the count is the same.
    run("ip link add new0 type ifb");
    run("ip link del if20");
    wait_sysctl(&of("new0"), "1");
    sysctl_write("net/ipv4/ip_forward", "0");
    let records = wait_records(4);
    // `lo`, and all of the others but if7 and if8.
    let with_it = format!("; {} interfaces restored with it", 1 + MANY - 2);
    assert!(records.iter().all(|record| record["MESSAGE"].contains(&with_it)), "{:#?}", messages(&records));
    let own = guard.repairs().len() - records.len();
    assert_eq!((records.len(), own), (4, 1 + 3 * 2), "{:#?}", messages(&guard.records()));
}
