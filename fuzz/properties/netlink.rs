//! One datagram of rtnetlink: the program decodes it to the same events as a decoder that is written another way.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use fwdguard::kernel::message::{Event, Link};
use fwdguard::kernel::name::Name;
use fwdguard::kernel::socket::decode as receive;
use fwdguard::setting::{Attribute, Family, Key};

const HEADER: usize = 16;
const FIRST_OF_RTNETLINK: u16 = 16;
const LONGEST_NAME: usize = 15;

pub fn holds(data: &[u8]) {
    let mut events = Vec::new();
    let whole = receive(data, data.len(), &mut events);
    assert!(receive(data, data.len() + 1, &mut Vec::new()).is_err(), "truncated");
    assert!(events.len() <= data.len() / HEADER);
    for message in &events {
        match message {
            Event::Netconf(message) => assert!(message.ifindex.is_some()),
            Event::Link(link) => {
                let name = link.name.as_bytes();
                assert!(!name.is_empty() && !name.contains(&0) && name.len() < data.len());
                for family in Family::BOTH {
                    let key = Key::conf(family, &link.name, Attribute::Forwarding);
                    super::assert_below_net(&key);
                    assert_eq!(key.place().map(|place| place.interface), Some(&*link.name));
                }
            }
            Event::LinkGone { .. } | Event::Other => {}
            Event::Broken => panic!("it is a loss"),
        }
    }
    if let Some(expected) = decode(data) {
        assert_eq!(whole.is_ok().then_some(&events), expected.as_ref());
    }
    if whole.is_ok() && data.len().is_multiple_of(4) {
        let mut twice = Vec::new();
        assert!(receive(&data.repeat(2), data.len() * 2, &mut twice).is_ok());
        assert_eq!(twice, [events.clone(), events].concat());
    }
}

/// The decoded events, or nothing if something was lost. `None`: there is a control message, which this decoder does not know.
fn decode(data: &[u8]) -> Option<Option<Vec<Event>>> {
    let (mut at, mut events) = (0, Vec::new());
    while at < data.len() {
        let Some((length, kind)) = u32_at(data, at).zip(u16_at(data, at + 4)) else { return Some(None) };
        let length = length as usize;
        if length < HEADER || length > data.len() - at {
            return Some(None);
        }
        if kind < FIRST_OF_RTNETLINK {
            return None;
        }
        let Some(message) = message(kind, &data[at + HEADER..at + length]) else { return Some(None) };
        events.push(message);
        at += length.div_ceil(4) * 4;
    }
    Some(Some(events))
}

fn message(kind: u16, payload: &[u8]) -> Option<Event> {
    match kind {
        80 => {
            let (attributes, all) = attributes(payload.get(4..)?);
            let last = |kind| attributes.iter().rev().find(|a| a.0 == kind).and_then(|a| i32_of(a.1));
            let known = attributes.iter().filter(|a| (1..=3).contains(&a.0));
            if !all || !known.clone().all(|a| a.1.len() == 4) {
                return None;
            }
            Some(Event::Netconf(fwdguard::kernel::netconf::NetconfMessage {
                family: payload[0],
                ifindex: Some(last(1)?),
                forwarding: last(2),
                rp_filter: last(3),
                other: attributes.iter().rev().map(|a| a.0).find(|kind| !(1..=3).contains(kind)),
                settings: attributes.iter().filter(|a| a.0 != 1).count().min(255) as u8,
            }))
        }
        16 | 17 => {
            let (family, ifindex, flags) = (payload.first()?, i32_of(payload.get(4..8)?)?, u32_at(payload, 8)?);
            match (family, kind) {
                (0, 17) => Some(Event::LinkGone { ifindex }),
                (0, _) => {
                    let (attributes, _) = attributes(payload.get(16..).unwrap_or_default());
                    let value = attributes.iter().find(|a| a.0 == 3)?.1;
                    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
                    let bytes = &value[..end];
                    if matches!(bytes, b"" | b"." | b"..") || bytes.contains(&b'/') || end > LONGEST_NAME {
                        return None;
                    }
                    let name = Name::new(bytes).expect("a name");
                    assert_eq!(&*name, OsStr::from_bytes(bytes));
                    let behind = attributes.iter().skip_while(|a| a.0 != 3).skip(1);
                    let mtu = behind.filter(|a| a.0 == 4).map(|a| a.1).next().and_then(|mtu| mtu.try_into().ok());
                    let mtu = mtu.map(u32::from_ne_bytes);
                    Some(Event::Link(Link { ifindex, name, up: Some(flags & 1 == 1), mtu }))
                }
                _ => Some(Event::Other),
            }
        }
        _ => Some(Event::Other),
    }
}

/// Kinds and values, and whether the bytes held nothing else.
fn attributes(bytes: &[u8]) -> (Vec<(u16, &[u8])>, bool) {
    let (mut at, mut found) = (0, Vec::new());
    while at < bytes.len() {
        let Some((length, kind)) = u16_at(bytes, at).zip(u16_at(bytes, at + 2)) else { return (found, false) };
        let length = length as usize;
        if length < 4 || length > bytes.len() - at {
            return (found, false);
        }
        found.push((kind & 0x3fff, &bytes[at + 4..at + length]));
        at += length.div_ceil(4) * 4;
    }
    (found, true)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn i32_of(value: &[u8]) -> Option<i32> {
    Some(i32::from_ne_bytes(value.try_into().ok()?))
}
