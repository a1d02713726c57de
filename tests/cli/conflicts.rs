//! Lines of other configurations that conflict with the policy, as `check` lists them.

use super::*;

#[test]
fn a_conflict_in_sysctl_d_is_named_and_is_no_failure() {
    let ns = closed_node();
    ns.write(
        "etc/sysctl.d/99-hardening.conf",
        "# CIS 3.1.1\n\nnet.ipv4.ip_forward = 0\nnet.ipv4.conf.*.rp_filter = 1\n",
    );
    ns.write("etc/sysctl.conf", "net.ipv4.conf.tunl0.rp_filter=2\n");
    assert_eq!(ns.fwdguard(&["apply"]).status.code(), Some(0));
    let (object, status) = ns.json(&["check", "--json"]);
    assert_eq!((status, &object["holds"]), (0, &json!(true)));
    let conflict = |key: &str, wanted: &str, says: &str, path: &str, line: u32| json!({"key": key, "wanted": wanted, "says": says, "source": {"file": file(&ns, path), "line": line}});
    let found = object["conflicts"].as_array().expect("conflicts");
    let expected = [
        conflict("net.ipv4.ip_forward", "1", "0", "etc/sysctl.d/99-hardening.conf", 3),
        conflict("net.ipv4.conf.all.rp_filter", "0", "1", "etc/sysctl.d/99-hardening.conf", 4),
        conflict("net.ipv4.conf.tunl0.rp_filter", "0", "2", "etc/sysctl.conf", 1),
    ];
    assert_eq!(found.len(), expected.len(), "{object:#}");
    assert!(expected.iter().all(|conflict| found.contains(conflict)), "{object:#}");
    let output = ns.fwdguard(&["check"]);
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()));
    let text = stdout(&output);
    let rows: Vec<&str> = text.lines().skip_while(|line| !line.starts_with("IN SYSCTL.D")).collect();
    for (key, place) in [("net.ipv4.ip_forward ", ".conf:3"), ("net.ipv4.conf.tunl0.rp_filter ", "sysctl.conf:1")] {
        assert!(rows.iter().any(|row| row.starts_with(key) && row.ends_with(place)), "{key} {place} in\n{text}");
    }
    assert!(rows.iter().any(|row| row.ends_with("-hardening.conf:4")), "{text}");
}

#[test]
fn against_a_vendors_line_check_names_the_line_to_add() {
    let ns = closed_node();
    ns.write("usr/lib/sysctl.d/50-default.conf", "net.ipv4.conf.*.rp_filter = 1\n-net.ipv4.conf.lo.rp_filter\n");
    let own = ns.path("etc/sysctl.d/k8s-forward.conf");
    let advice = format!(
        "These lines are applied again at boot, by 'sysctl --system' and by udev\n\
         Do not edit those in /usr/lib; add to {}:\n  net.ipv4.conf.all.rp_filter = 0\n  net.ipv4.conf.tunl0.rp_filter = 0\n",
        own.display()
    );
    let text = stdout(&ns.fwdguard(&["check"]));
    assert!(text.contains(&advice), "{text}");
    // The advice helps.
    ns.write("etc/sysctl.d/k8s-forward.conf", "net.ipv4.conf.all.rp_filter = 0\nnet.ipv4.conf.tunl0.rp_filter = 0\n");
    assert_eq!(ns.json(&["check", "--json"]).0["conflicts"], json!([]));
    // There is also a line of the administrator's, and a vendor's file that would be applied later.
    ns.write("usr/lib/sysctl.d/zz-vendor.conf", "net.ipv4.conf.all.rp_filter = 1\n");
    ns.write("etc/sysctl.d/99-hardening.conf", "net.ipv4.ip_forward = 0\n");
    let text = stdout(&ns.fwdguard(&["check"]));
    let own = ns.path("etc/sysctl.d/zz-vendor_k8s-forward.conf");
    assert!(text.contains("by udev; remove or correct your own\n"), "{text}");
    assert!(text.contains(&format!("add to {}:\n  net.ipv4.conf.all.rp_filter = 0\n", own.display())), "{text}");
    ns.write("etc/sysctl.d/zz-vendor_k8s-forward.conf", "net.ipv4.conf.all.rp_filter = 0\n");
    let text = stdout(&ns.fwdguard(&["check"]));
    assert!(!text.contains("Do not edit") && text.contains("by udev; remove or correct them\n"), "{text}");
}

