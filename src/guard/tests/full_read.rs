//! What a full read may pass over: what is known already, and right.

use super::*;

#[test]
fn what_is_known_and_right_is_no_news_in_whatever_order_it_comes() {
    let bench = Bench::started(POLICY);
    let (v4, v6) = (libc::AF_INET, libc::AF_INET6);
    let known = [
        message(v4, ETH0, Some(1), Some(0)),
        message(v4, CLOSED0, Some(0), Some(0)),
        message(v4, TUNL0, Some(1), Some(0)),
        message(v6, ETH0, Some(1), None),
        message(v6, TUNL0, None, None),
    ];
    for order in [[0, 1, 2, 3, 4], [2, 0, 1, 4, 3], [1, 1, 0, 0, 2]] {
        let mut beside = bench.guard.beside();
        for message in order.map(|number| known[number]) {
            assert!(beside.says_nothing_new(&message), "{message:?} in {order:?}");
        }
    }
    let mut beside = bench.guard.beside();
    for news in [
        message(v4, ETH0, Some(0), Some(0)),
        message(v4, ETH0, Some(1), Some(1)),
        message(v4, CLOSED0, Some(1), Some(0)),
        message(v6, TUNL0, Some(0), None),
        message(v4, 7, Some(1), Some(0)),
        message(v4, ALL, Some(1), Some(0)),
        message(v4, DEFAULT, Some(1), Some(0)),
    ] {
        assert!(!beside.says_nothing_new(&news), "{news:?}");
    }
    for (indices, all) in [(&[ETH0, CLOSED0, TUNL0][..], true), (&[ETH0, CLOSED0], false), (&[2, 3, 4, 7], false)] {
        assert_eq!(beside.are_all(indices), all, "{indices:?}");
    }
}

#[test]
fn what_is_known_and_wrong_or_not_over_is_looked_at_again() {
    let mut bench = Bench::started(POLICY);
    bench.guard.netconf(&forwarding(TUNL0, 0), 1);
    assert!(!bench.guard.beside().says_nothing_new(&forwarding(TUNL0, 0)), "wrong, and known to be");
    let mut bench = Bench::started(POLICY);
    bench.guard.netconf(&forwarding(ALL, 0), 1);
    assert!(!bench.guard.beside().says_nothing_new(&forwarding(TUNL0, 1)), "in an episode");
}

#[test]
fn the_summary_counts_what_is_there() {
    let mut bench = Bench::started(POLICY);
    let summary = bench.guard.summary();
    // v4: all, default, eth0, tunl0 forwarding; all, tunl0 rp_filter; v6 forwarding of five; accept_ra; somaxconn.
    assert_eq!((summary.settings, summary.interfaces), (13, 3));
    bench.guard.link_gone(TUNL0);
    assert_eq!(bench.guard.summary().settings, 10);
    bench.write("net.ipv4.conf.all.forwarding", "0");
    bench.hear();
    assert_eq!(bench.guard.take_changes(), ["net.ipv4.ip_forward"]);
    let summary = bench.guard.summary();
    assert_eq!(
        (summary.repairs, summary.failing, summary.last),
        (1, 0, Some(("net.ipv4.ip_forward".into(), Cause::Write)))
    );
}
