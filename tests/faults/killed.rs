//! SIGKILL at any point: the next start restores all settings before it is READY, and nothing is left behind.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{POLICY, assert_all_holds, attempt, break_all, broken, injecting};
use crate::bus::Bus;
use crate::common::{JOURNAL_SOCKET, NOTIFY_SOCKET, Namespace, sysctl_write, wait_sysctl};

/// Any call of any thread, by its number; then those that a start and its repairs are made of.
const ANY: [u32; 9] = [3, 15, 30, 45, 60, 80, 100, 125, 150];
const CALLS: [&str; 11] = [
    "fanotify_init",
    "fanotify_mark",
    "inotify_add_watch",
    "capset",
    "clone3",
    "bind",
    "setsockopt",
    "recvfrom",
    "openat",
    "pread64",
    "pwrite64",
];

fn files(folder: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        if entry.file_type().expect("a type").is_dir() {
            files(&entry.path(), found);
        }
        found.insert(entry.path());
    }
}

/// All files that exist, and the test's own `more`.
fn all_files(ns: &Namespace, more: &[&str]) -> BTreeSet<PathBuf> {
    let mut found: BTreeSet<_> = more.iter().map(PathBuf::from).collect();
    files(Path::new("/run"), &mut found);
    files(ns.root(), &mut found);
    found
}

#[test]
fn while_it_starts() {
    let ns = broken();
    let before = all_files(&ns, &[super::NOTIFY]);
    let any = ANY.map(|number| ("all", number));
    let by_name = CALLS.map(|call| (call, 1));
    let mut killed = 0;
    for (calls, number) in any.into_iter().chain(by_name).chain([("pwrite64", 3), ("pread64", 4)]) {
        break_all();
        let first = attempt(&ns, |command| injecting(command, calls, &format!("signal=SIGKILL:when={number}")));
        killed += u32::from(first.ended.is_some_and(|status| status.signal() == Some(libc::SIGKILL)));
        drop(first);
        let next = attempt(&ns, |command| command);
        assert!(next.ended.is_none(), "after {calls} {number}: {}", next.reason());
        assert_all_holds(&format!("when READY after a death at {calls} {number}"));
        drop(next);
        assert_eq!(all_files(&ns, &[]), before, "after {calls} {number}");
    }
    assert!(killed >= 20, "killed {killed} times only");
}

#[test]
fn while_it_repairs_and_holds_an_inhibitor() {
    let ns = Namespace::enter();
    ns.veth("a0", "b0");
    ns.write("etc/fwdguard.d/10.conf", POLICY);
    let bus = Bus::start(&ns);
    let logind = bus.logind(false);
    let before = all_files(&ns, &["/run/systemd", "/run/systemd/journal", JOURNAL_SOCKET, NOTIFY_SOCKET]);
    for round in 0..8 {
        let guard = bus.guard(&ns);
        assert_all_holds("when READY");
        logind.wait_inhibitors(round + 1, 1);
        for _ in 0..=round {
            sysctl_write("net/ipv4/ip_forward", "0");
            sysctl_write("net/ipv4/conf/a0/rp_filter", "1");
        }
        std::thread::sleep(Duration::from_micros(30 * round as u64));
        guard.signal("KILL");
        drop(guard);
        break_all();
        logind.wait_inhibitors(round + 1, 0);
        assert_eq!(all_files(&ns, &[]), before);
    }
    let _guard = bus.guard(&ns);
    wait_sysctl("net/core/somaxconn", "4000");
}