#[test]
fn a_conflict_in_tuneds_profile_is_named_and_is_no_failure() {
    let ns = closed_node();
    ns.write("etc/tuned/active_profile", "mine\n");
    ns.write("etc/tuned/mine/tuned.conf", "[main]\ninclude=base\n\n[sysctl]\nnet.ipv4.conf.all.rp_filter=\"1\"\n");
    ns.write("usr/lib/tuned/base/tuned.conf", "[sysctl]\nnet.ipv4.ip_forward=0\nnet.ipv4.conf.all.rp_filter=2\n");
    assert_eq!(ns.fwdguard(&["apply"]).status.code(), Some(0));
    let (object, status) = ns.json(&["check", "--json"]);
    assert_eq!((status, &object["holds"]), (0, &json!(true)));
    let conflict = |key: &str, wanted: &str, says: &str, path: &str, line: u32| json!({"key": key, "wanted": wanted, "says": says, "source": {"file": file(&ns, path), "line": line}});
    let mut expected = [
        conflict("net.ipv4.ip_forward", "1", "0", "usr/lib/tuned/base/tuned.conf", 2),
        conflict("net.ipv4.conf.all.rp_filter", "0", "1", "etc/tuned/mine/tuned.conf", 5),
    ];
    let mut found = object["conflicts"].as_array().expect("conflicts").clone();
    let by_key = |conflict: &Value| conflict["key"].to_string();
    found.sort_by_key(by_key);
    expected.sort_by_key(by_key);
    assert_eq!(found, expected);
    let text = stdout(&ns.fwdguard(&["check"]));
    let rows: Vec<&str> = text.lines().skip_while(|line| !line.starts_with("IN TUNED'S PROFILE")).collect();
    assert!(rows.iter().any(|row| row.starts_with("net.ipv4.ip_forward ") && row.ends_with("tuned.conf:2")), "{text}");
    let (own, vendors) = ("correct your own in a profile in /etc/tuned", "net.ipv4.ip_forward = 1");
    let advice = format!("These lines are applied again when TuneD starts or applies the profile; {own}");
    let own = format!("Do not edit those in /usr/lib; add to {}:", file(&ns, "etc/sysctl.d/k8s-forward.conf"));
    assert!(text.contains(&format!("{advice}\n{own}\n  {vendors}\n")), "{text}");
    assert!(!text.contains("IN SYSCTL.D"), "{text}");
    // TuneD applies that file after its profile, unless it is configured not to.
    ns.write("etc/tuned/tuned-main.conf", "reapply_sysctl = 0\n");
    let text = stdout(&ns.fwdguard(&["check"]));
    assert!(text.contains("applies the profile; correct them in a profile in /etc/tuned\n"), "{text}");
    assert!(!text.contains("Do not edit"), "{text}");
}

