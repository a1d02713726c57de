//! What the guard makes of what came of a write: refused, impossible, not kept, or slow.

use rustix::io::Errno;

use super::*;

#[test]
fn errnos() {
    let cases: [(Errno, &[&str]); 4] = [
        (Errno::NOENT, &[]),
        (Errno::INVAL, &["refuses the value"]),
        (Errno::ROFS, &["CAP_NET_ADMIN and a writable"]),
        (Errno::PERM, &["CAP_NET_ADMIN and a writable"]),
    ];
    for (errno, texts) in cases {
        let mut bench = Bench::started(POLICY);
        let mut records = Vec::new();
        for round in 0..3 {
            bench.state.apply_netconf(&rp_filter(TUNL0, 1), 1);
            let Some(repair) = bench.state.next_repair(0) else {
                assert!(errno == Errno::INVAL && round > 0, "refused once, not tried again");
                continue;
            };
            // The engine reads again after such a write: the interface is gone.
            let found = if errno == Errno::NOENT { Err(errno) } else { Ok("1".into()) };
            let outcome = Outcome { found, write: Some(Err(errno)), now: None, finished: 2, write_usec: 1 };
            assert_eq!(bench.state.complete(repair, outcome), None);
            records.extend(bench.take_repairs());
        }
        assert_eq!(records.len(), texts.len(), "once, not once a check: {records:?}");
        assert!(texts.iter().zip(&records).all(|(text, records)| records.contains(text)), "{records:?}");
        // Another policy, another try.
        bench.state.reload(policy(POLICY));
        bench.state.apply_netconf(&rp_filter(TUNL0, 1), 1);
        assert!(bench.state.next_repair(0).is_some());
    }
}

#[test]
fn all_that_can_not_be_written_is_tried_once_a_message_and_interfaces_are_still_checked() {
    let mut bench = Bench::started(POLICY);
    bench.write("net.ipv4.conf.all.forwarding", "0");
    let mut tried = Vec::new();
    for message in std::mem::take(&mut bench.queued) {
        bench.state.apply_netconf(&message, 1);
        while let Some(repair) = bench.state.next_repair(0) {
            tried.push(repair.key.to_string());
            let outcome =
                Outcome { found: Ok("0".into()), write: Some(Err(Errno::ROFS)), now: None, finished: 2, write_usec: 1 };
            assert_eq!(bench.state.complete(repair, outcome), None);
        }
    }
    let names = ["all", "default", "eth0", "tunl0"];
    assert_eq!(tried, names.map(|name| format!("net.ipv4.conf.{name}.forwarding")));
    assert_eq!(bench.take_repairs().len(), 4, "each queued once");
}

#[test]
fn an_unwritable_setting_that_holds_is_fine_and_an_ignored_failure_is_silent() {
    let mut bench = Bench::started("-net.ipv4.conf.tunl0.rp_filter = 0\n");
    bench.state.apply_netconf(&rp_filter(TUNL0, 1), 1);
    let repair = bench.state.next_repair(0).unwrap();
    let outcome =
        Outcome { found: Ok("1".into()), write: Some(Err(Errno::ROFS)), now: None, finished: 2, write_usec: 1 };
    assert_eq!(bench.state.complete(repair, outcome), None);
    assert_eq!((bench.take_repairs(), bench.state.summary().failing), (Vec::new(), 0));
}

#[test]
fn the_kernels_way_to_say_a_value_is_learned() {
    let mut bench = Bench::started("net.ipv4.ip_local_reserved_ports = 5,4\n");
    let mut check = |found: &str, now: Option<&str>| {
        bench.state.apply_snapshot(&Snapshot::default(), Cause::Audit);
        let repair = bench.state.next_repair(0).unwrap();
        let holds = repair.holds(found);
        let write = (!holds).then_some(Ok(()));
        let outcome =
            Outcome { found: Ok(found.into()), write, now: now.map(str::to_string), finished: 2, write_usec: 1 };
        assert_eq!(bench.state.complete(repair, outcome), None);
        (holds, bench.state.take_records().len())
    };
    assert_eq!(check("", Some("4-5")), (false, 1));
    assert_eq!(check("4-5", None), (true, 0));
    assert_eq!(check("9", Some("4-5")), (false, 1));
    assert_eq!(check("9", Some("9")), (false, 1), "another's value is not learned where it was repaired before");
    assert_eq!(check("4-5", None), (true, 0));
}

