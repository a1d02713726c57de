//! Reports: wrong lines, files that can't be read, lines of other configurations that conflict.

use std::ffi::OsStr;

use super::*;

#[test]
fn a_wrong_line_is_reported_and_the_rest_holds() {
    let megabyte = format!("net.b = {}", "1".repeat(1 << 20));
    let bad: [(&[u8], &str); 26] = [
        (b"kernal.panic = 10", "'kernal.panic' is not below net."),
        (b"kernel = 10", "'kernel' is not below net."),
        (b"net = 1", "is not below net."),
        (b"/proc/sys/net/ipv4/ip_forward = 1", "drop /proc/sys/ and write net/ipv4/ip_forward"),
        (b"proc/sys/vm/swappiness = 1", "drop /proc/sys/ and write vm/swappiness"),
        (b"-/proc/sys/net/ipv4/conf/eth0.100/rp_filter", "write net/ipv4/conf/eth0.100/rp_filter"),
        (b"net.ipv4 = 1", "'net.ipv4' is a directory"),
        (b"net/core = 1", "'net.core' is a directory"),
        (b"-net.netfilter", "'net.netfilter' is a directory"),
        (b"net.ipv4.conf = 1", "is not a setting of an interface"),
        (b"net.ipv4.neigh = 1", "is not a setting of an interface"),
        (b"net.ipv6.conf.all = 1", "is not a setting of an interface"),
        (b"vm/../net/x = 1", "'.' or '..'"),
        (b"net/ipv4/../../kernel/panic = 1", "'.' or '..'"),
        (b"net.ipv4.//.x = 1", "'.' or '..'"),
        (b"net..x = 1", "an empty part"),
        (b"net.ipv4. = 1", "an empty part"),
        (b"net.\x1b[31mx = 1", "a control character in the key"),
        (b"net.b = \x071", "a control character in the value"),
        (b"net.b", "no value"),
        (b"net.b =", "no value"),
        (b"-net.b =  ", "no value"),
        (b"= 1", "no key"),
        (b"net.b = \xff", "UTF-8"),
        (b"net.ipv4.*.all.rp_filter = 1", "a pattern may only replace an interface"),
        (megabyte.as_bytes(), "bytes, more than"),
    ];
    for (line, message) in bad {
        let what = String::from_utf8_lossy(&line[..line.len().min(40)]);
        let tree = Tree::new(&[("usr/lib/fwdguard.d/y.conf", "net.c = 1\n")]);
        tree.write("etc/fwdguard.d/x.conf", &[b"net.a = 1\n# a comment\n", line, b"\nnet.d = 1\n"].concat());
        let errors = tree.errors();
        assert_eq!(errors.len(), 1, "{what}: {errors:?}");
        assert!(
            errors[0].starts_with("etc/fwdguard.d/x.conf:3: ") && errors[0].contains(message),
            "{what}: {errors:?}"
        );
        assert!(!errors[0].contains(char::is_control), "{what}: {errors:?}");
        let x = "etc/fwdguard.d/x.conf";
        let rest = [
            format!("net.a = 1 at {x}:1"),
            format!("net.d = 1 at {x}:4"),
            "net.c = 1 at usr/lib/fwdguard.d/y.conf:1".into(),
        ];
        assert_eq!(tree.lines(), rest, "{what}");
    }
}

#[test]
fn an_unreadable_file_is_reported_and_the_rest_takes_effect() {
    let tree = Tree::new(&[("etc/fwdguard.d/z.conf", "net.a = 1\n")]);
    tree.link("etc/fwdguard.d/dangling.conf", "nowhere");
    tree.folder("etc/fwdguard.d/folder.conf");
    let fifo = tree.path("etc/fwdguard.d/fifo.conf");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    std::fs::File::create(tree.path("etc/fwdguard.d/huge.conf")).unwrap().set_len((16 << 20) + 1).unwrap();
    tree.write("run/fwdguard.d", b"no folder");
    let files: Vec<String> = tree.errors().iter().map(|e| e.split_once(": ").unwrap().0.to_string()).collect();
    assert_eq!(
        files,
        [
            "run/fwdguard.d:0",
            "etc/fwdguard.d/dangling.conf:0",
            "etc/fwdguard.d/fifo.conf:0",
            "etc/fwdguard.d/folder.conf:0",
            "etc/fwdguard.d/huge.conf:0"
        ]
    );
    assert_eq!(tree.lines(), ["net.a = 1 at etc/fwdguard.d/z.conf:1"]);
    assert!(!tree.load().is_unreadable());
}

