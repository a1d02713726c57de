//! The policy's merge against the real systemd-sysctl, on random trees of files.

mod common;

use common::*;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

const TREES: u64 = 150;
const FOLLOWING_TREES: u64 = 40;
/// Runs the one tree of this seed, which a failure has printed.
const SEED_VARIABLE: &str = "FWDGUARD_TEST_SEED";
const SYSTEMD_SYSCTL: [&str; 2] = ["/usr/lib/systemd/systemd-sysctl", "/lib/systemd/systemd-sysctl"];
const FOLDERS: [&str; 4] = ["etc", "run", "usr/local/lib", "usr/lib"];
/// Few names, so that files mask each other.
const FILES: [&str; 7] = ["10-a.conf", "20-b.conf", "50-c.conf", "9-d.conf", "A.conf", "60-e.txt", ".70-f.conf"];
const HERE: [(&str, &str); 3] = [("a0", "a1"), ("b0", "v.1"), ("vx1", "eth0.100")];
/// A value that no tree sets (the kernel takes any number here), so that every write shows, one of 0 too.
const START_VALUE: &str = "7";

/// The kinds of entry at a path of the tree.
#[derive(Clone, Debug)]
enum Node {
    File(String),
    Link(&'static str),
    Folder,
}

/// By folder (as in FOLDERS) and name.
type Tree = BTreeMap<(usize, &'static str), Node>;

#[test]
fn random_trees_merge_as_systemd_sysctl_merges_them() {
    let sysctl = systemd_sysctl();
    let ns = Namespace::enter();
    own_sysctl_folders();
    HERE.iter().for_each(|(one, other)| ns.veth(one, other));
    let seeds: Vec<u64> = match std::env::var(SEED_VARIABLE) {
        Ok(seed) => vec![seed.parse().expect("a number")],
        Err(_) => (0..TREES).collect(),
    };
    let (mut compared, mut changed) = (0, 0);
    for seed in seeds {
        let tree = random_tree(&mut Random(seed));
        for (folder, part) in FOLDERS.iter().flat_map(|f| [(ns.path(f).join("fwdguard.d"), f), (sysctl_d(f), f)]) {
            empty(&folder);
            lay(&tree, part, &folder);
        }
        // An empty tree would make the built-in policy hold, which sysctl.d does not have.
        ns.write("usr/lib/fwdguard.d/.keep", "");
        ns.write("etc/fwdguard.d/00-present.conf", "");

        start_over();
        let output = Command::new(sysctl).output().expect("systemd-sysctl runs");
        let expected = state();
        assert!(output.status.code().is_some(), "{SEED_VARIABLE}={seed}: systemd-sysctl was killed: {output:?}");
        start_over();
        let ours = ns.fwdguard(&["apply"]);
        let found = state();
        // Left out lines are 2; a write that failed, or a crash, is not what the values alone can show.
        assert!(matches!(ours.status.code(), Some(0 | 2)), "{SEED_VARIABLE}={seed}: {ours:?}\n{}", shown(&tree));
        compared += 1;
        changed += u32::from(expected.values().any(|value| value != START_VALUE));
        assert!(
            found == expected,
            "{SEED_VARIABLE}={seed}\n{}\nsystemd-sysctl: {expected:?}\n{}\nfwdguard:       {found:?}\n{}{}",
            shown(&tree),
            String::from_utf8_lossy(&output.stderr),
            String::from_utf8_lossy(&ours.stdout),
            String::from_utf8_lossy(&ours.stderr),
        );
    }
    // One seed alone may well be a tree that sets nothing.
    let enough = compared == 1 || changed * 2 > compared;
    assert!(enough, "systemd-sysctl set something in {changed} of {compared} trees: too little was compared");
}

/// In namespaces of their own, where no interface's value has been written yet. What files name must hold in the end, which
/// systemd-sysctl does not ensure: it skips a setting that is right already, and a later write of `default` may change that. All
/// other settings must be as systemd-sysctl leaves them.
#[test]
fn interfaces_that_follow_default_end_as_the_files_say() {
    let sysctl = systemd_sysctl();
    let mut followed = 0;
    for seed in TREES..TREES + FOLLOWING_TREES {
        let tree = random_tree(&mut Random(seed));
        let after = |nothing_follows: bool, apply: &dyn Fn(&Namespace) -> Output| {
            let ns = Namespace::enter();
            own_sysctl_folders();
            HERE.iter().for_each(|(one, other)| ns.veth(one, other));
            for (folder, part) in FOLDERS.iter().flat_map(|f| [(ns.path(f).join("fwdguard.d"), f), (sysctl_d(f), f)]) {
                empty(&folder);
                lay(&tree, part, &folder);
            }
            ns.write("etc/fwdguard.d/00-present.conf", "");
            nothing_follows.then(start_over);
            let output = apply(&ns);
            (state(), output)
        };
        let by_systemd = |_: &Namespace| Command::new(sysctl).output().expect("systemd-sysctl runs");
        let (named, _) = after(true, &by_systemd);
        let (mut expected, _) = after(false, &by_systemd);
        followed += u32::from(named["default"] != START_VALUE);
        expected.extend(named.into_iter().filter(|(_, value)| value != START_VALUE));
        let (found, output) = after(false, &|ns| ns.fwdguard(&["apply"]));
        assert!(matches!(output.status.code(), Some(0 | 2)), "{seed}: {output:?}\n{}", shown(&tree));
        assert_eq!(found, expected, "{seed}: {output:?}\n{}", shown(&tree));
    }
    assert!(followed * 4 > FOLLOWING_TREES as u32, "{followed} trees name default: too little was compared");
}

#[test]
fn the_first_deviation_an_explicit_off_is_off() {
    let sysctl = systemd_sysctl();
    let ns = Namespace::enter();
    own_sysctl_folders();
    ns.veth("a0", "a1");
    let (off, on) = ("net.ipv4.ip_forward = 0", "net.ipv4.conf.*.forwarding = 1");
    let keys = ["ip_forward", "conf/all/forwarding", "conf/a0/forwarding", "conf/a1/forwarding", "conf/lo/forwarding"];
    for (lines, off_at, on_at) in [([off, on], 1, 2), ([on, off], 2, 1)] {
        let text = lines.join("\n");
        ns.write("etc/fwdguard.d/x.conf", &text);
        sysctl_write("net/ipv4/ip_forward", "0");
        if off_at < on_at {
            // systemd-sysctl does not know that the two are one setting: the pattern opens what the first line closed.
            fs::write("/etc/sysctl.d/x.conf", &text).expect("write");
            assert!(Command::new(sysctl).status().expect("systemd-sysctl runs").success());
            assert_eq!(sysctl_read("net/ipv4/ip_forward"), "1");
        } else {
            sysctl_write("net/ipv4/ip_forward", "1");
        }
        let output = ns.fwdguard(&["apply"]);
        for key in keys {
            assert_eq!(sysctl_read(&format!("net/ipv4/{key}")), "0", "{key} by\n{text}");
        }
        assert_eq!(output.status.code(), Some(2), "a line is left out");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains(&format!("x.conf:{on_at}: '{on}' contradicts '{off}' at")), "{stderr}");
        assert!(stderr.contains(&format!("x.conf:{off_at};")), "{stderr}");
    }
}

/// All that a policy means otherwise than sysctl.d, beside an explicit off: where systemd-sysctl leaves the first value, and where
/// the policy. Its lines for `vm.` and the like are no error, and set nothing here.
#[test]
fn the_other_deviations() {
    let sysctl = systemd_sysctl();
    let ns = Namespace::enter();
    own_sysctl_folders();
    ns.veth("a0", "eth0.100");
    let (a0, vlan) = ("conf/a0/forwarding", "conf/eth0.100/rp_filter");
    for (text, key, theirs, ours) in [
        ("net.ipv4.conf.*.forwarding = 1\n-net.ipv4.conf.a*.forwarding\n", a0, "1", "0"),
        ("net.ipv4.conf.*.rp_filter = 1\n-net.ipv4.conf.e*.rp_filter\n", vlan, "1", "1"),
        ("net.ipv4.conf.eth0.100.rp_filter = 2\n", vlan, "0", "2"),
        ("net.ipv4.conf.eth0/100.rp_filter = 2\nnet.ipv4.conf.eth0/100.rp_filter = 2;\n", vlan, "0", "2"),
        ("\u{feff}net.ipv4.conf.eth0/100.rp_filter = 2\n", vlan, "0", "2"),
        ("net.ipv4.conf.eth0/100.rp_filter = 2 # loose\n", vlan, "2", "2"),
        (".net.ipv4.conf.eth0/100.rp_filter = 2\n", vlan, "2", "2"),
        (
            "net.ipv4.conf.all.forwarding = 0\nnet.ipv4.conf.a*.forwarding = 1\nnet.ipv4.conf.*.forwarding = 0\n",
            a0,
            "0",
            "1",
        ),
    ] {
        let found = ["systemd-sysctl", "fwdguard"].map(|who| {
            sysctl_write("net/ipv4/ip_forward", "0");
            [a0, vlan].iter().for_each(|key| sysctl_write(&format!("net/ipv4/{key}"), "0"));
            if who == "fwdguard" {
                ns.write("etc/fwdguard.d/x.conf", text);
                ns.fwdguard(&["apply"]);
            } else {
                fs::write("/etc/sysctl.d/x.conf", text).expect("write");
                Command::new(sysctl).output().expect("systemd-sysctl runs");
            }
            sysctl_read(&format!("net/ipv4/{key}"))
        });
        assert_eq!(found, [theirs, ours], "{text}");
    }
}

fn systemd_sysctl() -> &'static str {
    let found = SYSTEMD_SYSCTL.into_iter().find(|path| Path::new(path).exists());
    found.expect("systemd-sysctl is missing: install the package systemd, or run 'make test'")
}

