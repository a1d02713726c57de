//! What the guard has and does not use: no socket that listens, no child, no call on the bus or of the kernel that is not on
//! the list in docs/system-calls.md, and none of those that the unit denies.

#[path = "bus/mod.rs"]
mod bus;
mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use bus::{Bus, Call, Logind};
use common::{Namespace, Running, TIMEOUT, left_out, reworded, run, sysctl_write, wait_sysctl};

const POLICY: &str = "net.ipv4.ip_forward = 1\nnet.ipv4.conf.*.rp_filter = 0\nnet.core.somaxconn = 4000\n";
const CALLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/system-calls.md");
/// What Linux has on x86_64 and left out of the calls for new processors (include/uapi/asm-generic/unistd.h), as far as a
/// program like this could make them.
const LEFT_OUT: &str = "access alarm arch_prctl chmod chown creat dup2 epoll_create epoll_wait eventfd fork futimesat getdents \
                        getpgrp inotify_init lchown link lstat mkdir mknod open pause pipe poll readlink rename rmdir select \
                        signalfd stat symlink time unlink utime utimes vfork";
const DROP_IN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/fwdguard.service.d/10-hardening.conf");

/// Makes the guard do everything that it can do.
fn live(ns: &Namespace, bus: &mut Bus, logind: Logind, guard: &mut Running) {
    let pid = guard.pid();
    logind.wait_inhibitors(1, 1);
    for (key, wrong, right) in [
        ("net/ipv4/ip_forward", "0", "1"),
        ("net/ipv4/conf/a0/rp_filter", "1", "0"),
        ("net/core/somaxconn", "1", "4000"),
    ] {
        for _ in 0..8 {
            sysctl_write(key, wrong);
            wait_sysctl(key, right);
        }
    }
    run("ip link add n0 type veth peer name n1");
    run("sysctl -qw net.ipv4.conf.n0.rp_filter=1");
    wait_sysctl("net/ipv4/conf/n0/rp_filter", "0");
    run("ip link delete n0");
    logind.sleep(true);
    logind.wait_inhibitors(1, 0);
    logind.sleep(false);
    logind.wait_inhibitors(2, 1);
    ns.write("etc/fwdguard.d/20.conf", "net.ipv4.conf.*.arp_ignore = 1\n");
    wait_sysctl("net/ipv4/conf/a0/arp_ignore", "1");
    guard.notifications();
    run(&format!("kill -HUP {pid}"));
    guard.wait_notified("READY=1");
    run(&format!("kill -USR1 {pid}"));
    drop(logind);
    guard.wait_message("Lost logind");
    bus.kill();
    guard.wait_message("Lost the system bus");
    bus.restart();
}

fn prepared() -> Namespace {
    let ns = Namespace::enter();
    ns.veth("a0", "b0");
    ns.write("etc/fwdguard.d/10.conf", POLICY);
    ns
}

#[test]
fn no_socket_listens_and_no_child_is_started() {
    let ns = prepared();
    let mut bus = Bus::start(&ns);
    let logind = bus.logind(false);
    let mut guard = bus.guard(&ns);
    live(&ns, &mut bus, logind, &mut guard);
    let pid = guard.pid();
    let process = format!("/proc/{pid}");
    let inodes: BTreeSet<String> = fs::read_dir(format!("{process}/fd"))
        .expect("descriptors")
        .filter_map(|fd| fs::read_link(fd.ok()?.path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_string()))
        .collect();
    assert!(inodes.len() >= 3, "netlink and the journal are sockets: {inodes:?}");
    for table in ["tcp", "tcp6", "udp", "udp6", "raw", "raw6", "packet"] {
        let Ok(table) = fs::read_to_string(format!("{process}/net/{table}")) else { continue };
        let own = table.lines().filter(|line| line.split_whitespace().any(|word| inodes.contains(word)));
        assert_eq!(own.count(), 0, "{table}");
    }
    // Num RefCount Protocol Flags Type St Inode Path; __SO_ACCEPTCON of include/linux/net.h.
    let unix = fs::read_to_string(format!("{process}/net/unix")).expect("unix sockets");
    for line in unix.lines().skip(1) {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert!(!(inodes.contains(words[6]) && words[3] == "00010000"), "it listens: {line}");
    }
    for thread in fs::read_dir(format!("{process}/task")).expect("threads").flatten() {
        assert_eq!(fs::read_to_string(thread.path().join("children")).expect("children"), "");
    }
}

