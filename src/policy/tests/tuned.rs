//! Lines of TuneD's profile that conflict with the policy.

use super::Tree;
use crate::policy::conflicts::{self, Origin};

const POLICY: &str = "net.ipv4.ip_forward = 1\nnet.ipv4.conf.*.rp_filter = 0\nnet.core.somaxconn = 4096\n";

/// `KEY says VALUE at FILE:LINE` for TuneD's lines that conflict with the policy on interface e0.
fn against(files: &[(&str, &str)]) -> Vec<String> {
    let tree = Tree::new(files);
    tree.write("etc/fwdguard.d/x.conf", POLICY.as_bytes());
    let policy = tree.load();
    let settings = policy.all_settings(["e0".into()].into_iter());
    let mut found: Vec<String> = conflicts::find(&policy, tree.0.path(), &settings)
        .iter()
        .filter(|conflict| conflict.origin == Origin::Tuned)
        .map(|c| {
            let place = format!("{}:{}", tree.shown(&c.source.file), c.source.line);
            format!("{} says {} at {place}", policy.name(&c.key, c.entry), c.says)
        })
        .collect();
    found.sort();
    found
}

/// The same with one profile, which is active.
fn says(profile: &str) -> Vec<String> {
    against(&[("etc/tuned/active_profile", "mine\n"), ("etc/tuned/mine/tuned.conf", profile)])
}

#[test]
fn lines_of_a_profile() {
    let forward =
        |value: &str, line: u32| vec![format!("net.ipv4.ip_forward says {value} at etc/tuned/mine/tuned.conf:{line}")];
    for (profile, expected) in [
        ("# mine\n[main]\nsummary=x\n\n[sysctl]\nnet.ipv4.ip_forward=0\n", forward("0", 6)),
        ("[sysctl]\n  net.ipv4.ip_forward = \"0\"  # off\n", forward("0", 2)),
        ("[sysctl]\r\nnet.ipv4.ip_forward=0\r\n", forward("0", 2)),
        ("[sysctl]\nnet.ipv4.conf.all.forwarding=0\n", forward("0", 2)),
        ("[sysctl]\nnet.ipv4.ip_forward=1\n[net]\n[sysctl]\nnet.ipv4.ip_forward=0\n", forward("0", 5)),
        ("[sysctl]\nenabled=1\nnet.ipv4.ip_forward=0\n", forward("0", 3)),
        // The same value, and lines of other sections.
        ("[sysctl]\nnet.ipv4.ip_forward=01\n", vec![]),
        ("[sysctl]\nnet.ipv4.ip_forward=0\nnet.ipv4.ip_forward=1\n", vec![]),
        ("[cis]\nnet.ipv4.ip_forward=0\n", vec![]),
        ("[main]\nnet.ipv4.ip_forward=0\n", vec![]),
        ("net.ipv4.ip_forward=0\n", vec![]),
        ("[sysctl]\n#net.ipv4.ip_forward=0\n;net.ipv4.ip_forward=0\n", vec![]),
        // Values that can't be known here.
        ("[variables]\nv=0\n[sysctl]\nnet.ipv4.ip_forward=${v}\n", vec![]),
        ("[sysctl]\nnet.ipv4.ip_forward=\x1b0\n", vec![]),
        ("[sysctl]\nnet.ipv4.ip_forward=\n", vec![]),
        // TuneD knows neither patterns nor a minus sign.
        ("[sysctl]\nnet.ipv4.conf.*.rp_filter=1\n-net.ipv4.ip_forward=0\n", vec![]),
        (
            "[sysctl]\nnet.ipv4.conf.e0.rp_filter=1\nnet.ipv4.conf.e1.rp_filter=1\n",
            vec!["net.ipv4.conf.e0.rp_filter says 1 at etc/tuned/mine/tuned.conf:2".into()],
        ),
        // Only raised, only lowered.
        ("[sysctl]\nnet.core.somaxconn=>2048\n", vec![]),
        (
            "[sysctl]\nnet.core.somaxconn=<2048\n",
            vec!["net.core.somaxconn says <2048 at etc/tuned/mine/tuned.conf:2".into()],
        ),
        (
            "[sysctl]\nnet.core.somaxconn=>8192\n",
            vec!["net.core.somaxconn says >8192 at etc/tuned/mine/tuned.conf:2".into()],
        ),
        ("[sysctl]\nnet.core.somaxconn=<8192\n", vec![]),
        // Invalid lines.
        ("[sysctl\n]=\n=\n[]\n \n", vec![]),
    ] {
        assert_eq!(says(profile), expected, "{profile:?}");
    }
}

