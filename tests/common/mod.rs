//! A network and mount namespace of the test's own, and the program running in it with a journal and a service manager
//! that the test reads.
//!
//! Namespaces belong to the test's thread, so tests run side by side, and the host stays as it was.

#![allow(dead_code, unused_imports)] // each test program uses its part

pub mod left_out;
mod sysctl;
mod threads;

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub use sysctl::*;
pub use threads::*;

/// Long enough for a busy two-core machine; a test that passes never waits for it.
pub const TIMEOUT: Duration = Duration::from_secs(60);
pub const JOURNAL_SOCKET: &str = "/run/systemd/journal/socket";
/// The MESSAGE_ID of a repair.
pub const REPAIRED: &str = "02a3fbd85f774dd6911132d4e66f40b6";
/// The MESSAGE_ID of a summary of repairs without a record of their own.
pub const STILL_CONTESTED: &str = "91a3ec93c5b941a594846d69d57e768a";
pub const NOTIFY_SOCKET: &str = "/run/notify";
const UNIT: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/fwdguard.service"));

/// The namespaces of the calling thread.
pub struct Namespace {
    /// An empty folder for `--root`.
    pub root: tempfile::TempDir,
}

impl Namespace {
    /// Moves the calling thread into fresh network and mount namespaces with an empty /run; `lo` is up.
    pub fn enter() -> Namespace {
        // SAFETY: no memory is involved; the thread gets namespaces of its own, or an error.
        let result = unsafe { libc::unshare(libc::CLONE_NEWNET | libc::CLONE_NEWNS) };
        assert_eq!(result, 0, "unshare: {}; run 'make test'", std::io::Error::last_os_error());
        run("mount --make-rprivate /");
        run("mount -t tmpfs tmpfs /run");
        run("ip link set lo up");
        // Datagrams to the test's journal and service manager shall not wait for it.
        // (A user namespace of its own has no such setting, and then they may.)
        let _ = fs::write("/proc/sys/net/unix/max_dgram_qlen", "4096");
        Namespace { root: tempfile::tempdir().expect("a temporary folder") }
    }

    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// Writes a file below the root, with its folders.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("create folders");
        fs::write(path, text).expect("write a file");
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.root().join(path.trim_start_matches('/'))
    }

    /// A pair of veth interfaces, both up.
    pub fn veth(&self, one: &str, other: &str) {
        run(&format!("ip link add {one} type veth peer name {other}"));
        run(&format!("ip link set {one} up"));
        run(&format!("ip link set {other} up"));
    }

    /// The program with `arguments` and this root, to its end.
    pub fn fwdguard(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).arg("--root").arg(self.root()).output().expect("fwdguard runs")
    }

    pub fn json(&self, arguments: &[&str]) -> (serde_json::Value, i32) {
        let output = self.fwdguard(arguments);
        let value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| {
            panic!("{e}: {}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
        });
        (value, output.status.code().expect("no signal"))
    }

    /// Never the host's bus.
    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fwdguard"));
        command
            .env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/run/no-bus")
            .env_remove("NOTIFY_SOCKET")
            .env_remove("WATCHDOG_USEC");
        command
    }

    /// `fwdguard run`, once it is READY, with a journal to read. No audit is due within a test.
    pub fn guard(&self) -> Running {
        Running::start(self, |command| command)
    }
}

/// A running guard.
pub struct Running {
    child: Child,
    notify: UnixDatagram,
    journal: Arc<Mutex<Vec<Record>>>,
    pub stderr: Arc<Mutex<Vec<String>>>,
    notified: Vec<String>,
}

/// The fields of one journal record.
pub type Record = HashMap<String, String>;

impl Running {
    pub fn start(ns: &Namespace, adjust: impl FnOnce(&mut Command) -> &mut Command) -> Running {
        fs::create_dir_all("/run/systemd/journal").expect("create folders");
        let _ = fs::remove_file(JOURNAL_SOCKET);
        let socket = UnixDatagram::bind(JOURNAL_SOCKET).expect("a journal socket");
        Running::start_with(ns, Some(socket), adjust)
    }

