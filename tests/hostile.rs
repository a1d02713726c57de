//! Hostile names, values and texts, chosen to forge a record, a line or a terminal's escape sequence.

mod bus;
mod common;

use bus::*;
use common::*;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// All fields that a repair's record may have (systemd.journal-fields(7), fwdguard(8)).
const FIELDS: [&str; 24] = [
    "MESSAGE",
    "MESSAGE_ID",
    "PRIORITY",
    "SYSLOG_IDENTIFIER",
    "TARGET",
    "CODE_FILE",
    "CODE_LINE",
    "SYSCTL",
    "OLDVALUE",
    "NEWVALUE",
    "OURVALUE",
    "CAUSE",
    "LATENCY_USEC",
    "INTERFACES",
    "POLICY_FILE",
    "POLICY_LINE",
    "WRITER_PID",
    "WRITER_COMM",
    "WRITER_CMDLINE",
    "WRITER_EXE",
    "WRITER_UNIT",
    "WRITER_POD_UID",
    "WRITER_CONTAINER_ID",
    "WRITER_UNKNOWN",
];
/// Escapes, ends of lines, DEL, C1 controls (as characters and as bytes), a right-to-left override.
const HOSTILE: &[u8] = b"\x1b[2J\x1b]0;t\x07\nMESSAGE=forged\nPRIORITY=0\r\x7f\xc2\x9b31m\xff\x9b\xe2\x80\xae\"'";

fn obeyed(c: char) -> bool {
    c.is_control() || c == '\u{202e}'
}

fn assert_well_formed(record: &Record) {
    for (name, value) in record {
        assert!(FIELDS.contains(&name.as_str()), "{name} in {record:#?}");
        assert!(value.is_ascii() && !value.contains(obeyed), "{name} is {value:?}");
    }
    assert!(["3", "4", "6"].contains(&&*record["PRIORITY"]), "{record:#?}");
}

/// Each line of a notification to the service manager is one assignment of a known name.
fn assert_notified(guard: &mut Running) {
    for state in guard.notifications() {
        for line in state.lines() {
            let name = line.split_once('=').map(|(name, _)| name);
            assert!(
                matches!(name, Some("STATUS" | "READY" | "WATCHDOG" | "RELOADING" | "MONOTONIC_USEC")),
                "{state:?}"
            );
        }
        assert!(state.is_ascii() && !state.contains(|c| obeyed(c) && c != '\n'), "{state:?}");
    }
}

#[test]
fn a_hostile_writer_is_one_well_formed_record() {
    let ns = Namespace::enter();
    ns.write("etc/fwdguard.d/10.conf", "net.ipv4.ip_forward = 1\n");
    sysctl_write("net/ipv4/ip_forward", "1");
    let mut guard = ns.guard();
    let script = "echo 0 > /proc/sys/net/ipv4/ip_forward; sleep 100; :";
    // A name has 15 bytes.
    for (n, comm) in
        [&b"\x1b[31m\nMESSAGE="[..], b"\xff\xc2\x9b31m)\x7f S 1", b"x\n\nSTATUS=ok"].into_iter().enumerate()
    {
        let program = ns.root().join(OsStr::from_bytes(comm));
        std::os::unix::fs::symlink("/bin/bash", &program).expect("a link");
        let mut bash = Command::new(program);
        bash.arg0(OsStr::from_bytes(HOSTILE)).args(["-c", script, "bash"]).arg(OsStr::from_bytes(HOSTILE));
        let mut writer = bash.process_group(0).spawn().expect("bash runs");
        guard.wait_record("a repair", |_| guard.repairs().len() > n);
        let pid = writer.id();
        run(&format!("kill -9 -- -{pid}"));
        writer.wait().expect("wait");
        let record = guard.repairs().pop().expect("a repair");
        assert_well_formed(&record);
        if fwdguard::kernel::fanotify::open().is_ok() {
            assert_eq!(record.get("WRITER_PID"), Some(&pid.to_string()), "{record:#?}");
            let own = fwdguard::setting::printable(OsStr::from_bytes(&comm[..comm.len().min(15)]));
            assert_eq!(record["WRITER_COMM"], own);
            let escaped =
                "\\u{1b}[2J\\u{1b}]0;t\\u{7}\\nMESSAGE=forged\\nPRIORITY=0\\r\\u{7f}\\u{9b}31m\\xff\\x9b\\u{202e}";
            assert_eq!(record["WRITER_CMDLINE"].matches(escaped).count(), 2, "{}", record["WRITER_CMDLINE"]);
        }
    }
    guard.wait_notified("3 repairs since start");
    assert_notified(&mut guard);
    let (_, records) = guard.stop();
    assert_eq!(records.iter().filter(|record| record["MESSAGE_ID"] == REPAIRED).count(), 3);
    assert!(messages(&records).iter().all(|message| !message.contains(obeyed)), "{:?}", messages(&records));
}

