//! The corpus that `make fuzz` has gathered, and what failed once, through the properties of its targets.

mod common;

#[path = "../fuzz/properties/mod.rs"]
mod properties;

use std::fs;
use std::path::Path;

fn replay(target: &str, holds: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files: Vec<_> =
        fs::read_dir(&folder).expect("a corpus").map(|entry| entry.expect("a file").path()).collect();
    assert!(files.len() > 20, "{} files in {}", files.len(), folder.display());
    let found = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/found").join(target));
    files.extend(found.into_iter().flatten().map(|entry| entry.expect("a file").path()));
    files.sort();
    for file in files {
        println!("{}", file.display()); // shown if it fails
        holds(&fs::read(file).expect("read"));
    }
}

#[test]
fn netlink() {
    replay("netlink", properties::netlink::holds);
}

#[test]
fn pattern() {
    replay("pattern", properties::pattern::holds);
}

#[test]
fn policy() {
    replay("policy", properties::policy::holds);
}

#[test]
fn process() {
    replay("process", properties::process::holds);
}

#[test]
fn values() {
    replay("values", properties::values::holds);
}

#[test]
fn records() {
    let _ns = common::Namespace::enter();
    properties::records::open();
    replay("records", properties::records::holds);
}