#[test]
fn conflicts_name_file_and_line() {
    let policy = (
        "etc/fwdguard.d/x.conf",
        "net.ipv4.ip_forward = 1\nnet.ipv4.conf.*.rp_filter = 0\nnet.core.somaxconn = 4096\n",
    );
    for (files, interface, expected) in [
        (
            vec![("etc/sysctl.d/9.conf", "\nnet.ipv4.ip_forward = 0\n")],
            "all",
            vec!["net.ipv4.ip_forward says 0 at etc/sysctl.d/9.conf:2"],
        ),
        (
            vec![("usr/lib/sysctl.d/9.conf", "net/ipv4/conf/all/forwarding=0\n")],
            "all",
            vec!["net.ipv4.ip_forward says 0 at usr/lib/sysctl.d/9.conf:1"],
        ),
        (
            vec![("etc/sysctl.conf", "# old\n\nnet.ipv4.ip_forward=0\n")],
            "all",
            vec!["net.ipv4.ip_forward says 0 at etc/sysctl.conf:3"],
        ),
        // procps applies sysctl.conf last.
        (
            vec![("etc/sysctl.conf", "net.ipv4.ip_forward=0\n"), ("etc/sysctl.d/zz.conf", "net.ipv4.ip_forward = 1\n")],
            "all",
            vec!["net.ipv4.ip_forward says 0 at etc/sysctl.conf:1"],
        ),
        (
            vec![("etc/sysctl.conf", "net.ipv4.ip_forward=1\n"), ("etc/sysctl.d/zz.conf", "net.ipv4.ip_forward = 0\n")],
            "all",
            vec![],
        ),
        // Behind the line in effect, those that would be in effect without it: later ones first, patterns last, sysctl.conf too.
        (
            vec![
                ("etc/sysctl.d/10-a.conf", "net.ipv4.ip_forward = 0\nnet.ipv4.ip_forward=1\nnet.ipv4.ip_forward=0\n"),
                ("etc/sysctl.d/20-b.conf", "net.ipv4.conf.all.forwarding = 0\n"),
                ("usr/lib/sysctl.d/99-c.conf", "net.ipv4.ip_forward = 2\n"),
                ("etc/sysctl.conf", "net.ipv4.ip_forward = 0\n"),
            ],
            "all",
            vec![
                "net.ipv4.ip_forward says 0 at etc/sysctl.conf:1",
                "net.ipv4.ip_forward says 2 at usr/lib/sysctl.d/99-c.conf:1",
                "net.ipv4.ip_forward says 0 at etc/sysctl.d/20-b.conf:1",
                "net.ipv4.ip_forward says 0 at etc/sysctl.d/10-a.conf:3",
                "net.ipv4.ip_forward says 0 at etc/sysctl.d/10-a.conf:1",
            ],
        ),
        (
            vec![
                ("usr/lib/sysctl.d/50-default.conf", "net.ipv4.conf.*.rp_filter = 2\nnet.ipv4.conf.e?.rp_filter = 1\n"),
                ("etc/sysctl.d/99-a.conf", "net.ipv4.conf.e0.rp_filter = 1\n"),
            ],
            "e0",
            vec![
                "net.ipv4.conf.e0.rp_filter says 1 at etc/sysctl.d/99-a.conf:1",
                "net.ipv4.conf.e0.rp_filter says 1 at usr/lib/sysctl.d/50-default.conf:2",
                "net.ipv4.conf.e0.rp_filter says 2 at usr/lib/sysctl.d/50-default.conf:1",
            ],
        ),
        // A vendor's line that the administrator's overrides, and a pattern that stays excluded, are never in effect again.
        (
            vec![
                ("usr/lib/sysctl.d/50-default.conf", "net.ipv4.conf.*.rp_filter = 2\n"),
                ("etc/sysctl.d/60-a.conf", "net.ipv4.conf.e0.rp_filter = 0\nnet.ipv4.conf.e0.rp_filter = 1\n"),
            ],
            "e0",
            vec!["net.ipv4.conf.e0.rp_filter says 1 at etc/sysctl.d/60-a.conf:2"],
        ),
        (
            vec![(
                "etc/sysctl.d/60-a.conf",
                "net.ipv4.conf.*.rp_filter = 2\n-net.ipv4.conf.e0.rp_filter\nnet.ipv4.conf.e0.rp_filter = 1\n",
            )],
            "e0",
            vec!["net.ipv4.conf.e0.rp_filter says 1 at etc/sysctl.d/60-a.conf:3"],
        ),
        // A line that is in effect for another interface is listed once.
        (
            vec![(
                "etc/sysctl.d/9.conf",
                "net.ipv4.conf.*.forwarding = 0\nnet.ipv4.ip_forward = 0\n-net.ipv4.conf.default.forwarding\n",
            )],
            "all",
            vec![
                "net.ipv4.ip_forward says 0 at etc/sysctl.d/9.conf:2",
                "net.ipv4.ip_forward says 0 at etc/sysctl.d/9.conf:1",
            ],
        ),
        // A later line in sysctl.d that agrees, a masked file, an exclusion, the same value written another way: no conflict.
        (vec![("etc/sysctl.d/9.conf", "net.ipv4.ip_forward = 0\nnet.ipv4.ip_forward = 1\n")], "all", vec![]),
        (vec![("usr/lib/sysctl.d/9.conf", "net.ipv4.ip_forward = 0\n"), ("etc/sysctl.d/9.conf", "")], "all", vec![]),
        (vec![("etc/sysctl.d/9.conf", "net.ipv4.ip_forward = 0\n-net.ipv4.ip_forward\n")], "all", vec![]),
        (vec![("etc/sysctl.d/9.conf", "net.ipv4.ip_forward = 01\n")], "all", vec![]),
        // Patterns of sysctl.d, and what excludes an interface from them.
        (
            vec![("usr/lib/sysctl.d/50-default.conf", "net.ipv4.conf.*.rp_filter = 2\n-net.ipv4.conf.all.rp_filter\n")],
            "all",
            vec![],
        ),
        (
            vec![("usr/lib/sysctl.d/50-default.conf", "net.ipv4.conf.*.rp_filter = 2\n-net.ipv4.conf.all.rp_filter\n")],
            "e0",
            vec!["net.ipv4.conf.e0.rp_filter says 2 at usr/lib/sysctl.d/50-default.conf:1"],
        ),
        (
            vec![("etc/sysctl.d/1.conf", "net.ipv4.conf.e0/1.rp_filter = 1\nnet.ipv4.conf.e0.rp_filter = 1\n")],
            "e0.1",
            vec!["net.ipv4.conf.e0/1.rp_filter says 1 at etc/sysctl.d/1.conf:1"],
        ),
        // Settings that the policy does not guard.
        (vec![("etc/sysctl.d/1.conf", "net.ipv4.conf.e0.forwarding = 0\nkernel.panic = 1\nnonsense\n")], "e0", vec![]),
    ] {
        let tree = Tree::new(&files);
        tree.write(policy.0, policy.1.as_bytes());
        let policy = tree.load();
        assert!(policy.errors.is_empty(), "sysctl.d's errors are not the policy's: {files:?}");
        let settings = policy.for_interface(OsStr::new(interface));
        let found: Vec<String> = conflicts::find(&policy, tree.0.path(), &settings)
            .iter()
            .map(|c| {
                let place = format!("{}:{}", tree.shown(&c.source.file), c.source.line);
                format!("{} says {} at {place}", policy.name(&c.key, c.entry), c.says)
            })
            .collect();
        assert_eq!(found, expected, "{files:?}");
    }
}