#[test]
fn a_hostile_interface_is_one_well_formed_record_and_no_other_setting() {
    let ns = Namespace::enter();
    ns.write("etc/fwdguard.d/10.conf", "net/ipv4/conf/{*,.*}/forwarding = 1\nnet.ipv4.conf.*.rp_filter = 0\n");
    ns.write("etc/fwdguard.d/20.conf", "-net.ipv4.conf.all.forwarding\n-net.ipv4.conf.all.rp_filter\n");
    let mut guard = ns.guard();
    let before = all_settings();
    let names: [&[u8]; 12] = [
        b"e\x1b[2J\x07\"'",
        b"e\xc2\x9b31m",
        b"e\x7f\x01",
        b"e\xff\xfe",
        b"e\xe2\x80\xaex",
        b"\xc3\xa9\xe2\x80\xa6",
        b"MESSAGE=x",
        b"...",
        b"..a",
        b"a..b.",
        b"*",
        b"[a]{b,c}\\",
    ];
    for name in names {
        let name = OsStr::from_bytes(name);
        let mut add = Command::new("ip");
        add.args(["link", "add"]).arg(name).args(["type", "veth", "peer", "name", "peer0"]);
        assert!(add.status().expect("ip runs").success(), "{name:?}");
        let file = Path::new("/proc/sys/net/ipv4/conf").join(name).join("forwarding");
        let holds = || fs::read_to_string(&file).expect("a setting").trim() == "1";
        wait(&holds, name);
        // The repairs of a new interface are made and logged.
        let before = guard.repairs().len();
        fs::write(&file, "0").expect("a write");
        wait(&holds, name);
        let dots_changed = fwdguard::setting::printable(&swapped(name));
        let dots_changed = fwdguard::text::ascii(&dots_changed, 99);
        let key = format!("net.ipv4.conf.{dots_changed}.forwarding");
        guard.wait_record(&key, |_| guard.repairs().iter().skip(before).any(|r| r["SYSCTL"] == key));
        let logged: Vec<Record> = guard.repairs().into_iter().skip(before).filter(|r| r["SYSCTL"] == key).collect();
        assert_eq!(logged.len(), 1, "{logged:#?}");
        assert_well_formed(&logged[0]);
        for arguments in [["check", "--json"], ["apply", "--json"], ["policy", "--json"]] {
            assert_plain(&ns.fwdguard(&arguments), name);
            assert_plain(&ns.fwdguard(&arguments[..1]), name);
        }
        assert_plain_on_a_terminal(&ns, name);
        run("ip link del peer0");
    }
    assert_notified(&mut guard);
    // Nothing of all, default, lo or any other family changed. (conf.lo was the guard's before.)
    let after = all_settings();
    let changed: Vec<_> = before.iter().filter(|(path, value)| after.get(*path) != Some(*value)).collect();
    assert!(changed.is_empty(), "{changed:?}");
}

/// Dots and slashes change places in a key that begins with a dot.
fn swapped(name: &OsStr) -> std::ffi::OsString {
    let swap = |byte: &u8| if *byte == b'.' { b'/' } else { *byte };
    OsStr::from_bytes(&name.as_bytes().iter().map(swap).collect::<Vec<u8>>()).into()
}

