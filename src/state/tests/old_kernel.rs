//! Changes that Linux 3.10 (CentOS 7) does not announce.

use super::*;
use crate::state::Move;

/// Linux 3.10 announces by the link message alone that settings were made anew (`inetdev_event`, `addrconf_notify`).
#[test]
fn an_interface_whose_mtu_changed_is_checked() {
    let mut bench = Bench::started(POLICY);
    let changed = |bench: &mut Bench, mtu: Option<u32>| {
        let link = Link { ifindex: ETH0, name: "eth0".into(), up: Some(true), mtu };
        let has_to_wait = bench.state.gives_other_settings(&link);
        bench.state.apply_link(&link, true, 70);
        let is_read = bench.state.is_busy();
        bench.execute_repairs();
        (has_to_wait, is_read)
    };
    assert_eq!(changed(&mut bench, None), (false, false));
    assert_eq!(changed(&mut bench, Some(1500)), (true, true), "it may have been less before");
    assert_eq!(changed(&mut bench, Some(1500)), (false, false));
    bench.state.take_moves();
    for (mtu, value) in [(60, "1"), (1500, "0")] {
        bench.set("net.ipv4.conf.eth0.forwarding", value);
        assert_eq!(changed(&mut bench, Some(mtu)), (true, true));
        assert_eq!(bench.get("net.ipv4.conf.eth0.forwarding"), "1", "with MTU {mtu}");
    }
    assert_eq!(bench.state.take_moves(), [Move::Here("eth0".into()), Move::Here("eth0".into())], "other files");
    assert_eq!(bench.take_repairs(), ["net.ipv4.conf.eth0.forwarding 1>0>1 link 0"]);
}

/// Linux 3.10 does not announce that `default` changes with IPv6's `all` (addrconf_fixup_forwarding).
#[test]
fn default_of_ipv6_is_read_after_a_change_of_all() {
    SILENT_DEFAULT.set(true);
    let policy = "net.ipv6.conf.default.forwarding = 1\n";
    for more in ["", "net.ipv6.conf.all.forwarding = 1\n", "net.ipv6.conf.all.forwarding = 0\n"] {
        let mut bench = Bench::new(&format!("{policy}{more}"));
        let all = if more.ends_with("0\n") { "0" } else { "1" };
        bench.set("net.ipv6.conf.all.forwarding", all);
        bench.read_everything(Cause::Start);
        bench.execute_repairs();
        let other = if all == "1" { "0" } else { "1" };
        bench.write("net.ipv6.conf.all.forwarding", other);
        bench.receive_and_repair();
        assert_eq!(bench.get("net.ipv6.conf.default.forwarding"), "1", "{more}");
    }
}
