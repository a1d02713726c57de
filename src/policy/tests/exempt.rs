//! Interfaces that are closed in sysctl.d, and so exempt from the vendor's patterns.

use super::*;

#[test]
fn interfaces_closed_in_sysctl_d_are_exempt_from_the_vendors_pattern_alone() {
    let site = |text| vec![(VENDOR, VENDOR_TEXT), ("etc/fwdguard.d/60-site.conf", text)];
    let early = |text| vec![(VENDOR, VENDOR_TEXT), ("etc/fwdguard.d/10-site.conf", text)];
    let (open, left_alone) = (Some("1"), None);
    for (what, files, wanted, exempt) in [
        ("the vendor's file", vec![(VENDOR, VENDOR_TEXT)], left_alone, true),
        ("built in", vec![], left_alone, true),
        ("the vendor's file replaced", vec![("etc/fwdguard.d/50-kubernetes.conf", VENDOR_TEXT)], open, false),
        ("no vendor's file", vec![("etc/fwdguard.d/x.conf", "net.ipv4.conf.*.forwarding = 1\n")], open, false),
        ("a later pattern", site("net.ipv4.conf.eth*.forwarding = 1\n"), open, false),
        ("an earlier pattern", early("net.ipv4.conf.eth*.forwarding = 1\n"), open, false),
        ("the same pattern later", site("net.ipv4.conf.*.forwarding = 1\n"), open, false),
        ("the same pattern earlier", early("net.ipv4.conf.*.forwarding = 1\n"), open, false),
        (
            "the same pattern earlier, its value written otherwise",
            early("net.ipv4.conf.*.forwarding = 01\n"),
            open,
            false,
        ),
        (
            "the same pattern earlier, and closing",
            early("net.ipv4.conf.*.forwarding = 1\nnet.ipv4.conf.*.forwarding = 0\n"),
            left_alone,
            true,
        ),
        (
            "the same pattern earlier, and cancelled",
            early("net.ipv4.conf.*.forwarding = 01\n-net.ipv4.conf.*.forwarding\n"),
            left_alone,
            true,
        ),
        ("a pattern for others", site("net.ipv4.conf.wg*.forwarding = 1\n"), left_alone, true),
        ("a pattern for another setting", site("net.ipv4.conf.eth*.rp_filter = 1\n"), left_alone, true),
        ("an earlier pattern that closes", early("net.ipv4.conf.eth*.forwarding = 0\n"), left_alone, true),
        ("a later pattern that closes", site("net.ipv4.conf.eth*.forwarding = 0\n"), Some("0"), false),
        ("opened by name", site("net.ipv4.conf.eth1.forwarding = 1\n"), open, false),
        ("excluded by name", site("-net.ipv4.conf.eth1.forwarding\n"), left_alone, false),
        ("the pattern cancelled", site("-net.ipv4.conf.*.forwarding\n"), left_alone, false),
    ] {
        let tree = Tree::new(&files);
        tree.write("etc/sysctl.d/70-closed.conf", b"# by design\nnet.ipv4.conf.eth1.forwarding = 0\n");
        let policy = tree.load();
        let key = Key::parse("net.ipv4.conf.eth1.forwarding").unwrap();
        let wants = policy.for_interface(OsStr::new("eth1"));
        let found = wants.iter().find(|(k, _)| *k == key).map(|(_, index)| policy.value(*index));
        assert_eq!(found, wanted, "{what}");
        let place = policy.exempt.get(OsStr::new("eth1")).map(ToString::to_string);
        assert_eq!(place, exempt.then(|| "70-closed.conf:2".to_string()), "{what}");
        assert_eq!(policy.excludes(&key), wanted.is_none() && what != "the pattern cancelled", "{what}");
        assert!(tree.errors().is_empty(), "{what}");
    }
}

#[test]
fn lines_of_sysctl_d_that_close_an_interface() {
    for (path, text, closed) in [
        ("etc/sysctl.conf", "net.ipv4.conf.eth1.forwarding = 0\n", Some("eth1")),
        ("usr/lib/sysctl.d/x.conf", "net/ipv4/conf/eth0.100/forwarding=0\n", Some("eth0.100")),
        ("run/sysctl.d/x.conf", "-net.ipv4.conf.eth0/100.forwarding = 00\n", Some("eth0.100")),
        ("etc/sysctl.d/x.conf", "net.ipv4.conf.eth1.forwarding = 0\nnet.ipv4.conf.eth1.forwarding = 1\n", None),
        ("etc/sysctl.d/x.conf", "net.ipv4.conf.eth1.forwarding = 0\n-net.ipv4.conf.eth1.forwarding\n", None),
        ("etc/sysctl.d/x.conf", "net.ipv4.conf.eth*.forwarding = 0\n", None),
        ("etc/sysctl.d/x.conf", "net.ipv4.ip_forward = 0\n", None),
        ("etc/sysctl.d/x.conf", "net.ipv4.conf.default.forwarding = 0\n", None),
        ("etc/sysctl.d/x.conf", "net.ipv4.conf.eth1.rp_filter = 0\n", None),
        ("etc/sysctl.d/x.conf", "net.ipv6.conf.eth1.forwarding = 0\n", None),
    ] {
        let policy = Tree::new(&[(path, text)]).load();
        assert_eq!(policy.exempt.keys().next().map(|name| name.to_str().unwrap()), closed, "{path}: {text}");
    }
}
