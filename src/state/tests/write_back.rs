//! What stood before a drift of `all`, and is put back where the policy does not name it.

use super::*;

impl Bench {
    /// Repairs `all.forwarding`, of which a drift was heard, and has not heard yet what the kernel says of that.
    fn mend_all(&mut self) -> Family {
        let repair = self.state.next_repair(self.now).expect("all is wrong");
        let family = self.execute(repair).expect("a fan-out");
        self.write_back(family);
        family
    }

    /// Opens every interface, as the kernel does in the name of somebody who writes 0 to `all` at the same time as the guard
    /// writes 1.
    fn open_in_nobodys_name(&mut self) {
        self.set("net.ipv4.conf.all.forwarding", "0");
        self.write("net.ipv4.conf.all.forwarding", "1");
    }
}

#[test]
fn accept_redirects_is_put_back_to_what_stood_before_the_drift() {
    let mut bench = Bench::started(POLICY);
    bench.set("net.ipv4.conf.all.accept_redirects", "1");
    bench.state.redirects(Some("1".into()));
    bench.write("net.ipv4.conf.all.forwarding", "0");
    bench.hear();
    assert_eq!(bench.get("net.ipv4.conf.all.accept_redirects"), "1");
    // Named by the policy, it is the policy's.
    let mut bench = Bench::started("net.ipv4.ip_forward = 1\nnet.ipv4.conf.all.accept_redirects = 0\n");
    bench.state.redirects(Some("1".into()));
    bench.write("net.ipv4.conf.all.forwarding", "0");
    bench.hear();
    assert_eq!(bench.get("net.ipv4.conf.all.accept_redirects"), "0");
}

#[test]
fn an_unnamed_interface_keeps_what_it_had_before_the_drift() {
    let mut bench = Bench::started("net.ipv4.ip_forward = 1\n");
    assert_eq!(bench.get("net.ipv4.conf.closed0.forwarding"), "0");
    bench.write("net.ipv4.conf.all.forwarding", "0");
    bench.hear();
    assert_eq!(bench.get("net.ipv4.conf.closed0.forwarding"), "0");
    assert_eq!(bench.get("net.ipv4.conf.eth0.forwarding"), "1");
    // Opened on purpose in between: that is what stands before the next drift.
    bench.write("net.ipv4.conf.closed0.forwarding", "1");
    bench.hear();
    bench.write("net.ipv4.conf.all.forwarding", "0");
    bench.hear();
    assert_eq!(bench.get("net.ipv4.conf.closed0.forwarding"), "1");
}

#[test]
fn a_reload_in_the_middle_of_a_drift_does_not_take_it_for_what_stood_before() {
    const POLICY: &str = "net.ipv4.ip_forward = 1\n";
    let mut bench = Bench::started(POLICY);
    bench.write("net.ipv4.conf.all.forwarding", "0");
    bench.take_in();
    bench.state.reload(policy(POLICY));
    bench.read_everything(Cause::Reload);
    bench.execute_repairs();
    assert_eq!(bench.get("net.ipv4.conf.eth0.forwarding"), "1");
    assert_eq!(bench.get("net.ipv4.conf.closed0.forwarding"), "0");
    assert_eq!(bench.get("net.ipv4.conf.all.accept_redirects"), "0");
}

#[test]
fn what_an_overrun_may_have_hidden_of_ipv6_is_not_put_back() {
    let mut bench = Bench::started("net.ipv4.ip_forward = 1\n");
    bench.write("net.ipv6.conf.default.forwarding", "0");
    bench.hear();
    bench.write("net.ipv6.conf.default.forwarding", "1");
    bench.said.clear();
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
    bench.take_in();
    let repair = bench.state.next_repair(0).expect("all is wrong");
    let family = bench.execute(repair).expect("a fan-out");
    // Somebody writes in this moment, and what the kernel says of it is not heard (Keeper::mute).
    let echo = std::mem::take(&mut bench.said);
    bench.write("net.ipv4.conf.all.forwarding", "0");
    bench.said.clear();
    bench.write_back(family);
    echo.iter().for_each(|message| bench.state.apply_netconf(message, bench.now));
    bench.state.fan_out_received(family);
    bench.state.suspect_all(family, Cause::Write, None);
    bench.execute_repairs();
    assert_eq!(bench.get("net.ipv4.conf.all.forwarding"), "1");
    assert_eq!(bench.get("net.ipv4.conf.closed0.forwarding"), "0");
}