fn wait(holds: &dyn Fn() -> bool, what: &OsStr) {
    let deadline = std::time::Instant::now() + TIMEOUT;
    while !holds() {
        assert!(std::time::Instant::now() < deadline, "{what:?} is not put right");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// No control in what is printed, and JSON is JSON.
fn assert_plain(output: &Output, what: &OsStr) {
    for bytes in [&output.stdout, &output.stderr] {
        let text = str::from_utf8(bytes).unwrap_or_else(|e| panic!("{what:?}: {e}"));
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{what:?}: {text:?}");
    }
    if output.stdout.starts_with(b"{") {
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap_or_else(|e| panic!("{what:?}: {e}"));
    }
}

/// A terminal receives colours, and no other control sequence.
fn assert_plain_on_a_terminal(ns: &Namespace, what: &OsStr) {
    for arguments in ["check", "apply", "policy", "check --json"] {
        let line = format!("{} {arguments} --root {}", env!("CARGO_BIN_EXE_fwdguard"), ns.root().display());
        let mut script = Command::new("script");
        script.args(["-qec", &line, "/dev/null"]).stdin(Stdio::null()).env_remove("NO_COLOR");
        let output = script.output().expect("script runs");
        let mut text = String::from_utf8(output.stdout).unwrap_or_else(|e| panic!("{what:?}: {e}"));
        assert!(text.len() > 10 && (arguments != "check" || text.contains("\x1b[3")), "a terminal: {text:?}");
        for own in ["\x1b[32m", "\x1b[31m", "\x1b[0m", "\r\n"] {
            text = text.replace(own, "");
        }
        assert!(!text.contains(obeyed), "{what:?}, {arguments}: {text:?}");
    }
}

#[test]
fn a_hostile_policy_and_sysctl_d_print_no_escape_and_no_second_line() {
    let ns = Namespace::enter();
    let file = |folder: &str| ns.path(folder).join(OsStr::from_bytes(&[HOSTILE, b".conf"].concat()));
    // A name of a file has all of it but the slash.
    let lines = [
        b"net.ipv4.ip_forward = 1\nnet.ipv4.conf.\xe2\x80\xae.rp_filter = 1\nnet.ipv4.tcp_fin_timeout = 1\xe2\x80\xae2\n".as_slice(),
        b"net.ipv4.conf.\"'\\.rp_filter = \"'\\\t7\n",
        b"net.\x1b[2J = 1\nnet.x = \x1b[2J\nnet.y\xc2\x9b = 1\nnet.z = \xc2\x9b\nnet.a\x7f = 1\nnet.c.\xe2\x80\xae = 1\n\xff\x9b = 1\n",
        b"net.\xe2\x80\xae..a = 1\nnet.ipv4.*.\xe2\x80\xae = 1\n",
    ];
    for (folder, text) in [("etc/fwdguard.d", lines.concat()), ("etc/sysctl.d", b"net.ipv4.ip_forward = 0\n".into())] {
        fs::create_dir_all(ns.path(folder)).expect("create folders");
        fs::write(file(folder), text).expect("write a file");
    }
    std::os::unix::fs::symlink("/nowhere", ns.path("etc/fwdguard.d/\x1b[2J\n99.conf")).expect("a link");
    let what = OsStr::new("the policy");
    for command in ["check", "apply", "policy"] {
        for arguments in [&[command][..], &[command, "--json"]] {
            let output = ns.fwdguard(arguments);
            assert_plain(&output, what);
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(errors.lines().all(|line| line.starts_with("fwdguard: ")), "{errors}");
            assert!(!errors.contains(|c| obeyed(c) && c != '\n'), "{errors:?}");
            let object = serde_json::from_slice::<serde_json::Value>(&output.stdout).ok();
            let logged = object
                .map_or(errors.lines().filter(|line| !line.contains("Failed to set ")).count(), |object| {
                    object["errors"].as_array().expect("a list").len()
                });
            assert_eq!(logged, 13, "{arguments:?}: {errors}");
        }
    }
    assert_plain_on_a_terminal(&ns, what);
    let output = ns.command().args(["check", "--root", "/\x1b[2J\n"]).output().expect("runs");
    assert_plain(&output, OsStr::new("--root"));
    assert_eq!(String::from_utf8_lossy(&output.stderr).lines().count(), 1);

    // The service, with a journal and without.
    let guard = ns.guard();
    guard.wait_message("but the policy requires 1");
    let (_, records) = guard.stop();
    assert_eq!(records.iter().filter(|record| record["MESSAGE"].starts_with("Policy error: ")).count(), 13);
    assert!(records.iter().flatten().all(|(_, value)| !value.contains(char::is_control)), "{records:#?}");
    assert!(messages(&records).iter().all(|message| !message.contains(obeyed)), "{records:#?}");
    fs::remove_file("/run/systemd/journal/socket").expect("remove");
    let guard = Running::start_with(&ns, None, |command| command);
    let lines = guard.stderr.clone();
    guard.stop();
    let lines = lines.lock().unwrap().clone();
    assert!(
        lines.len() >= 10 && lines.iter().all(|line| line.contains("Z ") && line.is_ascii() && !line.contains(obeyed)),
        "{lines:#?}"
    );
}

#[test]
fn a_hostile_logind_is_one_line() {
    let ns = Namespace::enter();
    let bus = Bus::start(&ns);
    let logind = bus.logind(false);
    logind.refuse(Some("no\nMESSAGE=forged\u{1b}[2J\u{9b}\u{202e}".into()));
    let mut guard = bus.guard(&ns);
    let record = guard.wait_message("Lost the sleep inhibitor: ");
    assert!(record["MESSAGE"].contains("no MESSAGE=forged\\u{1b}[2J\\u{9b}\\u{202e}"), "{record:#?}");
    assert!(!record["MESSAGE"].contains(obeyed), "{record:#?}");
    guard.wait_notified("the sleep inhibitor");
    assert_notified(&mut guard);
}

#[test]
fn no_key_leaves_proc_sys_net() {
    let ns = Namespace::enter();
    // If any of them were accepted, the guard would read it, and could write nothing there.
    ns.write(
        "etc/fwdguard.d/10.conf",
        "net/../kernel/ostype = x\nnet/ipv4/../../kernel/ostype = x\nnet/./../kernel/ostype = x\n/net/../kernel/ostype = x\n\
         //net/ipv4/ip_forward = 1\nnet.//.kernel.ostype = x\nnet.ipv4.//.//.kernel.ostype = x\nnet.../kernel.ostype = x\n\
         net/ipv4/conf/*/../../../../kernel/ostype = x\nnet/ipv4/conf/{a*,../../../../kernel}/ostype = x\n\
         net/ipv4/conf/{..,a*}/forwarding = 1\nnet/ipv4/conf/[.][.]/forwarding = 1\nnet/ipv4/conf/?*/forwarding = 1\n\
         ../kernel/ostype = x\nkernel/ostype = x\n/proc/sys/kernel/ostype = x\nnet\\..\\../kernel/ostype = x\n\
         net/ipv4/conf/lo/\\../tag = 0\nnet/ipv4/conf/all/forwarding = 1\nnet/ipv4/conf/eth0 = 1\nnet/ = 1\n",
    );
    let trace = ns.path("trace");
    for command in ["apply", "check"] {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-y", "-e", "trace=%file", "-o"]).arg(&trace).arg(env!("CARGO_BIN_EXE_fwdguard"));
        let output = strace.args([command, "--json", "--root"]).arg(ns.root()).output().expect("strace runs");
        let object: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert!(!object.to_string().contains("ostype\",\"wanted"), "{object}");
        let calls = fs::read_to_string(&trace).expect("a trace");
        let opened: Vec<&str> = calls.lines().filter(|call| call.contains("\"/proc/sys/")).collect();
        assert!(opened.iter().any(|call| call.contains("/net/ipv4/conf/all/forwarding\"")), "{calls}");
        for call in opened {
            let path = call.split('"').nth(1).expect("a path");
            assert!(path.starts_with("/proc/sys/net/") && !path.contains("/../") && !path.ends_with("/.."), "{call}");
        }
    }
}