#[test]
fn what_the_kernel_does_not_keep_waits_for_an_audit() {
    let mut bench = Bench::started("net.ipv4.ip_local_reserved_ports = 5,4\n");
    let key = Key::parse("net.ipv4.ip_local_reserved_ports").unwrap();
    bench.state.note_written(key.clone(), 3, false);
    let repair = bench.state.next_repair(0).unwrap();
    assert_eq!((repair.job.cause, repair.job.received, repair.job.old.as_deref()), (Cause::Write, Some(3), None));
    let outcome = Outcome { found: Ok("9".into()), write: Some(Ok(())), now: None, finished: 4, write_usec: 1 };
    assert_eq!(bench.state.complete(repair, outcome), None);
    bench.state.note_written(key, 5, false);
    assert!(!bench.state.is_busy(), "not kept, so our own write would be answered for ever");
}

#[test]
fn a_slow_write_is_a_record_of_its_own_and_named_as_the_policy_does() {
    for (ifindex, name) in [(ETH0, "net.ipv4.conf.eth0.forwarding"), (ALL, "net.ipv4.ip_forward")] {
        let mut bench = Bench::started(POLICY);
        bench.state.apply_netconf(&forwarding(ifindex, 0), 1);
        let repair = bench.state.next_repair(0).unwrap();
        let outcome = Outcome {
            found: Ok("0".into()),
            write: Some(Ok(())),
            now: Some("1".into()),
            finished: 9,
            write_usec: 2_500_000,
        };
        bench.state.complete(repair, outcome).into_iter().for_each(|family| bench.state.fan_out_received(family));
        let records = bench.take_repairs();
        assert!(records[0].contains(&format!("{name} took 2.5 s")), "{records:?}");
        assert_eq!(records.len(), 2);
    }
}

/// A write of `repair` that the kernel refused at `finished`.
fn refuse(bench: &mut Bench, repair: Repair, errno: Errno, finished: u64) {
    let outcome = Outcome { found: Ok("1".into()), write: Some(Err(errno)), now: None, finished, write_usec: 1 };
    assert_eq!(bench.state.complete(repair, outcome), None);
}

#[test]
fn a_failure_ends_when_the_setting_is_right_and_its_next_one_has_a_record_a_minute_later() {
    let mut bench = Bench::started("net.ipv4.conf.tunl0.rp_filter = 0\n");
    for (finished, logged) in [(1, 1), (2, 0), (60_000_000, 0), (60_000_001, 1), (60_000_002, 0), (200_000_000, 1)] {
        bench.state.apply_netconf(&rp_filter(TUNL0, 1), finished);
        let repair = bench.state.next_repair(finished).unwrap();
        refuse(&mut bench, repair, Errno::ROFS, finished);
        assert_eq!((bench.state.take_records().len(), bench.state.summary().failing), (logged, 1), "at {finished}");
        bench.state.apply_netconf(&rp_filter(TUNL0, 0), finished);
        assert_eq!(bench.state.summary().failing, 0, "another process set it right");
    }
}

#[test]
fn the_same_failure_at_each_audit_has_one_record() {
    let mut bench = Bench::started("net.ipv6.conf.eth0.accept_ra = 2\n");
    for (audit, logged) in [(0, 1), (1, 0), (2, 0)] {
        bench.state.apply_snapshot(&Snapshot::default(), Cause::Audit);
        let repair = bench.state.next_repair(0).unwrap();
        refuse(&mut bench, repair, Errno::ROFS, audit * 300_000_000);
        assert_eq!((bench.state.take_records().len(), bench.state.summary().failing), (logged, 1), "audit {audit}");
    }
}
