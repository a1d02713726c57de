//! What `check` reports about lines that decide nothing, less than they seem to, or are overruled.

use super::*;

#[test]
fn a_pattern_that_decides_nothing_has_a_row() {
    let ns = closed_node();
    ns.write(VENDOR, "net.ipv4.conf.calli*.rp_filter = 0\n");
    let (object, status) = ns.json(&["check", "--json"]);
    assert_eq!((status, &object["holds"], &object["settings"]), (0, &json!(true), &json!([])));
    assert_eq!(object["warnings"][0]["key"], "net.ipv4.conf.calli*.rp_filter");
    assert_eq!(object["warnings"][0]["message"], "'net.ipv4.conf.calli*.rp_filter' currently matches no interface");
    let text = stdout(&ns.fwdguard(&["check"]));
    let row = text.lines().nth(1).unwrap_or_default();
    assert!(row.starts_with("net.ipv4.conf.calli*.rp_filter ") && row.contains("  matches none  "), "{text}");
    assert!(text.ends_with("\n1 pattern matches no interface, 0 settings hold\n"), "{text}");
    ns.write(VENDOR, "net.ipv4.conf.l?.rp_filter = 2\nnet.ipv4.conf.l*.rp_filter = 0\n");
    let text = stdout(&ns.fwdguard(&["check"]));
    assert!(
        text.lines().nth(1).is_some_and(|row| row.contains("  overridden by ") && row.contains(".conf:2")),
        "{text}"
    );
    assert!(text.ends_with("\n1 setting holds\n"), "{text}");
    ns.write(VENDOR, "net.ipv4.conf.l*.rp_filter = 0\n-net.ipv4.conf.lo.rp_filter\n");
    let text = stdout(&ns.fwdguard(&["check"]));
    assert!(text.lines().nth(1).is_some_and(|row| row.contains("  excluded  ")), "{text}");
}

#[test]
fn an_interfaces_rp_filter_is_overruled_by_all() {
    let ns = closed_node();
    ns.veth("tunl0", "peer");
    sysctl_write("net/ipv4/conf/tunl0/rp_filter", "0");
    sysctl_write("net/ipv4/conf/all/rp_filter", "2");
    ns.write(VENDOR, "net.ipv4.conf.tunl0.rp_filter = 0\n");
    let (object, status) = ns.json(&["check", "--json"]);
    assert_eq!((status, &object["holds"]), (1, &json!(false)));
    let tunl0 = setting(&object, "net.ipv4.conf.tunl0.rp_filter");
    assert_eq!(
        (&tunl0["verdict"], &tunl0["effective"], &tunl0["found"]),
        (&json!("overruled"), &json!("2"), &json!("0"))
    );
    let text = stdout(&ns.fwdguard(&["check"]));
    assert!(text.contains("overruled by all: 2"), "{text}");
    sysctl_write("net/ipv4/conf/all/rp_filter", "0");
    let (object, status) = ns.json(&["check", "--json"]);
    assert_eq!((status, &setting(&object, "net.ipv4.conf.tunl0.rp_filter")["verdict"]), (0, &json!("ok")));
    assert!(setting(&object, "net.ipv4.conf.tunl0.rp_filter").get("effective").is_none());
}

