//! Baselines: what was before a drift of `all`, and is written back where the policy does not name it.

use super::*;

impl Bench {
    /// Repairs a drift of `all.forwarding`, and does not yet receive the notifications of that.
    fn repair_all(&mut self) -> Family {
        let repair = self.state.next_repair(self.now).expect("all is wrong");
        let family = self.execute(repair).expect("a fan-out");
        self.write_back(family);
        family
    }

    /// Opens every interface, as the kernel does where a process writes 0 to `all` at the same time as fwdguard writes 1.
    fn reopen_all(&mut self) {
        self.set("net.ipv4.conf.all.forwarding", "0");
        self.write("net.ipv4.conf.all.forwarding", "1");
    }
}

#[test]
fn accept_redirects_is_written_back_to_its_baseline() {
    let mut bench = Bench::started(POLICY);
    bench.set("net.ipv4.conf.all.accept_redirects", "1");
    bench.state.redirects(Some("1".into()));
    bench.write("net.ipv4.conf.all.forwarding", "0");
    bench.receive_and_repair();
    assert_eq!(bench.get("net.ipv4.conf.all.accept_redirects"), "1");
    // Named by the policy, it is the policy's.
    let mut bench = Bench::started("net.ipv4.ip_forward = 1\nnet.ipv4.conf.all.accept_redirects = 0\n");
    bench.state.redirects(Some("1".into()));
    bench.write("net.ipv4.conf.all.forwarding", "0");
    bench.receive_and_repair();
    assert_eq!(bench.get("net.ipv4.conf.all.accept_redirects"), "0");
}

#[test]
fn an_unnamed_interface_keeps_what_it_had_before_the_drift() {
    let mut bench = Bench::started("net.ipv4.ip_forward = 1\n");
    assert_eq!(bench.get("net.ipv4.conf.closed0.forwarding"), "0");
    bench.write("net.ipv4.conf.all.forwarding", "0");
    bench.receive_and_repair();
    assert_eq!(bench.get("net.ipv4.conf.closed0.forwarding"), "0");
    assert_eq!(bench.get("net.ipv4.conf.eth0.forwarding"), "1");
    // Opened on purpose in between: that is the baseline of the next drift.
    bench.write("net.ipv4.conf.closed0.forwarding", "1");
    bench.receive_and_repair();
    bench.write("net.ipv4.conf.all.forwarding", "0");
    bench.receive_and_repair();
    assert_eq!(bench.get("net.ipv4.conf.closed0.forwarding"), "1");
}

#[test]
fn a_reload_in_the_middle_of_a_drift_does_not_take_it_for_a_baseline() {
    const POLICY: &str = "net.ipv4.ip_forward = 1\n";
    let mut bench = Bench::started(POLICY);
    bench.write("net.ipv4.conf.all.forwarding", "0");
    bench.receive();
    bench.state.reload(policy(POLICY));
    bench.read_everything(Cause::Reload);
    bench.execute_repairs();
    assert_eq!(bench.get("net.ipv4.conf.eth0.forwarding"), "1");
    assert_eq!(bench.get("net.ipv4.conf.closed0.forwarding"), "0");
    assert_eq!(bench.get("net.ipv4.conf.all.accept_redirects"), "0");
}

#[test]
fn what_an_overrun_may_have_hidden_of_ipv6_is_not_written_back() {
    let mut bench = Bench::started("net.ipv4.ip_forward = 1\n");
    bench.write("net.ipv6.conf.default.forwarding", "0");
    bench.receive_and_repair();
    bench.write("net.ipv6.conf.default.forwarding", "1");
    bench.queued.clear();
    bench.read_everything(Cause::Overrun);
    bench.set("net.ipv6.conf.all.forwarding", "0");
    bench.state.reload(policy("net.ipv4.ip_forward = 1\nnet.ipv6.conf.all.forwarding = 1\n"));
    bench.read_everything(Cause::Reload);
    bench.execute_repairs();
    assert_eq!(bench.get("net.ipv6.conf.default.forwarding"), "1");
}

