//! `Policy::load` on trees of files.

mod exempt;
mod linked;
mod off;
mod reported;
mod tuned;
mod written;

use std::ffi::OsStr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::{Policy, VENDOR_TEXT, conflicts};
use crate::setting::Key;

const VENDOR: &str = "usr/lib/fwdguard.d/50-kubernetes.conf";
const BUILT_IN_FIRST: &str = "net.ipv4.ip_forward = 1 at built-in:50-kubernetes.conf:";

/// A root with files in it.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new(files: &[(&str, &str)]) -> Tree {
        let tree = Tree(tempfile::tempdir().unwrap());
        for (path, text) in files {
            tree.write(path, text.as_bytes());
        }
        tree
    }

    fn path(&self, path: &str) -> PathBuf {
        let path = self.0.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        std::fs::write(self.path(path), bytes).unwrap();
    }

    fn link(&self, path: &str, target: &str) {
        symlink(target, self.path(path)).unwrap();
    }

    fn folder(&self, path: &str) {
        std::fs::create_dir(self.path(path)).unwrap();
    }

    fn load(&self) -> Policy {
        Policy::load(self.0.path())
    }

    /// `key = value at FILE:LINE` for each line in effect, in the order in which they apply; files without the root.
    fn lines(&self) -> Vec<String> {
        let policy = self.load();
        let line = |entry: &super::Entry| {
            let value = entry.value.as_deref().map_or("excluded".into(), |value| format!("= {value}"));
            format!("{} {value} at {}:{}", entry.name, self.shown(&entry.source.file), entry.source.line)
        };
        policy.entries().iter().map(line).collect()
    }

    /// `FILE:LINE: message`
    fn errors(&self) -> Vec<String> {
        let policy = self.load();
        let error = |e: &super::PolicyError| {
            format!("{}:{}: {}", self.shown(&e.source.file), e.source.line, e.message.replace(&self.prefix(), ""))
        };
        policy.errors.iter().map(error).collect()
    }

    fn prefix(&self) -> String {
        format!("{}/", self.0.path().display())
    }

    fn shown(&self, file: &Path) -> String {
        file.strip_prefix(self.0.path()).unwrap_or(file).display().to_string()
    }
}

/// `key = value` of every guarded setting of an interface, by the policy's names, sorted.
fn wants(policy: &Policy, interface: &str) -> Vec<String> {
    let mut wanted: Vec<String> = policy
        .for_interface(OsStr::new(interface))
        .iter()
        .map(|(key, index)| format!("{} = {}", policy.name(key, *index), policy.value(*index)))
        .collect();
    wanted.sort();
    wanted
}

/// The same for one file with this text.
fn wants_of(text: &str, interface: &str) -> Vec<String> {
    wants(&Tree::new(&[("etc/fwdguard.d/x.conf", text)]).load(), interface)
}

#[test]
fn files_apply_in_the_order_of_their_names() {
    let tree = Tree::new(&[
        ("etc/fwdguard.d/90-z.conf", "net.a = 1\n"),
        ("usr/lib/fwdguard.d/10-a.conf", "net.b = 1\n"),
        ("run/fwdguard.d/9-b.conf", "net.c = 1\n"),
        ("usr/local/lib/fwdguard.d/A.conf", "net.d = 1\n"),
        ("etc/fwdguard.d/50-not.txt", "net.e = 1\n"),
        ("etc/fwdguard.d/.hidden.conf", "net.f = 1\n"),
        ("etc/fwdguard.d/conf", "net.g = 1\n"),
    ]);
    assert_eq!(
        tree.lines(),
        [
            "net.b = 1 at usr/lib/fwdguard.d/10-a.conf:1",
            "net.c = 1 at run/fwdguard.d/9-b.conf:1",
            "net.a = 1 at etc/fwdguard.d/90-z.conf:1",
            "net.d = 1 at usr/local/lib/fwdguard.d/A.conf:1",
        ]
    );
    assert!(tree.errors().is_empty());
}