#[test]
fn which_profile_is_active_and_where_it_is() {
    let off = "[sysctl]\nnet.ipv4.ip_forward=0\n";
    let on = "[sysctl]\nnet.ipv4.ip_forward=1\n";
    let at = |file: &str| vec![format!("net.ipv4.ip_forward says 0 at {file}:2")];
    let active = "etc/tuned/active_profile";
    for (files, expected) in [
        (vec![("etc/tuned/a/tuned.conf", off)], vec![]),
        (vec![(active, "\n"), ("etc/tuned/a/tuned.conf", off)], vec![]),
        (vec![(active, "a\n"), ("etc/tuned/b/tuned.conf", off)], vec![]),
        (vec![(active, "a\n"), ("usr/lib/tuned/a/tuned.conf", off)], at("usr/lib/tuned/a/tuned.conf")),
        (vec![(active, "a"), ("usr/lib/tuned/profiles/a/tuned.conf", off)], at("usr/lib/tuned/profiles/a/tuned.conf")),
        (vec![(active, "a"), ("etc/tuned/profiles/a/tuned.conf", off)], at("etc/tuned/profiles/a/tuned.conf")),
        // The administrator's profile replaces the vendor's.
        (vec![(active, "a"), ("usr/lib/tuned/a/tuned.conf", off), ("etc/tuned/a/tuned.conf", "")], vec![]),
        (
            vec![(active, "a"), ("usr/lib/tuned/profiles/a/tuned.conf", on), ("etc/tuned/a/tuned.conf", off)],
            at("etc/tuned/a/tuned.conf"),
        ),
        // Of several, the last wins; the post-loaded one wins over all.
        (vec![(active, "a  b\n"), ("etc/tuned/a/tuned.conf", off), ("etc/tuned/b/tuned.conf", on)], vec![]),
        (
            vec![(active, "b a\n"), ("etc/tuned/a/tuned.conf", off), ("etc/tuned/b/tuned.conf", on)],
            at("etc/tuned/a/tuned.conf"),
        ),
        (
            vec![
                (active, "b\n"),
                ("etc/tuned/post_loaded_profile", "a\n"),
                ("etc/tuned/a/tuned.conf", off),
                ("etc/tuned/b/tuned.conf", on),
            ],
            at("etc/tuned/a/tuned.conf"),
        ),
        // Names can't lead out of the folders.
        (vec![(active, "../x ${a}\n"), ("etc/x/tuned.conf", off)], vec![]),
    ] {
        assert_eq!(against(&files), expected, "{files:?}");
    }
}

