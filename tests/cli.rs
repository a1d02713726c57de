//! check, apply and policy as a person or a script sees them: output, streams and exit statuses.

mod common;

use common::*;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::process::{Command, Output};

const VENDOR: &str = "usr/lib/fwdguard.d/50-kubernetes.conf";
const POLICY: &str = "net.ipv4.ip_forward = 1
net.ipv4.conf.*.forwarding = 1
net.ipv4.conf.all.rp_filter = 0
net.ipv4.conf.tunl0.rp_filter = 0
";
const SITE: &str = "etc/fwdguard.d/60-site.conf";

/// A namespace where POLICY does not hold, whatever the host's is.
fn closed_node() -> Namespace {
    let ns = Namespace::enter();
    ns.write(VENDOR, POLICY);
    sysctl_write("net/ipv4/ip_forward", "1");
    sysctl_write("net/ipv4/ip_forward", "0");
    sysctl_write("net/ipv4/conf/all/rp_filter", "0");
    sysctl_write("net/ipv4/conf/default/rp_filter", "0");
    sysctl_write("net/ipv4/conf/lo/rp_filter", "0");
    ns
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

fn setting<'a>(object: &'a Value, key: &str) -> &'a Value {
    let settings = object["settings"].as_array().expect("settings");
    settings.iter().find(|s| s["key"] == key).unwrap_or_else(|| panic!("no {key} in {object:#}"))
}

fn file(ns: &Namespace, path: &str) -> String {
    ns.path(path).display().to_string()
}

#[test]
fn check_tells_apply_repairs_and_check_is_content() {
    let ns = closed_node();
    let (object, status) = ns.json(&["check", "--json"]);
    assert_eq!((status, &object["holds"]), (1, &json!(false)));
    assert_eq!(
        *setting(&object, "net.ipv4.ip_forward"),
        json!({"key": "net.ipv4.ip_forward", "wanted": "1", "found": "0", "verdict": "drift",
               "source": {"file": file(&ns, VENDOR), "line": 1}})
    );
    assert_eq!(setting(&object, "net.ipv4.conf.lo.forwarding")["verdict"], "drift");
    assert_eq!(setting(&object, "net.ipv4.conf.default.forwarding")["source"]["line"], 2);
    assert_eq!(setting(&object, "net.ipv4.conf.all.rp_filter")["verdict"], "ok");
    assert_eq!((&object["conflicts"], &object["errors"]), (&json!([]), &json!([])));
    assert_eq!(sysctl_read("net/ipv4/ip_forward"), "0", "check changes nothing");
    assert_eq!(sysctl_read("net/ipv4/conf/lo/forwarding"), "0", "check changes nothing");

    let output = ns.fwdguard(&["check"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("not hold; 'fwdguard apply' repairs once"), "{}", stdout(&output));

    let (object, status) = ns.json(&["apply", "--json"]);
    assert_eq!((status, &object["holds"], &object["failed"]), (0, &json!(true), &json!([])));
    let first = json!({"key": "net.ipv4.ip_forward", "from": "0", "to": "1"});
    assert_eq!(object["repaired"][0], first);
    for key in ["ip_forward", "conf/all/forwarding", "conf/default/forwarding", "conf/lo/forwarding"] {
        assert_eq!(sysctl_read(&format!("net/ipv4/{key}")), "1", "{key}");
    }

    let (object, status) = ns.json(&["check", "--json"]);
    assert_eq!((status, &object["holds"]), (0, &json!(true)), "{object:#}");
    let output = ns.fwdguard(&["check"]);
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()));
    // tunl0 is not there.
    assert!(stdout(&output).ends_with("\n1 setting is absent, 4 settings hold\n"), "{}", stdout(&output));
    assert_eq!(ns.json(&["apply", "--json"]).0["repaired"], json!([]), "what holds is not written");
    assert_eq!(stdout(&ns.fwdguard(&["apply"])), "0 settings repaired, 0 failed\n");
}

