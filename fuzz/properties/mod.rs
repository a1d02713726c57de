//! The properties that hold for any hostile input: one module for each target of `make fuzz`, each with a function `holds`, which
//! panics where one does not. `make test` runs the same functions over the kept corpus.

#![allow(dead_code)] // each target uses its part

pub mod netlink;
pub mod pattern;
pub mod policy;
pub mod process;
pub mod records;
pub mod values;

use std::path::{Component, Path};

use fwdguard::setting::{Key, must_escape};

/// Separates the parts of a target's bytes, so that the fuzzer can make one longer without moving the others.
const SEPARATOR: u8 = 0xfe;

/// The parts of `data`, without end; missing ones are empty.
fn parts(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    data.split(|byte| *byte == SEPARATOR).chain(std::iter::repeat(&[][..]))
}

/// The text has no character that controls a terminal or ends a line.
#[track_caller]
fn assert_plain(text: &str) {
    assert!(!text.contains(must_escape), "{text:?}");
}

/// The key's file lies below /proc/sys/net.
#[track_caller]
fn assert_below_net(key: &Key) {
    let mut parts = Path::new(key.path()).components();
    assert_eq!(parts.next(), Some(Component::Normal("net".as_ref())), "{key:?}");
    assert!(parts.all(|part| matches!(part, Component::Normal(_))), "{key:?}");
    assert!(!key.path().as_encoded_bytes().contains(&0), "{key:?}");
}
