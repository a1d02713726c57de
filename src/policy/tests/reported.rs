//! What is reported: lines that are wrong, files that can not be read, settings of others that conflict.

use std::ffi::OsStr;

use super::*;

#[test]
fn a_wrong_line_is_reported_and_the_rest_holds() {
    let megabyte = format!("net.b = {}", "1".repeat(1 << 20));
    let bad: [(&[u8], &str); 17] = [
        (b"kernal.panic = 10", "'kernal.panic' is not below net."),
        (b"kernel = 10", "'kernel' is not below net."),
        (b"net = 1", "is not below net."),
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
        (b"net.ipv4.*.all.rp_filter = 1", "a pattern may only stand for an interface"),
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
fn what_can_not_be_read_is_reported_and_the_rest_holds() {
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
        // Not the policy's business.
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
    let settings: Vec<_> = policy.elsewhere().collect();
    assert_eq!(settings.len(), 2);
    let found = conflicts::find(&policy, tree.0.path(), &settings);
    assert_eq!(found.iter().map(|c| c.key.to_string()).collect::<Vec<_>>(), ["net.core.somaxconn"]);
}