#[test]
fn exit_statuses() {
    let ns = closed_node();
    let good = "net.ipv4.conf.all.rp_filter = 0\n";
    let drifted = "net.ipv4.ip_forward = 1\n";
    let bad = "kernal.panic = 10\n";
    let refused = "net.ipv4.conf.lo.accept_local = 4294967295\n";
    for (what, text, check, apply, policy) in [
        ("all holds", good.to_string(), 0, 0, 0),
        ("drift", drifted.to_string(), 1, 0, 0),
        ("drift with a bad line beside it", format!("{bad}{drifted}"), 1, 2, 2),
        ("a bad line and no drift", format!("{good}{bad}"), 2, 2, 2),
        ("nothing but bad lines", bad.to_string(), 2, 2, 2),
        ("a value that the kernel refuses", format!("{good}{refused}"), 1, 1, 0),
        ("no such interface", "net.ipv4.conf.c9.rp_filter = 1\n".into(), 0, 0, 0),
        ("an empty file", String::new(), 0, 0, 0),
    ] {
        ns.write("etc/fwdguard.d/50-kubernetes.conf", &text);
        for (command, wanted) in [("check", check), ("policy", policy), ("apply", apply)] {
            for arguments in [vec![command], vec![command, "--json"]] {
                sysctl_write("net/ipv4/ip_forward", "0");
                let output = ns.fwdguard(&arguments);
                assert_eq!(output.status.code(), Some(wanted), "{what}: {arguments:?}: {}", stderr(&output));
            }
        }
    }
    std::fs::remove_file(ns.path("etc/fwdguard.d/50-kubernetes.conf")).expect("remove");
    symlink("/nowhere", ns.path("etc/fwdguard.d/50-kubernetes.conf")).expect("link");
    for command in ["check", "apply", "policy"] {
        let output = ns.fwdguard(&[command]);
        assert_eq!(output.status.code(), Some(2), "no readable policy: {command}");
        assert!(stderr(&output).contains("50-kubernetes.conf: can't be read"), "{}", stderr(&output));
    }
}

