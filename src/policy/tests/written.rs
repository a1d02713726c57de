//! Policies as people write them: lines in effect, notices and errors. The files are invented after the kinds that guides
//! for Kubernetes nodes and for hardening bring.

use super::*;

const X: &str = "etc/fwdguard.d/x.conf";

impl Tree {
    pub fn notices(&self) -> Vec<String> {
        self.load()
            .notices
            .iter()
            .map(|notice| notice.to_string().replace(&format!("{}/", self.0.path().display()), ""))
            .collect()
    }
}

/// The outcome of one file: its lines in effect, and the lines of notices and errors.
pub fn read(bytes: &[u8]) -> (Vec<String>, Vec<String>, Vec<String>) {
    let tree = Tree::new(&[]);
    tree.write(X, bytes);
    let lines = tree.lines().iter().map(|line| line.split(" at ").next().unwrap().to_string()).collect();
    let place = |text: &String| {
        let rest = text.strip_prefix(&format!("{X}:")).unwrap_or_else(|| panic!("{text}"));
        rest.split([':', ' ']).next().unwrap().to_string()
    };
    (lines, tree.notices().iter().map(place).collect(), tree.errors().iter().map(place).collect())
}

/// Text, the lines in effect, and the lines of notices and errors; an empty one is the file as a whole.
type Case<'a> = (&'a str, &'a [&'a str], &'a [&'a str], &'a [&'a str]);

#[track_caller]
fn assert_reads(cases: &[Case]) {
    for (text, lines, notices, errors) in cases {
        let (found, noticed, bad) = read(text.as_bytes());
        assert_eq!(
            (&found[..], &noticed[..], &bad[..]),
            (&lines.map_strings()[..], &notices.map_strings()[..], &errors.map_strings()[..]),
            "{text}"
        );
    }
}

trait MapStrings {
    fn map_strings(&self) -> Vec<String>;
}

impl MapStrings for &[&str] {
    fn map_strings(&self) -> Vec<String> {
        self.iter().map(|text| text.to_string()).collect()
    }
}

#[test]
fn a_refused_value_replaces_no_earlier_line() {
    for value in ["1;", "'1'", "\"1\"", "yes", "1#x", "-1", "true", "1\u{a0}", "\u{200b}1", "1.", "０"] {
        let tree = Tree::new(&[(VENDOR, "net.ipv4.ip_forward = 1\n"), ("etc/fwdguard.d/60-site.conf", "")]);
        tree.write("etc/fwdguard.d/60-site.conf", format!("# site\nnet.ipv4.ip_forward = {value}\n").as_bytes());
        assert_eq!(tree.lines(), [format!("net.ipv4.ip_forward = 1 at {VENDOR}:1")], "{value}");
        let errors = tree.errors();
        assert!(errors.len() == 1 && errors[0].starts_with("etc/fwdguard.d/60-site.conf:2: "), "{value}: {errors:?}");
    }
    assert_reads(&[
        (
            "net.ipv4.conf.a.rp_filter = 1\nnet.ipv4.conf.a.rp_filter = 3\n",
            &["net.ipv4.conf.a.rp_filter = 1"],
            &[],
            &["2"],
        ),
        (
            "net.ipv4.conf.*.rp_filter = 2\nnet.ipv4.conf.*.rp_filter = loose\n",
            &["net.ipv4.conf.*.rp_filter = 2"],
            &[],
            &["2"],
        ),
        ("net.core.bpf_jit_harden = 2\n", &[], &[], &["1"]),
        ("-net.core.bpf_jit_harden\n", &["net.core.bpf_jit_harden excluded"], &[], &[]),
    ]);
    let tree = Tree::new(&[(X, "net.core.bpf_jit_kallsyms = 1\n")]);
    assert!(tree.errors()[0].contains("CAP_SYS_ADMIN"), "{:?}", tree.errors());
}

#[test]
fn remarks_behind_values() {
    assert_reads(&[
        ("net.core.somaxconn = 4096 # queue\n", &["net.core.somaxconn = 4096"], &["1"], &[]),
        ("net.ipv4.conf.all.rp_filter = 2\t; für Tunnel\n", &["net.ipv4.conf.all.rp_filter = 2"], &["1"], &[]),
        (
            "net.ipv4.tcp_rmem = 4096 87380\t6291456  #; both\n",
            &["net.ipv4.tcp_rmem = 4096 87380\t6291456"],
            &["1"],
            &[],
        ),
        ("net.x.y = a#b;c\n", &["net.x.y = a#b;c"], &[], &[]),
        ("-net.ipv4.conf.e.rp_filter # not this one = x\n", &["net.ipv4.conf.e.rp_filter excluded"], &["1"], &[]),
        ("net.x.y = # nothing\nnet.x.y =;nothing\n", &[], &[], &["1", "2"]),
        ("net.ipv4.ip_forward = 1 for pods\n", &["net.ipv4.ip_forward = 1"], &["1"], &[]),
        ("#net.x = 1 # a\n ; net.x = 1\n", &[], &[], &[]),
    ]);
    let (lines, _, errors) = read(b"net.core.somaxconn = 1 # latin-1: \xe9\n");
    assert_eq!((lines.len(), errors.len()), (1, 0));
    let many: String = (0..500).map(|n| format!("net.core.x{n} = 1 # {n}\n")).collect();
    let tree = Tree::new(&[(X, &many)]);
    assert_eq!(tree.notices().len(), 4);
    assert!(tree.notices()[3].ends_with(": in 497 lines from this one on"), "{:?}", tree.notices());
}