#[test]
fn a_file_masks_its_namesakes_in_later_folders() {
    let mut folders = ["usr/lib", "usr/local/lib", "run", "etc"];
    let tree = Tree::new(&[]);
    for folder in folders {
        tree.write(&format!("{folder}/fwdguard.d/x.conf"), format!("net.a = {}\n", folder.len()).as_bytes());
        let only = format!("net.a = {} at {folder}/fwdguard.d/x.conf:1", folder.len());
        assert_eq!(tree.lines(), [only]);
    }
    folders.reverse();
    assert_eq!(super::FOLDERS, folders.map(|f| format!("/{f}/fwdguard.d")));
}

#[test]
fn entries_of_every_kind_mask() {
    type Make = fn(&Tree);
    let kinds: [(&str, Make, bool); 6] = [
        ("an empty file", |t| t.write("etc/fwdguard.d/x.conf", b""), false),
        ("a link to /dev/null", |t| t.link("etc/fwdguard.d/x.conf", "/dev/null"), false),
        ("a dangling link", |t| t.link("etc/fwdguard.d/x.conf", "/nowhere"), true),
        ("a loop", |t| t.link("etc/fwdguard.d/x.conf", "x.conf"), true),
        ("a folder", |t| t.folder("etc/fwdguard.d/x.conf"), true),
        ("a file of bad lines", |t| t.write("etc/fwdguard.d/x.conf", b"nonsense\n"), true),
    ];
    for (what, make, reported) in kinds {
        let tree = Tree::new(&[("usr/lib/fwdguard.d/x.conf", "net.a = 1\n"), ("run/fwdguard.d/y.conf", "net.b = 1\n")]);
        make(&tree);
        assert_eq!(tree.lines(), ["net.b = 1 at run/fwdguard.d/y.conf:1"], "{what}");
        let errors = tree.errors();
        assert_eq!(errors.len(), usize::from(reported), "{what}: {errors:?}");
        assert!(errors.iter().all(|e| e.starts_with("etc/fwdguard.d/x.conf:")), "{what}: {errors:?}");
        assert!(!tree.load().is_unreadable(), "{what}");
    }
}

#[test]
fn the_last_line_wins_and_a_repetition_keeps_its_place() {
    for (text, lines) in [
        ("net.a = 1\nnet.a = 2\n", vec!["net.a = 2 at 2"]),
        ("net.a = 1\nnet.b = 1\nnet.a = 1\n", vec!["net.a = 1 at 1", "net.b = 1 at 2"]),
        ("net.a = 1\nnet.b = 1\nnet.a = 2\n", vec!["net.b = 1 at 2", "net.a = 2 at 3"]),
        ("net.a = 1\nnet.a = 2\nnet.a = 1\n", vec!["net.a = 1 at 3"]),
        ("net.a = 1\nnet/a = 1\n", vec!["net.a = 1 at 1"]),
        ("net.a = 1\nnet.b = 1\n-net.a\n", vec!["net.b = 1 at 2", "net.a excluded at 3"]),
        ("-net.a\n-net.a\n", vec!["net.a excluded at 1"]),
        ("-net.a\nnet.a = 1\n", vec!["net.a = 1 at 2"]),
    ] {
        let tree = Tree::new(&[("etc/fwdguard.d/x.conf", text)]);
        let lines: Vec<String> = lines.iter().map(|l| l.replace("at ", "at etc/fwdguard.d/x.conf:")).collect();
        assert_eq!(tree.lines(), lines, "{text}");
    }
    let tree = Tree::new(&[
        ("usr/lib/fwdguard.d/10-a.conf", "net.a = 1\n"),
        ("etc/fwdguard.d/20-b.conf", "-net.a\nnet.a = 2\n"),
    ]);
    let policy = tree.load();
    let overrides = policy.entries()[0].overrides.iter();
    let overrides: Vec<_> = overrides.map(|(value, source)| (value.as_deref(), source.to_string())).collect();
    assert_eq!(overrides, [(Some("1"), "10-a.conf:1".into()), (None, "20-b.conf:1".into())]);
}

