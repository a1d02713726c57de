//! The judge by tables, and answers of the kernel that the running one does not give.

use std::net::IpAddr;

use netlink_packet_route::route::RouteType;

use rustix::io::Errno;

use super::judge::{Marks, Passage, Settings, Stop, faults};
use super::links::{Address, Link, Neighbour};
use super::messages::{NextHop, Route, Rule};
use super::node::whole;
use super::{Fault, Way};

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Forwarded, on a path with nothing wrong.
fn passage(family: u8) -> Passage {
    let (from, to) = if family == 4 { ("10.9.0.2", "10.244.1.5") } else { ("2001:db8:9::2", "2001:db8:1::5") };
    Passage {
        way: Way::There,
        from: address(from),
        to: address(to),
        ingress: ("eth0".into(), true, true),
        verdict: Ok(()),
        lookup: Ok(()),
        refusing: None,
        down: None,
        settings: Settings { all_forwarding: true, forwarding: true, ..Settings::default() },
        own_source: None,
        reverse: Ok((vec!["eth0".into()], "10.9.0.0/24 dev eth0".into())),
        marks: Marks::default(),
        unruled: None,
    }
}

fn names(passage: &Passage) -> Vec<&'static str> {
    faults(passage).iter().map(|fault| fault.kind.name()).collect()
}

fn keys(faults: &[Fault]) -> Vec<&str> {
    faults.iter().filter_map(|fault| fault.key.as_ref()).map(|(key, _)| key.as_str()).collect()
}

#[test]
fn nothing_is_wrong() {
    assert_eq!((names(&passage(4)), names(&passage(6))), (vec![], vec![]));
}

#[test]
fn settings_that_do_not_make_the_kernel_drop_are_no_faults() {
    let mut passage = passage(4);
    // The ingress forwards although all does not; rp_filter is strict, and the kernel forwarded nevertheless.
    passage.settings.all_forwarding = false;
    (passage.settings.rp_filter, passage.reverse) = (1, Ok((vec!["eth1".into()], "default dev eth1".into())));
    assert_eq!(names(&passage), [] as [&str; 0]);
}

#[test]
fn the_higher_rp_filter_counts() {
    for (all, own, names_, reverse, expected) in [
        (1, 0, &["net.ipv4.conf.all.rp_filter"][..], "eth1", &["rp-filter"][..]),
        (0, 1, &["net.ipv4.conf.eth0.rp_filter"], "eth1", &["rp-filter"]),
        (2, 1, &[], "eth1", &["unexplained"]),
        (1, 2, &[], "eth1", &["unexplained"]),
        (0, 0, &[], "eth1", &["unexplained"]),
        (1, 1, &[], "eth0", &["unexplained"]),
    ] {
        let mut passage = Passage { verdict: Err(Stop::Drops(Errno::INVAL)), ..passage(4) };
        (passage.settings.all_rp_filter, passage.settings.rp_filter) = (all, own);
        passage.reverse = Ok((vec![reverse.into()], String::new()));
        assert_eq!(names(&passage), expected, "{all} {own} {reverse}");
        assert_eq!(keys(&faults(&passage)), names_, "{all} {own} {reverse}");
    }
    let drops = Err(Stop::Drops(Errno::INVAL));
    let mut passage = Passage { verdict: drops, reverse: Err(Errno::NETUNREACH), ..passage(4) };
    passage.settings.all_rp_filter = 2;
    assert_eq!(names(&passage), ["rp-filter", "source"], "loose still wants a route");
    passage.settings.rp_filter = 1;
    assert_eq!(faults(&passage)[0].fix, None, "without the loose one it would be strict");
    passage.reverse = Ok((vec!["eth1".into()], String::new()));
    assert_eq!(names(&passage), ["unexplained"]);
    passage.settings.unnumbered = true;
    assert_eq!(names(&passage), ["rp-filter"], "loose is as strict without an address");
    let zeroes = "sysctl -w net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth0.rp_filter=0";
    assert_eq!(faults(&passage)[0].fix.as_deref(), Some(zeroes));
}

#[test]
fn families_drop_in_their_own_order() {
    for (family, expected) in [(4, ["forwarding-off", "no-route"]), (6, ["no-route", "forwarding-off"])] {
        let errno = Errno::NETUNREACH;
        let mut passage = Passage { verdict: Err(Stop::Drops(errno)), lookup: Err(errno), ..passage(family) };
        passage.settings = Settings::default();
        assert_eq!(names(&passage), expected);
    }
}

#[test]
fn ipv6_is_judged_by_its_settings() {
    let mut passage = passage(6);
    passage.settings = Settings { forwarding: true, ..Settings::default() };
    assert_eq!(keys(&faults(&passage)), ["net.ipv6.conf.all.forwarding"], "only all counts");
    passage.settings.advertised = Some("eth0.100".into());
    let fix = "sysctl -w net.ipv6.conf.eth0/100.accept_ra=2 net.ipv6.conf.all.forwarding=1";
    assert_eq!(faults(&passage)[0].fix.as_deref(), Some(fix));
    passage.settings.forced = true;
    assert_eq!(names(&passage), [] as [&str; 0]);
    passage.reverse = Err(Errno::NETUNREACH);
    assert_eq!(names(&passage), ["source"]);
    passage.from = address("fe80::2");
    assert_eq!(names(&passage), ["source"]);
}