#[test]
fn settings_of_no_interface_conflict_too() {
    let tree = Tree::new(&[
        ("etc/fwdguard.d/x.conf", "net.core.somaxconn = 4096\nnet.ipv4.tcp_rmem = 4096 87380 6291456\n"),
        ("etc/sysctl.d/x.conf", "net.core.somaxconn = 128\nnet.ipv4.tcp_rmem = 4096\t87380   6291456\n"),
    ]);
    let policy = tree.load();
    let settings: Vec<_> = policy.global().collect();
    assert_eq!(settings.len(), 2);
    let found = conflicts::find(&policy, tree.0.path(), &settings);
    assert_eq!(found.iter().map(|c| c.key.to_string()).collect::<Vec<_>>(), ["net.core.somaxconn"]);
}

#[test]
fn a_line_that_is_right_for_one_interface_is_named_behind_anothers() {
    let tree = Tree::new(&[
        ("etc/fwdguard.d/x.conf", "net.ipv4.conf.e0.rp_filter = 0\nnet.ipv4.conf.e1.rp_filter = 1\n"),
        ("etc/sysctl.d/x.conf", "net.ipv4.conf.*.rp_filter = 1\nnet.ipv4.conf.e0.rp_filter = 2\n"),
    ]);
    let policy = tree.load();
    let settings = policy.all_settings(["e0".into(), "e1".into()].into_iter());
    let found = conflicts::find(&policy, tree.0.path(), &settings);
    let found: Vec<_> = found.iter().map(|c| (c.key.to_string(), c.source.line, c.behind.is_some())).collect();
    let key = || "net.ipv4.conf.e0.rp_filter".to_string();
    assert_eq!(found, [(key(), 2, false), (key(), 1, true)]);
}

