//! A system bus of the test's own, and a stand-in for logind on it (org.freedesktop.login1(5)).
//!
//! Both live in the test's namespaces: the bus is its child, and the runtime's threads are started by its thread.

#![allow(dead_code)] // each test program uses its part

use std::fs;
use std::io::{BufRead, BufReader, PipeReader};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::runtime::Runtime;
use zbus::fdo::RequestNameFlags;
use zbus::message::{Header, Type};
use zbus::{Connection, MessageStream, fdo};

use crate::common::{Namespace, Running, TIMEOUT};

pub const ADDRESS: &str = "unix:path=/run/bus.socket";
const CONFIG: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>unix:path=/run/bus.socket</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
  </policy>
</busconfig>
"#;
const LOGIND: &str = "org.freedesktop.login1";
const LOGIND_PATH: &str = "/org/freedesktop/login1";
pub const MANAGER: &str = "org.freedesktop.login1.Manager";

/// A dbus-daemon, which ends with this.
pub struct Bus {
    daemon: Option<Child>,
    runtime: Arc<Runtime>,
}

impl Bus {
    /// A bus that accepts connections. The namespace keeps it away from the host's.
    pub fn start(ns: &Namespace) -> Bus {
        let mut bus = Bus::absent(ns);
        bus.restart();
        bus
    }

    /// No bus yet.
    pub fn absent(_: &Namespace) -> Bus {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        Bus { daemon: None, runtime: Arc::new(runtime) }
    }