#[test]
fn a_failed_repair_is_told_unless_its_failure_is_ignored() {
    let ns = closed_node();
    ns.write(VENDOR, "net.ipv4.conf.lo.accept_local = 4294967295\n");
    let output = ns.fwdguard(&["apply"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("0 settings repaired, 1 failed"), "{}", stdout(&output));
    assert!(stderr(&output).contains("net.ipv4.conf.lo.accept_local"), "{}", stderr(&output));
    let (object, status) = ns.json(&["apply", "--json"]);
    assert_eq!(status, 1);
    assert_eq!(object["failed"][0]["key"], "net.ipv4.conf.lo.accept_local");
    assert_eq!((&object["failed"][0]["wanted"], &object["failed"][0]["found"]), (&json!("4294967295"), &json!("0")));
    assert!(object["failed"][0]["error"].as_str().is_some_and(|e| e.contains("EINVAL") || e.contains("nvalid")));

    ns.write(VENDOR, "-net.ipv4.conf.lo.accept_local = 4294967295\n");
    let output = ns.fwdguard(&["apply"]);
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()));
}

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
fn against_a_vendors_line_check_says_what_to_write_where() {
    let ns = closed_node();
    ns.write("usr/lib/sysctl.d/50-default.conf", "net.ipv4.conf.*.rp_filter = 1\n-net.ipv4.conf.lo.rp_filter\n");
    let own = ns.path("etc/sysctl.d/k8s-forward.conf");
    let advice = format!(
        "These lines come back at boot, with 'sysctl --system' and by udev\n\
         Don't edit those in /usr/lib; write into {}:\n  net.ipv4.conf.all.rp_filter = 0\n  net.ipv4.conf.tunl0.rp_filter = 0\n",
        own.display()
    );
    let text = stdout(&ns.fwdguard(&["check"]));
    assert!(text.contains(&advice), "{text}");
    // What it says helps.
    ns.write("etc/sysctl.d/k8s-forward.conf", "net.ipv4.conf.all.rp_filter = 0\nnet.ipv4.conf.tunl0.rp_filter = 0\n");
    assert_eq!(ns.json(&["check", "--json"]).0["conflicts"], json!([]));
    // Beside a line of one's own, and where the vendor's file would be applied later.
    ns.write("usr/lib/sysctl.d/zz-vendor.conf", "net.ipv4.conf.all.rp_filter = 1\n");
    ns.write("etc/sysctl.d/99-hardening.conf", "net.ipv4.ip_forward = 0\n");
    let text = stdout(&ns.fwdguard(&["check"]));
    let own = ns.path("etc/sysctl.d/zz-vendor_k8s-forward.conf");
    assert!(text.contains("by udev; remove or correct your own\n"), "{text}");
    assert!(text.contains(&format!("write into {}:\n  net.ipv4.conf.all.rp_filter = 0\n", own.display())), "{text}");
    ns.write("etc/sysctl.d/zz-vendor_k8s-forward.conf", "net.ipv4.conf.all.rp_filter = 0\n");
    let text = stdout(&ns.fwdguard(&["check"]));
    assert!(!text.contains("Don't edit") && text.contains("by udev; remove or correct them\n"), "{text}");
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
    let advice = format!("These lines come back when TuneD starts or applies it; {own}");
    let own = format!("Don't edit those in /usr/lib; write into {}:", file(&ns, "etc/sysctl.d/k8s-forward.conf"));
    assert!(text.contains(&format!("{advice}\n{own}\n  {vendors}\n")), "{text}");
    assert!(!text.contains("IN SYSCTL.D"), "{text}");
    // TuneD applies that file after its profile, unless it was told not to.
    ns.write("etc/tuned/tuned-main.conf", "reapply_sysctl = 0\n");
    let text = stdout(&ns.fwdguard(&["check"]));
    assert!(text.contains("applies it; correct them in a profile in /etc/tuned\n"), "{text}");
    assert!(!text.contains("Don't edit"), "{text}");
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
        "by udev; remove or correct them\nAn indented line counts once those above it are gone\n",
        "\nIN UFW'S SETTINGS ",
        "\nThese lines come back when ufw starts, at boot or with 'ufw enable'; remove or correct them\n",
        "\nON THE KERNEL'S COMMAND LINE ",
        "\nThese come back at the next boot; remove them from the boot loader's configuration\n",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
}