/// One setting for each way in which the kernel combines the two values, with both values as the kernel reads them.
#[test]
fn a_setting_that_the_kernel_combines_with_alls_may_be_overruled() {
    let ns = closed_node();
    ns.veth("t0", "peer");
    sysctl_write("net/ipv4/ip_forward", "1");
    for (key, own, all, effective) in [
        ("ipv4/conf/t0/arp_ignore", "1", "2", Some("2")),
        ("ipv4/conf/t0/arp_announce", "2", "1", None),
        ("ipv4/conf/t0/send_redirects", "0", "1", Some("1")),
        ("ipv4/conf/t0/send_redirects", "1", "0", None),
        ("ipv4/conf/t0/log_martians", "0", "1", Some("1")),
        ("ipv4/conf/t0/route_localnet", "0", "1", Some("1")),
        ("ipv4/conf/t0/proxy_arp", "0", "1", Some("1")),
        ("ipv4/conf/t0/accept_source_route", "1", "0", Some("0")),
        ("ipv4/conf/t0/accept_source_route", "0", "1", None),
        ("ipv4/conf/t0/bc_forwarding", "1", "0", Some("0")),
        // The interface forwards here, so the kernel needs both; below, t0 has forwarding off.
        ("ipv4/conf/t0/accept_redirects", "1", "0", Some("0")),
        ("ipv4/conf/t0/accept_redirects", "0", "1", None),
        ("ipv6/conf/t0/proxy_ndp", "0", "1", Some("1")),
        ("ipv6/conf/t0/seg6_enabled", "1", "0", Some("0")),
        // For `all` and `default` themselves no other value counts.
        ("ipv4/conf/default/send_redirects", "0", "1", None),
    ] {
        let name = format!("net/{key}");
        let all_name = name.replace("/t0/", "/all/").replace("/default/", "/all/");
        if !std::path::Path::new("/proc/sys").join(&name).exists() {
            eprintln!("{name} is not there");
            continue;
        }
        let before = sysctl_read(&all_name);
        sysctl_write(&all_name, all);
        sysctl_write(&name, own);
        ns.write(VENDOR, &format!("{name} = {own}\n"));
        let (object, status) = ns.json(&["check", "--json"]);
        let found = &object["settings"][0];
        let verdict = if effective.is_some() { "overruled" } else { "ok" };
        assert_eq!((status == 1, &found["verdict"]), (effective.is_some(), &json!(verdict)), "{key}: {object:#}");
        assert_eq!(found.get("effective").and_then(Value::as_str), effective, "{key}");
        sysctl_write(&all_name, &before);
    }
    sysctl_write("net/ipv4/conf/all/accept_redirects", "0");
    sysctl_write("net/ipv4/conf/t0/accept_redirects", "1");
    sysctl_write("net/ipv4/conf/t0/forwarding", "0");
    ns.write(VENDOR, "net.ipv4.conf.t0.accept_redirects = 1\n");
    assert_eq!(ns.json(&["check", "--json"]).0["settings"][0]["verdict"], "ok", "either is enough where it is off");
}

