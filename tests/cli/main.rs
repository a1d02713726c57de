//! check, apply and policy as a person or a script sees them: output, streams and exit statuses.

mod advice;
#[path = "../common/mod.rs"]
mod common;
mod conflicts;
mod output;

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
fn check_finds_drift_apply_repairs_it_and_check_passes() {
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
        assert!(stderr(&output).contains("50-kubernetes.conf: cannot be read"), "{}", stderr(&output));
    }
}

#[test]
fn a_failed_repair_is_reported_unless_its_failure_is_ignored() {
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

/// For each setting, a value that the kernel accepts and shows in another form.
#[test]
fn a_value_that_reads_back_differently_counts_as_wanted() {
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
        let is_noticed = notice.starts_with("the text behind the value of");
        assert_eq!(is_noticed, value.ends_with(['x']), "{object:#}");
        sysctl_write(&path, other);
        assert_eq!(ns.json(&["check", "--json"]).1, 1, "{key}");
    }
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
    ns.write(VENDOR, include_str!("../../packaging/50-kubernetes.conf"));
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