#[test]
fn an_interface_closed_in_sysctl_d_is_exempt_and_told() {
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

/// Of each, what the kernel accepts and shows otherwise.
#[test]
fn what_the_kernel_reads_back_is_what_was_wanted() {
    let ns = closed_node();
    ns.veth("e0", "peer");
    for (key, value) in [
        ("net.ipv4.tcp_rmem", "4096 87380 16777216 // max"),
        ("net.ipv4.ip_local_port_range", "1024 65000 x"),
        ("net.ipv4.tcp_wmem", "4097"),
        ("net.ipv4.neigh.e0.base_reachable_time_ms", "30001"),
        ("net.ipv6.conf.e0.stable_secret", "fd00::1"),
        ("net.ipv4.tcp_fastopen_key", "0-0-0-1"),
        ("net.ipv4.ip_local_reserved_ports", "8080,"),
    ] {
        let path = key.replace('.', "/");
        if !std::path::Path::new("/proc/sys").join(&path).exists() {
            eprintln!("{key} is not there");
            continue;
        }
        let other = match key.rsplit('.').next() {
            Some("stable_secret") => "fd00::2",
            Some("tcp_fastopen_key") => "0-0-0-2",
            Some("ip_local_reserved_ports") => "1",
            Some("ip_local_port_range") => "1025 65000",
            Some("base_reachable_time_ms") => "20000",
            _ => "5000 87380 16777216",
        };
        sysctl_write(&path, other);
        ns.write(VENDOR, &format!("{key} = {value}\n"));
        for repaired in [1, 0] {
            let (object, status) = ns.json(&["apply", "--json"]);
            assert_eq!(
                (status, &object["failed"], &object["holds"]),
                (0, &json!([]), &json!(true)),
                "{key} {object:#}"
            );
            assert_eq!(object["repaired"].as_array().map(Vec::len), Some(repaired), "{key} {object:#}");
        }
        let (object, status) = ns.json(&["check", "--json"]);
        assert_eq!((status, &object["holds"]), (0, &json!(true)), "{object:#}");
        let notice = object["notices"][0]["message"].as_str().unwrap_or_default();
        let is_noticed = notice.starts_with("what stands behind the value of");
        assert_eq!(is_noticed, value.ends_with(['x']), "{object:#}");
        sysctl_write(&path, other);
        assert_eq!(ns.json(&["check", "--json"]).1, 1, "{key}");
    }
}

#[test]
fn a_conflict_in_another_unit_is_told_in_the_policys() {
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
fn what_the_kernel_refuses_is_no_conflict() {
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

#[test]
fn a_pattern_that_decides_nothing_has_a_row() {
    let ns = closed_node();
    ns.write(VENDOR, "net.ipv4.conf.calli*.rp_filter = 0\n");
    let (object, status) = ns.json(&["check", "--json"]);
    assert_eq!((status, &object["holds"], &object["settings"]), (0, &json!(true), &json!([])));
    assert_eq!(object["warnings"][0]["key"], "net.ipv4.conf.calli*.rp_filter");
    assert_eq!(object["warnings"][0]["message"], "'net.ipv4.conf.calli*.rp_filter' matches no interface now");
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

/// Of each way in which the kernel uses the two values together, with both values as it reads them.
#[test]
fn what_counts_together_with_alls_is_overruled() {
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
        // This one forwards, so both are needed; t0 with forwarding off below.
        ("ipv4/conf/t0/accept_redirects", "1", "0", Some("0")),
        ("ipv4/conf/t0/accept_redirects", "0", "1", None),
        ("ipv6/conf/t0/proxy_ndp", "0", "1", Some("1")),
        ("ipv6/conf/t0/seg6_enabled", "1", "0", Some("0")),
        // Of `all` and `default` themselves nothing else counts.
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
    // Where both are needed, 0 is enough; and what the policy names is judged by itself.
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
    assert!(found[0]["message"].as_str().is_some_and(|text| text.contains("forwards no packet")), "{found:?}");
    sysctl_write("net/ipv6/conf/all/forwarding", "1");
    assert_eq!(warnings("net.ipv6.conf.t0.forwarding = 1\n"), none);
}

#[test]
fn what_is_not_there_is_absent_and_no_failure() {
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
    assert!(text.ends_with("\n2 settings are absent (until 'modprobe ip_vs'), 1 setting holds\n"), "{text}");
}

#[test]
fn built_in_where_there_is_no_policy_file() {
    let ns = Namespace::enter();
    sysctl_write("net/ipv4/ip_forward", "0");
    let (object, status) = ns.json(&["check", "--json"]);
    assert_eq!(status, 1);
    assert_eq!(setting(&object, "net.ipv4.ip_forward")["source"]["file"], "built-in:50-kubernetes.conf");
    assert_eq!(ns.fwdguard(&["apply"]).status.code(), Some(0));
    assert_eq!(sysctl_read("net/ipv4/conf/lo/forwarding"), "1");
}

#[test]
fn the_table_has_one_row_a_pattern_and_at_most_20_interfaces() {
    let ns = closed_node();
    (0..13).for_each(|pair| _ = run(&format!("ip link add x{pair:02} type veth peer name y{pair:02}")));
    ns.write(VENDOR, "net.ipv4.conf.[xy]*.forwarding = 1\n");
    sysctl_write("net/ipv4/conf/x00/forwarding", "1");
    let text = stdout(&ns.fwdguard(&["check"]));
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("SETTING"), "{text}");
    assert!(lines[1].starts_with("net.ipv4.conf.[xy]*.forwarding") && lines[1].contains("1 of 26 hold"), "{text}");
    let listed = lines.iter().filter(|line| line.starts_with("  net.ipv4.conf.")).count();
    assert_eq!(listed, 20, "{text}");
    assert!(lines.contains(&"  and 5 more"), "{text}");
    assert_eq!(lines.len(), 1 + 1 + 20 + 1 + 1, "{text}");
    let (object, _) = ns.json(&["check", "--json"]);
    assert_eq!(object["settings"].as_array().map(Vec::len), Some(26), "JSON has all");

    assert_eq!(ns.fwdguard(&["apply"]).status.code(), Some(0));
    let text = stdout(&ns.fwdguard(&["check"]));
    assert!(text.contains("26 of 26 hold"), "{text}");
    assert_eq!(text.lines().count(), 3, "{text}");
}

#[test]
fn tables_fit_100_columns_and_have_no_colour_in_a_pipe() {
    let ns = closed_node();
    ns.veth("a.very.long.na0", "a.very.long.na1");
    let long_file = format!("etc/fwdguard.d/70-{}.conf", "long".repeat(30));
    ns.write(
        &long_file,
        "net/ipv4/conf/a.very.long.na0/rp_filter = 2\nnet.ipv4.tcp_rmem = 4096 87380 6291455\n\
         net.ipv4.conf.{a0,b0,c0,d0,e0,f0,g0,h0,i0,j0,k0,l0,m0,n0,o0,p0,q0,r0,s0,t0,u0,v0,a.*}*.rp_filter = 1\n",
    );
    ns.write(SITE, "net.ipv4.tcp_rmem = 4096 87380 6291454\n");
    for command in ["check", "policy"] {
        let output = ns.fwdguard(&[command]);
        let text = stdout(&output);
        assert!(!text.contains('\x1b') && !stderr(&output).contains('\x1b'), "{text}");
        assert!(text.lines().count() > 5, "{text}");
        for line in text.lines() {
            assert!(line.chars().count() <= 100, "{command}: {line}");
            assert!(!line.contains('\t'), "{command}: a tab is as wide as the terminal likes: {line}");
        }
    }
}

#[test]
fn bad_lines_go_to_stderr_and_into_json() {
    let ns = closed_node();
    ns.write(SITE, "kernal.panic = 10\nnet.ipv4.conf.all.rp_filter = 0\nnet.x\n");
    let site = file(&ns, SITE);
    for command in ["check", "apply", "policy"] {
        let output = ns.fwdguard(&[command]);
        let expected = format!("fwdguard: {site}:1: 'kernal.panic' is not below net.");
        assert!(stderr(&output).starts_with(&expected), "{command}: {}", stderr(&output));
        assert!(stderr(&output).contains(&format!("fwdguard: {site}:3: no value")), "{command}: {}", stderr(&output));
        assert_eq!(stderr(&output).lines().count(), 2, "{command}: {}", stderr(&output));
        assert!(!stdout(&output).contains("kernal.panic"), "{command}: {}", stdout(&output));

        let output = ns.fwdguard(&[command, "--json"]);
        let object: Value = serde_json::from_slice(&output.stdout).expect("one object");
        assert_eq!(object["errors"].as_array().map(Vec::len), Some(2), "{command}: {object:#}");
        assert_eq!((&object["errors"][1]["file"], &object["errors"][1]["line"]), (&json!(site), &json!(3)));
        assert!(object["errors"][1]["message"].as_str().is_some_and(|m| m.starts_with("no value")), "{object:#}");
        assert_eq!(stdout(&output).lines().count(), 1, "one object, one line");
    }
}

#[test]
fn policy_shows_every_line_its_place_and_what_it_overrides() {
    let ns = closed_node();
    ns.write(
        SITE,
        "net.ipv4.conf.all.rp_filter = 2\n-net.ipv4.conf.eth1.forwarding\n-net.ipv4.conf.lo.rp_filter = 1\n",
    );
    let output = ns.fwdguard(&["policy"]);
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()));
    let text = stdout(&output);
    // By its place: with a long root, the middle of a key may have been cut.
    let row = |part: &str| text.lines().find(|l| l.contains(part)).unwrap_or_else(|| panic!("no {part} in\n{text}"));
    assert!(row("OVERRIDES").starts_with("SETTING"), "{text}");
    let overrides = row("-site.conf:1");
    assert!(overrides.contains("  0 at 50-") && overrides.ends_with("ernetes.conf:3"), "{text}");
    assert!(row("-site.conf:2").contains(" excluded "), "{text}");
    assert!(row("-site.conf:3").contains(" 1 (failure ignored) "), "{text}");

    let (object, status) = ns.json(&["policy", "--json"]);
    assert_eq!(status, 0);
    let lines = object["lines"].as_array().expect("lines");
    let line = |key: &str| lines.iter().find(|l| l["key"] == key).unwrap_or_else(|| panic!("no {key} in {object:#}"));
    assert_eq!(
        *line("net.ipv4.conf.all.rp_filter"),
        json!({"key": "net.ipv4.conf.all.rp_filter", "value": "2", "excluded": false, "pattern": false,
               "ignore_failure": false, "source": {"file": file(&ns, SITE), "line": 1},
               "overrides": [{"value": "0", "source": {"file": file(&ns, VENDOR), "line": 3}}]})
    );
    assert_eq!(line("net.ipv4.conf.*.forwarding")["pattern"], true);
    let excluded = line("net.ipv4.conf.eth1.forwarding");
    assert_eq!((&excluded["excluded"], &excluded["value"]), (&json!(true), &Value::Null));
    assert_eq!(line("net.ipv4.conf.lo.rp_filter")["ignore_failure"], true);
    assert_eq!(sysctl_read("net/ipv4/ip_forward"), "0", "policy changes nothing");
}

#[test]
fn help_version_and_wrong_usage() {
    let fwdguard = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_fwdguard")).args(arguments).output().expect("fwdguard runs")
    };
    for help in ["--help", "-h", "help"] {
        let output = fwdguard(&[help]);
        assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()), "{help}");
        let text = stdout(&output);
        for part in ["Exit status:", "  0  ", "  1  ", "  2  ", "check", "apply", "policy", "diagnose", "run", "--root"]
        {
            assert!(text.contains(part), "{part} in {help}:\n{text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
    }
    let output = fwdguard(&["--version"]);
    assert_eq!((output.status.code(), stdout(&output)), (Some(0), format!("fwdguard {}\n", env!("CARGO_PKG_VERSION"))));
    for wrong in [
        vec![],
        vec!["chekc"],
        vec!["check", "--jsno"],
        vec!["check", "extra"],
        vec!["check", "--root", "/no/such/folder"],
        vec!["check", "--root", "/dev/null"],
        vec!["run", "--audit-interval", "0"],
        vec!["diagnose"],
    ] {
        let output = fwdguard(&wrong);
        assert_eq!((output.status.code(), stdout(&output)), (Some(2), String::new()), "{wrong:?}");
        assert!(!stderr(&output).is_empty(), "{wrong:?}");
    }
}