#[test]
fn lines_for_other_trees_are_one_notice() {
    let text = "vm.max_map_count = 262144\nkernel.panic = 10\nfs/inotify/max_user_watches=524288\n-user.max_user_namespaces = 0\n\
                dev.raid.speed_limit_max = 1\ndebug.exception-trace = 0\nabi.vsyscall32=1\n-kernel.x\n";
    let tree = Tree::new(&[(X, &format!("net.ipv4.ip_forward = 1\n{text}"))]);
    assert_eq!(tree.lines(), [format!("net.ipv4.ip_forward = 1 at {X}:1")]);
    assert_eq!(tree.errors(), Vec::<String>::new());
    assert_eq!(tree.notices(), [format!("{X}: 8 lines left to sysctl.d: fwdguard guards only settings below net.")]);
    // It sets nothing: the policy is not unreadable, and the built-in one is not used instead.
    assert_reads(&[
        ("vm.swappiness = 1\n", &[], &[""], &[]),
        ("vm.swappiness\n", &[], &[], &["1"]),
        (
            "vm. = 1\nvm/../net/x = 1\nvm..x = 1\nvmm.x = 1\nipv4.ip_forward = 1\nNet.x = 1\n",
            &[],
            &[],
            &["1", "2", "3", "4", "5", "6"],
        ),
        ("vm.swappiness =\u{a0}1\n", &[], &[], &["1"]),
    ]);
}

#[test]
fn invisible_characters_are_refused() {
    assert_reads(&[
        ("\u{feff}net.ipv4.ip_forward = 1\n", &["net.ipv4.ip_forward = 1"], &[], &[]),
        ("\u{feff}# a comment\nnet.x = 1\n", &["net.x = 1"], &[], &[]),
        ("net.x = 1\n\u{feff}net.y = 1\n", &["net.x = 1"], &[], &["2"]),
        (
            "\u{a0}net.ipv4.ip_forward = 1\nnet.x\u{a0}= 1\nnet.x =\u{a0}1\nnet.x = 1\u{3000}\n-net.x\u{2060}\n",
            &[],
            &[],
            &["1", "2", "3", "4", "5"],
        ),
        ("net.ipv4.conf.e\u{ad}th0.forwarding = 0\n", &[], &[], &["1"]),
        ("net.x = bb\u{200b}r\n", &[], &[], &["1"]),
    ]);
    let tree = Tree::new(&[(X, "net.ipv4.ip_forward =\u{a0}1\n")]);
    assert!(tree.errors()[0].contains("\\u{a0}"), "{:?}", tree.errors());
}

#[test]
fn names_of_interfaces_with_dots() {
    let cases: [(&str, &str, &[&str]); 7] = [
        ("net.ipv4.conf.flannel.1.rp_filter = 0\n", "flannel.1", &["net.ipv4.conf.flannel/1.rp_filter = 0"]),
        ("net.ipv4.conf.vxlan.calico.rp_filter = 0\n", "vxlan.calico", &["net.ipv4.conf.vxlan/calico.rp_filter = 0"]),
        ("net.ipv4.neigh.eth0.100.gc_stale_time = 9\n", "eth0.100", &["net.ipv4.neigh.eth0/100.gc_stale_time = 9"]),
        ("net.ipv4.conf.eth0.*.rp_filter = 2\n", "eth0.7", &["net.ipv4.conf.eth0/7.rp_filter = 2"]),
        ("net.ipv4.conf.*.rp_filter = 2\n-net.ipv4.conf.flannel.1.rp_filter\n", "flannel.1", &[]),
        ("net/ipv4/conf/flannel/1/rp_filter = 0\n", "flannel.1", &["net.ipv4.conf.flannel/1.rp_filter = 0"]),
        (
            "net.ipv4.conf.flannel/1.rp_filter = 0\nnet.ipv4.conf.flannel.1.rp_filter = 2\n",
            "flannel.1",
            &["net.ipv4.conf.flannel/1.rp_filter = 2"],
        ),
    ];
    for (text, interface, wanted) in cases {
        assert_eq!(wants_of(text, interface), wanted, "{text}");
        let notices = Tree::new(&[(X, text)]).notices();
        assert!(notices.len() == 1 && notices[0].contains('/'), "{text}: {notices:?}");
    }
    assert_reads(&[(
        "net.ipv4.conf.rp_filter = 0\nnet.ipv6.conf.all = 1\nnet.ipv4.neigh.x = 1\n",
        &[],
        &[],
        &["1", "2", "3"],
    )]);
    // sysctl.d's line is read as systemd reads it, which finds no such file.
    let tree = Tree::new(&[
        (X, "net.ipv4.conf.flannel/1.rp_filter = 0\n"),
        ("etc/sysctl.d/x.conf", "net.ipv4.conf.flannel.1.rp_filter = 1\n"),
    ]);
    let policy = tree.load();
    let settings = policy.for_interface(OsStr::new("flannel.1"));
    assert_eq!(conflicts::find(&policy, tree.0.path(), &settings), []);
}

