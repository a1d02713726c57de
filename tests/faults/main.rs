//! Resources that break or are removed: each time the guard logs the loss, and guards what it still can.

#[path = "../bus/mod.rs"]
mod bus;
#[path = "../common/mod.rs"]
mod common;

mod hostile_bus;
mod killed;
mod refused;
mod starved;

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use common::{Namespace, Record, TIMEOUT, reworded, sysctl_read, sysctl_write};

const POLICY: &str = "net.ipv4.ip_forward = 1\nnet.ipv4.conf.*.rp_filter = 0\nnet.core.somaxconn = 4000\n";
const WRONG: [(&str, &str, &str); 4] = [
    ("net/ipv4/ip_forward", "0", "1"),
    ("net/ipv4/conf/all/rp_filter", "1", "0"),
    ("net/ipv4/conf/a0/rp_filter", "1", "0"),
    ("net/core/somaxconn", "100", "4000"),
];
const NOTIFY: &str = "/run/notify-of-faults";

/// A namespace with two interfaces and a policy that does not hold.
fn broken() -> Namespace {
    let ns = Namespace::enter();
    ns.veth("a0", "b0");
    ns.write("etc/fwdguard.d/10.conf", POLICY);
    break_all();
    ns
}

fn break_all() {
    WRONG.iter().for_each(|(key, wrong, _)| sysctl_write(key, wrong));
}

fn assert_all_holds(when: &str) {
    WRONG.iter().for_each(|(key, _, right)| assert_eq!(sysctl_read(key), *right, "{key} {when}"));
}

/// strace makes system calls of the guard fail, or kills it there, and is no parent of it.
fn injecting<'c>(command: &'c mut Command, calls: &str, what: &str) -> &'c mut Command {
    reworded(command, |words| {
        let trace = format!("trace={calls}");
        let inject = format!("inject={calls}:{what}");
        let strace = ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
        strace.map(Into::into).into_iter().chain(words).collect()
    })
}

/// The outcome of a start.
struct Outcome {
    child: Child,
    /// The exit status, unless the guard is READY.
    ended: Option<ExitStatus>,
}

impl Outcome {
    /// One line with the reason why it ended.
    fn reason(mut self) -> String {
        let output = std::io::read_to_string(self.child.stderr.take().expect("piped")).expect("text");
        assert_eq!(output.lines().count(), 1, "one line: {output}");
        assert!(output.starts_with("fwdguard: ") && !output.contains("panicked"), "{output}");
        output
    }
}

impl Drop for Outcome {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Starts the guard, and waits until it is READY or has ended.
fn attempt(ns: &Namespace, adjust: impl FnOnce(&mut Command) -> &mut Command) -> Outcome {
    _ = fs::remove_file(NOTIFY);
    let notify = UnixDatagram::bind(NOTIFY).expect("a socket");
    notify.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
    let mut command = ns.command();
    command.args(["run", "--audit-interval", "86400", "--root"]).arg(ns.root()).env("NOTIFY_SOCKET", NOTIFY);
    let mut child = adjust(&mut command).stderr(Stdio::piped()).spawn().expect("fwdguard runs");
    let (deadline, mut buffer) = (Instant::now() + TIMEOUT, [0; 4096]);
    loop {
        if let Ok(length) = notify.recv(&mut buffer)
            && String::from_utf8_lossy(&buffer[..length]).contains("READY=1")
        {
            return Outcome { child, ended: None };
        }
        if let Some(status) = child.try_wait().expect("wait") {
            return Outcome { child, ended: Some(status) };
        }
        assert!(Instant::now() < deadline, "neither READY nor ended");
    }
}

/// The sources that are logged as lost, except for the bus, which is not there.
fn lost(records: &[Record]) -> Vec<&str> {
    let sources = records.iter().filter_map(|record| record.get("SOURCE").map(String::as_str));
    sources.filter(|source| *source != "the system bus").collect()
}
