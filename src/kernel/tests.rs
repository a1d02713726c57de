//! The decoder on recorded bytes, and on bytes that no kernel sends.

use super::message::{Event, Link, messages};
use super::name::Name;
use super::netconf::NetconfMessage;

/// Linux 6.18 on `sysctl -w net.ipv4.ip_forward=0`: the message for `all`.
const ALL_FORWARDING_0: [u8; 36] = [
    36, 0, 0, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 8, 0, 1, 0, 255, 255, 255, 255, 8, 0, 2, 0, 0, 0, 0,
    0,
];

fn decoded(bytes: &[u8]) -> Vec<Result<Event, ()>> {
    messages(bytes)
        .map(|message| message.map(|message| Event::decode(message.message_type(), message.payload())).map_err(|_| ()))
        .collect()
}

fn netlink(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (16 + payload.len() as u32).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend([0; 10]);
    bytes.extend(payload);
    bytes
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = (4 + value.len() as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// `struct ifinfomsg`: eth0's index is 7, and it is up.
fn ifinfo(family: u8, attributes: &[u8]) -> Vec<u8> {
    let mut bytes = vec![family, 0, 1, 0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
    bytes.extend(attributes);
    bytes
}

#[test]
fn a_recorded_netconf_message() {
    let expected = NetconfMessage {
        family: 2,
        ifindex: Some(-1),
        forwarding: Some(0),
        rp_filter: None,
        settings: 1,
        ..Default::default()
    };
    assert_eq!(decoded(&ALL_FORWARDING_0), [Ok(Event::Netconf(expected))]);
    let twice = [ALL_FORWARDING_0, ALL_FORWARDING_0].concat();
    assert_eq!(decoded(&twice).len(), 2, "as in a dump");
}

#[test]
fn unknown_attributes_are_skipped() {
    let attributes =
        [attribute(1, &5i32.to_ne_bytes()), attribute(99, b"new"), attribute(3, &2i32.to_ne_bytes())].concat();
    let bytes = netlink(80, &[&[10, 0, 0, 0], &*attributes].concat());
    let expected = NetconfMessage {
        family: 10,
        ifindex: Some(5),
        forwarding: None,
        rp_filter: Some(2),
        settings: 2,
        other: Some(99),
    };
    assert_eq!(decoded(&bytes), [Ok(Event::Netconf(expected))]);
}

#[test]
fn netconf_messages_of_an_unknown_shape() {
    let no_ifindex = [&[2, 0, 0, 0], &*attribute(2, &1i32.to_ne_bytes())].concat();
    let short_value = [&[2, 0, 0, 0], &*attribute(1, &[1, 0])].concat();
    let cut = [&[2, 0, 0, 0], &[40, 0, 1, 0][..]].concat();
    for payload in [vec![], vec![2], vec![2, 0, 0, 0], no_ifindex, short_value, cut] {
        assert_eq!(decoded(&netlink(80, &payload)), [Ok(Event::Broken)], "{payload:?}");
    }
}

#[test]
fn links() {
    let name = attribute(3, b"eth0\0");
    let link = Link { ifindex: 7, name: "eth0".into(), up: Some(true), mtu: None };
    assert_eq!(decoded(&netlink(16, &ifinfo(0, &name))), [Ok(Event::Link(link))]);
    let mtu = [&*name, &*attribute(13, &[0; 4]), &*attribute(4, &1280u32.to_ne_bytes())].concat();
    assert_eq!(decoded(&netlink(16, &ifinfo(0, &mtu))), [Ok(Event::Link(Link { mtu: Some(1280), ..link }))]);
    assert_eq!(decoded(&netlink(17, &ifinfo(0, &name))), [Ok(Event::LinkGone { ifindex: 7 })]);
    // A port that leaves a bridge is no link that is removed.
    assert_eq!(decoded(&netlink(17, &ifinfo(7, &name))), [Ok(Event::Other)]);
    // Any bytes are a name, and other attributes of the link do not matter.
    let odd = Link { ifindex: 7, name: Name::new(b"b\xff").unwrap(), up: Some(true), mtu: None };
    let attributes = [attribute(4, &[1]), attribute(3, b"b\xff\0"), vec![1]].concat();
    assert_eq!(decoded(&netlink(16, &ifinfo(0, &attributes))), [Ok(Event::Link(odd))]);
    for attributes in [
        vec![],
        attribute(3, b"\0"),
        attribute(3, b"..\0"),
        attribute(3, b"../a\0"),
        attribute(3, b"sixteen-bytes-is\0"),
        attribute(4, &[1]),
        [vec![2, 0, 0, 0], name].concat(),
    ] {
        assert_eq!(decoded(&netlink(16, &ifinfo(0, &attributes))), [Ok(Event::Broken)], "{attributes:?}");
    }
    assert_eq!(decoded(&netlink(16, &[0; 7])), [Ok(Event::Broken)]);
    assert_eq!(decoded(&netlink(20, &[])), [Ok(Event::Other)], "an address message");
}

#[test]
fn bytes_that_are_no_netlink_message() {
    for bytes in [&[1][..], &ALL_FORWARDING_0[..20], &[255; 16], &[0; 16], &[16, 0, 0, 0][..]] {
        assert_eq!(decoded(bytes), [Err(())], "{bytes:?}");
    }
}

#[test]
fn decoding_never_panics() {
    proptest::proptest!(|(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200), kind in 14u16..90)| {
        decoded(&bytes);
        decoded(&netlink(kind, &bytes));
    });
}