#[test]
fn the_bus_gets_only_the_listed_calls() {
    let ns = prepared();
    let mut bus = Bus::start(&ns);
    let monitor = bus.monitor();
    let logind = bus.logind(false);
    let mut guard = bus.guard(&ns);
    let own = logind.wait_inhibitors(1, 1).remove(0).holder;
    logind.sleep(true);
    logind.wait_inhibitors(1, 0);
    logind.sleep(false);
    logind.wait_inhibitors(2, 1);
    guard.wait_message("Resumed");
    guard.notifications();
    let calls: BTreeSet<String> = monitor
        .calls()
        .into_iter()
        .filter(|call| call.sender == own)
        .map(|Call { interface, member, argument, .. }| match member.as_str() {
            "AddMatch" | "RemoveMatch" => format!("{member} {}", in_order(&argument)),
            _ => format!("{interface}.{member}"),
        })
        .collect();
    let listed = listed(&fs::read_to_string(CALLS).expect("the list"), "## On the system bus");
    assert_eq!(calls, listed, "on the bus, and in {CALLS}");
    bus.kill();
}

/// The parts of a match rule, which come in any order.
fn in_order(rule: &str) -> String {
    let mut parts: Vec<&str> = rule.split(',').collect();
    parts.sort_unstable();
    parts.join(",")
}

/// The first cells of a section's table.
fn listed(text: &str, section: &str) -> BTreeSet<String> {
    let (_, rest) = text.split_once(section).expect("the section");
    let rows = rest.split("\n## ").next().expect("a section").lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.trim_start_matches("| `").split('`').next().expect("a cell").to_string()).collect()
}

/// The last cell of each row of a section: since which Linux, and after a colon what is done without.
#[test]
fn what_came_after_linux_3_10_has_a_way_without() {
    let document = fs::read_to_string(CALLS).expect("the list");
    let mut later = 0;
    for section in ["## Of the kernel", "## Of a call", "## By the loader"] {
        let (_, rest) = document.split_once(section).expect("the section");
        let rows: Vec<&str> =
            rest.split("\n## ").next().expect("a section").lines().filter(|line| line.starts_with("| ")).collect();
        assert!(rows.len() > 1 && rows[0].ends_with("| since Linux |"), "{section}: {:?}", rows.first());
        for row in &rows[1..] {
            let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
            assert_eq!(cells.len(), 3, "{row}");
            let (since, without) = cells[2].split_once(": ").unwrap_or((cells[2], ""));
            let since: Vec<u32> = since.split('.').map(|part| part.parse().expect(row)).collect();
            assert!(since.len() >= 2 && cells.iter().all(|cell| !cell.is_empty()), "{row}");
            assert!(
                since[..] <= [3, 10][..] || !without.is_empty(),
                "the row does not say what happens without it: {row}"
            );
            later += u32::from(since[..] > [3, 10][..]);
        }
    }
    assert!(later > 10, "{later}");
}

#[test]
fn the_kernel_gets_only_the_listed_calls() {
    let ns = prepared();
    let mut bus = Bus::start(&ns);
    let logind = bus.logind(false);
    let trace = std::path::PathBuf::from("/run/trace"); // below the root, the policy watch would report it
    let mut guard = Running::start(&ns, |command| {
        command.env("DBUS_SYSTEM_BUS_ADDRESS", bus::ADDRESS).args(["--metrics", "/run/fwdguard.prom"]);
        reworded(command, |words| {
            let strace = ["strace", "-D", "-f", "-qq", "-s", "0", "-o"].map(Into::into);
            strace.into_iter().chain([trace.clone().into_os_string()]).chain(words).collect()
        })
    });
    live(&ns, &mut bus, logind, &mut guard);
    while !Path::new("/run/fwdguard.prom").exists() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let (status, _) = guard.stop();
    assert!(status.success(), "{status}");
    let seen = system_calls(&trace);
    assert!(!seen.contains("fork") && !seen.contains("vfork"), "{seen:?}");
    let document = fs::read_to_string(CALLS).expect("the list");
    let (mut used, mut begun) = (listed(&document, "## Of the kernel"), listed(&document, "## By the loader"));
    if cfg!(target_arch = "aarch64") {
        for (call, _) in on_aarch64(&document) {
            assert!(used.remove(&call) || begun.remove(&call), "not in {CALLS}: {call}");
        }
    }
    let unlisted: Vec<_> = seen.iter().filter(|call| !used.contains(*call) && !begun.contains(*call)).collect();
    assert!(unlisted.is_empty(), "not in {CALLS}: {unlisted:?}");
    // Only a few calls are made with one kernel or C library and not with another.
    let unseen = used.difference(&seen).count();
    assert!(unseen * 4 < used.len(), "listed, and not seen: {:?}", used.difference(&seen).collect::<Vec<_>>());
}

