//! Identification of writers: real writers of several kinds, watched by the real fanotify.

mod common;

use common::*;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const KEY: &str = "net/ipv4/ip_forward";

/// In a user namespace there is no fanotify with PIDs; then everything but the writers' names must work.
fn has_fanotify() -> bool {
    fwdguard::kernel::fanotify::open().is_ok()
}

/// A shell that runs `script` and then stays, so that it can be examined.
struct Stays(Child);

impl Stays {
    fn run(script: &str) -> Stays {
        let script = format!("{script}; sleep 100; :");
        Stays(Command::new("sh").args(["-c", &script]).process_group(0).spawn().expect("sh runs"))
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Stays {
    fn drop(&mut self) {
        // The shell and its children.
        run(&format!("kill -9 -- -{}", self.0.id()));
        let _ = self.0.wait();
    }
}

/// The record of the repair of `key` with this number, counted from 0.
fn repair_of(guard: &Running, key: &str, nth: usize) -> Record {
    let dotted = key.replace('/', ".");
    let of_key = |record: &Record| record["SYSCTL"] == dotted && record["CAUSE"] == "write";
    guard.wait_record(key, |_| guard.repairs().iter().filter(|r| of_key(r)).count() > nth);
    guard.repairs().into_iter().filter(of_key).nth(nth).expect("it is there")
}

fn assert_unknown(record: &Record, why: &str) {
    let why = if has_fanotify() { why } else { "without fanotify" };
    assert!(record["WRITER_UNKNOWN"].contains(why), "{record:#?}");
    assert!(!record.contains_key("WRITER_PID") && record["MESSAGE"].contains("; writer unknown: "), "{record:#?}");
}

/// A shell that still runs is named with its PID, command line and parent.
fn assert_shell(record: &Record, shell: &Stays, script: &str) {
    if !has_fanotify() {
        return assert_unknown(record, "");
    }
    assert!(!record.contains_key("WRITER_UNKNOWN"), "{record:#?}");
    assert_eq!((&record["WRITER_PID"], &*record["WRITER_COMM"]), (&shell.pid(), "sh"), "{record:#?}");
    assert!(record["WRITER_CMDLINE"].contains(script), "{record:#?}");
    let comm = fs::read_to_string("/proc/self/comm").expect("a comm");
    let parent = format!("started by {}[{}]", comm.trim(), std::process::id());
    let named = format!("written by sh[{}] (sh -c {script}", shell.pid());
    assert!(record["MESSAGE"].contains(&named) && record["MESSAGE"].contains(&parent), "{}", record["MESSAGE"]);
}

#[test]
fn a_shell_is_named_on_every_kind_of_setting() {
    let ns = Namespace::enter();
    ns.write(
        "etc/fwdguard.d/10.conf",
        "net.ipv4.ip_forward = 1\nnet.ipv4.conf.*.forwarding = 1\nnet.ipv4.conf.a0.rp_filter = 0\n\
         net.ipv6.conf.all.forwarding = 1\nnet.ipv4.conf.new0.rp_filter = 0\n",
    );
    ns.veth("a0", "b0");
    let guard = ns.guard();
    for key in [KEY, "net/ipv4/conf/b0/forwarding", "net/ipv4/conf/a0/rp_filter", "net/ipv6/conf/all/forwarding"] {
        let script = format!("echo $((1 - $(cat /proc/sys/{key}))) > /proc/sys/{key}");
        let shell = Stays::run(&script);
        assert_shell(&repair_of(&guard, key, 0), &shell, &script);
    }
    // The other name of the same setting.
    let script = "echo 0 > /proc/sys/net/ipv4/conf/all/forwarding";
    let shell = Stays::run(script);
    assert_shell(&repair_of(&guard, KEY, 1), &shell, script);

    // Marks follow interfaces. The engine publishes a name at the latest with its next repair.
    run("ip link set a0 down"); // Before Linux 6.2, one that is up keeps its name.
    run("ip link set a0 name renamed0");
    run("ip link add new0 type veth peer name new1");
    sysctl_write(KEY, "0");
    repair_of(&guard, KEY, 2);
    std::thread::sleep(Duration::from_millis(50));
    for key in ["net/ipv4/conf/renamed0/forwarding", "net/ipv4/conf/new0/rp_filter", "net/ipv4/conf/new1/forwarding"] {
        let script = format!("echo $((1 - $(cat /proc/sys/{key}))) > /proc/sys/{key}");
        let shell = Stays::run(&script);
        assert_shell(&repair_of(&guard, key, 0), &shell, &script);
    }
}

#[test]
fn every_sysctl_run_has_its_own_pid() {
    let ns = Namespace::enter();
    ns.veth("a0", "b0");
    let guard = ns.guard();
    let (mut pids, runs) = (Vec::new(), 30);
    for nth in 0..runs {
        let mut sysctl = Command::new("sysctl");
        let mut sysctl =
            sysctl.args(["-w", "net.ipv4.ip_forward=0"]).stdout(Stdio::null()).spawn().expect("sysctl runs");
        pids.push(sysctl.id().to_string());
        sysctl.wait().expect("it ends");
        repair_of(&guard, KEY, nth);
    }
    let records: Vec<Record> = guard.repairs().into_iter().filter(|r| r["CAUSE"] == "write").collect();
    if !has_fanotify() {
        return records.iter().for_each(|record| assert_unknown(record, ""));
    }
    let named: Vec<String> = records.iter().map(|record| record["WRITER_PID"].clone()).collect();
    assert_eq!(named, pids);
    // On a busy machine many of them exit before they can be examined.
    let whole = "(sysctl -w net.ipv4.ip_forward=0), started by ";
    assert!(records.iter().any(|record| record["MESSAGE"].contains(whole)), "{:#?}", messages(&records));
    assert!(records.iter().all(|r| r.get("WRITER_COMM").is_none_or(|comm| comm == "sysctl")), "{records:#?}");
}

#[test]
fn a_write_through_another_procfs_has_no_writer() {
    let ns = Namespace::enter();
    let guard = ns.guard();
    // A process wrote it a moment ago, and is known by now.
    let shell = Stays::run("echo 0 > /proc/sys/net/ipv4/ip_forward");
    assert_shell(&repair_of(&guard, KEY, 0), &shell, "echo 0");
    // Another process has it open and reads it.
    let reader = Stays::run("exec 3< /proc/sys/net/ipv4/ip_forward; cat <&3 > /dev/null");
    run("unshare --pid --fork --mount-proc sysctl -q -w net.ipv4.ip_forward=0");
    assert_unknown(&repair_of(&guard, KEY, 1), "another procfs");
    drop(reader);
    let status = guard.wait_message("; writer unknown: the write came through another procfs");
    assert!(status["MESSAGE"].ends_with("or from the kernel itself"), "{}", status["MESSAGE"]);
}

#[test]
fn a_writer_that_exits_at_once_has_at_least_its_pid() {
    let ns = Namespace::enter();
    let guard = ns.guard();
    let file = ns.path("pid");
    // The grandchild writes after its parents have exited.
    let script = format!("(sh -c 'echo $$ > {}; exec sysctl -q -w net.ipv4.ip_forward=0' &)", file.display());
    assert!(Command::new("sh").args(["-c", &script]).status().expect("sh runs").success());
    let record = repair_of(&guard, KEY, 0);
    if !has_fanotify() {
        return assert_unknown(&record, "");
    }
    assert_eq!(record["WRITER_PID"], fs::read_to_string(file).expect("a PID").trim(), "{record:#?}");
}

#[test]
fn a_write_to_default_is_named_for_the_interfaces_that_it_changed() {
    let ns = Namespace::enter();
    ns.write("etc/fwdguard.d/10.conf", "net.ipv4.conf.fresh0.rp_filter = 0\n");
    run("ip link add fresh0 type veth peer name fresh1");
    let guard = ns.guard();
    if sysctl_read("net/ipv4/conf/fresh0/rp_filter") != "0" {
        panic!("not at the start");
    }
    let shell = Stays::run("echo 2 > /proc/sys/net/ipv4/conf/default/rp_filter");
    assert_shell(&repair_of(&guard, "net/ipv4/conf/fresh0/rp_filter", 0), &shell, "echo 2");
}

/// A control group of the test, removed at its end.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new(path: &str) -> Option<Cgroup> {
        let top = format!("fwdguard-test-{}.slice", std::process::id());
        let folder = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(PathBuf::from);
        let folder = folder.into_iter().find(|folder| folder.join("cgroup.procs").exists())?;
        let cgroup = Cgroup(folder.join(top));
        fs::create_dir_all(cgroup.0.join(path)).ok()?;
        Some(cgroup)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // It is busy until the last killed process is gone. Folders only: its files can't be removed.
        let deadline = Instant::now() + TIMEOUT;
        while self.0.exists() && Instant::now() < deadline {
            let _ = Command::new("find").arg(&self.0).args(["-depth", "-type", "d", "-delete"]).output();
        }
    }
}