#[test]
fn included_profiles_come_first() {
    let at = |file: &str, line: u32| vec![format!("net.ipv4.ip_forward says 0 at {file}:{line}")];
    let vendor = "usr/lib/tuned/base/tuned.conf";
    let mine = "etc/tuned/mine/tuned.conf";
    for (base, profile, expected) in [
        ("net.ipv4.ip_forward=0", "[main]\ninclude=base\n", at(vendor, 2)),
        ("net.ipv4.ip_forward=0", "[main]\ninclude = none, base\n", at(vendor, 2)),
        ("net.ipv4.ip_forward=0", "[main]\ninclude=-none;-base\n", at(vendor, 2)),
        ("net.ipv4.ip_forward=0", "[main]\ninclude=${f:virt_check:base:base}\n", vec![]),
        ("net.ipv4.ip_forward=0", "[sysctl]\nnet.ipv4.ip_forward=1\n[main]\ninclude=base\n", vec![]),
        ("net.ipv4.ip_forward=0", "[main]\ninclude=base\n[sysctl]\nnet.ipv4.ip_forward=${v}\n", vec![]),
        ("net.ipv4.ip_forward=1", "[main]\ninclude=base\n[sysctl]\nnet.ipv4.ip_forward=0\n", at(mine, 4)),
        ("net.ipv4.ip_forward=0", "[main]\ninclude=base\n[sysctl]\nkernel.panic=1\n", at(vendor, 2)),
        // Profiles that include each other.
        ("net.ipv4.ip_forward=0\n[main]\ninclude=mine,base", "[main]\ninclude=base\n", at(vendor, 2)),
    ] {
        let base = format!("[sysctl]\n{base}\n");
        let files = [("etc/tuned/active_profile", "mine"), (vendor, &*base), (mine, profile)];
        assert_eq!(against(&files), expected, "{base:?} {profile:?}");
    }
    // A profile that includes the one that it replaces.
    let files = [
        ("etc/tuned/active_profile", "base"),
        (vendor, "[sysctl]\nnet.ipv4.ip_forward=0\n"),
        ("etc/tuned/base/tuned.conf", "[main]\ninclude=base\n"),
    ];
    assert_eq!(against(&files), at(vendor, 2));
}

#[test]
fn sysctl_d_is_applied_after_the_profile() {
    let found = vec!["net.ipv4.ip_forward says 0 at etc/tuned/mine/tuned.conf:2".to_string()];
    let on = "net.ipv4.ip_forward = 1\n";
    for (main, path, text, expected) in [
        ("", "etc/sysctl.d/k8s.conf", on, vec![]),
        ("", "run/sysctl.d/k8s.conf", on, vec![]),
        ("", "etc/sysctl.conf", "net.ipv4.conf.all.forwarding=1\n", vec![]),
        ("# TuneD\nreapply_sysctl = 1\n", "etc/sysctl.d/k8s.conf", on, vec![]),
        ("reapply_sysctl = 0\n", "etc/sysctl.d/k8s.conf", on, found.clone()),
        ("reapply_sysctl=False # why\n", "etc/sysctl.d/k8s.conf", on, found.clone()),
        ("", "etc/sysctl.d/k8s.conf", "  net.ipv4.conf.all.forwarding\t= 1 # why\n", vec![]),
        // Lines that TuneD does not read or understand: it knows neither a minus sign nor patterns.
        ("", "etc/sysctl.d/k8s.conf", "-net.ipv4.ip_forward = 1\n", found.clone()),
        ("", "etc/sysctl.d/k8s.conf", "- net.ipv4.ip_forward = 1\n", found.clone()),
        ("", "etc/sysctl.d/k8s.conf", "net.ipv4.conf.*.forwarding = 1\n", found.clone()),
        ("", "etc/sysctl.d/k8s.conf", "#net.ipv4.ip_forward = 1\n;net.ipv4.ip_forward = 1\n", found.clone()),
        ("", "etc/sysctl.conf", "-net.ipv4.ip_forward = 1\n", found.clone()),
        ("", "usr/lib/sysctl.d/k8s.conf", on, found.clone()),
        ("", "etc/sysctl.d/k8s.conf", "-net.ipv4.ip_forward\n", found.clone()),
        // That one is a conflict of its own.
        ("", "etc/sysctl.d/k8s.conf", "net.ipv4.ip_forward = 0\n", vec![]),
    ] {
        let files = [
            ("etc/tuned/active_profile", "mine"),
            ("etc/tuned/mine/tuned.conf", "[sysctl]\nnet.ipv4.ip_forward=0\n"),
            ("etc/tuned/tuned-main.conf", main),
            (path, text),
        ];
        assert_eq!(against(&files), expected, "{main:?} {path} {text:?}");
    }
}
