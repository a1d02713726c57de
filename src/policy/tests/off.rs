//! The effect of `all.forwarding = 0` and of excluded patterns on other lines.

use super::*;

#[test]
fn off_for_the_node_and_on_for_some() {
    let (off, some, rest) =
        ("net.ipv4.ip_forward = 0", "net.ipv4.conf.cali*.forwarding = 1", "net.ipv4.conf.*.forwarding = 0");
    let forwarding = |policy: &Policy, interface: &str| {
        wants(policy, interface)
            .into_iter()
            .find(|line| line.contains("forward"))
            .map(|line| line[line.len() - 1..].to_string())
    };
    for (lines, notices) in
        [([off, some, rest], 1), ([off, rest, some], 0), ([some, rest, off], 1), ([rest, some, off], 0)]
    {
        let tree = Tree::new(&[(VENDOR, VENDOR_TEXT), ("etc/fwdguard.d/60-site.conf", &lines.join("\n"))]);
        let policy = tree.load();
        assert_eq!(tree.errors(), Vec::<String>::new(), "{lines:?}");
        assert_eq!(tree.notices().len(), notices, "{lines:?}: {:?}", tree.notices());
        for (interface, value) in [("cali1", "1"), ("eth0", "0"), ("default", "0"), ("all", "0")] {
            assert_eq!(forwarding(&policy, interface).as_deref(), Some(value), "{interface} by {lines:?}");
        }
    }
    // In another file the later line wins, as in sysctl.d.
    let tree = Tree::new(&[("etc/fwdguard.d/a.conf", some), ("etc/fwdguard.d/b.conf", &format!("{off}\n{rest}\n"))]);
    assert_eq!(forwarding(&tree.load(), "cali1").as_deref(), Some("0"));
    // A pattern in a folder of lower precedence is removed, however narrow.
    for (on_at, off_at, dropped) in [
        ("usr/lib", "etc", true),
        ("usr/local/lib", "run", true),
        ("run", "etc", true),
        ("etc", "etc", false),
        ("etc", "usr/lib", false),
        ("run", "usr/local/lib", false),
    ] {
        let tree = Tree::new(&[]);
        tree.write(&format!("{on_at}/fwdguard.d/a.conf"), some.as_bytes());
        tree.write(&format!("{off_at}/fwdguard.d/b.conf"), off.as_bytes());
        assert_eq!(
            (forwarding(&tree.load(), "cali1"), tree.errors().len()),
            if dropped { (None, 1) } else { (Some("1".into()), 0) },
            "{on_at} {off_at}"
        );
    }
}