    /// With no journal, records go to stderr.
    pub fn start_with(
        ns: &Namespace,
        journal_socket: Option<UnixDatagram>,
        adjust: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Running {
        let _ = fs::remove_file(NOTIFY_SOCKET);
        let notify = UnixDatagram::bind(NOTIFY_SOCKET).expect("a notify socket");
        notify.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
        let mut command = ns.command();
        command.args(["run", "--audit-interval", "86400", "--root"]).arg(ns.root());
        command.env("NOTIFY_SOCKET", NOTIFY_SOCKET).stderr(Stdio::piped());
        command.envs(UNIT.lines().filter_map(|line| line.strip_prefix("Environment=")?.split_once('=')));
        let mut child = adjust(&mut command).spawn().expect("fwdguard runs");
        let (journal, stderr) = (Arc::default(), Arc::default());
        if let Some(socket) = journal_socket {
            collect(socket, Arc::clone(&journal));
        }
        let lines: Arc<Mutex<Vec<String>>> = Arc::clone(&stderr);
        let pipe = BufReader::new(child.stderr.take().expect("piped"));
        std::thread::spawn(move || {
            pipe.lines().map_while(Result::ok).for_each(|line| lines.lock().unwrap().push(line))
        });
        let mut running = Running { child, notify, journal, stderr, notified: Vec::new() };
        running.wait_notified("READY=1");
        running
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Not ended, be it stopped or not.
    pub fn is_running(&self) -> bool {
        fs::read_to_string(format!("/proc/{}/stat", self.pid()))
            .is_ok_and(|stat| stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z')))
    }

    pub fn signal(&self, signal: &str) {
        if signal == "STOP" {
            return stop(self.pid());
        }
        run(&format!("kill -{signal} {}", self.pid()));
    }

    /// Waits for a notification that contains `text`, and returns it.
    pub fn wait_notified(&mut self, text: &str) -> String {
        let mut buffer = [0; 4096];
        loop {
            let length = receive(&self.notify, &mut buffer)
                .unwrap_or_else(|e| panic!("no {text} ({e}): {:?} {:?}", self.notified, self.stderr));
            let state = String::from_utf8_lossy(&buffer[..length]).into_owned();
            self.notified.push(state.clone());
            if state.contains(text) {
                return state;
            }
        }
    }

    /// Notifications that have come since the last one that was waited for; does not wait.
    pub fn notifications(&mut self) -> Vec<String> {
        let (mut buffer, mut states) = ([0; 4096], Vec::new());
        self.notify.set_nonblocking(true).expect("not blocking");
        while let Ok(length) = self.notify.recv(&mut buffer) {
            states.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        self.notify.set_nonblocking(false).expect("blocking");
        self.notified.extend_from_slice(&states);
        states
    }

    /// Fills the service manager's queue: it accepts nothing more until its notifications are read.
    pub fn fill_notifications(&self) {
        // One socket's buffer may be full before the queue is.
        loop {
            let filler = UnixDatagram::unbound().expect("a socket");
            filler.set_nonblocking(true).expect("not blocking");
            if filler.send_to(b"", NOTIFY_SOCKET).is_err() {
                break;
            }
            while filler.send_to(b"", NOTIFY_SOCKET).is_ok() {}
        }
    }

    /// Reads the journal from here on, where [`Running::start_with`] was given none.
    pub fn read_journal(&self, socket: UnixDatagram) {
        collect(socket, Arc::clone(&self.journal));
    }

    pub fn records(&self) -> Vec<Record> {
        self.journal.lock().unwrap().clone()
    }

    /// The records so far, which are removed.
    pub fn take_records(&self) -> Vec<Record> {
        std::mem::take(&mut self.journal.lock().unwrap())
    }

    /// Waits for a record for which `is` holds.
    pub fn wait_record(&self, what: &str, is: impl Fn(&Record) -> bool) -> Record {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            if let Some(record) = self.records().into_iter().find(|record| is(record)) {
                return record;
            }
            assert!(Instant::now() < deadline, "no record of {what} among {:#?}", messages(&self.records()));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn wait_message(&self, text: &str) -> Record {
        self.wait_record(text, |record| record.get("MESSAGE").is_some_and(|message| message.contains(text)))
    }

    /// Records of repairs.
    pub fn repairs(&self) -> Vec<Record> {
        self.records().into_iter().filter(|record| record["MESSAGE_ID"] == REPAIRED).collect()
    }

    /// SIGTERM, and the end of it.
    pub fn stop(mut self) -> (ExitStatus, Vec<Record>) {
        self.signal("TERM");
        let status = self.child.wait().expect("wait");
        (status, self.last_records())
    }

    /// All records, once none is left to be read.
    fn last_records(&self) -> Vec<Record> {
        const LAST: &str = "nothing comes after this";
        let is_last = |record: &Record| record.get("MESSAGE").is_some_and(|text| text == LAST);
        let sender = UnixDatagram::unbound().expect("a socket");
        let is_read = Arc::strong_count(&self.journal) > 1;
        let is_sent = is_read && sender.send_to(format!("MESSAGE={LAST}\n").as_bytes(), JOURNAL_SOCKET).is_ok();
        let deadline = Instant::now() + TIMEOUT;
        while is_sent && !self.records().iter().any(is_last) {
            assert!(Instant::now() < deadline, "the journal is not read");
            std::thread::sleep(Duration::from_millis(1));
        }
        self.records().into_iter().filter(|record| !is_last(record)).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The same command, with its program and arguments changed.
pub fn reworded(command: &mut Command, reword: impl FnOnce(Vec<OsString>) -> Vec<OsString>) -> &mut Command {
    let words = std::iter::once(command.get_program()).chain(command.get_args()).map(OsString::from).collect();
    let mut words = reword(words).into_iter();
    let mut anew = Command::new(words.next().expect("a program"));
    anew.args(words).stderr(Stdio::piped());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => anew.env(name, value),
            None => anew.env_remove(name),
        };
    }
    *command = anew;
    command
}

/// Waits until `source` has been logged as lost (or available again) `times` times.
pub fn wait_source(guard: &Running, source: &str, text: &str, times: usize) -> Record {
    let is = |record: &Record| record.get("SOURCE").is_some_and(|s| s == source) && record["MESSAGE"].contains(text);
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let mut logged: Vec<_> = guard.records().into_iter().filter(is).collect();
        if logged.len() >= times {
            return logged.swap_remove(times - 1);
        }
        assert!(Instant::now() < deadline, "no {text:?} of {source}: {:?}", messages(&guard.records()));
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn messages(records: &[Record]) -> Vec<&str> {
    records.iter().filter_map(|record| record.get("MESSAGE").map(String::as_str)).collect()
}

/// A child that ends interrupts its parent's threads; they go on.
fn receive(socket: &UnixDatagram, buffer: &mut [u8]) -> std::io::Result<usize> {
    loop {
        match socket.recv(buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

fn collect(socket: UnixDatagram, journal: Arc<Mutex<Vec<Record>>>) {
    std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 20];
        while let Ok(length) = receive(&socket, &mut buffer) {
            if length > 0 {
                journal.lock().unwrap().push(decode(&buffer[..length]));
            }
        }
    });
}

/// systemd's native journal protocol: `KEY=value\n`, or `KEY\n`, a little-endian length of 8 bytes, the value and `\n`.
fn decode(mut bytes: &[u8]) -> Record {
    let mut record = Record::new();
    while let Some(end) = bytes.iter().position(|b| *b == b'\n') {
        let line = &bytes[..end];
        bytes = &bytes[end + 1..];
        let (key, value) = match line.iter().position(|b| *b == b'=') {
            Some(at) => (&line[..at], &line[at + 1..]),
            None => {
                let length = u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) as usize;
                let value = &bytes[8..8 + length];
                bytes = &bytes[8 + length + 1..];
                (line, value)
            }
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(record.insert(text(key), text(value)).is_none(), "field {} twice", text(key));
    }
    record
}

/// Runs a command line without quoting, and insists that it succeeds.
pub fn run(line: &str) -> String {
    let mut words = line.split_whitespace();
    let output =
        Command::new(words.next().expect("a command")).args(words).output().unwrap_or_else(|e| panic!("{line}: {e}"));
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Stops a process, and waits until none of its threads runs: the thread that takes the signal stops the others, once it has
/// a processor.
pub fn stop(pid: u32) {
    run(&format!("kill -STOP {pid}"));
    let has_stopped = |task: std::io::Result<fs::DirEntry>| {
        let stat = fs::read_to_string(task.ok()?.path().join("stat")).ok()?;
        Some(stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T')))
    };
    let threads = || fs::read_dir(format!("/proc/{pid}/task")).expect("the guard runs");
    while !threads().filter_map(has_stopped).all(|stopped| stopped) {
        std::thread::sleep(Duration::from_millis(1));
    }
}