    /// Kills the bus, and whatever is on it loses its connection.
    pub fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().expect("kill");
            daemon.wait().expect("wait");
        }
    }

    /// A new bus at the same address.
    pub fn restart(&mut self) {
        self.kill();
        _ = fs::remove_file("/run/bus.socket");
        fs::write("/run/bus.conf", CONFIG).expect("a configuration");
        let mut daemon = Command::new("dbus-daemon")
            .args(["--config-file=/run/bus.conf", "--nofork", "--nopidfile", "--print-address"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("dbus-daemon runs");
        let mut address = String::new();
        BufReader::new(daemon.stdout.take().expect("piped")).read_line(&mut address).expect("an address");
        assert!(address.starts_with(ADDRESS), "the bus listens at {address:?}");
        self.daemon = Some(daemon);
    }

    /// `fwdguard run` with this bus for its system bus, once it is READY.
    pub fn guard(&self, ns: &Namespace) -> Running {
        Running::start(ns, |command| command.env("DBUS_SYSTEM_BUS_ADDRESS", ADDRESS))
    }

    /// Stops the bus from answering, or lets it go on.
    pub fn signal(&self, signal: &str) {
        let daemon = self.daemon.as_ref().expect("a bus");
        crate::common::run(&format!("kill -{signal} {}", daemon.id()));
    }

    fn connect(&self) -> Connection {
        let connect = async { zbus::connection::Builder::address(ADDRESS).build().await.expect("a connection") };
        self.runtime.block_on(connect)
    }

    /// logind joins the bus; `preparing`: it is preparing for a sleep.
    pub fn logind(&self, preparing: bool) -> Logind {
        let connection = self.connect();
        let manager = Manager::default();
        manager.0.lock().unwrap().preparing = preparing;
        let logind = Logind { runtime: self.runtime.clone(), connection, manager: manager.clone() };
        self.runtime.block_on(async {
            // The object exists before the bus announces the name.
            assert!(logind.connection.object_server().at(LOGIND_PATH, manager).await.expect("a path").is_none());
        });
        self.take(&logind.connection, LOGIND);
        logind
    }

    /// A connection takes `name` on the bus from any earlier owner, and leaves the bus when this is dropped.
    pub fn manager(&self, name: &str) -> Holder {
        let connection = self.connect();
        self.take(&connection, name);
        Holder { runtime: self.runtime.clone(), connection }
    }

    /// A false logind for which no sleep is in preparation. It answers every request for a lock with this text in its place, or
    /// never.
    pub fn false_logind(&self, answer: Option<String>) -> Holder {
        let connection = self.connect();
        let (mut calls, answering) = (MessageStream::from(&connection), connection.clone());
        self.runtime.spawn(async move {
            while let Some(Ok(call)) = calls.next().await {
                let header = call.header();
                let member = header.member().map(ToString::to_string);
                _ = match (member.as_deref(), &answer) {
                    (Some("Inhibit"), Some(text)) => answering.reply(&header, text).await,
                    (Some("Get"), _) => answering.reply(&header, &zbus::Variant::from(false)).await,
                    _ => Ok(()),
                };
            }
        });
        self.take(&connection, LOGIND);
        Holder { runtime: self.runtime.clone(), connection }
    }

    fn take(&self, connection: &Connection, name: &str) {
        let flags = RequestNameFlags::ALLOW_REPLACEMENT | RequestNameFlags::REPLACE_EXISTING;
        let taken = connection.request_name_with_flags(name, flags | RequestNameFlags::DO_NOT_QUEUE);
        self.runtime.block_on(taken).expect("the name");
    }

    /// A peer that is not logind emits a signal on logind's path that only logind may emit: to all, and to `target` alone.
    pub fn lie(&self, target: &str, interface: &str, member: &str, body: &(impl serde::Serialize + zbus::DynamicType)) {
        let liar = self.connect();
        let path = if interface == MANAGER { LOGIND_PATH } else { "/org/freedesktop/DBus" };
        self.runtime.block_on(async {
            for destination in [None, Some(target)] {
                liar.emit_signal(destination, path, interface, member, body).await.expect("a signal");
            }
            // The bus answers, so it has delivered the signals.
            fdo::DBusProxy::new(&liar).await.expect("the bus").get_id().await.expect("an answer");
        });
    }

    /// Emits the signal this many times, with true and false in turn.
    pub fn flood(&self, target: &str, interface: &str, member: &str, times: usize) {
        let liar = self.connect();
        self.runtime.block_on(async {
            for number in 0..times {
                liar.emit_signal(Some(target), LOGIND_PATH, interface, member, &(number % 2 == 0))
                    .await
                    .expect("a signal");
            }
            fdo::DBusProxy::new(&liar).await.expect("the bus").get_id().await.expect("an answer");
        });
    }

    /// Records every method call on the bus from now on.
    pub fn monitor(&self) -> Monitor {
        let connection = self.connect();
        let mut stream = MessageStream::from(&connection);
        self.runtime.block_on(async {
            let monitoring = fdo::MonitoringProxy::new(&connection).await.expect("the bus");
            monitoring.become_monitor(&[], 0).await.expect("a monitor");
        });
        let monitor = Monitor::default();
        let calls = monitor.0.clone();
        self.runtime.spawn(async move {
            while let Some(Ok(message)) = stream.next().await {
                let header = message.header();
                if header.message_type() != Type::MethodCall {
                    continue;
                }
                let text = |name: Option<String>| name.unwrap_or_default();
                calls.lock().unwrap().push(Call {
                    sender: text(header.sender().map(ToString::to_string)),
                    interface: text(header.interface().map(ToString::to_string)),
                    member: text(header.member().map(ToString::to_string)),
                    argument: message.body().deserialize::<String>().unwrap_or_default(),
                });
            }
        });
        monitor
    }

    /// A peer that is not logind announces a sleep or its end.
    pub fn lie_about_sleep(&self, target: &str, start: bool) {
        self.lie(target, MANAGER, "PrepareForSleep", &start);
    }
}

/// A method call.
#[derive(Clone, Debug)]
pub struct Call {
    /// The caller's unique name.
    pub sender: String,
    pub interface: String,
    pub member: String,
    /// Its argument, if that is one text.
    pub argument: String,
}

#[derive(Clone, Default)]
pub struct Monitor(Arc<Mutex<Vec<Call>>>);

impl Monitor {
    pub fn calls(&self) -> Vec<Call> {
        self.0.lock().unwrap().clone()
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Owns a name on the bus.
pub struct Holder {
    runtime: Arc<Runtime>,
    connection: Connection,
}

impl Drop for Holder {
    fn drop(&mut self) {
        _ = self.runtime.block_on(self.connection.clone().close());
    }
}

/// logind on the bus; it leaves the bus when this is dropped.
pub struct Logind {
    runtime: Arc<Runtime>,
    connection: Connection,
    manager: Manager,
}

/// A lock that a peer requested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inhibitor {
    pub what: String,
    pub who: String,
    pub why: String,
    pub mode: String,
    /// The requesting peer's unique name.
    pub holder: String,
    pub held: bool,
}

impl Logind {
    /// Goes to sleep (`true`) or wakes (`false`), and announces it.
    pub fn sleep(&self, start: bool) {
        self.manager.0.lock().unwrap().preparing = start;
        let emitted = self.connection.emit_signal(None::<&str>, LOGIND_PATH, MANAGER, "PrepareForSleep", &start);
        self.runtime.block_on(emitted).expect("a signal");
    }

    /// Emits any signal.
    pub fn say(&self, member: &str, body: &(impl serde::Serialize + zbus::DynamicType)) {
        let emitted = self.connection.emit_signal(None::<&str>, LOGIND_PATH, MANAGER, member, body);
        self.runtime.block_on(emitted).expect("a signal");
    }

    /// Every lock that was ever taken, in order.
    pub fn inhibitors(&self) -> Vec<Inhibitor> {
        self.manager.0.lock().unwrap().taken.iter().map(|(inhibitor, pipe)| refresh(inhibitor, pipe)).collect()
    }

    /// Waits until `taken` locks have been taken in all and exactly the last `held` of them are held.
    pub fn wait_inhibitors(&self, taken: usize, held: usize) -> Vec<Inhibitor> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let inhibitors = self.inhibitors();
            let holds = |(n, inhibitor): (usize, &Inhibitor)| inhibitor.held == (n + held >= taken);
            if inhibitors.len() == taken && inhibitors.iter().enumerate().all(holds) {
                return inhibitors;
            }
            assert!(Instant::now() < deadline, "not {taken} taken and {held} held: {inhibitors:#?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until a peer has asked whether a sleep is in preparation.
    pub fn wait_asked(&self) {
        let deadline = Instant::now() + TIMEOUT;
        while self.manager.0.lock().unwrap().asked == 0 {
            assert!(Instant::now() < deadline, "no peer asks for PreparingForSleep");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Answers every request for a lock from now on with an error of this text, or grants it.
    pub fn refuse(&self, text: Option<String>) {
        self.manager.0.lock().unwrap().refuses_with = text;
    }

    /// Waits until this many requests have been refused.
    pub fn wait_refused(&self, times: usize) {
        let deadline = Instant::now() + TIMEOUT;
        while self.refused() < times {
            assert!(Instant::now() < deadline, "not refused {times} times");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// How many requests for a lock failed, as they do while a sleep is in preparation.
    pub fn refused(&self) -> usize {
        self.manager.0.lock().unwrap().refused
    }
}

impl Drop for Logind {
    fn drop(&mut self) {
        _ = self.runtime.block_on(self.connection.clone().close());
    }
}

#[derive(Clone, Default)]
struct Manager(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    preparing: bool,
    taken: Vec<(Inhibitor, PipeReader)>,
    refused: usize,
    refuses_with: Option<String>,
    asked: usize,
}

#[zbus::interface(name = "org.freedesktop.login1.Manager")]
impl Manager {
    fn inhibit(
        &self,
        #[zbus(header)] header: Header<'_>,
        what: String,
        who: String,
        why: String,
        mode: String,
    ) -> fdo::Result<zbus::OwnedFd> {
        let mut state = self.0.lock().unwrap();
        if let Some(text) = state.refuses_with.clone() {
            state.refused += 1;
            return Err(fdo::Error::Failed(text));
        }
        if state.preparing {
            state.refused += 1;
            return Err(fdo::Error::Failed(
                "The operation inhibition has been requested for is already running".into(),
            ));
        }
        let (ours, theirs) = std::io::pipe().map_err(|error| fdo::Error::IOError(error.to_string()))?;
        let holder = header.sender().map(ToString::to_string).unwrap_or_default();
        state.taken.push((Inhibitor { what, who, why, mode, holder, held: true }, ours));
        Ok(OwnedFd::from(theirs).into())
    }

    #[zbus(property)]
    fn preparing_for_sleep(&self) -> bool {
        let mut state = self.0.lock().unwrap();
        state.asked += 1;
        state.preparing
    }
}

/// A lock is held for as long as the other end of its pipe is open.
fn refresh(inhibitor: &Inhibitor, pipe: &PipeReader) -> Inhibitor {
    let mut ends = [PollFd::new(pipe, PollFlags::IN)];
    poll(&mut ends, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).expect("poll");
    Inhibitor { held: !ends[0].revents().contains(PollFlags::HUP), ..inhibitor.clone() }
}