#[test]
fn patterns_and_what_is_written_out() {
    let rp = |name: &str, value: u8| vec![format!("net.ipv4.conf.{name}.rp_filter = {value}")];
    let none = Vec::<String>::new;
    for (text, interface, wanted) in [
        ("net.ipv4.conf.*.rp_filter = 2\n", "all", rp("all", 2)),
        ("net.ipv4.conf.*.rp_filter = 2\n", "default", rp("default", 2)),
        ("net.ipv4.conf.*.rp_filter = 2\n", "e0", rp("e0", 2)),
        ("net.ipv4.conf.e*.rp_filter = 2\n", "all", none()),
        // There is no `all` below neigh.
        ("net.ipv4.neigh.*.gc_stale_time = 9\n", "all", none()),
        ("net.ipv4.neigh.*.gc_stale_time = 9\nnet.ipv4.conf.*.rp_filter = 2\n", "all", rp("all", 2)),
        ("net.ipv6.neigh.a*.gc_stale_time = 9\n", "all", none()),
        (
            "net.ipv4.neigh.*.gc_stale_time = 9\n",
            "default",
            vec!["net.ipv4.neigh.default.gc_stale_time = 9".to_string()],
        ),
        // The last of two patterns.
        ("net.ipv4.conf.e*.rp_filter = 2\nnet.ipv4.conf.*.rp_filter = 1\n", "e0", rp("e0", 1)),
        ("net.ipv4.conf.*.rp_filter = 1\nnet.ipv4.conf.e*.rp_filter = 2\n", "e0", rp("e0", 2)),
        // A line for the key overrides patterns, whatever the order.
        ("net.ipv4.conf.e0.rp_filter = 0\nnet.ipv4.conf.*.rp_filter = 1\n", "e0", rp("e0", 0)),
        ("net.ipv4.conf.*.rp_filter = 1\nnet.ipv4.conf.e0.rp_filter = 0\n", "e0", rp("e0", 0)),
        // So does an exclusion, which revokes an earlier line and is revoked by a later one.
        ("-net.ipv4.conf.e0.rp_filter\nnet.ipv4.conf.*.rp_filter = 1\n", "e0", none()),
        ("net.ipv4.conf.*.rp_filter = 1\n-net.ipv4.conf.e0.rp_filter\n", "e0", none()),
        ("net.ipv4.conf.e0.rp_filter = 1\n-net.ipv4.conf.e0.rp_filter\n", "e0", none()),
        ("-net.ipv4.conf.e0.rp_filter\nnet.ipv4.conf.e0.rp_filter = 1\n", "e0", rp("e0", 1)),
        // An excluded pattern is revoked, and excludes nothing else.
        ("net.ipv4.conf.e*.rp_filter = 1\n-net.ipv4.conf.e*.rp_filter\n", "e0", none()),
        ("net.ipv4.conf.*.rp_filter = 1\n-net.ipv4.conf.e*.rp_filter\n", "e0", rp("e0", 1)),
        // Braces alone are no pattern.
        ("net.ipv4.conf.{e0,e1}.rp_filter = 1\n", "e0", none()),
        ("net.ipv4.conf.{e0,e1}*.rp_filter = 1\n", "e1", rp("e1", 1)),
        // The first separator decides.
        ("net.ipv4.conf.e0/100.rp_filter = 1\n", "e0.100", rp("e0/100", 1)),
        ("net/ipv4/conf/e0.100/rp_filter = 1\n", "e0.100", rp("e0/100", 1)),
        ("net.ipv4.conf.e0.100.rp_filter = 1\n", "e0.100", rp("e0/100", 1)),
        ("net/ipv4/conf/e0.*/rp_filter = 1\n", "e0.100", rp("e0/100", 1)),
        ("net.ipv4.conf.e0/*.rp_filter = 1\n-net/ipv4/conf/e0.100/rp_filter\n", "e0.100", none()),
    ] {
        assert_eq!(wants_of(text, interface), wanted, "{interface} in\n{text}");
    }
}

#[test]
fn a_minus_sign_with_a_value_ignores_failure() {
    for (text, ignore) in [
        ("net.a = 1\n", false),
        ("-net.a = 1\n", true),
        ("- net.a = 1\n", true),
        ("net.a = 1\n-net.a = 1\n", true),
        ("-net.a = 1\nnet.a = 1\n", true),
        ("-net.a = 1\nnet.a = 2\n", false),
    ] {
        let policy = Tree::new(&[("etc/fwdguard.d/x.conf", text)]).load();
        let entries: Vec<_> = policy.entries().iter().map(|e| (e.value.is_some(), e.ignore_failure)).collect();
        assert_eq!(entries, [(true, ignore)], "{text}");
    }
}