#[test]
fn a_writer_is_named_with_its_unit_or_its_pod() {
    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    let ns = Namespace::enter();
    let guard = ns.guard();
    let pod = format!("kubepods-burstable-pod6bb2bd2c_6d5c_4a3c_9d1a_0f2f8a9f1e77.slice/cri-containerd-{ID}.scope");
    for (nth, (path, field, value, text)) in [
        ("network.service", "WRITER_UNIT", "network.service", "unit network.service"),
        (&pod, "WRITER_POD_UID", "6bb2bd2c-6d5c-4a3c-9d1a-0f2f8a9f1e77", "container 0123456789ab"),
    ]
    .into_iter()
    .enumerate()
    {
        let Some(cgroup) = Cgroup::new(path) else {
            // Only root may make one; a user's own namespaces have no fanotify either.
            assert!(!has_fanotify(), "no control group can be made below /sys/fs/cgroup");
            return;
        };
        let procs = cgroup.0.join(path).join("cgroup.procs");
        let shell = Stays::run(&format!("echo $$ > {} && echo 0 > /proc/sys/net/ipv4/ip_forward", procs.display()));
        let record = repair_of(&guard, KEY, nth);
        assert_eq!(record[field], value, "{record:#?}");
        assert!(record["MESSAGE"].ends_with(text), "{}", record["MESSAGE"]);
        drop(shell);
    }
}