/// The unit is not started again after a 2 (RestartPreventExitStatus=), and the reason has to be in its status.
#[test]
fn the_service_ends_with_2_by_a_mistake_in_its_options_alone_and_says_where_they_stand() {
    const SAYS: &str = "; the service's options stand in /etc/sysconfig/fwdguard (OPTIONS=)";
    let ns = Namespace::enter();
    let notify = std::os::unix::net::UnixDatagram::bind(NOTIFY_SOCKET).expect("a notify socket");
    notify.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let ended = |arguments: &[&str]| {
        let output =
            ns.command().arg("run").args(arguments).env("NOTIFY_SOCKET", NOTIFY_SOCKET).output().expect("runs");
        let mut told = [0; 4096];
        let length = notify.recv(&mut told).expect("a status");
        let told = String::from_utf8_lossy(&told[..length]).into_owned();
        let said = stderr(&output);
        assert_eq!((said.lines().count(), stdout(&output)), (1, String::new()), "{arguments:?}: {said}");
        assert_eq!(format!("fwdguard: {}", told.strip_prefix("STATUS=").expect("a status")), said, "{arguments:?}");
        (output.status.code().expect("an exit status"), said)
    };
    for (arguments, wrong) in [
        (&["--audit-intervall", "5"][..], "'--audit-intervall' found; a similar argument exists: '--audit-interval'; "),
        (&["--audit-interval", "5x"], "'5x'"),
        (&["--audit-interval", "0"], "0"),
        (&["--audit-interval"], "--audit-interval"),
        (&["check"], "'check'"),
        (&["\u{1b}[2J\né"], "\\u{e9}' found; "),
        (&["--root", "/no/such/föhn"], "--root /no/such/f\\u{f6}hn: not a folder"),
        (&["--help"], "--help"),
        (&["--version"], "unexpected argument '--version' found"),
    ] {
        let (status, said) = ended(arguments);
        assert_eq!(status, 2, "{arguments:?}: {said}");
        assert!(
            said.is_ascii() && said.contains(wrong) && said.ends_with(&format!("{SAYS}\n")),
            "{arguments:?}: {said}"
        );
    }
    // Whatever else keeps it from its work is tried again.
    let line = format!("ulimit -n 60; exec {} run", env!("CARGO_BIN_EXE_fwdguard"));
    let output = Command::new("sh").args(["-c", &line]).env_remove("NOTIFY_SOCKET").output().expect("sh runs");
    assert_eq!((output.status.code(), stderr(&output).lines().count()), (Some(1), 1), "{}", stderr(&output));
    // A person is told so, too, and gets help.
    let output = ns.command().args(["run", "--help"]).output().expect("runs");
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()));
}