#[test]
fn an_interface_that_another_writer_closes_first_is_not_taken_for_open() {
    let mut bench = Bench::started(POLICY);
    bench.write("net.ipv4.conf.all.forwarding", "0");
    bench.receive();
    let repair = bench.state.next_repair(0).expect("all is wrong");
    let family = bench.execute(repair).expect("a fan-out");
    // Another process writes in this moment, and the notifications of it are filtered out (`Notifications::mute`).
    let own_notifications = std::mem::take(&mut bench.queued);
    bench.write("net.ipv4.conf.all.forwarding", "0");
    bench.queued.clear();
    bench.write_back(family);
    own_notifications.iter().for_each(|message| bench.state.apply_netconf(message, bench.now));
    bench.state.fan_out_received(family);
    bench.state.suspect_all(family, Cause::Write, None);
    bench.execute_repairs();
    assert_eq!(bench.get("net.ipv4.conf.all.forwarding"), "1");
    assert_eq!(bench.get("net.ipv4.conf.closed0.forwarding"), "0");
}

#[test]
fn a_write_that_the_kernel_does_not_announce_leaves_the_baselines() {
    let mut bench = Bench::started("net.ipv4.ip_forward = 1\n");
    bench.write("net.ipv4.conf.all.forwarding", "0");
    bench.receive();
    let repair = bench.state.next_repair(0).expect("all is wrong");
    let family = bench.execute(repair).expect("a fan-out");
    // Another process wrote the drift's value in this moment: it remains, and neither write is announced.
    bench.queued.clear();
    for (_, name) in Bench::names() {
        bench.set(&format!("net.ipv4.conf.{name}.forwarding"), "0");
    }
    bench.set("net.ipv4.conf.all.accept_redirects", "1");
    bench.state.fan_out_received(family);
    bench.execute_repairs();
    bench.receive_and_repair();
    for (key, value) in [("all.forwarding", "1"), ("eth0.forwarding", "1"), ("closed0.forwarding", "0")] {
        assert_eq!(bench.get(&format!("net.ipv4.conf.{key}")), value, "{key}");
    }
    assert_eq!(bench.get("net.ipv4.conf.all.accept_redirects"), "0");
}

#[test]
fn interfaces_that_the_kernel_reopens_are_closed_again() {
    for policy in [POLICY, "net.ipv4.ip_forward = 1\n"] {
        let mut bench = Bench::started(policy);
        bench.write("net.ipv4.conf.all.forwarding", "0");
        bench.receive_and_repair();
        bench.take_log();
        bench.state.take_records();
        bench.reopen_all();
        assert_eq!(bench.get("net.ipv4.conf.closed0.forwarding"), "1");
        bench.receive_and_repair();
        assert_eq!(bench.take_log(), "net.ipv4.conf.closed0.forwarding=0", "{policy}");
        assert_eq!(bench.take_repairs(), Vec::<String>::new());
        // And that is still the baseline of the next drift.
        bench.write("net.ipv4.conf.all.forwarding", "0");
        bench.receive_and_repair();
        assert_eq!(bench.get("net.ipv4.conf.closed0.forwarding"), "0", "{policy}");
    }
}

#[test]
fn interfaces_that_the_kernel_reopens_right_after_our_write_are_closed_again() {
    let mut bench = Bench::started(POLICY);
    bench.write("net.ipv4.conf.all.forwarding", "0");
    bench.receive();
    let family = bench.repair_all();
    bench.reopen_all();
    bench.receive();
    bench.state.fan_out_received(family);
    bench.execute_repairs();
    bench.receive_and_repair();
    assert_eq!(bench.get("net.ipv4.conf.closed0.forwarding"), "0");
}