#[test]
fn a_write_that_the_kernel_takes_for_none_leaves_what_stood_before_the_drift_in_mind() {
    let mut bench = Bench::started("net.ipv4.ip_forward = 1\n");
    bench.write("net.ipv4.conf.all.forwarding", "0");
    bench.take_in();
    let repair = bench.state.next_repair(0).expect("all is wrong");
    let family = bench.execute(repair).expect("a fan-out");
    // Another wrote the drift's value in this moment: that is what stands, and nothing is said of either.
    bench.said.clear();
    for (_, name) in Bench::names() {
        bench.set(&format!("net.ipv4.conf.{name}.forwarding"), "0");
    }
    bench.set("net.ipv4.conf.all.accept_redirects", "1");
    bench.state.fan_out_received(family);
    bench.execute_repairs();
    bench.hear();
    for (key, value) in [("all.forwarding", "1"), ("eth0.forwarding", "1"), ("closed0.forwarding", "0")] {
        assert_eq!(bench.get(&format!("net.ipv4.conf.{key}")), value, "{key}");
    }
    assert_eq!(bench.get("net.ipv4.conf.all.accept_redirects"), "0");
}

#[test]
fn what_the_kernel_opens_in_nobodys_name_is_closed_again() {
    for policy in [POLICY, "net.ipv4.ip_forward = 1\n"] {
        let mut bench = Bench::started(policy);
        bench.write("net.ipv4.conf.all.forwarding", "0");
        bench.hear();
        bench.take_log();
        bench.state.take_records();
        bench.open_in_nobodys_name();
        assert_eq!(bench.get("net.ipv4.conf.closed0.forwarding"), "1");
        bench.hear();
        assert_eq!(bench.take_log(), "net.ipv4.conf.closed0.forwarding=0", "{policy}");
        assert_eq!(bench.told(), Vec::<String>::new());
        // And it is still what stands before the next drift.
        bench.write("net.ipv4.conf.all.forwarding", "0");
        bench.hear();
        assert_eq!(bench.get("net.ipv4.conf.closed0.forwarding"), "0", "{policy}");
    }
}

#[test]
fn what_the_kernel_opens_in_nobodys_name_right_after_our_write_is_closed_again() {
    let mut bench = Bench::started(POLICY);
    bench.write("net.ipv4.conf.all.forwarding", "0");
    bench.take_in();
    let family = bench.mend_all();
    bench.open_in_nobodys_name();
    bench.take_in();
    bench.state.fan_out_received(family);
    bench.execute_repairs();
    bench.hear();
    assert_eq!(bench.get("net.ipv4.conf.closed0.forwarding"), "0");
}