#[test]
fn an_interfaces_name_forges_no_escape() {
    let ns = closed_node();
    ns.write(VENDOR, "net.ipv4.conf.*.forwarding = 1\nnet.ipv4.conf.*.rp_filter = 0\n");
    for name in [b"e\x1b[31m\x07".as_slice(), b"e\xff\xfe", b"e\xc2\x9b31m"] {
        let name = OsStr::from_bytes(name);
        let mut add = Command::new("ip");
        add.args(["link", "add"]).arg(name).args(["type", "veth", "peer", "name", "peer0"]);
        if !add.status().expect("ip runs").success() {
            eprintln!("{name:?} is refused here");
            continue;
        }
        sysctl_write("net/ipv4/ip_forward", "0");
        let mut outputs: Vec<Output> = ["check", "apply", "check"].map(|command| ns.fwdguard(&[command])).into();
        sysctl_write("net/ipv4/ip_forward", "0");
        outputs.extend([["check", "--json"], ["apply", "--json"]].map(|arguments| ns.fwdguard(&arguments)));
        let statuses: Vec<_> = outputs.iter().map(|output| output.status.code()).collect();
        assert_eq!(statuses, [1, 0, 0, 1, 0].map(Some), "{name:?}");
        for output in outputs {
            for text in [stdout(&output), stderr(&output)] {
                assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{name:?}: {text:?}");
            }
        }
        run("ip link del peer0");
    }
}