/// `KEY says VALUE at FILE:LINE` for conflicts outside sysctl.d, and the lines in effect instead of them.
fn by_others(files: &[(&str, &str)]) -> Vec<String> {
    let tree = Tree::new(files);
    let policy = "net.ipv4.ip_forward = 1\nnet.core.somaxconn = 4096\nnet.ipv4.tcp_rmem = 4096 87380 6291456\n";
    tree.write("etc/fwdguard.d/x.conf", policy.as_bytes());
    let policy = tree.load();
    let settings = policy.all_settings(std::iter::empty());
    let found = conflicts::find(&policy, tree.0.path(), &settings);
    let line = |c: &conflicts::Conflict| {
        let place = format!("{}:{}", tree.shown(&c.source.file), c.source.line);
        let behind = c.behind.as_ref().map(|line| format!(", behind {line}")).unwrap_or_default();
        format!("{} says {} at {place}{behind}", policy.name(&c.key, c.entry), c.says)
    };
    found.iter().filter(|c| c.origin != conflicts::Origin::SysctlD).map(line).collect()
}

#[test]
fn ufw_applies_a_file_of_its_own() {
    let (file, off) = ("etc/ufw/sysctl.conf", "# ufw\nnet/ipv4/ip_forward=0\n");
    let found = |file: &str| vec![format!("net.ipv4.ip_forward says 0 at {file}:2")];
    let defaults = "etc/default/ufw";
    for (files, expected) in [
        (vec![(file, off)], found(file)),
        (vec![(file, off), ("etc/ufw/ufw.conf", "ENABLED=yes\nLOGLEVEL=low\n")], found(file)),
        (vec![(file, off), ("etc/ufw/ufw.conf", "ENABLED=no\n")], vec![]),
        // It is applied after sysctl.d.
        (vec![(file, off), ("etc/sysctl.d/k8s.conf", "net.ipv4.ip_forward = 1\n")], found(file)),
        (vec![(file, "net/ipv4/ip_forward=1\n")], vec![]),
        (
            vec![(defaults, "IPV6=yes\nIPT_SYSCTL=\"/etc/other.conf\"\n"), (file, off), ("etc/other.conf", off)],
            found("etc/other.conf"),
        ),
        (vec![(defaults, "#IPT_SYSCTL=/etc/other.conf\n"), (file, off)], found(file)),
        (vec![(defaults, "IPT_SYSCTL=\n"), (file, off)], vec![]),
        (vec![(defaults, "IPT_SYSCTL=../x\n"), (file, off)], vec![]),
        // Already listed as sysctl.d's.
        (vec![(defaults, "IPT_SYSCTL=/etc/sysctl.conf\n"), ("etc/sysctl.conf", off)], vec![]),
    ] {
        assert_eq!(by_others(&files), expected, "{files:?}");
    }
}

