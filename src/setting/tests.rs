//! Keys, their names and their values.

use super::*;

#[test]
fn the_first_separator_decides() {
    for text in
        ["net/ipv4/conf/eth0.100/rp_filter", "net.ipv4.conf.eth0/100.rp_filter", "/net/ipv4/conf/eth0.100/rp_filter"]
    {
        let key = Key::parse(text).unwrap();
        assert_eq!(key.path(), "net/ipv4/conf/eth0.100/rp_filter");
        assert_eq!(key.to_string(), "net.ipv4.conf.eth0/100.rp_filter");
        assert_eq!(key.place().unwrap().interface, "eth0.100");
    }
}

#[test]
fn keys_that_are_refused() {
    for text in [
        "",
        "kernel.panic",
        "net",
        "net.",
        "net..ipv4.x",
        "net/ipv4/../x",
        "net/./x",
        "net.ipv4.a\tb",
        "net.ipv4.route.flush",
        "a/net/x",
        "net.ipv4.ip_forward\u{a0}",
        "net.\u{200b}ipv4.ip_forward",
        "\u{feff}net.ipv4.ip_forward",
        "net.ipv4.ip forward",
    ] {
        assert!(Key::parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn two_names_one_setting() {
    let key = Key::parse("net.ipv4.ip_forward").unwrap().canonical();
    assert_eq!(key.to_string(), "net.ipv4.conf.all.forwarding");
    let family = Key::parse("net.ipv6.conf.all.forwarding").unwrap().canonical();
    assert_eq!(family.place().unwrap().announced(), Some((Family::V6, Attribute::Forwarding)));
}

#[test]
fn settings_with_two_names() {
    for (one, other, factor) in [
        ("net.ipv4.ip_forward", "net.ipv4.conf.all.forwarding", Some("2")),
        ("net.nf_conntrack_max", "net.netfilter.nf_conntrack_max", Some("2")),
        ("net.ipv4.neigh.a/1.base_reachable_time", "net.ipv4.neigh.a/1.base_reachable_time_ms", Some("2000")),
        ("net.ipv6.neigh.*.base_reachable_time", "net.ipv6.neigh.*.base_reachable_time_ms", Some("2000")),
        ("net.ipv4.neigh.default.retrans_time", "net.ipv4.neigh.default.retrans_time_ms", Some("20")),
        ("net.ipv6.neigh.default.retrans_time", "net.ipv6.neigh.default.retrans_time_ms", None),
        ("net.ipv4.neigh.a.unres_qlen", "net.ipv4.neigh.a.unres_qlen_bytes", None),
    ] {
        let [one, other] = [one, other].map(|text| Key::parse(text).unwrap());
        assert_eq!((one.other_name().as_ref(), other.other_name().as_ref()), (Some(&other), Some(&one)));
        assert_eq!(one.in_canonical_unit("2").as_deref(), factor, "{one}");
        assert_eq!(other.in_canonical_unit("2").as_deref(), Some("2"), "{other}");
        assert_eq!(one.canonical(), other.canonical());
    }
    for text in ["net.ipv6.conf.all.forwarding", "net.ipv4.conf.a.retrans_time", "net.ipv4.neigh.a.locktime"] {
        assert_eq!(Key::parse(text).unwrap().other_name(), None, "{text}");
    }
}

#[test]
fn dots_in_an_interfaces_name() {
    let folded = |text| Key::parse(text).unwrap().with_dotted_interface().map(|key| key.to_string());
    for (text, key) in [
        ("net.ipv4.conf.flannel.1.rp_filter", Some("net.ipv4.conf.flannel/1.rp_filter")),
        ("net.ipv6.neigh.a.b.c.locktime", Some("net.ipv6.neigh.a/b/c.locktime")),
        ("net.ipv4.conf.eth0.*.rp_filter", Some("net.ipv4.conf.eth0/*.rp_filter")),
        ("net.ipv4.conf.eth0/1.2.rp_filter", Some("net.ipv4.conf.eth0/1/2.rp_filter")),
        ("net.ipv4.conf.flannel/1.rp_filter", None),
        ("net.ipv4.conf.all.rp_filter", None),
        ("net.core.a.b.c.d.e", None),
    ] {
        assert_eq!(folded(text).as_deref(), key, "{text}");
    }
}

#[test]
fn settings_that_follow_default() {
    let default = |key| Key::parse(key).unwrap().follows().map(|key| key.to_string());
    assert_eq!(default("net.ipv4.conf.a0.arp_ignore").as_deref(), Some("net.ipv4.conf.default.arp_ignore"));
    assert_eq!(default("net.ipv6.neigh.a0.gc_stale_time").as_deref(), Some("net.ipv6.neigh.default.gc_stale_time"));
    for key in ["net.ipv6.conf.a0.accept_ra", "net.ipv4.conf.default.arp_ignore", "net.ipv4.conf.all.arp_ignore"] {
        assert_eq!(default(key), None, "{key}");
    }
}

#[test]
fn values_compare_as_the_kernel_reads_them() {
    for (wanted, found, same) in [
        ("1", "1", true),
        ("01", "1", true),
        ("0x10", "16", true),
        ("010", "8", true),
        ("-1", "-1", true),
        ("1", "0", false),
        ("4096 87380 6291456", "4096\t87380\t6291456", true),
        ("1 2", "1", false),
        ("cubic", "cubic", true),
        ("yes", "1", false),
        ("0x-1", "-1", false),
        ("0x+1", "1", false),
        ("", "0", false),
        ("99999999999999999999", "0", false),
        ("é", "1", false),
        ("0x1", "01", true),
        ("1", "-0", false),
        ("0", "-0", true),
        ("9148,8080", "8080,9148", true),
        ("30000-30002,30003,8080", "8080,30000-30003", true),
        ("1-3,2-5,5", "1-5", true),
        ("8080-8080", "8080", true),
        ("8080,9148", "8080", false),
        ("8080-9148", "8080,9148", false),
        ("9-1", "1-9", false),
        ("1,,2", "1,2", false),
        ("8080,", "8080", true),
        ("8080,9090-9091,", "8080,9090-9091", true),
        (",8080", "8080", false),
        ("8080,,", "8080", false),
        ("00000001,00000000", "00000000,00000001", false),
        ("0-4294967295,7", "0-4294967295", true),
        ("99999999999,1", "1,99999999999", false),
        ("32768-60999", "32768\t60999", false),
    ] {
        assert_eq!(same_value(wanted, found), same, "{wanted:?} {found:?}");
        assert_eq!(same_value(found, wanted), same, "{found:?} {wanted:?}");
    }
}

#[test]
fn text_from_outside_forges_no_escape() {
    assert_eq!(printable(OsStr::from_bytes(b"a\x1b[31m\xff\n")), "a\\u{1b}[31m\\xff\\n");
    assert_eq!(printable(OsStr::new("a\u{202e}b\u{9b}\u{7f}é")), "a\\u{202e}b\\u{9b}\\u{7f}é");
    assert_eq!(
        printable(OsStr::new("1\u{a0}\u{200b}\u{feff}\u{ad}\u{2060}")),
        "1\\u{a0}\\u{200b}\\u{feff}\\u{ad}\\u{2060}"
    );
}