#[test]
fn a_literal_name_that_looks_like_a_pattern_has_a_notice() {
    assert_reads(&[
        (".net.ipv4.ip_forward = 1\n", &["net.ipv4.ip_forward = 1"], &["1"], &[]),
        ("net.ipv4.conf.{eth0,eth1}.rp_filter = 0\n", &["net.ipv4.conf.{eth0,eth1}.rp_filter = 0"], &["1"], &[]),
        ("net.ipv4.conf.eth+.rp_filter = 0\n", &["net.ipv4.conf.eth+.rp_filter = 0"], &["1"], &[]),
        (
            "net.ipv4.conf.eth%d.rp_filter = 0\n-net.ipv4.conf.cali+.rp_filter\n",
            &["net.ipv4.conf.eth%d.rp_filter = 0", "net.ipv4.conf.cali+.rp_filter excluded"],
            &["1", "2"],
            &[],
        ),
        ("net.ipv4.conf.eth0@if7.rp_filter = 0\n", &["net.ipv4.conf.eth0@if7.rp_filter = 0"], &["1"], &[]),
        ("net.core.{rmem,wmem}_max = 1\n", &["net.core.{rmem,wmem}_max = 1"], &["1"], &[]),
        (
            "net.ipv4.conf.averyveryverylongname.rp_filter = 0\n",
            &["net.ipv4.conf.averyveryverylongname.rp_filter = 0"],
            &["1"],
            &[],
        ),
        ("net.ipv4.conf.{eth,ens}*.rp_filter = 0\n", &["net.ipv4.conf.{eth,ens}*.rp_filter = 0"], &[], &[]),
        ("net.ipv4.conf.eth0-1_x.rp_filter = 0\n", &["net.ipv4.conf.eth0-1_x.rp_filter = 0"], &[], &[]),
        ("net.ipv4.conf.eth 0.rp_filter = 0\nsysctl -w net.ipv4.ip_forward=1\n", &[], &[], &["1", "2"]),
    ]);
}

#[test]
fn an_excluded_pattern_that_excludes_nothing_has_a_notice() {
    assert_reads(&[
        ("-net.ipv4.conf.cali*.rp_filter\n", &["net.ipv4.conf.cali*.rp_filter excluded"], &["1"], &[]),
        ("-net.ipv4.neigh.e?.gc_stale_time\n", &["net.ipv4.neigh.e?.gc_stale_time excluded"], &["1"], &[]),
        (
            "net.ipv4.conf.*.rp_filter = 1\n-net.ipv4.conf.e*.rp_filter\n",
            &["net.ipv4.conf.*.rp_filter = 1", "net.ipv4.conf.e*.rp_filter excluded"],
            &["2"],
            &[],
        ),
        // It revokes a line, it is forwarding's, or it is no pattern.
        (
            "net.ipv4.conf.e*.rp_filter = 1\n-net.ipv4.conf.e*.rp_filter\n",
            &["net.ipv4.conf.e*.rp_filter excluded"],
            &[],
            &[],
        ),
        ("-net.ipv4.conf.cali*.forwarding\n", &["net.ipv4.conf.cali*.forwarding excluded"], &[], &[]),
        ("-net.ipv4.conf.cali1.rp_filter\n", &["net.ipv4.conf.cali1.rp_filter excluded"], &[], &[]),
        ("-net.ipv4.conf.cali*.rp_filter = 1\n", &["net.ipv4.conf.cali*.rp_filter = 1"], &[], &[]),
    ]);
    let noticed = Tree::new(&[(X, "-net.ipv4.conf.cali*.rp_filter\n")]).notices();
    let what = "'-net.ipv4.conf.cali*.rp_filter' excludes nothing: ";
    assert!(
        noticed[0].contains(what) && noticed[0].contains("write -net.ipv4.conf.cali1.rp_filter for each"),
        "{noticed:?}"
    );
}