#[test]
fn a_policy_forges_no_escape() {
    let ns = closed_node();
    ns.write("etc/fwdguard.d/70-\x1b[31m.conf", "net.\x1b[31m = 1\nnet.ipv4.conf.lo.rp_filter = 1\nnet.x = \x1b[31m\n");
    for command in ["check", "apply", "policy"] {
        let output = ns.fwdguard(&[command]);
        for text in [stdout(&output), stderr(&output)] {
            assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{command}: {text:?}");
        }
        assert_eq!(stderr(&output).lines().count(), 2, "{command}: {}", stderr(&output));
    }
}

#[test]
fn a_reader_that_went_away_is_no_error() {
    let ns = closed_node();
    for arguments in [["check", "--json"], ["policy", "--json"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = ns.command().args(arguments).arg("--root").arg(ns.root()).stdout(writer).output().expect("runs");
        assert_eq!(stderr(&output), "", "{arguments:?}");
        assert!(output.status.code().is_some_and(|code| code < 2), "{arguments:?}: {}", output.status);
    }
}

#[test]
fn a_file_as_people_write_it_is_no_failure_and_no_secret() {
    let ns = closed_node();
    ns.write(
        SITE,
        "\u{feff}# kernel parameters\nvm.swappiness = 10\nfs.file-max = 1000000\nnet.ipv4.ip_forward = 0\n\
         net.ipv4.conf.eth0.100.rp_filter = 0\nnet.core.somaxconn = 4096 # queue\nnet.ipv4.conf.eth+.rp_filter = 2\n\
         net.ipv4.ip_local_reserved_ports = 9000-9002,8080,9003\nnet.ipv4.neigh.tunl9.base_reachable_time_ms = 40000\n\
         net.ipv4.conf.*.forwarding = 0\nnet.ipv4.conf.lo.forwarding = 0\nnet.ipv4.conf.tunl*.forwarding = 1\n",
    );
    ns.veth("podman0", "tunl9");
    assert_eq!(ns.fwdguard(&["apply"]).status.code(), Some(0));
    assert_eq!(sysctl_read("net/ipv4/neigh/tunl9/base_reachable_time"), "40");
    assert_eq!(["podman0", "tunl9"].map(|name| sysctl_read(&format!("net/ipv4/conf/{name}/forwarding"))), ["0", "1"]);
    let (object, status) = ns.json(&["check", "--json"]);
    assert_eq!((status, &object["holds"], &object["errors"]), (0, &json!(true), &json!([])), "{object:#}");
    let notices: Vec<u64> =
        object["notices"].as_array().expect("notices").iter().filter_map(|n| n["line"].as_u64()).collect();
    assert_eq!(notices, [0, 5, 6, 7], "{object:#}");
    let output = ns.fwdguard(&["check"]);
    assert_eq!(output.status.code(), Some(0));
    let notice = format!("fwdguard: notice: {}: 2 lines left to sysctl.d", file(&ns, SITE));
    assert!(stderr(&output).starts_with(&notice), "{}", stderr(&output));
    assert_eq!(ns.json(&["policy", "--json"]).0["notices"], object["notices"]);
}

#[test]
fn where_forwarding_is_off_apply_closes_what_the_vendor_excludes() {
    let ns = closed_node();
    ns.write(VENDOR, include_str!("../packaging/50-kubernetes.conf"));
    ns.write(SITE, "net.ipv4.ip_forward = 0\nnet.ipv4.conf.*.forwarding = 0\nnet.ipv4.neigh.*.gc_stale_time = 60\n");
    ns.veth("podman2", "tunl0");
    sysctl_write("net/ipv4/conf/podman2/forwarding", "1");
    let (object, status) = ns.json(&["check", "--json"]);
    assert_eq!((status, &setting(&object, "net.ipv4.conf.podman2.forwarding")["verdict"]), (1, &json!("drift")));
    let settings = object["settings"].as_array().expect("settings");
    assert!(settings.iter().all(|setting| setting["key"] != "net.ipv4.neigh.all.gc_stale_time"), "{object:#}");
    assert_eq!(ns.fwdguard(&["apply"]).status.code(), Some(0));
    assert_eq!(sysctl_read("net/ipv4/conf/podman2/forwarding"), "0");
    assert_eq!(ns.fwdguard(&["check"]).status.code(), Some(0));
}