#[test]
fn lines_behind_the_one_that_counts_are_named_and_so_are_ufw_and_the_command_line() {
    let ns = closed_node();
    ns.write("etc/sysctl.d/10-old.conf", "net.ipv4.ip_forward = 0\n");
    ns.write("etc/sysctl.d/50-k8s.conf", "net.ipv4.ip_forward = 1\n");
    ns.write("etc/sysctl.d/99-hardening.conf", "net.ipv4.ip_forward = 0\n");
    ns.write("etc/ufw/sysctl.conf", "net/ipv4/ip_forward=0\n");
    ns.write("proc/cmdline", "ro sysctl.net.ipv4.ip_forward=0\n");
    assert_eq!(ns.fwdguard(&["apply"]).status.code(), Some(0));
    let (object, status) = ns.json(&["check", "--json"]);
    assert_eq!(status, 0);
    let conflict = |path: &str| json!({"key": "net.ipv4.ip_forward", "wanted": "1", "says": "0", "source": {"file": file(&ns, path), "line": 1}});
    let expected =
        ["etc/sysctl.d/99-hardening.conf", "etc/sysctl.d/10-old.conf", "etc/ufw/sysctl.conf", "proc/cmdline"];
    assert_eq!(object["conflicts"], json!(expected.map(conflict)));
    let text = stdout(&ns.fwdguard(&["check"]));
    for part in [
        "\nnet.ipv4.ip_forward",
        "\n  net.ipv4.ip_forward",
        "by udev; remove or correct them\nAn indented line takes effect once those above it are removed\n",
        "\nIN UFW'S SETTINGS ",
        "\nThese lines are applied again when ufw starts, at boot or by 'ufw enable'; remove or correct them\n",
        "\nON THE KERNEL'S COMMAND LINE ",
        "\nThese settings are applied again at the next boot; remove them from the boot loader's configuration\n",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
}

#[test]
fn an_interface_closed_in_sysctl_d_is_exempt_and_listed() {
    let ns = closed_node();
    ns.veth("eth1", "peer");
    ns.write("etc/sysctl.d/70-closed.conf", "net.ipv4.conf.eth1.forwarding = 0\n");
    assert_eq!(ns.fwdguard(&["apply"]).status.code(), Some(0));
    assert_eq!(
        (sysctl_read("net/ipv4/conf/eth1/forwarding"), sysctl_read("net/ipv4/conf/peer/forwarding")),
        ("0".into(), "1".into())
    );
    let (object, status) = ns.json(&["check", "--json"]);
    assert_eq!((status, &object["conflicts"]), (0, &json!([])));
    let source = json!({"file": file(&ns, "etc/sysctl.d/70-closed.conf"), "line": 1});
    assert_eq!(object["exempt"], json!([{"key": "net.ipv4.conf.eth1.forwarding", "source": source}]));
    let text = stdout(&ns.fwdguard(&["check"]));
    let row = text.lines().find(|line| line.contains("exempt")).unwrap_or_else(|| panic!("no exempt in\n{text}"));
    assert!(row.starts_with("net.ipv4.conf.eth1.forwarding ") && row.ends_with("70-closed.conf:1"), "{text}");
}

#[test]
fn a_conflict_in_another_unit_is_shown_in_the_policys() {
    let ns = closed_node();
    ns.veth("e0", "peer");
    ns.write(
        "etc/sysctl.d/50-neigh.conf",
        "net.ipv4.neigh.e0.base_reachable_time = 40\nnet.ipv4.neigh.e0.unres_qlen = 3\n",
    );
    ns.write(VENDOR, "net.ipv4.neigh.e0.base_reachable_time_ms = 30000\nnet.ipv4.neigh.e0.unres_qlen_bytes = 65536\n");
    let says = |object: Value| {
        object["conflicts"].as_array().expect("conflicts").iter().map(|c| c["says"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(says(ns.json(&["check", "--json"]).0), ["40000", "3 as unres_qlen"]);
    let text = stdout(&ns.fwdguard(&["check"]));
    let row = text.lines().find(|line| line.contains("50-neigh.conf:1")).unwrap_or_else(|| panic!("{text}"));
    assert!(row.contains(" 40000 "), "{text}");
    ns.write("etc/sysctl.d/50-neigh.conf", "net.ipv4.neigh.e0.base_reachable_time_ms = 40500\n");
    ns.write(VENDOR, "net.ipv4.neigh.e0.base_reachable_time = 30\n");
    assert_eq!(says(ns.json(&["check", "--json"]).0), ["40500 as base_reachable_time_ms"]);
    ns.write("etc/sysctl.d/50-neigh.conf", "net.ipv4.neigh.e0.base_reachable_time_ms = 30000\n");
    assert_eq!(ns.json(&["check", "--json"]).0["conflicts"], json!([]));
}

#[test]
fn a_value_that_the_kernel_refuses_is_no_conflict() {
    let ns = closed_node();
    for (line, conflicts) in [
        ("net.ipv4.ip_forward = 0;", 0),
        ("net.ipv4.conf.all.rp_filter = 1#x", 0),
        ("net.ipv4.ip_forward = 0 ;", 1),
        ("net.ipv4.conf.all.rp_filter = 3", 1),
        ("net.ipv4.ip_forward = 0\nnet.ipv4.ip_forward = off", 0),
        ("net.ipv4.ip_forward = off\nnet.ipv4.ip_forward = 0", 1),
    ] {
        ns.write("etc/sysctl.d/99-hardening.conf", &format!("{line}\n"));
        let found = ns.json(&["check", "--json"]).0["conflicts"].clone();
        assert_eq!(found.as_array().map(Vec::len), Some(conflicts), "{line}: {found:#}");
    }
    ns.write("etc/sysctl.d/99-hardening.conf", "");
    ns.write("proc/cmdline", "sysctl.net.ipv4.ip_forward=no\n");
    ns.write("etc/tuned/active_profile", "mine\n");
    ns.write("etc/tuned/mine/tuned.conf", "[sysctl]\nnet.ipv4.ip_forward=off\n");
    assert_eq!(ns.json(&["check", "--json"]).0["conflicts"], json!([]));
}