#[test]
fn what_the_kernel_opens_while_nothing_is_heard_is_closed_again() {
    for policy in [POLICY, "net.ipv4.ip_forward = 1\n"] {
        let mut bench = Bench::started(policy);
        let all = all_forwarding(Family::V4);
        for _ in 0..20 {
            bench.set("net.ipv4.conf.all.forwarding", "1");
            bench.write("net.ipv4.conf.all.forwarding", "0");
            bench.hear();
            bench.state.charge(&all, bench.now, 100_000);
            bench.state.charge_turn(None, bench.now, 1_000_000);
        }
        assert_eq!(bench.state.take_mutes(), Some(vec![all]));
        // As it is read when hearing ends, everything is closed: that is nobody's will either.
        bench.read_everything(Cause::Overrun);
        bench.execute_repairs();
        bench.open_in_nobodys_name();
        let look = |bench: &mut Bench| {
            bench.said.clear();
            bench.now += 10_000_000;
            bench.state.tick(bench.now);
            bench.execute_repairs();
            assert_eq!(bench.state.idle(), None);
        };
        look(&mut bench);
        assert_eq!(bench.get("net.ipv4.conf.closed0.forwarding"), "0");
        // Once: what comes later is somebody's will.
        bench.set("net.ipv4.conf.closed0.forwarding", "1");
        look(&mut bench);
        assert_eq!(bench.get("net.ipv4.conf.closed0.forwarding"), "1");
        // And until all is read again, what stood before is what stood before everything was contested.
        bench.write("net.ipv4.conf.all.forwarding", "0");
        look(&mut bench);
        for (name, value) in [("all", "1"), ("eth0", "1"), ("tunl0", "1"), ("closed0", "0")] {
            assert_eq!(bench.get(&format!("net.ipv4.conf.{name}.forwarding")), value, "{name}, {policy}");
        }
    }
}

#[test]
fn what_somebody_opens_while_everything_is_read_stays_open() {
    let mut bench = Bench::started("net.ipv4.ip_forward = 1\n");
    bench.write("net.ipv4.conf.all.forwarding", "0");
    bench.hear();
    // All is read in the middle of his write: `all` is told of once more than it is seen to change.
    bench.set("net.ipv4.conf.eth0.forwarding", "0");
    bench.read_everything(Cause::Audit);
    bench.execute_repairs();
    bench.open_in_nobodys_name();
    bench.hear();
    assert_eq!(bench.get("net.ipv4.conf.eth0.forwarding"), "1");
}

#[test]
fn a_stream_of_changes_of_one_interface_of_ipv6_does_not_keep_a_drift_open() {
    let mut bench = Bench::started("net.ipv6.conf.all.forwarding = 1\nnet.ipv6.conf.eth0.forwarding = 1\n");
    for round in 0.. {
        assert!(round < 100, "it is never looked at");
        bench.write("net.ipv6.conf.eth0.forwarding", "1");
        bench.write("net.ipv6.conf.eth0.forwarding", "0");
        bench.take_in();
        assert_eq!(bench.state.idle(), None);
        bench.execute_repairs();
        if !bench.told().is_empty() {
            break;
        }
    }
}

#[test]
fn who_opens_all_interfaces_after_a_drift_was_mended_by_another_is_heard() {
    let mut bench = Bench::started("net.ipv4.ip_forward = 1\n");
    bench.write("net.ipv4.conf.all.forwarding", "0");
    bench.write("net.ipv4.conf.all.forwarding", "1");
    bench.take_in();
    bench.hear();
    assert_eq!(bench.take_log(), "");
    assert_eq!(bench.get("net.ipv4.conf.closed0.forwarding"), "1");
}

#[test]
fn the_beginning_of_the_next_drift_of_ipv6_is_not_taken_for_what_stood_before_it() {
    for heard in 1..=4 {
        let mut bench = Bench::started("net.ipv6.conf.all.forwarding = 1\n");
        bench.write("net.ipv6.conf.tunl0.forwarding", "0");
        bench.hear();
        bench.write("net.ipv6.conf.all.forwarding", "0");
        bench.take_in();
        let family = bench.mend_all();
        bench.take_in();
        // Nothing more has been said when the guard looks.
        bench.write("net.ipv6.conf.all.forwarding", "0");
        let rest = bench.said.split_off(heard);
        bench.take_in();
        bench.state.fan_out_received(family);
        bench.said = rest;
        bench.execute_repairs();
        bench.hear();
        for (name, value) in [("all", "1"), ("default", "1"), ("eth0", "1"), ("closed0", "1"), ("tunl0", "0")] {
            assert_eq!(bench.get(&format!("net.ipv6.conf.{name}.forwarding")), value, "{name} after {heard}");
        }
    }
}