/// The calls of x86_64 that aarch64 lacks, and those that the program makes there instead.
fn on_aarch64(document: &str) -> Vec<(String, String)> {
    let (_, rest) = document.split_once("## By the processor").expect("the section");
    let rows = rest.lines().filter_map(|line| line.strip_prefix("| `")?.trim_end_matches(" |").split_once("` | "));
    rows.map(|(call, instead)| (call.to_string(), instead.trim_matches('`').to_string())).collect()
}

#[test]
fn each_call_of_one_processor_has_its_match_on_the_other() {
    let document = fs::read_to_string(CALLS).expect("the list");
    let listed: BTreeSet<String> =
        ["## Of the kernel", "## By the loader"].into_iter().flat_map(|section| listed(&document, section)).collect();
    let other = on_aarch64(&document);
    assert!(!other.is_empty());
    for (call, instead) in &other {
        assert!(listed.contains(call), "not in the lists: {call}");
        assert!(listed.contains(instead) || instead.starts_with("none: "), "not in the lists: {instead}");
    }
    let missing: BTreeSet<_> = other.into_iter().map(|(call, _)| call).collect();
    let legacy: BTreeSet<String> =
        listed.into_iter().filter(|call| LEFT_OUT.split_whitespace().any(|name| name == call)).collect();
    assert_eq!(missing, legacy, "what aarch64 has not, and the section of {CALLS}");
}

fn system_calls(trace: &Path) -> BTreeSet<String> {
    let deadline = Instant::now() + TIMEOUT;
    // strace writes for a moment longer.
    let text = loop {
        let text = fs::read_to_string(trace).expect("a trace");
        if text.contains("exit_group(") || Instant::now() > deadline {
            break text;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let call = |line: &str| {
        let rest = line.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start();
        let rest = rest.strip_prefix("<... ").unwrap_or(rest);
        let name: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        let after = &rest[name.len()..];
        (after.starts_with('(') || after.starts_with(" resumed")).then_some(name)
    };
    text.lines().filter_map(call).filter(|name| !name.is_empty()).map(canonical).collect()
}

/// strace's names for the kernel's.
fn canonical(name: String) -> String {
    match name.as_str() {
        "pread" => "pread64".into(),
        "pwrite" => "pwrite64".into(),
        _ => name,
    }
}

#[test]
fn the_unit_denies_nothing_that_is_listed() {
    let expand = |group: &str| {
        let output = Command::new("systemd-analyze").args(["syscall-filter", "--no-pager", group]).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    if expand("@clock").is_none() {
        return left_out::because("systemd-analyze can't list groups of system calls here");
    }
    let unit = fs::read_to_string(DROP_IN).expect("the drop-in");
    let line = unit.lines().find_map(|line| line.strip_prefix("SystemCallFilter=~")).expect("a deny list");
    let document = fs::read_to_string(CALLS).expect("the list");
    let used = listed(&document, "## Of the kernel");
    let allowed: Vec<&str> = unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")).collect();
    let allowed = allowed.iter().flat_map(|line| line.split(' ')).filter(|word| !word.starts_with(['~', '@']));
    let allowed: BTreeSet<String> = allowed.map(String::from).collect();
    let (mut groups, mut denied) = (line.split(' ').map(String::from).collect::<Vec<_>>(), BTreeSet::new());
    while let Some(group) = groups.pop() {
        let text = expand(&group).unwrap_or_else(|| panic!("no group {group}"));
        for word in text.lines().skip(1).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if word.starts_with('@') {
                groups.push(word.into());
            } else {
                denied.insert(word.to_string());
            }
        }
    }
    assert!(denied.len() > 50, "{denied:?}");
    let wrong: Vec<_> = used.intersection(&denied).filter(|call| !allowed.contains(*call)).collect();
    assert!(wrong.is_empty(), "denied by {DROP_IN}: {wrong:?}");
    let needless: Vec<_> = allowed.iter().filter(|call| !used.contains(*call) || !denied.contains(*call)).collect();
    assert!(!allowed.is_empty() && needless.is_empty(), "let through, and not used or not denied: {needless:?}");
}
