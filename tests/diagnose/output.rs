//! The table, exit statuses, and the output of other programs: the firewall and the journal.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::common::*;
use crate::node::*;

#[test]
fn the_table_reads_well() {
    let node = Node::new();
    let (table, status) = node.table(POD);
    assert_eq!(status, 0, "{table}");
    assert!(table.lines().count() <= 30, "{table}");
    assert!(table.lines().next().is_some_and(|line| line.ends_with("MARK")), "{table}");
    assert!(!table.contains("DROPPED") && table.contains("10.9.0.2 (assumed)"), "{table}");
    for counter in ["Ip InAddrErrors", "InNoRoutes", "TcpExt IPReversePathFilter", "softnet", "cali1 dropped"] {
        assert!(table.contains(counter), "{counter}: {table}");
    }
    sysctl_write("net/ipv4/ip_forward", "0");
    let (table, status) = node.table(POD);
    assert_eq!(status, 1, "{table}");
    let mut last = table.lines().rev();
    assert_eq!(last.next(), Some("Fix: sysctl -w net.ipv4.ip_forward=1"), "{table}");
    assert!(last.next().is_some_and(|line| line.starts_with("Dropped here: net.ipv4.ip_forward is 0")), "{table}");
    let arrives = table.lines().find(|line| line.starts_with("arrives")).expect("a step");
    assert!(arrives.contains("forwarding off") && arrives.ends_with("DROPPED"), "{table}");
}

#[test]
fn wrong_usage_is_one_line() {
    let node = Node::new();
    for (arguments, texts) in [
        (&["10.244.1"][..], "'10.244.1' is not an IPv4 or IPv6 address"),
        (&["10.244.1.5/24"], "is not an IPv4 or IPv6 address"),
        (&["a\x1b[31m"], "'a\\u{1b}[31m' is not a"),
        (&[POD, "--from", "nobody"], "'nobody' is not a"),
        (&[POD, "--from", "::1"], "different families"),
        (&[POD, "--in", "eth9"], "--in eth9: no such interface"),
        (&["224.0.0.1"], "multicast"),
        (&["fe80::1"], "link-local"),
        (&["10.244.1.255"], "broadcast"),
    ] {
        let output = node.ns.fwdguard(&[&["diagnose"], arguments].concat());
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), error.lines().count()), (Some(2), 1), "{arguments:?}: {error}");
        assert!(error.contains(texts) && output.stdout.is_empty(), "{arguments:?}: {error}");
    }
}

#[test]
fn an_address_of_the_node_is_delivered() {
    let node = Node::new();
    let (object, status) = node.diagnose("10.9.0.1");
    assert_eq!((status, &object["local"]), (0, &true.into()));
    assert!(text(&object, "verdict").starts_with("Delivered here"), "{object:#}");
}

#[test]
fn a_hostile_name_forges_nothing() {
    let node = Node::new();
    let renamed = Command::new("ip").args(["link", "set", "eth0", "name", "e\x1b[31m\u{202e}"]).status();
    assert!(renamed.is_ok_and(|status| status.success()));
    sysctl_write("net/ipv4/ip_forward", "0");
    let (table, _) = node.table(POD);
    assert!(!table.contains(['\x1b', '\u{202e}']) && table.contains("e\\u{1b}[31m"), "{table}");
}

/// A folder with one program that prints `text`, before all others.
fn instead(node: &Node, program: &str, text: &str) -> (String, std::path::PathBuf) {
    let folder = node.ns.path("bin");
    fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join(program);
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode");
    let found = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default());
    (found, path)
}

#[test]
fn repairs_in_the_journal_are_listed() {
    let node = Node::new();
    let record = r#"{"__REALTIME_TIMESTAMP":"%s000000","MESSAGE":"Restored net.ipv4.ip_forward to 1: it was %s"}\n"#;
    let hours_ago = |hours: u32, was: &str| format!("printf '{record}' $(date -d '{hours} hours ago' +%s) {was}\n");
    let (path, _) = instead(&node, "journalctl", &(hours_ago(30, "8") + &hours_ago(3, "2") + &hours_ago(1, "0")));
    let output = node.ns.command().args(["diagnose", POD]).env("PATH", path).output().expect("fwdguard runs");
    let table = String::from_utf8_lossy(&output.stdout);
    let repairs: Vec<&str> = table.lines().filter(|line| line.starts_with("Journal, ")).collect();
    let expected = ["1 h 0 min", "3 h 0 min"].into_iter().zip(["0", "2"]);
    let expected =
        expected.map(|(ago, was)| format!("Journal, {ago} ago: Restored net.ipv4.ip_forward to 1: it was {was}"));
    assert_eq!(repairs, expected.collect::<Vec<_>>(), "{table}");
}

#[test]
fn a_hanging_program_is_not_awaited() {
    let node = Node::new();
    let (path, _) = instead(&node, "nft", "exec sleep 1000");
    let output = node.ns.command().args(["diagnose", POD]).env("PATH", path).output().expect("fwdguard runs");
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(table.contains("nftables (nft: took too long)"), "{table}");
    assert_eq!(output.status.code(), Some(0), "{table}");
}

#[test]
fn it_needs_no_root() {
    let _node = Node::new();
    // In a folder where every user may run it.
    fs::copy(env!("CARGO_BIN_EXE_fwdguard"), "/run/fwdguard").expect("a copy");
    fs::set_permissions("/run/fwdguard", fs::Permissions::from_mode(0o755)).expect("a mode");
    let nobody = |arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "/run/fwdguard", "diagnose", POD]);
        let output = command.args(arguments).output().expect("setpriv runs");
        (String::from_utf8_lossy(&output.stdout).into_owned(), output)
    };
    let (table, output) = nobody(&[]);
    if String::from_utf8_lossy(&output.stderr).contains("setpriv") {
        return left_out::because("a program can't be run as another user here");
    }
    assert_eq!(output.status.code(), Some(0), "{table}{}", String::from_utf8_lossy(&output.stderr));
    assert!(table.contains("Not checked: ") && table.contains("needs root"), "{table}");
    assert!(table.contains("next hop") && !table.contains("unknown"), "{table}");
    sysctl_write("net/ipv4/conf/eth0/forwarding", "0");
    let (table, output) = nobody(&["--in", "eth0"]);
    assert_eq!(output.status.code(), Some(1), "{table}");
    assert!(table.contains("net.ipv4.conf.eth0.forwarding is 0"), "{table}");
}

#[test]
fn a_node_with_many_interfaces_is_one_table() {
    let node = Node::new();
    let pods = 250;
    let batch: String = (0..pods)
        .map(|n| format!("link add p{n} type veth peer name q{n}\nlink set p{n} up\nlink set q{n} up\nroute add 10.200.0.{n} dev p{n}\n"))
        .collect();
    fs::write("/run/batch", batch).expect("a file");
    run("ip -batch /run/batch");
    let (table, status) = node.table(POD);
    assert_eq!(status, 0, "{table}");
    assert!(table.lines().count() <= 30, "{table}");
    let object = node.diagnose(POD).0;
    assert_eq!(list(&object, "arrivals").len(), pods + 2, "{object:#}");
    for n in 0..100 {
        sysctl_write(&format!("net/ipv4/conf/p{n}/forwarding"), "0");
    }
    let (table, status) = node.table(POD);
    assert_eq!(status, 1, "{table}");
    assert!(table.lines().count() <= 30, "{table}");
    assert!(table.contains("net.ipv4.conf.p0.forwarding is 0"), "{table}");
    assert_eq!(list(&node.diagnose(POD).0, "faults").len(), 100);
}