#[test]
fn excluded_patterns_of_forwarding_exclude() {
    let open = "net.ipv4.conf.podman1.forwarding = 1";
    let closed = "net.ipv4.conf.podman1.forwarding = 0";
    let cases: [(&str, &[&str]); 18] = [
        ("", &[]),
        ("net.ipv4.conf.*.forwarding = 1\n", &[]),
        ("net.ipv4.conf.*.forwarding = 01\n", &[]),
        ("net.ipv4.conf.?*.forwarding = 1\n", &[]),
        // The administrator's own pattern that is narrower, and what closes every interface.
        ("net.ipv4.conf.pod*.forwarding = 1\n", &[open]),
        ("net.ipv4.conf.p*.forwarding = 1\n", &[open]),
        ("net.ipv4.conf.p*.forwarding = 1\nnet.ipv4.conf.*.forwarding = 1\n", &[open]),
        ("net.ipv4.conf.pod*.forwarding = 0\n", &[closed]),
        ("net.ipv4.conf.?odman*.forwarding = 0\n", &[closed]),
        ("net.ipv4.conf.*.forwarding = 0\n", &[closed]),
        ("net.ipv4.conf.*.forwarding = 0\nnet.ipv4.conf.p*.forwarding = 1\n", &[open]),
        // The administrator's own exclusions remain in effect.
        ("-net.ipv4.conf.podman*.forwarding\nnet.ipv4.conf.pod*.forwarding = 1\n", &[]),
        ("-net.ipv4.conf.p*.forwarding\nnet.ipv4.conf.*.forwarding = 0\n", &[]),
        ("net.ipv4.conf.pod*.rp_filter = 1\n", &["net.ipv4.conf.podman1.rp_filter = 1"]),
        ("net.ipv4.conf.podman*.forwarding = 1\n", &[open]),
        ("net.ipv4.conf.podman1.forwarding = 1\n", &[open]),
        ("-net.ipv4.conf.*.forwarding\n", &[]),
        ("-net.ipv4.conf.*.rp_filter\nnet.ipv4.conf.p*.rp_filter = 1\n", &["net.ipv4.conf.podman1.rp_filter = 1"]),
    ];
    for (site, wanted) in cases {
        let tree = Tree::new(&[(VENDOR, VENDOR_TEXT), ("etc/fwdguard.d/60-site.conf", site)]);
        let policy = tree.load();
        assert_eq!(wants(&policy, "podman1"), wanted, "{site}");
        let key = Key::parse("net.ipv4.conf.podman1.forwarding").unwrap();
        assert_eq!(policy.excludes(&key), !wanted.iter().any(|line| [open, closed].contains(line)), "{site}");
        assert!(!policy.excludes(&Key::parse("net.ipv4.conf.e0.forwarding").unwrap()), "{site}");
        assert_eq!(tree.errors(), Vec::<String>::new());
    }
    // An excluded `*` revokes a line, and narrower patterns stay.
    let text = "net.ipv4.conf.*.forwarding = 1\n-net.ipv4.conf.*.forwarding\nnet.ipv4.conf.e*.forwarding = 1\n";
    assert_eq!(wants_of(text, "e0"), ["net.ipv4.conf.e0.forwarding = 1"]);
    assert_eq!(wants_of(text, "a0"), Vec::<String>::new());
}

#[test]
fn where_forwarding_is_off_the_vendor_excludes_nothing() {
    let off = "net.ipv4.ip_forward = 0\n";
    let (closed, open) = ("net.ipv4.conf.podman1.forwarding = 0", "net.ipv4.conf.podman1.forwarding = 1");
    let site = "etc/fwdguard.d/60-site.conf";
    let cases: [(&str, &str, &[&str], bool); 11] = [
        (site, "", &[], false),
        (site, "net.ipv4.conf.*.forwarding = 0\n", &[closed], false),
        ("etc/fwdguard.d/10-site.conf", "net.ipv4.conf.pod*.forwarding = 0\n", &[closed], false),
        // In the vendor's own folder, too.
        ("usr/lib/fwdguard.d/60-site.conf", "", &[], false),
        ("usr/lib/fwdguard.d/60-site.conf", "net.ipv4.conf.*.forwarding = 0\n", &[closed], false),
        (site, "net.ipv4.conf.p*.forwarding = 1\n", &[open], false),
        // The administrator's own exclusions remain in effect.
        (site, "-net.ipv4.conf.podman*.forwarding\n", &[], true),
        (site, "-net.ipv4.conf.pod*.forwarding\nnet.ipv4.conf.*.forwarding = 0\n", &[], true),
        (site, "-net.ipv4.conf.podman1.forwarding\n", &[], true),
        // Not off, or off for another family.
        (site, "net.ipv4.ip_forward = 1\n", &[], true),
        (site, "-net.ipv4.ip_forward\nnet.ipv6.conf.all.forwarding = 0\n", &[], true),
    ];
    for (file, text, wanted, excluded) in cases {
        let tree = Tree::new(&[(VENDOR, VENDOR_TEXT), (file, &format!("{off}{text}"))]);
        let policy = tree.load();
        assert_eq!(wants(&policy, "podman1"), wanted, "{file}: {text}");
        let key = Key::parse("net.ipv4.conf.podman1.forwarding").unwrap();
        assert_eq!(policy.excludes(&key), excluded, "{file}: {text}");
    }
}
