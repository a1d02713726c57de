//! What stood before a drift of `all`, and is put back where the policy does not name it.

use super::*;

#[test]
fn accept_redirects_is_put_back_to_what_stood_before_the_drift() {
    let mut bench = Bench::started(POLICY);
    bench.set("net.ipv4.conf.all.accept_redirects", "1");
    bench.guard.redirects(Some("1".into()));
    bench.write("net.ipv4.conf.all.forwarding", "0");
    bench.hear();
    assert_eq!(bench.get("net.ipv4.conf.all.accept_redirects"), "1");
    // Named by the policy, it is the policy's.
    let mut bench = Bench::started("net.ipv4.ip_forward = 1\nnet.ipv4.conf.all.accept_redirects = 0\n");
    bench.guard.redirects(Some("1".into()));
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
    for message in std::mem::take(&mut bench.said) {
        bench.guard.netconf(&message, bench.now);
    }
    bench.guard.reload(policy(POLICY));
    bench.read_everything(Cause::Reload);
    bench.work();
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
    bench.guard.reload(policy("net.ipv4.ip_forward = 1\nnet.ipv6.conf.all.forwarding = 1\n"));
    bench.read_everything(Cause::Reload);
    bench.work();
    assert_eq!(bench.get("net.ipv6.conf.default.forwarding"), "1");
}

#[test]
fn an_interface_that_another_writer_closes_first_is_not_taken_for_open() {
    let mut bench = Bench::started(POLICY);
    bench.write("net.ipv4.conf.all.forwarding", "0");
    for message in std::mem::take(&mut bench.said) {
        bench.guard.netconf(&message, bench.now);
    }
    let repair = bench.guard.next_repair(0).expect("all is wrong");
    let family = bench.carry_out(repair).expect("a fan-out");
    // Somebody writes in this moment, and what the kernel says of it is not heard (Keeper::mute).
    let echo = std::mem::take(&mut bench.said);
    bench.write("net.ipv4.conf.all.forwarding", "0");
    bench.said.clear();
    for repair in bench.guard.put_backs(family) {
        assert_eq!(bench.carry_out(repair), None);
    }
    echo.iter().for_each(|message| bench.guard.netconf(message, bench.now));
    bench.guard.absorbed(family);
    bench.guard.suspect_all(family, Cause::Write, None);
    bench.work();
    assert_eq!(bench.get("net.ipv4.conf.all.forwarding"), "1");
    assert_eq!(bench.get("net.ipv4.conf.closed0.forwarding"), "0");
}

#[test]
fn a_write_that_the_kernel_takes_for_none_leaves_what_stood_before_the_drift_in_mind() {
    let mut bench = Bench::started("net.ipv4.ip_forward = 1\n");
    bench.write("net.ipv4.conf.all.forwarding", "0");
    for message in std::mem::take(&mut bench.said) {
        bench.guard.netconf(&message, bench.now);
    }
    let repair = bench.guard.next_repair(0).expect("all is wrong");
    let family = bench.carry_out(repair).expect("a fan-out");
    // Another wrote the drift's value in this moment: that is what stands, and nothing is said of either.
    bench.said.clear();
    for (_, name) in Bench::names() {
        bench.set(&format!("net.ipv4.conf.{name}.forwarding"), "0");
    }
    bench.set("net.ipv4.conf.all.accept_redirects", "1");
    bench.guard.absorbed(family);
    bench.work();
    bench.hear();
    for (key, value) in [("all.forwarding", "1"), ("eth0.forwarding", "1"), ("closed0.forwarding", "0")] {
        assert_eq!(bench.get(&format!("net.ipv4.conf.{key}")), value, "{key}");
    }
    assert_eq!(bench.get("net.ipv4.conf.all.accept_redirects"), "0");
}