/// `struct rtattr`s, one inside the other.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = [(4 + value.len() as u16).to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

#[test]
fn tunnels_of_every_kind() {
    let remote = [192, 0, 2, 9];
    for (kind, number, external, overhead) in
        [("ipip", 3, 19, 20), ("gre", 7, 18, 24), ("gretap", 7, 18, 38), ("vxlan", 2, 25, 50), ("geneve", 2, 6, 50)]
    {
        // A flag, or for VXLAN a byte (`vxlan_fill_info`).
        let flag: &[u8] = if kind == "vxlan" { &[1] } else { &[] };
        let data = [attribute(number, &remote), attribute(external, flag)].concat();
        let info = [attribute(1, kind.as_bytes()), attribute(2 | 1 << 15, &data)].concat();
        let mut message = vec![0; 16];
        message[4] = 7;
        // An unknown attribute comes first.
        message.extend([attribute(999, &[1, 2, 3]), attribute(3, b"tunl0\0"), attribute(18, &info)].concat());
        let link = Link::parse(&message).expect("a link");
        assert_eq!((link.index, link.name.to_str(), link.kind.as_str()), (7, Some("tunl0"), kind));
        let tunnel = link.tunnel.expect("a tunnel");
        assert_eq!((tunnel.remote, tunnel.overhead, tunnel.external), (Some(remote.into()), overhead, true), "{kind}");
    }
}

/// `struct rtmsg` of an answer to a lookup, with the address, an interface and an error.
fn answer(kind: u8, to: &str, interface: i32, error: i32) -> Route {
    let octets = match address(to) {
        IpAddr::V4(to) => to.octets().to_vec(),
        IpAddr::V6(to) => to.octets().to_vec(),
    };
    let family = if octets.len() == 4 { libc::AF_INET } else { libc::AF_INET6 } as u8;
    let mut message = vec![family, octets.len() as u8 * 8, 0, 0, 254, 0, 0, kind, 0, 2, 0, 0];
    message.extend(attribute(libc::RTA_DST, &octets));
    message.extend(attribute(libc::RTA_OIF, &interface.to_ne_bytes()));
    let cache = [0, 0, 0, error, 0, 0, 0, 0].map(i32::to_ne_bytes);
    message.extend(attribute(libc::RTA_CACHEINFO, cache.as_flattened()));
    Route::parse(&message).expect("a route")
}

#[test]
fn an_answer_is_judged_by_its_kind() {
    let pods = ["10.244.1.5", "2001:db8:1::5"];
    // Linux 3.10: no errno where forwarding is off; IPv6 answers with the route it ends at and a negative errno.
    for (to, kind, error, expected) in [
        (pods[0], 1, 0, Ok(1)),
        (pods[0], 7, 0, Err(Errno::HOSTUNREACH)),
        (pods[0], 6, 0, Err(Errno::INVAL)),
        (pods[0], 8, 0, Err(Errno::ACCESS)),
        (pods[0], 9, 0, Err(Errno::NETUNREACH)),
        (pods[1], 7, -Errno::NETUNREACH.raw_os_error(), Err(Errno::NETUNREACH)),
        (pods[1], 7, -Errno::HOSTUNREACH.raw_os_error(), Err(Errno::HOSTUNREACH)),
        (pods[1], 6, -Errno::INVAL.raw_os_error(), Err(Errno::INVAL)),
        (pods[1], 8, -Errno::ACCESS.raw_os_error(), Err(Errno::ACCESS)),
        (pods[1], 9, -Errno::AGAIN.raw_os_error(), Err(Errno::NETUNREACH)),
        (pods[1], 7, i32::MIN, Err(Errno::HOSTUNREACH)),
        // For the node itself.
        (pods[0], 2, 0, Ok(2)),
        (pods[0], 3, 0, Ok(3)),
        (pods[1], 4, 0, Ok(4)),
        (pods[0], 5, 0, Ok(5)),
    ] {
        let answer = answer(kind, to, 1, error);
        assert_eq!(answer.is_silent(), to == pods[0] && kind == 7, "{to} {kind} {error}");
        assert_eq!(answer.answer().map(|route| route.kind.into()), expected, "{to} {kind} {error}");
    }
}

#[test]
fn what_the_node_keeps_is_not_forwarded() {
    for (family, kind) in [(4, "local"), (4, "broadcast"), (6, "anycast")] {
        let route = format!("{kind} 10.244.0.0/16 dev lo table 100");
        let mut passage = Passage { verdict: Err(Stop::Keeps(kind, route.clone())), ..passage(family) };
        // Asked before forwarding (ip_route_input_slow).
        passage.settings.forwarding = false;
        let faults = faults(&passage);
        assert_eq!(names(&passage), ["refusing-route"], "{family} {kind}");
        assert_eq!(faults[0].route.as_ref(), Some(&route));
        assert!(faults[0].text.contains(kind) && faults[0].fix.is_some(), "{:?}", faults[0]);
    }
}