#[test]
fn no_thread_keeps_more_than_net_admin() {
    let ns = Namespace::enter();
    let guard = ns.guard();
    // A thread sets its name shortly after its start.
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let names = thread_names(&guard);
        let known = ["guard", "reporter", "writers"].map(|name| names.contains(&name.to_string()));
        if known == [true, true, has_fanotify()] {
            return;
        }
        assert!(Instant::now() < deadline, "{names:?}");
    }
}

/// The names of the guard's threads, none of which has more capabilities than it should.
fn thread_names(guard: &Running) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{}/task", guard.pid())).expect("threads");
    let mut names = Vec::new();
    for thread in threads.flatten() {
        let status = fs::read_to_string(thread.path().join("status")).expect("a status");
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).expect("a field").trim();
        names.push(field("Name:").to_string());
        for sets in ["CapInh:", "CapAmb:"] {
            assert_eq!(field(sets), "0000000000000000", "{status}");
        }
        for sets in ["CapEff:", "CapPrm:"] {
            assert_eq!(field(sets), "0000000000001000", "{status}");
        }
        assert_eq!(field("NoNewPrivs:"), "1", "{status}");
    }
    names
}

#[test]
fn with_net_admin_alone_everything_works_but_the_name() {
    let ns = Namespace::enter();
    ns.veth("a0", "b0");
    let guard = Running::start(&ns, |command| {
        reworded(command, |words| {
            let caps = "-all,+net_admin";
            let setpriv = ["setpriv", "--bounding-set", caps, "--inh-caps", "-all"];
            setpriv.into_iter().map(Into::into).chain(words).collect()
        })
    });
    let lost = guard.wait_message("Lost fanotify");
    assert!(lost["MESSAGE"].contains("CAP_SYS_ADMIN") && lost["MESSAGE"].contains("writers are unknown"), "{lost:#?}");
    for (nth, key) in [(0, KEY), (0, "net/ipv4/conf/a0/forwarding"), (1, KEY)] {
        sysctl_write(key, "0");
        wait_sysctl(key, "1");
        let record = repair_of(&guard, key, nth);
        assert!(record["WRITER_UNKNOWN"].contains("without fanotify"), "{record:#?}");
    }
    let (_, records) = guard.stop();
    let lost = records.iter().filter(|r| r["MESSAGE"].contains("Lost fanotify")).count();
    assert_eq!(lost, 1, "logged once");
}
