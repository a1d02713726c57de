//! Interfaces that appear, are renamed or come up.

use super::*;

#[test]
fn a_new_interface_is_judged_by_its_registration_and_by_its_name() {
    let mut bench = Bench::started("net.ipv4.conf.new0.rp_filter = 0\nnet.ipv4.conf.late0.rp_filter = 0\n");
    bench.set("net.ipv4.conf.new0.rp_filter", "1");
    bench.state.apply_link(&Link { ifindex: 9, name: "new0".into(), up: Some(false), mtu: None }, false, 70);
    let registration = NetconfMessage { settings: 6, forwarding: Some(1), ..rp_filter(9, 1) };
    bench.state.apply_netconf(&registration, 77);
    // The fake kernel knows no such interface: only the request counts.
    let repair = bench.state.next_repair(0).unwrap();
    assert_eq!((repair.key.to_string(), &*repair.wanted), ("net.ipv4.conf.new0.rp_filter".into(), "0"));
    let outcome =
        Outcome { found: Ok("1".into()), write: Some(Ok(())), now: Some("0".into()), finished: 80, write_usec: 1 };
    assert_eq!(bench.state.complete(repair, outcome), None);
    assert_eq!(bench.take_repairs(), ["net.ipv4.conf.new0.rp_filter ?>1>0 link 0 notified"]);
    // Linux 3.10: no netconf message, so the link message makes it be read.
    bench.state.apply_link(&Link { ifindex: 10, name: "late0".into(), up: Some(false), mtu: None }, true, 70);
    let repair = bench.state.next_repair(0).unwrap();
    assert_eq!(repair.key.to_string(), "net.ipv4.conf.late0.rp_filter");
    assert_eq!((repair.job.cause, repair.job.received), (Cause::Link, Some(70)), "no process wrote its first value");
    // A rename makes it another setting.
    bench.state.apply_link(&Link { ifindex: 9, name: "old0".into(), up: Some(false), mtu: None }, true, 70);
    bench.state.apply_netconf(&rp_filter(9, 2), 90);
    assert!(bench.state.next_repair(0).is_none());
}

/// Linux 3.10 announces an interface that appeared or was renamed by RTM_NEWLINK alone.
#[test]
fn without_netconf_messages_a_link_message_leads_to_a_read_of_all_announced_settings() {
    let mut bench = Bench::started(
        "net.ipv4.conf.*.forwarding = 1\nnet.ipv6.conf.*.forwarding = 1\nnet.ipv4.conf.*.rp_filter = 0\n-net.ipv4.conf.closed0.forwarding\n",
    );
    for (name, mtu, is_read) in [
        ("late0", 1500, true),
        ("old0", 1500, true),
        ("old0", 1500, false),
        // Below 68, and back: the settings are made anew from default.
        ("old0", 60, true),
        ("old0", 1500, true),
    ] {
        bench.state.apply_link(&Link { ifindex: 10, name: name.into(), up: Some(true), mtu: Some(mtu) }, true, 70);
        let mut asked = Vec::new();
        while let Some(repair) = bench.state.next_repair(0) {
            asked.push(repair.key.to_string());
            let found = Ok(repair.wanted.to_string());
            let outcome = Outcome { found, write: None, now: None, finished: 80, write_usec: 0 };
            assert_eq!(bench.state.complete(repair, outcome), None);
        }
        asked.sort();
        let keys = ["net.ipv4.conf.N.forwarding", "net.ipv4.conf.N.rp_filter", "net.ipv6.conf.N.forwarding"];
        let expected = if is_read { keys.map(|key| key.replace('N', name)).to_vec() } else { vec![] };
        assert_eq!(asked, expected, "{name} {mtu}");
    }
}

#[test]
fn a_link_that_came_up_is_checked_and_no_other_and_announced_settings_only_later() {
    let mut bench = Bench::started(POLICY);
    let checks = |bench: &mut Bench, now: u64| {
        bench.state.check_due_links(now);
        let mut keys = Vec::new();
        while let Some(repair) = bench.state.next_repair(0) {
            assert_eq!((repair.job.cause, repair.job.received), (Cause::Link, None));
            keys.push(repair.key.to_string());
            assert_eq!(bench.execute(repair), None);
        }
        keys.join(" ")
    };
    let flap = |bench: &mut Bench| {
        for up in [false, true] {
            bench.state.apply_link(&Link { ifindex: ETH0, name: "eth0".into(), up: Some(up), mtu: None }, true, 70);
            assert!(!bench.state.is_busy(), "a flap has nothing read");
        }
    };
    assert_eq!(bench.state.links_due(), None);
    flap(&mut bench);
    assert_eq!(checks(&mut bench, 1_000_000), "net.ipv6.conf.eth0.accept_ra net.core.somaxconn");
    flap(&mut bench);
    assert_eq!(checks(&mut bench, 1_500_000), "");
    assert_eq!(bench.state.links_due(), Some(3_000_000));
    assert_eq!(checks(&mut bench, 3_000_000), "net.ipv6.conf.eth0.accept_ra net.core.somaxconn");
    let all =
        "net.ipv6.conf.eth0.accept_ra net.ipv4.conf.eth0.forwarding net.ipv6.conf.eth0.forwarding net.core.somaxconn";
    assert_eq!(checks(&mut bench, 5_000_000), all);
    bench.state.remove_link(ETH0);
    assert_eq!(checks(&mut bench, 13_000_000), "net.core.somaxconn");
}

#[test]
fn what_failed_under_an_old_name_is_forgotten() {
    let mut bench = Bench::started("net.ipv6.conf.*.mtu = 9000\n");
    bench.state.apply_link(&Link { ifindex: 9, name: "tmp0".into(), up: Some(false), mtu: None }, true, 70);
    bench.state.check_due_links(1_000_000);
    while let Some(repair) = bench.state.next_repair(0) {
        let (found, refused) = (Ok("1500".into()), Some(Err(rustix::io::Errno::INVAL)));
        let outcome = Outcome { found, write: refused, now: None, finished: 80, write_usec: 1 };
        assert_eq!(bench.state.complete(repair, outcome), None);
    }
    assert!(bench.state.summary().failing > 0);
    let failing = bench.state.summary().failing;
    bench.state.apply_link(&Link { ifindex: 9, name: "ens7".into(), up: Some(false), mtu: None }, true, 90);
    assert_eq!(bench.state.summary().failing, failing - 1);
}

/// The name of a new interface is asked for, and so may be ahead of the messages that wait.
#[test]
fn an_interface_keeps_its_settings_when_another_that_had_its_name_goes_or_is_renamed() {
    let mut bench = Bench::started("net.ipv6.conf.eth0.accept_ra = 2\n");
    let key = Key::parse("net.ipv6.conf.eth0.accept_ra").unwrap();
    let mut link = |ifindex, name: &str, complete| {
        bench.state.apply_link(&Link { ifindex, name: name.into(), up: Some(true), mtu: None }, complete, 70);
        bench.state.settings.is_guarded(&key)
    };
    assert!(link(9, "eth0", false), "asked for, while the renaming of the old eth0 waits to be received");
    link(ETH0, "old0", true);
    assert!(link(9, "eth0", true), "its own message");
    bench.state.check_due_links(1_000_000);
    let keys = std::iter::from_fn(|| bench.state.next_repair(0)).map(|repair| repair.key).collect::<Vec<_>>();
    assert!(keys.contains(&key), "{keys:?}");
}
