//! Records of lines that conflict with the policy.

use super::*;

#[test]
fn a_line_of_sysctl_d_against_the_policy_is_named_once() {
    let ns = Namespace::enter();
    ns.write("etc/fwdguard.d/10.conf", "net.ipv4.ip_forward = 1\nnet.ipv4.conf.all.rp_filter = 0\n");
    ns.write("etc/sysctl.d/99-hardening.conf", "# CIS\nkernel.kptr_restrict = 1\nnet.ipv4.ip_forward = 0\n");
    let guard = ns.guard();
    let record = guard.wait_message("99-hardening.conf:3 sets net.ipv4.ip_forward = 0, but the policy requires 1");
    assert_eq!((&*record["SYSCTL"], &*record["NEWVALUE"], &*record["OURVALUE"]), ("net.ipv4.ip_forward", "0", "1"));
    assert!(record["CONFLICT_FILE"].ends_with("/etc/sysctl.d/99-hardening.conf"));
    assert_eq!((&*record["CONFLICT_LINE"], &*record["POLICY_LINE"], &*record["PRIORITY"]), ("3", "1", "4"));
    assert!(record["MESSAGE"].ends_with("or by udev; remove or correct the line"), "{record:?}");
    // A new line is logged when it appears, and the old one not again.
    ns.write("etc/sysctl.d/98-more.conf", "net.ipv4.conf.all.rp_filter = 1\n");
    guard.wait_message("98-more.conf:1 sets net.ipv4.conf.all.rp_filter = 1");
    let conflicts = guard.records().into_iter().filter(|record| record.contains_key("CONFLICT_FILE")).count();
    assert_eq!(conflicts, 2);
}

#[test]
fn lines_of_ufw_and_the_command_line_are_named_when_they_come() {
    let ns = Namespace::enter();
    ns.write("etc/fwdguard.d/10.conf", "net.ipv4.ip_forward = 1\nnet.ipv4.conf.all.rp_filter = 0\n");
    ns.write("proc/cmdline", "ro sysctl.net.ipv4.ip_forward=0 sysctl.net.ipv4.conf.all.rp_filter=1 sysctl.net.x=0\n");
    let guard = ns.guard();
    let record = guard.wait_message("cmdline:1 sets net.ipv4.ip_forward = 0");
    assert!(
        record["MESSAGE"].contains("; it will be applied at the next boot, before sysctl.d; remove it"),
        "{record:?}"
    );
    guard.wait_message("cmdline:1 sets net.ipv4.conf.all.rp_filter = 1");
    ns.write("etc/ufw/sysctl.conf", "net/ipv4/ip_forward=0\n");
    let record = guard.wait_message("ufw/sysctl.conf:1 sets net.ipv4.ip_forward = 0");
    assert!(
        record["MESSAGE"].contains("; it will be applied when ufw starts, at boot or by 'ufw enable'"),
        "{record:?}"
    );
    // Another file is configured, and its lines count.
    ns.write("etc/other.conf", "\nnet/ipv4/ip_forward=0\n");
    ns.write("etc/default/ufw", "IPT_SYSCTL=/etc/other.conf\n");
    guard.wait_message("other.conf:2 sets");
    // Behind the line that counts.
    ns.write("etc/sysctl.d/20.conf", "net.ipv4.ip_forward = 0\n");
    ns.write("etc/sysctl.d/30.conf", "net.ipv4.ip_forward = 2\n");
    guard.wait_message("20.conf:1 sets");
    guard.wait_message("30.conf:1 sets");
    ns.write("etc/sysctl.d/10.conf", "net.ipv4.ip_forward = 0\nnet.ipv4.ip_forward = 3\n");
    let record = guard.wait_message("10.conf:2 sets");
    assert!(record["MESSAGE"].contains("; if 30.conf:1 is removed, it will be applied at boot, "), "{record:?}");
}