#[test]
fn interfaces_that_the_kernel_reopens_while_all_is_muted_are_closed_again() {
    for policy in [POLICY, "net.ipv4.ip_forward = 1\n"] {
        let mut bench = Bench::started(policy);
        let all = all_forwarding(Family::V4);
        for _ in 0..20 {
            bench.set("net.ipv4.conf.all.forwarding", "1");
            bench.write("net.ipv4.conf.all.forwarding", "0");
            bench.receive_and_repair();
            bench.state.charge(&all, bench.now, 100_000);
            bench.state.charge_turn(None, bench.now, 1_000_000);
        }
        assert_eq!(bench.state.take_mutes(), Some(vec![all]));
        // When notifications are filtered out, a full read finds everything closed: no process wanted that either.
        bench.read_everything(Cause::Overrun);
        bench.execute_repairs();
        bench.reopen_all();
        let check = |bench: &mut Bench| {
            bench.queued.clear();
            bench.now += 10_000_000;
            bench.state.tick(bench.now);
            bench.execute_repairs();
            assert_eq!(bench.state.idle(), None);
        };
        check(&mut bench);
        assert_eq!(bench.get("net.ipv4.conf.closed0.forwarding"), "0");
        // Once: a later change is a process's own.
        bench.set("net.ipv4.conf.closed0.forwarding", "1");
        check(&mut bench);
        assert_eq!(bench.get("net.ipv4.conf.closed0.forwarding"), "1");
        // And until everything is read again, the baseline is that from before the contest.
        bench.write("net.ipv4.conf.all.forwarding", "0");
        check(&mut bench);
        for (name, value) in [("all", "1"), ("eth0", "1"), ("tunl0", "1"), ("closed0", "0")] {
            assert_eq!(bench.get(&format!("net.ipv4.conf.{name}.forwarding")), value, "{name}, {policy}");
        }
    }
}

#[test]
fn an_interface_that_a_process_opens_during_a_full_read_stays_open() {
    let mut bench = Bench::started("net.ipv4.ip_forward = 1\n");
    bench.write("net.ipv4.conf.all.forwarding", "0");
    bench.receive_and_repair();
    // Everything is read in the middle of the write: `all` is announced once more than it changes.
    bench.set("net.ipv4.conf.eth0.forwarding", "0");
    bench.read_everything(Cause::Audit);
    bench.execute_repairs();
    bench.reopen_all();
    bench.receive_and_repair();
    assert_eq!(bench.get("net.ipv4.conf.eth0.forwarding"), "1");
}

#[test]
fn a_stream_of_changes_of_one_interface_of_ipv6_does_not_keep_a_drift_open() {
    let mut bench = Bench::started("net.ipv6.conf.all.forwarding = 1\nnet.ipv6.conf.eth0.forwarding = 1\n");
    for round in 0.. {
        assert!(round < 100, "it is never checked");
        bench.write("net.ipv6.conf.eth0.forwarding", "1");
        bench.write("net.ipv6.conf.eth0.forwarding", "0");
        bench.receive();
        assert_eq!(bench.state.idle(), None);
        bench.execute_repairs();
        if !bench.take_repairs().is_empty() {
            break;
        }
    }
}

#[test]
fn interfaces_that_another_process_opens_with_all_stay_open() {
    let mut bench = Bench::started("net.ipv4.ip_forward = 1\n");
    bench.write("net.ipv4.conf.all.forwarding", "0");
    bench.write("net.ipv4.conf.all.forwarding", "1");
    bench.receive();
    bench.receive_and_repair();
    assert_eq!(bench.take_log(), "");
    assert_eq!(bench.get("net.ipv4.conf.closed0.forwarding"), "1");
}

#[test]
fn the_beginning_of_the_next_drift_of_ipv6_is_not_taken_for_a_baseline() {
    for received in 1..=4 {
        let mut bench = Bench::started("net.ipv6.conf.all.forwarding = 1\n");
        bench.write("net.ipv6.conf.tunl0.forwarding", "0");
        bench.receive_and_repair();
        bench.write("net.ipv6.conf.all.forwarding", "0");
        bench.receive();
        let family = bench.repair_all();
        bench.receive();
        // No more has been announced when the guard checks.
        bench.write("net.ipv6.conf.all.forwarding", "0");
        let rest = bench.queued.split_off(received);
        bench.receive();
        bench.state.fan_out_received(family);
        bench.queued = rest;
        bench.execute_repairs();
        bench.receive_and_repair();
        for (name, value) in [("all", "1"), ("default", "1"), ("eth0", "1"), ("closed0", "1"), ("tunl0", "0")] {
            assert_eq!(bench.get(&format!("net.ipv6.conf.{name}.forwarding")), value, "{name} after {received}");
        }
    }
}