#[test]
fn the_kernels_command_line() {
    let off = || vec!["net.ipv4.ip_forward says 0 at proc/cmdline:1".to_string()];
    for (line, expected) in [
        ("ro quiet sysctl.net.ipv4.ip_forward=0\n", off()),
        ("sysctl/net/ipv4/ip_forward=0", off()),
        ("sysctl.net/ipv4/conf.all/forwarding=0", off()),
        ("sysctl.net.ipv4.ip_forward=1 sysctl.net.ipv4.ip_forward=\"0\"", off()),
        ("\"sysctl.net.ipv4.ip_forward=0\"", off()),
        ("sysctl.net.ipv4.ip_forward=0 sysctl.net.ipv4.ip_forward=1", vec![]),
        ("sysctl.net.ipv4.tcp_rmem=\"4096 87380 6291456\"", vec![]),
        (
            "a=\"b c\" sysctl.net.ipv4.tcp_rmem=\"4096 87380 1\" x",
            vec!["net.ipv4.tcp_rmem says 4096 87380 1 at proc/cmdline:1".to_string()],
        ),
        // No setting for the kernel, or none of these.
        ("-- sysctl.net.ipv4.ip_forward=0", vec![]),
        ("sysctl.net.ipv4.ip_forward= sysctl.net.ipv4.ip_forward sysctlnet.ipv4.ip_forward=0", vec![]),
        ("x.sysctl.net.ipv4.ip_forward=0 sysctl.kernel.panic=0 sysctl.=0 sysctl=0 sysctl..=0 = \" \"", vec![]),
    ] {
        assert_eq!(by_others(&[("proc/cmdline", line)]), expected, "{line}");
    }
    // sysctl.d is applied later: its line is in effect instead, and if it agrees with the policy there is no conflict.
    let line = ("proc/cmdline", "sysctl.net.ipv4.ip_forward=0");
    let sysctl_d = |text| by_others(&[line, ("etc/sysctl.d/9.conf", text)]);
    assert_eq!(sysctl_d("net.ipv4.ip_forward = 1\n"), Vec::<String>::new());
    assert_eq!(sysctl_d("net.ipv4.ip_forward = 0\n"), [format!("{}, behind 9.conf:1", off()[0])]);
}

/// As CentOS and Debian have it.
#[test]
fn a_line_of_sysctl_conf_is_reported_once_though_sysctl_d_has_a_link_to_it() {
    let tree = Tree::new(&[("etc/sysctl.conf", "net.ipv4.ip_forward = 0\n"), ("etc/sysctl.d/10.conf", "")]);
    tree.link("etc/sysctl.d/99-sysctl.conf", "../sysctl.conf");
    tree.write("etc/fwdguard.d/x.conf", b"net.ipv4.ip_forward = 1\n");
    let policy = tree.load();
    let settings = policy.all_settings(std::iter::empty());
    let found = conflicts::find(&policy, tree.0.path(), &settings);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].behind, None);
}
