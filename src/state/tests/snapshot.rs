//! What a full read makes known.

use super::*;

#[test]
fn the_summary_counts_what_is_there() {
    let mut bench = Bench::started(POLICY);
    let summary = bench.state.summary();
    // v4: all, default, eth0, tunl0 forwarding; all, tunl0 rp_filter; v6 forwarding of five; accept_ra; somaxconn.
    assert_eq!((summary.settings, summary.interfaces), (13, 3));
    for (indices, all) in [(&[ETH0, CLOSED0, TUNL0][..], true), (&[ETH0, CLOSED0], false), (&[2, 3, 4, 7], false)] {
        assert_eq!(bench.state.knows_just(indices), all, "{indices:?}");
    }
    bench.state.remove_link(TUNL0);
    assert_eq!(bench.state.summary().settings, 10);
    bench.write("net.ipv4.conf.all.forwarding", "0");
    bench.receive_and_repair();
    assert_eq!(bench.state.take_changes(), ["net.ipv4.ip_forward"]);
    let summary = bench.state.summary();
    assert_eq!(
        (summary.repairs, summary.failing, summary.last),
        (1, 0, Some(("net.ipv4.ip_forward".into(), Cause::Write)))
    );
}