#[test]
fn ip_forward_and_all_forwarding_are_one_setting() {
    let none = Vec::<&str>::new;
    for (text, all) in [
        ("net.ipv4.ip_forward = 1\n", vec!["net.ipv4.ip_forward = 1"]),
        ("net.ipv4.conf.all.forwarding = 1\n", vec!["net.ipv4.conf.all.forwarding = 1"]),
        // Naming either excludes both from patterns.
        ("net.ipv4.ip_forward = 1\nnet.ipv4.conf.*.forwarding = 2\n", vec!["net.ipv4.ip_forward = 1"]),
        (
            "net.ipv4.conf.all.forwarding = 1\nnet.ipv4.conf.*.forwarding = 2\n",
            vec!["net.ipv4.conf.all.forwarding = 1"],
        ),
        ("-net.ipv4.ip_forward\nnet.ipv4.conf.*.forwarding = 1\n", none()),
        ("-net.ipv4.conf.all.forwarding\nnet.ipv4.conf.*.forwarding = 1\n", none()),
        // The last of the two names wins, as of two lines for one key.
        ("net.ipv4.ip_forward = 0\nnet.ipv4.conf.all.forwarding = 1\n", vec!["net.ipv4.conf.all.forwarding = 1"]),
        ("net.ipv4.conf.all.forwarding = 0\nnet.ipv4.ip_forward = 1\n", vec!["net.ipv4.ip_forward = 1"]),
        ("net.ipv4.ip_forward = 1\n-net.ipv4.conf.all.forwarding\n", none()),
        ("-net.ipv4.conf.all.forwarding\nnet.ipv4.ip_forward = 1\n", vec!["net.ipv4.ip_forward = 1"]),
        ("net.ipv4.conf.*.forwarding = 1\n", vec!["net.ipv4.conf.all.forwarding = 1"]),
    ] {
        assert_eq!(wants_of(text, "all"), all, "{text}");
        let tree = Tree::new(&[("etc/fwdguard.d/x.conf", text)]);
        assert!(tree.errors().is_empty(), "{text}");
        let key = Key::parse("net.ipv4.ip_forward").unwrap().canonical();
        assert_eq!(tree.load().excludes(&key), all.is_empty(), "{text}");
    }
}

#[test]
fn an_explicit_off_is_off() {
    for (text, dropped, because) in [
        (
            "net.ipv4.ip_forward = 0\nnet.ipv4.conf.*.forwarding = 1\n",
            "net.ipv4.conf.*.forwarding = 1",
            "net.ipv4.ip_forward = 0",
        ),
        (
            "net.ipv4.conf.*.forwarding = 1\nnet.ipv4.ip_forward = 0\n",
            "net.ipv4.conf.*.forwarding = 1",
            "net.ipv4.ip_forward = 0",
        ),
        (
            "net.ipv4.conf.all.forwarding = 00\nnet.ipv4.conf.?*.forwarding = 1\n",
            "net.ipv4.conf.?*.forwarding = 1",
            "net.ipv4.conf.all.forwarding = 0",
        ),
        (
            "net.ipv6.conf.all.forwarding = 0\nnet.ipv6.conf.*.forwarding = 1\n",
            "net.ipv6.conf.*.forwarding = 1",
            "net.ipv6.conf.all.forwarding = 0",
        ),
    ] {
        let tree = Tree::new(&[("etc/fwdguard.d/x.conf", text)]);
        assert_eq!(wants(&tree.load(), "e0"), Vec::<String>::new(), "{text}");
        let (off, on) = if text.starts_with(because) || text.contains("= 00") { (1, 2) } else { (2, 1) };
        let file = "etc/fwdguard.d/x.conf";
        let error = format!("{file}:{on}: '{dropped}' contradicts '{because}' at {file}:{off}; remove one of the two");
        assert_eq!(tree.errors(), [error], "{text}");
        assert_eq!(wants(&tree.load(), "all").len(), 1, "{text}");
    }
    // Nothing is dropped: another family, another setting, patterns that say off, one interface written out, no explicit off.
    for text in [
        "net.ipv4.ip_forward = 0\nnet.ipv6.conf.*.forwarding = 1\n",
        "net.ipv4.ip_forward = 0\nnet.ipv4.conf.*.rp_filter = 1\n",
        "net.ipv4.ip_forward = 0\nnet.ipv4.conf.*.forwarding = 0\n",
        "net.ipv4.ip_forward = 0\nnet.ipv4.conf.e0.forwarding = 1\n",
        "-net.ipv4.ip_forward\nnet.ipv4.conf.*.forwarding = 1\n",
        "net.ipv4.ip_forward = 0\nnet.ipv4.ip_forward = 1\nnet.ipv4.conf.*.forwarding = 1\n",
        "net.ipv4.ip_forward = 0\nnet.ipv4.conf.e*.forwarding = 1\n",
    ] {
        let tree = Tree::new(&[("etc/fwdguard.d/x.conf", text)]);
        assert_eq!(tree.errors(), Vec::<String>::new(), "{text}");
        assert_eq!(wants(&tree.load(), "e0").len(), 1, "{text}");
    }
}