#[test]
fn a_source_of_the_node_is_a_fault_whatever_the_kernel_says() {
    for (verdict, part) in [(Ok(()), "no answer"), (Err(Stop::Drops(Errno::INVAL)), "spoofed")] {
        let passage = Passage { own_source: Some("a broadcast address"), verdict, ..passage(4) };
        assert_eq!(names(&passage), ["source"]);
        assert!(faults(&passage)[0].text.contains(part), "{:?}", faults(&passage));
    }
}

#[test]
fn a_route_is_found_where_the_answer_has_only_the_address() {
    let hop =
        |interface, gateway: Option<&str>| NextHop { interface, gateway: gateway.map(address), ..NextHop::default() };
    let route = |network: &str, prefix, table, hops: &[NextHop]| Route {
        destination: Some(address(network)),
        prefix,
        table,
        hops: hops.to_vec(),
        ..answer(1, network, 1, 0)
    };
    let ways = [hop(2, Some("10.8.0.2")), hop(3, Some("10.9.0.2"))];
    let routes = [
        route("172.16.0.0", 12, 254, &ways),
        route("172.16.0.0", 16, 100, &ways[1..]),
        route("172.16.1.0", 24, 254, &[hop(4, None)]),
        Route { kind: RouteType::Unreachable, ..route("172.16.1.1", 32, 254, &ways) },
    ];
    let to = address("172.16.1.1");
    for (hop, expected) in
        [(&ways[0], Some(0)), (&ways[1], Some(1)), (&hop(4, None), Some(2)), (&hop(4, Some("10.8.0.2")), None)]
    {
        let answer = route("172.16.1.1", 32, 254, std::slice::from_ref(hop));
        let expected = expected.map_or(&answer, |expected: usize| &routes[expected]);
        assert_eq!(whole(&routes, to, answer.clone()), *expected, "{hop:?}");
    }
    // An answer that is whole stays as it is.
    assert_eq!(whole(&routes, to, routes[1].clone()), routes[1]);
}

#[test]
fn answers_never_panic() {
    proptest::proptest!(|(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..120))| {
        Route::parse(&bytes);
        Link::parse(&bytes);
        Address::parse(&bytes);
        Neighbour::parse(&bytes);
        Rule::parse(&bytes);
    });
}

#[test]
fn the_mark_decides_what_rp_filter_sees() {
    let strict = || {
        let mut passage = Passage { verdict: Err(Stop::Drops(Errno::INVAL)), ..passage(4) };
        passage.settings.all_rp_filter = 1;
        passage.reverse = Ok((vec!["eth1".into()], "default dev eth1".into()));
        passage
    };
    let one = |passage: &Passage| faults(passage).pop().expect("a fault");
    let known = one(&strict());
    assert_eq!((known.suspected, known.fix.as_deref()), (false, Some("sysctl -w net.ipv4.conf.all.rp_filter=0")));
    let unknown = one(&Passage { marks: Marks { unknown: true, ..Marks::default() }, ..strict() });
    assert_eq!((unknown.suspected, unknown.fix), (true, None), "nothing that opens what works");
    // With src_valid_mark the kernel would find the way back.
    for unknown in [false, true] {
        let hidden = one(&Passage { marks: Marks { unknown, hidden: Some(0x80), ..Marks::default() }, ..strict() });
        assert_eq!(hidden.key, Some(("net.ipv4.conf.all.src_valid_mark".into(), 0)));
        assert_eq!(
            (hidden.suspected, hidden.fix.as_deref()),
            (false, Some("sysctl -w net.ipv4.conf.all.src_valid_mark=1"))
        );
    }
}

#[test]
fn a_route_that_only_marked_packets_find() {
    let errno = Errno::NETUNREACH;
    let none = Passage { verdict: Err(Stop::Drops(errno)), lookup: Err(errno), ..passage(4) };
    for (unknown, leads, suspected) in [(true, Some(0x100), true), (true, None, false), (false, Some(0x100), false)] {
        let found = faults(&Passage { marks: Marks { unknown, leads, ..Marks::default() }, ..none.clone() });
        assert_eq!((found[0].suspected, found[0].fix.is_none()), (suspected, suspected), "{found:?}");
        assert_eq!(found[0].text.contains("0x100"), suspected, "{found:?}");
    }
    let route = "10.244.0.0/16 dev cali1 table 100".to_string();
    let unruled = faults(&Passage { unruled: Some((route.clone(), 100)), ..none });
    assert_eq!(unruled[0].route, Some(route));
    assert_eq!(unruled[0].fix.as_deref(), Some("ip rule add to 10.244.1.5 lookup 100"));
}

#[test]
fn a_loopback_source_is_let_in_by_route_localnet() {
    let mut passage = Passage { from: address("127.0.0.5"), own_source: Some("an address"), ..passage(4) };
    assert_eq!(keys(&faults(&passage)), ["net.ipv4.conf.eth0.route_localnet"]);
    assert_eq!(faults(&passage)[0].fix, None, "it lets others at what listens on loopback");
    passage.settings.route_localnet = true;
    assert_eq!(names(&passage), [] as [&str; 0]);
}
