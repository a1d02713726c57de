//! The judge by tables, and answers of kinds that this kernel has not.

use std::net::IpAddr;

use super::answers::{Link, Route};
use super::judge::{Passage, Settings, faults};
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
        own_source: false,
        reverse: Ok((vec!["eth0".into()], "10.9.0.0/24 dev eth0".into())),
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
    // The ingress forwards, whatever all says; a strict filter that the kernel was content with.
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
        let mut passage = Passage { verdict: Err(libc::EINVAL), ..passage(4) };
        (passage.settings.all_rp_filter, passage.settings.rp_filter) = (all, own);
        passage.reverse = Ok((vec![reverse.into()], String::new()));
        assert_eq!(names(&passage), expected, "{all} {own} {reverse}");
        assert_eq!(keys(&faults(&passage)), names_, "{all} {own} {reverse}");
    }
    let mut passage = Passage { verdict: Err(libc::EINVAL), reverse: Err(libc::ENETUNREACH), ..passage(4) };
    passage.settings.all_rp_filter = 2;
    assert_eq!(names(&passage), ["rp-filter", "source"], "loose still wants a route");
}

#[test]
fn families_drop_in_their_own_order() {
    for (family, expected) in [(4, ["forwarding-off", "no-route"]), (6, ["no-route", "forwarding-off"])] {
        let refused = Err(libc::ENETUNREACH);
        let mut passage = Passage { verdict: refused, lookup: refused, ..passage(family) };
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
    let mend = "sysctl -w net.ipv6.conf.eth0/100.accept_ra=2 net.ipv6.conf.all.forwarding=1";
    assert_eq!(faults(&passage)[0].mend.as_deref(), Some(mend));
    passage.settings.forced = true;
    assert_eq!(names(&passage), [] as [&str; 0]);
    passage.reverse = Err(libc::ENETUNREACH);
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
        let data = [attribute(number, &remote), attribute(external, &[])].concat();
        let info = [attribute(1, kind.as_bytes()), attribute(2 | 1 << 15, &data)].concat();
        let mut message = vec![0; 16];
        message[4] = 7;
        // What nobody knows stands before what counts.
        message.extend([attribute(999, &[1, 2, 3]), attribute(3, b"tunl0\0"), attribute(18, &info)].concat());
        let link = Link::parse(&message).expect("a link");
        assert_eq!((link.index, link.name.to_str(), link.kind.as_str()), (7, Some("tunl0"), kind));
        let tunnel = link.tunnel.expect("a tunnel");
        assert_eq!((tunnel.remote, tunnel.overhead, tunnel.external), (Some(remote.into()), overhead, true), "{kind}");
    }
}

#[test]
fn answers_never_panic() {
    proptest::proptest!(|(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..120))| {
        Route::parse(&bytes);
        Link::parse(&bytes);
        super::answers::Address::parse(&bytes);
        super::answers::Neighbour::parse(&bytes);
    });
}