fn sysctl_d(folder: &str) -> std::path::PathBuf {
    Path::new("/").join(folder).join("sysctl.d")
}

/// Empty sysctl.d folders over the host's, in this thread's mount namespace only.
fn own_sysctl_folders() {
    run("mount -t tmpfs tmpfs /usr/local/lib");
    for folder in FOLDERS.map(sysctl_d) {
        if folder.starts_with("/run") || folder.starts_with("/usr/local/lib") {
            fs::create_dir(&folder).expect("in a tmpfs of the test's own");
        } else {
            assert!(folder.is_dir(), "{} is missing: install the package systemd", folder.display());
            run(&format!("mount -t tmpfs tmpfs {}", folder.display()));
        }
    }
}

fn empty(folder: &Path) {
    fs::create_dir_all(folder).expect("create folders");
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if entry.file_type().expect("a type").is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) }
            .expect("remove");
    }
}

fn lay(tree: &Tree, part: &str, folder: &Path) {
    for ((_, name), node) in tree.iter().filter(|((index, _), _)| FOLDERS[*index] == part) {
        let path = folder.join(name);
        match node {
            Node::File(text) => fs::write(path, text),
            Node::Link(target) => symlink(target, path),
            Node::Folder => fs::create_dir(path),
        }
        .expect("lay out the tree");
    }
}