#[test]
fn an_administrators_off_beats_the_vendors_patterns() {
    let tree = Tree::new(&[(VENDOR, VENDOR_TEXT), ("etc/fwdguard.d/60-site.conf", "net.ipv4.ip_forward = 0\n")]);
    let policy = tree.load();
    assert_eq!(wants(&policy, "e0"), Vec::<String>::new());
    assert_eq!(wants(&policy, "all"), ["net.ipv4.conf.all.rp_filter = 0", "net.ipv4.ip_forward = 0"]);
    assert_eq!(tree.errors().len(), 1);
    assert!(tree.errors()[0].starts_with(VENDOR), "{:?}", tree.errors());
    assert!(tree.errors()[0].contains("etc/fwdguard.d/60-site.conf:1"), "{:?}", tree.errors());
}

#[test]
fn the_built_in_policy_is_used_only_without_any_file() {
    let nothing = Tree::new(&[]);
    assert!(nothing.lines()[0].starts_with(BUILT_IN_FIRST));
    assert!(nothing.errors().is_empty());
    assert_eq!(wants(&nothing.load(), "e0"), ["net.ipv4.conf.e0.forwarding = 1"]);
    assert_eq!(wants(&nothing.load(), "tunl0").len(), 2);

    let no_entries =
        Tree::new(&[("etc/fwdguard.d/readme.txt", "net.a = 1\n"), ("run/fwdguard.d/.x.conf", "net.a = 1\n")]);
    no_entries.folder("usr/lib/fwdguard.d");
    assert!(no_entries.lines()[0].starts_with(BUILT_IN_FIRST));

    for folder in ["etc", "run", "usr/local/lib", "usr/lib"] {
        let at = format!("{folder}/fwdguard.d/x.conf");
        type Make = fn(&Tree, &str);
        let kinds: [(&str, Make); 6] = [
            ("empty", |t, at| t.write(at, b"")),
            ("comments", |t, at| t.write(at, b"# nothing\n")),
            ("broken", |t, at| t.write(at, b"\xff\n")),
            ("mask", |t, at| t.link(at, "/dev/null")),
            ("dangling", |t, at| t.link(at, "/nowhere")),
            ("folder", |t, at| t.folder(at)),
        ];
        for (what, make) in kinds {
            let tree = Tree::new(&[]);
            make(&tree, &at);
            assert_eq!(tree.lines(), Vec::<String>::new(), "{what} at {at}");
            let unreadable = !matches!(what, "empty" | "comments" | "mask");
            assert_eq!(tree.load().is_unreadable(), unreadable, "{what} at {at}");
        }
    }
    // What a folder would contain is unknown if a file is in its place.
    let tree = Tree::new(&[("etc/fwdguard.d", "")]);
    assert!(tree.load().is_unreadable());
}

#[test]
fn a_policy_linked_from_elsewhere() {
    let tree = Tree::new(&[("etc/sysctl.d/k8s-forward.conf", "net.ipv4.ip_forward = 1\nkernel.panic = 10\n")]);
    tree.folder("etc/fwdguard.d");
    tree.link("etc/fwdguard.d/k8s-forward.conf", "../sysctl.d/k8s-forward.conf");
    assert_eq!(tree.lines(), ["net.ipv4.ip_forward = 1 at etc/fwdguard.d/k8s-forward.conf:1"]);
}