/// RHEL's 50-default.conf is such a file: it is on every node, and belongs to a package.
#[test]
fn against_a_vendors_line_the_record_names_the_line_to_add() {
    let ns = Namespace::enter();
    ns.write("etc/fwdguard.d/10.conf", "net.ipv4.conf.all.rp_filter = 0\nnet.ipv4.conf.tunl0.rp_filter = 0\n");
    ns.write("usr/lib/sysctl.d/50-default.conf", "\nnet.ipv4.conf.all.rp_filter = 1\n");
    ns.write("usr/lib/sysctl.d/zz.conf", "net.ipv4.conf.*.rp_filter = 2\n");
    let guard = ns.guard();
    let folder = ns.path("etc/sysctl.d").display().to_string();
    let says = |record: &Record, lines: &str, file: &str| {
        let end = format!("'sysctl --system' or by udev; add {lines} to {folder}/{file}");
        assert!(record["MESSAGE"].ends_with(&end), "{record:#?}");
    };
    let all = "'net.ipv4.conf.all.rp_filter = 0'";
    says(&guard.wait_message("50-default.conf:2 sets net.ipv4.conf.all.rp_filter = 1"), all, "k8s-forward.conf");
    let zz = guard.wait_message("zz.conf:1 sets net.ipv4.conf.tunl0.rp_filter = 2");
    says(&zz, "'net.ipv4.conf.tunl0.rp_filter = 0'", "zz_k8s-forward.conf");
    // One record for all settings that a vendor's pattern conflicts with.
    std::fs::remove_file(ns.path("usr/lib/sysctl.d/50-default.conf")).expect("remove");
    ns.write("usr/lib/sysctl.d/zz.conf", "\nnet.ipv4.conf.*.rp_filter = 2\n");
    let both = format!("{all} and 'net.ipv4.conf.tunl0.rp_filter = 0'");
    says(&guard.wait_message("zz.conf:2 sets"), &both, "zz_k8s-forward.conf");
}

#[test]
fn a_conflict_in_tuneds_profile_is_logged_once_for_each_profile() {
    let ns = Namespace::enter();
    ns.write("etc/fwdguard.d/10.conf", "net.ipv4.ip_forward = 1\n");
    ns.write("usr/lib/tuned/profiles/one/tuned.conf", "[sysctl]\nnet.ipv4.ip_forward=0\n");
    ns.write("usr/lib/tuned/profiles/two/tuned.conf", "[main]\ninclude=one\n[sysctl]\nnet.ipv4.ip_forward=00\n");
    ns.write("etc/tuned/active_profile", "one\n");
    let guard = ns.guard();
    let says = "tuned.conf:2 sets net.ipv4.ip_forward = 0, but the policy requires 1 (10.conf:1); it will be applied when TuneD";
    let record = guard.wait_message(says);
    assert_eq!((&*record["SYSCTL"], &*record["NEWVALUE"], &*record["OURVALUE"]), ("net.ipv4.ip_forward", "0", "1"));
    assert!(record["CONFLICT_FILE"].ends_with("/usr/lib/tuned/profiles/one/tuned.conf"));
    assert_eq!((&*record["CONFLICT_LINE"], &*record["PRIORITY"]), ("2", "4"));
    let end = format!("add 'net.ipv4.ip_forward = 1' to {}", ns.path("etc/sysctl.d/k8s-forward.conf").display());
    assert!(record["MESSAGE"].ends_with(&end), "{record:?}");
    // Switched, as tuned-adm does it.
    ns.write("etc/tuned/active_profile", "two\n");
    guard.wait_message("tuned.conf:4 sets net.ipv4.ip_forward = 00");
    // A profile of the administrator's comes, and hides the vendor's.
    ns.write("etc/tuned/two/tuned.conf", "\n\n\n\n[sysctl]\nnet.ipv4.ip_forward = 0\n");
    let record = guard.wait_message("tuned.conf:6 sets net.ipv4.ip_forward = 0");
    assert!(record["CONFLICT_FILE"].ends_with("/etc/tuned/two/tuned.conf"));
    assert!(record["MESSAGE"].ends_with("; correct it in a profile in /etc/tuned"), "{record:?}");
    ns.write("etc/tuned/active_profile", "\n");
    ns.write("etc/sysctl.d/1.conf", "net.ipv4.ip_forward = 0\n");
    guard.wait_message("1.conf:1 sets");
    let count =
        |line: &str| guard.records().iter().filter(|r| r.get("CONFLICT_LINE").is_some_and(|l| l == line)).count();
    assert_eq!(["2", "4", "6"].map(count), [1, 1, 1]);
}