fn interfaces() -> impl Iterator<Item = &'static str> {
    ["all", "default", "lo"].into_iter().chain(HERE.iter().flat_map(|(one, other)| [*one, *other]))
}

/// Once an interface's value has been written, a write to `default` reaches it no more, so order plays no part.
fn start_over() {
    interfaces().for_each(|name| sysctl_write(&format!("net/ipv4/conf/{name}/rp_filter"), START_VALUE));
}

fn state() -> BTreeMap<&'static str, String> {
    interfaces().map(|name| (name, sysctl_read(&format!("net/ipv4/conf/{name}/rp_filter")))).collect()
}

fn shown(tree: &Tree) -> String {
    let mut text = String::new();
    for ((folder, name), node) in tree {
        writeln!(text, "--- {}/{name}: {node:?}", FOLDERS[*folder]).expect("a string");
    }
    text
}

/// SplitMix64: the same tree from the same seed, for ever.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

fn random_tree(random: &mut Random) -> Tree {
    // A disturbed seed: neighbours in the sequence would otherwise share most of their numbers.
    random.0 = random.0.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(1);
    let mut tree = Tree::new();
    for _ in 0..2 + random.below(7) {
        let place = (random.below(FOLDERS.len()), random.one(&FILES));
        let node = match random.below(14) {
            0 => Node::File(String::new()),
            1 => Node::Link("/dev/null"),
            2 => Node::Link("nowhere.conf"),
            3 => Node::Link("10-a.conf"),
            4 => Node::Folder,
            _ => {
                let end = random.one(&["\n", "\n", "\n", "\r\n", "\n\n"]);
                let lines: Vec<String> = (0..1 + random.below(8)).map(|_| random_line(random)).collect();
                Node::File(lines.join(end) + random.one(&["", end]))
            }
        };
        tree.insert(place, node);
    }
    tree
}

fn random_line(random: &mut Random) -> String {
    let space = |random: &mut Random| random.one(&["", "", " ", "  ", "\t", " \t "]);
    let key = random_key(random);
    let (before, after) = (space(random), space(random));
    let inner = [space(random), space(random), space(random)];
    match random.below(20) {
        0 => random.one(&["# net.ipv4.conf.all.rp_filter = 2", ";net.ipv4.conf.*.rp_filter=2", "", "   "]).into(),
        1 => format!("{before}{key}{after}"), // no value: a bad line for both
        2..=5 => format!("{before}-{}{key}{after}", inner[0]),
        6..=8 => format!("{before}-{}{key}{}={}{}{after}", inner[0], inner[1], inner[2], random.below(3)),
        _ => format!("{before}{key}{}={}{}{after}", inner[1], inner[2], random.below(3)),
    }
}

fn random_key(random: &mut Random) -> String {
    let names = [
        "all",
        "default",
        "lo",
        "a0",
        "a1",
        "b0",
        "v.1",
        "vx1",
        "eth0.100",
        "c9",
        "v.2",
        "*",
        "*",
        "a*",
        "?0",
        "v?1",
        "v.?",
        "[ab]0",
        "[!a]?",
        "[a-c]*",
        "{a0,b0}",
        "{a,b}*",
        "{a,{b,v.}}?",
        "{a0,v*}",
        "*.*",
        "*[01]",
        "{all,a}*",
        "eth0.*",
        "a{}?",
        "a{0*",
        "??",
        "[[:alpha:]]0",
        "c*",
    ];
    let path = format!("net/ipv4/conf/{}/rp_filter", random.one(&names));
    match random.below(3) {
        0 => path,
        1 => format!("/{path}"),
        _ => path
            .chars()
            .map(|c| match c {
                '/' => '.',
                '.' => '/',
                other => other,
            })
            .collect(),
    }
}
