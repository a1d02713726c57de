//! Policy files that users other than root can write decide nothing.

mod common;

use common::*;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

/// A setting that tests may set to what they like.
const KEY: &str = "net/ipv4/tcp_fin_timeout";

fn line(value: u32) -> String {
    format!("net.ipv4.tcp_fin_timeout = {value}\n")
}

fn mode(ns: &Namespace, path: &str, mode: u32) {
    fs::set_permissions(ns.path(path), fs::Permissions::from_mode(mode)).expect("chmod");
}

/// Gives a file to another user. A user namespace of its own has no other; there, the machine's own root is one.
fn give_away(path: &Path) {
    if chown(path, Some(1000), None).is_err() {
        run(&format!("mount --bind /etc/passwd {}", path.display()));
    }
}

/// Good at 10 and 30, and at 20 what the test makes of it.
fn three_files() -> Namespace {
    let ns = Namespace::enter();
    ns.write("etc/fwdguard.d/10.conf", &line(1001));
    ns.write("etc/fwdguard.d/20.conf", &line(1002));
    ns.write("etc/fwdguard.d/30.conf", "net.ipv4.ip_forward = 1\n");
    ns.write("usr/lib/fwdguard.d/20.conf", &line(1003));
    ns
}

/// What `check` reports as wrong: file below the root, and message.
fn errors(ns: &Namespace) -> Vec<(String, String)> {
    let (object, status) = ns.json(&["check", "--json"]);
    let text =
        |value: &serde_json::Value| value.as_str().expect("text").replace(&format!("{}/", ns.root().display()), "");
    let errors = object["errors"].as_array().expect("a list");
    assert_eq!(status == 0, object["holds"] == true && errors.is_empty());
    errors.iter().map(|error| (text(&error["file"]), text(&error["message"]))).collect()
}

/// The value that the policy has for the key.
fn wanted(ns: &Namespace) -> Option<String> {
    let (object, _) = ns.json(&["policy", "--json"]);
    let lines = object["lines"].as_array().expect("a list").iter();
    lines
        .filter(|line| line["key"] == "net.ipv4.tcp_fin_timeout")
        .map(|l| l["value"].as_str().expect("text").into())
        .next()
}

#[test]
fn a_file_that_others_can_write_is_a_broken_file() {
    let ns = three_files();
    assert_eq!((errors(&ns), wanted(&ns).as_deref()), (vec![], Some("1002")));
    let refused = |message: &str| vec![("etc/fwdguard.d/20.conf".to_string(), format!("refused: {message}"))];
    for bits in [0o664, 0o646, 0o666] {
        mode(&ns, "etc/fwdguard.d/20.conf", bits);
        let why = format!(
            "users other than root can write etc/fwdguard.d/20.conf (mode {bits:04o}); run 'chmod go-w etc/fwdguard.d/20.conf'"
        );
        assert_eq!(errors(&ns), refused(&why));
        // The rest holds, and the name still hides the file in the later folder.
        assert_eq!(wanted(&ns).as_deref(), Some("1001"));
    }
    mode(&ns, "etc/fwdguard.d/20.conf", 0o600);
    assert_eq!(errors(&ns), []);
    give_away(&ns.path("etc/fwdguard.d/20.conf"));
    let [(file, message)] = &errors(&ns)[..] else { panic!("{:?}", errors(&ns)) };
    assert_eq!(file, "etc/fwdguard.d/20.conf");
    assert!(message.starts_with("refused: etc/fwdguard.d/20.conf belongs to UID "), "{message}");
    assert!(message.ends_with(", not to root; run 'chown root:root etc/fwdguard.d/20.conf'"), "{message}");
    assert_eq!(wanted(&ns).as_deref(), Some("1001"));
    // Every subcommand reports it.
    for command in ["check", "policy", "apply"] {
        let output = ns.fwdguard(&[command]);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(stderr.lines().any(|line| line.contains("20.conf: refused: ")), "{command}: {stderr}");
        assert_ne!(output.status.code(), Some(0), "{command}");
    }
}

#[test]
fn a_path_through_a_directory_of_others_is_refused() {
    for (what, make) in [
        ("a link to a file of others", (|ns| give_away(&ns.path("srv/own/20.conf"))) as fn(&Namespace)),
        ("a link into a folder of others", |ns| mode(ns, "srv/own", 0o775)),
        ("a link into a folder for everybody", |ns| mode(ns, "srv/own", 0o1777)),
        ("a folder of others further up", |ns| mode(ns, "srv", 0o757)),
    ] {
        let ns = three_files();
        ns.write("srv/own/20.conf", &line(1004));
        fs::remove_file(ns.path("etc/fwdguard.d/20.conf")).expect("remove");
        symlink("/srv/own/20.conf", ns.path("etc/fwdguard.d/20.conf")).expect("a link");
        assert_eq!((errors(&ns), wanted(&ns).as_deref()), (vec![], Some("1004")), "{what}");
        make(&ns);
        let [(file, message)] = &errors(&ns)[..] else { panic!("{what}: {:?}", errors(&ns)) };
        assert_eq!(file, "etc/fwdguard.d/20.conf", "{what}");
        assert!(message.starts_with("refused: ") && message.contains("srv"), "{what}: {message}");
        assert!(message.ends_with("; put a copy in the place of the link"), "{what}: {message}");
        assert_eq!(wanted(&ns).as_deref(), Some("1001"), "{what}");
        // A link to a link that other users can replace, whatever it leads to.
        symlink("/dev/null", ns.path("srv/own/null")).expect("a link");
        symlink("/srv/own/null", ns.path("etc/fwdguard.d/40.conf")).expect("a link");
        assert_eq!(errors(&ns).len(), if message.contains("20.conf ") { 1 } else { 2 }, "{what}");
    }
}