#[test]
fn lines_that_do_less_than_they_seem_to_are_warned_of() {
    let ns = closed_node();
    ns.veth("t0", "peer");
    for interface in ["all", "lo", "t0", "peer"] {
        sysctl_write(&format!("net/ipv4/conf/{interface}/send_redirects"), if interface == "all" { "0" } else { "1" });
    }
    let warnings = |policy: &str| {
        ns.write(SITE, policy);
        let (object, status) = ns.json(&["check", "--json"]);
        let text = stdout(&ns.fwdguard(&["check"]));
        let warnings = object["warnings"].as_array().expect("warnings").clone();
        assert_eq!(text.matches("\nWarning: ").count(), warnings.len(), "{text}");
        (warnings, status)
    };
    ns.write(VENDOR, "net.ipv4.conf.all.rp_filter = 0\n");
    sysctl_write("net/ipv4/conf/t0/rp_filter", "1");
    let none = (vec![], 0);
    assert_eq!(warnings(""), none, "the vendor's line leaves rp_filter to each interface");
    assert_eq!(warnings("net.ipv4.conf.all.rp_filter = 00\n"), none, "and so does one's own");
    let (found, status) = warnings("# CIS\nnet.ipv4.conf.all.send_redirects = 0\n-net.ipv4.conf.lo.send_redirects\n");
    assert_eq!((found.len(), status), (1, 0), "{found:?}");
    assert_eq!(found[0]["key"], "net.ipv4.conf.all.send_redirects");
    assert_eq!(found[0]["source"], json!({"file": file(&ns, SITE), "line": 2}));
    let message = found[0]["message"].as_str().expect("a message");
    assert!(message.contains(" leaves it on for ") && message.contains("t0"), "{message}");
    assert!(message.contains("peer") && !message.contains("lo "), "{message}");
    assert!(message.contains("'net.ipv4.conf.*.send_redirects = 0'"), "{message}");
    // Where the kernel needs both values, one 0 is enough; and a setting that the policy names is judged by itself.
    assert_eq!(warnings("net.ipv4.conf.all.accept_source_route = 0\n"), none);
    for interface in ["lo", "t0", "peer"] {
        sysctl_write(&format!("net/ipv4/conf/{interface}/send_redirects"), "0");
    }
    assert_eq!(warnings("net.ipv4.conf.all.send_redirects = 0\n"), none);
    if !std::path::Path::new("/proc/sys/net/ipv6/conf/all/accept_ra").exists() {
        return;
    }
    sysctl_write("net/ipv6/conf/all/accept_ra", "2");
    let (found, status) = warnings("net.ipv6.conf.all.accept_ra = 2\n");
    assert_eq!((found.len(), status), (1, 0), "{found:?}");
    assert!(found[0]["message"].as_str().is_some_and(|text| text.contains("has no effect")), "{found:?}");
    sysctl_write("net/ipv6/conf/t0/forwarding", "1");
    sysctl_write("net/ipv6/conf/all/forwarding", "0");
    sysctl_write("net/ipv6/conf/t0/forwarding", "1");
    let (found, status) = warnings("net.ipv6.conf.t0.forwarding = 1\n");
    assert_eq!((found.len(), status), (1, 0), "{found:?}");
    assert!(
        found[0]["message"]
            .as_str()
            .is_some_and(|text| text.contains("has no effect while net.ipv6.conf.all.forwarding is 0")),
        "{found:?}"
    );
    sysctl_write("net/ipv6/conf/all/forwarding", "1");
    assert_eq!(warnings("net.ipv6.conf.t0.forwarding = 1\n"), none);
}

#[test]
fn a_missing_setting_is_absent_and_no_failure() {
    let ns = closed_node();
    ns.write(VENDOR, "net.ipv4.conf.c9.rp_filter = 1\nnet.no.such = 1\nnet.ipv4.conf.all.rp_filter = 0\n");
    let (object, status) = ns.json(&["check", "--json"]);
    assert_eq!((status, &object["holds"]), (0, &json!(true)));
    for key in ["net.ipv4.conf.c9.rp_filter", "net.no.such"] {
        assert_eq!(setting(&object, key)["verdict"], "absent", "{key}");
        assert_eq!(setting(&object, key)["found"], Value::Null, "{key}");
    }
    let text = stdout(&ns.fwdguard(&["check"]));
    assert_eq!(text.lines().filter(|line| line.contains("  absent  ")).count(), 2, "{text}");
    assert!(text.ends_with("\n2 settings are absent, 1 setting holds\n"), "{text}");
}

#[test]
fn a_module_that_is_missing_is_named() {
    let ns = closed_node();
    if std::path::Path::new("/proc/sys/net/ipv4/vs").exists() {
        eprintln!("ip_vs is loaded here");
        return;
    }
    ns.write(VENDOR, "net.ipv4.vs.conntrack = 1\nnet.ipv4.conf.all.rp_filter = 0\nnet.ipv4.vs.no_such = 1\n");
    let (object, status) = ns.json(&["check", "--json"]);
    assert_eq!((status, &object["holds"]), (0, &json!(true)));
    assert_eq!(setting(&object, "net.ipv4.vs.conntrack")["module"], "ip_vs");
    assert!(setting(&object, "net.ipv4.conf.all.rp_filter").get("module").is_none());
    let text = stdout(&ns.fwdguard(&["check"]));
    assert!(text.ends_with("\n2 settings are absent ('modprobe ip_vs' creates them), 1 setting holds\n"), "{text}");
}