#[test]
fn counted_notices_name_their_kind() {
    let long = "net.ipv4.conf.averyveryverylongname.rp_filter = 0\n";
    for (line, words) in [
        (".net.ipv4.ip_forward = 1\n", "a name that may not be what was intended"),
        (long, "a name that may not be what was intended"),
        ("net.ipv4.conf.eth+.rp_filter = 0\n", "a name that may not be what was intended"),
        ("-net.ipv4.conf.e*.rp_filter\n", "an excluded pattern, which excludes nothing"),
        ("net.ipv4.conf.a.1.rp_filter = 0\n", "an interface name with dots"),
        ("net.core.somaxconn = 1 # x\n", "a comment behind a value, which is ignored"),
    ] {
        let notices = Tree::new(&[(X, &line.repeat(5))]).notices();
        assert_eq!(notices[3..], [format!("{X}:4: {words}: in 2 lines from this one on")], "{line}");
    }
}

#[test]
fn two_names_of_one_setting() {
    assert_reads(&[
        (
            "net.nf_conntrack_max = 1\nnet.netfilter.nf_conntrack_max = 2\n",
            &["net.netfilter.nf_conntrack_max = 2"],
            &[],
            &[],
        ),
        ("net.netfilter.nf_conntrack_max = 1\nnet.nf_conntrack_max = 1\n", &["net.nf_conntrack_max = 1"], &[], &[]),
        ("net.netfilter.nf_conntrack_max = 1\n-net.nf_conntrack_max\n", &["net.nf_conntrack_max excluded"], &[], &[]),
        (
            "net.ipv4.neigh.default.base_reachable_time = 30\nnet.ipv4.neigh.default.base_reachable_time_ms = 15000\n",
            &["net.ipv4.neigh.default.base_reachable_time_ms = 15000"],
            &[],
            &[],
        ),
    ]);
    let cases: [(&str, &[&str]); 4] = [
        (
            "net.ipv4.neigh.*.base_reachable_time = 30\nnet.ipv4.neigh.a.base_reachable_time_ms = 9\n",
            &["net.ipv4.neigh.a.base_reachable_time_ms = 9"],
        ),
        ("net.ipv4.neigh.*.retrans_time_ms = 30\n-net.ipv4.neigh.a.retrans_time\n", &[]),
        (
            "net.ipv4.neigh.*.base_reachable_time = 30\nnet.ipv4.neigh.a*.base_reachable_time_ms = 9\n",
            &["net.ipv4.neigh.a.base_reachable_time_ms = 9"],
        ),
        (
            "net.ipv4.neigh.*.base_reachable_time_ms = 30\nnet.ipv4.neigh.*.base_reachable_time = 9\n",
            &["net.ipv4.neigh.a.base_reachable_time = 9"],
        ),
    ];
    for (text, wanted) in cases {
        assert_eq!(wants_of(text, "a"), wanted, "{text}");
    }
    for (ours, theirs, conflicts) in [
        ("net.nf_conntrack_max = 9", "net.netfilter.nf_conntrack_max = 8", 1),
        ("net.ipv4.tcp_rmem = 1 2 3 # x", "net.ipv4.tcp_rmem = 1\t2  3 # x", 0),
        ("net.ipv4.ip_local_reserved_ports = 1,2", "net.ipv4.ip_local_reserved_ports = 1-2", 0),
        ("net.core.somaxconn = 0x10", "net.core.somaxconn = 020 ; x", 0),
        ("net.netfilter.nf_conntrack_max = 9", "net.nf_conntrack_max = 0x9", 0),
        ("net.ipv4.neigh.default.base_reachable_time = 30", "net.ipv4.neigh.default.base_reachable_time_ms = 30000", 0),
        ("net.ipv4.neigh.default.base_reachable_time = 30", "net.ipv4.neigh.*.base_reachable_time_ms = 15000", 1),
        ("net.ipv4.neigh.default.retrans_time_ms = 1000", "net.ipv4.neigh.default.retrans_time = 100", 0),
        ("net.ipv4.neigh.*.retrans_time = 100", "net.ipv4.neigh.default.retrans_time_ms = 200", 1),
    ] {
        let tree = Tree::new(&[(X, ours), ("etc/sysctl.d/x.conf", theirs)]);
        let policy = tree.load();
        let settings = policy.all_settings([].into_iter());
        assert_eq!(conflicts::find(&policy, tree.0.path(), &settings).len(), conflicts, "{ours} {theirs}");
    }
}