#[test]
fn a_folder_that_others_can_write_is_an_unreadable_folder() {
    for folder in ["etc/fwdguard.d", "etc"] {
        let ns = three_files();
        mode(&ns, folder, 0o777);
        let why = format!(
            "the directory is refused: users other than root can write {folder} (mode 0777); run 'chmod go-w {folder}'"
        );
        assert_eq!(errors(&ns), [("etc/fwdguard.d".into(), why)]);
        // Nothing in it counts, be it to set or to hide something.
        assert_eq!(wanted(&ns).as_deref(), Some("1003"));
    }
    // Not the built-in policy either, if there is nothing else: there is an entry, and it is a broken one.
    let ns = Namespace::enter();
    ns.write("etc/fwdguard.d/10.conf", &line(1001));
    mode(&ns, "etc/fwdguard.d", 0o777);
    let output = ns.fwdguard(&["apply"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(sysctl_read("net/ipv4/ip_forward"), "0");
    // A link in the place of the folder.
    let ns = three_files();
    fs::rename(ns.path("etc/fwdguard.d"), ns.path("srv")).expect("rename");
    symlink("/srv", ns.path("etc/fwdguard.d")).expect("a link");
    assert_eq!((errors(&ns), wanted(&ns).as_deref()), (vec![], Some("1002")));
    mode(&ns, "srv", 0o775);
    assert_eq!(errors(&ns).len(), 1);
    assert_eq!(wanted(&ns).as_deref(), Some("1003"));
}

#[test]
fn files_outside_the_policy_are_not_checked() {
    let ns = three_files();
    // A mask, by link and by what container engines mount; sysctl.d; a folder that no file is in.
    fs::remove_file(ns.path("etc/fwdguard.d/20.conf")).expect("remove");
    symlink("/dev/null", ns.path("etc/fwdguard.d/20.conf")).expect("a link");
    run(&format!("mount --bind /dev/null {}", ns.path("etc/fwdguard.d/10.conf").display()));
    ns.write("etc/sysctl.d/10.conf", "net.ipv4.ip_forward = 0\n");
    mode(&ns, "etc/sysctl.d/10.conf", 0o666);
    mode(&ns, "etc/sysctl.d", 0o777);
    ns.write("usr/local/lib/x", "");
    mode(&ns, "usr/local/lib", 0o2775);
    assert_eq!((errors(&ns), wanted(&ns)), (vec![], None));
    let (object, _) = ns.json(&["check", "--json"]);
    assert_eq!(object["conflicts"][0]["says"], "0", "{object}");
}

#[test]
fn the_service_logs_it_and_recovers_once_it_is_fixed() {
    let ns = three_files();
    mode(&ns, "etc/fwdguard.d/20.conf", 0o666);
    let guard = ns.guard();
    assert_eq!(sysctl_read(KEY), "1001");
    let logged = guard.wait_message("20.conf: refused: users other than root can write ");
    assert_eq!((&*logged["PRIORITY"], &*logged["POLICY_LINE"]), ("4", "0"));
    mode(&ns, "etc/fwdguard.d/20.conf", 0o644);
    wait_sysctl(KEY, "1002");
    mode(&ns, "etc/fwdguard.d", 0o777);
    wait_sysctl(KEY, "1003");
    guard.wait_message("etc/fwdguard.d: the directory is refused: ");
    mode(&ns, "etc/fwdguard.d", 0o755);
    wait_sysctl(KEY, "1002");
    // Where nothing is left, the last valid policy remains in force.
    for file in ["etc/fwdguard.d/10.conf", "etc/fwdguard.d/30.conf"] {
        fs::remove_file(ns.path(file)).expect("remove");
    }
    guard.wait_message("Policy loaded: 1 line");
    mode(&ns, "etc/fwdguard.d/20.conf", 0o646);
    guard.wait_message("the last valid policy remains in force");
    sysctl_write(KEY, "17");
    wait_sysctl(KEY, "1002");
}

#[test]
fn nothing_is_refused_where_root_does_not_act() {
    let ns = three_files();
    for path in ["", "etc", "etc/fwdguard.d", "usr", "usr/lib", "usr/lib/fwdguard.d"] {
        mode(&ns, path, 0o777);
    }
    mode(&ns, "etc/fwdguard.d/20.conf", 0o666);
    assert_eq!(wanted(&ns), None);
    // A copy that every user may run, since this one may lie where other users have no access.
    let copy = ns.path("fwdguard");
    fs::copy(env!("CARGO_BIN_EXE_fwdguard"), &copy).expect("copy");
    let mut command = std::process::Command::new("setpriv");
    command.args(["--reuid", "1000", "--clear-groups"]).arg(&copy).args(["policy", "--json", "--root"]).arg(ns.root());
    let output = command.output().expect("setpriv runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    if output.stdout.is_empty() {
        // A user namespace of its own has no other user.
        assert!(
            stderr.contains("setpriv: ")
                && fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !map.contains("4294967295")),
            "{stderr}"
        );
        return;
    }
    let object: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        (object["errors"].as_array().map(Vec::len), object["lines"][0]["value"].as_str()),
        (Some(0), Some("1002"))
    );
}
