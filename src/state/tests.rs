//! The decision core in tables: events in, repairs and records out. No kernel, no clock.

mod links;
mod old_kernel;
mod snapshot;
mod write_back;
mod writes;

use std::collections::BTreeMap;

use super::*;
use crate::kernel::message::Link;
use crate::kernel::netconf::NetconfMessage;
use crate::kernel::sysctl::Outcome;
use crate::report::record::Record;
use crate::setting::{ALL, DEFAULT};

const POLICY: &str = "net.ipv4.ip_forward = 1\nnet.ipv4.conf.*.forwarding = 1\n-net.ipv4.conf.closed0.forwarding\n\
                      net.ipv4.conf.all.rp_filter = 0\nnet.ipv4.conf.tunl0.rp_filter = 0\nnet.ipv6.conf.*.forwarding = 1\n\
                      net.ipv6.conf.eth0.accept_ra = 2\nnet.core.somaxconn = 0x1000\n";

const ETH0: i32 = 2;
const CLOSED0: i32 = 3;
const TUNL0: i32 = 4;

thread_local! {
    /// IPv6 does not announce that `default` follows `all`, as on Linux 3.10.
    static SILENT_DEFAULT: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// A state, and a kernel that executes its repairs, fan-outs included.
struct Bench {
    state: State,
    kernel: BTreeMap<String, String>,
    log: Vec<String>,
    /// Notifications that the state has not received yet.
    queued: Vec<NetconfMessage>,
    now: u64,
}

fn policy(text: &str) -> Arc<Policy> {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("etc/fwdguard.d")).unwrap();
    std::fs::write(root.path().join("etc/fwdguard.d/10.conf"), text).unwrap();
    Arc::new(Policy::load(root.path()))
}

fn message(family: i32, ifindex: i32, forwarding: Option<i32>, rp_filter: Option<i32>) -> NetconfMessage {
    NetconfMessage {
        family: family as u8,
        ifindex: Some(ifindex),
        forwarding,
        rp_filter,
        settings: 1,
        ..Default::default()
    }
}

fn forwarding(ifindex: i32, value: i32) -> NetconfMessage {
    message(libc::AF_INET, ifindex, Some(value), None)
}

fn rp_filter(ifindex: i32, value: i32) -> NetconfMessage {
    message(libc::AF_INET, ifindex, None, Some(value))
}

impl Bench {
    /// All holds, and everything has been read once.
    fn new(text: &str) -> Bench {
        let mut bench = Bench {
            state: State::new(policy(text)),
            kernel: BTreeMap::new(),
            log: Vec::new(),
            queued: Vec::new(),
            now: 1000,
        };
        for name in ["all", "default", "eth0", "closed0", "tunl0"] {
            let open = if name == "closed0" { "0" } else { "1" };
            bench.set(&format!("net.ipv4.conf.{name}.forwarding"), open);
            bench.set(&format!("net.ipv6.conf.{name}.forwarding"), "1");
            bench.set(&format!("net.ipv4.conf.{name}.rp_filter"), "0");
        }
        bench.set("net.ipv6.conf.eth0.accept_ra", "2");
        bench.set("net.ipv4.conf.all.accept_redirects", "0");
        bench.set("net.core.somaxconn", "4096");
        bench
    }

    fn started(text: &str) -> Bench {
        let mut bench = Bench::new(text);
        bench.read_everything(Cause::Start);
        bench.execute_repairs();
        assert_eq!(bench.take_log(), "");
        assert_eq!(bench.state.take_records(), []);
        bench
    }

    fn set(&mut self, key: &str, value: &str) {
        self.kernel.insert(key.into(), value.into());
    }

    fn get(&self, key: &str) -> &str {
        &self.kernel[key]
    }

    fn names() -> [(i32, &'static str); 5] {
        [(ALL, "all"), (DEFAULT, "default"), (ETH0, "eth0"), (CLOSED0, "closed0"), (TUNL0, "tunl0")]
    }

    fn read_everything(&mut self, cause: Cause) {
        let link = |(ifindex, name): (i32, &str)| Link { ifindex, name: name.into(), up: Some(true), mtu: None };
        let links = Bench::names()[2..].iter().copied().map(link).collect();
        let value = |key: String| self.kernel.get(&key).and_then(|value| value.parse().ok());
        // A dump gives interfaces first, and all and default last.
        let netconf = Bench::names().into_iter().rev().flat_map(|(ifindex, name)| {
            [
                message(
                    libc::AF_INET,
                    ifindex,
                    value(format!("net.ipv4.conf.{name}.forwarding")),
                    value(format!("net.ipv4.conf.{name}.rp_filter")),
                ),
                message(libc::AF_INET6, ifindex, value(format!("net.ipv6.conf.{name}.forwarding")), None),
            ]
        });
        let is_read = |message: &NetconfMessage| message.family == libc::AF_INET as u8 || self.state.guards_ipv6();
        let netconf = netconf.filter(is_read).collect();
        let redirects = Some(self.get("net.ipv4.conf.all.accept_redirects").to_string());
        let snapshot = Snapshot { links: Some(links), netconf, redirects, at: 0 };
        self.state.apply_snapshot(&snapshot, cause);
    }

    /// What the kernel does for a write, to the settings and on the socket.
    fn write(&mut self, key: &str, value: &str) {
        let changed = self.get(key) != value;
        self.set(key, value);
        let Some((family, name, attribute)) = key.strip_prefix("net.").and_then(|k| {
            let mut parts = k.split('.');
            Some((parts.next()?, parts.nth(1)?, parts.next()?))
        }) else {
            return;
        };
        if !changed || attribute != "forwarding" && attribute != "rp_filter" {
            return;
        }
        let number = value.parse().unwrap();
        let af = if family == "ipv4" { libc::AF_INET } else { libc::AF_INET6 };
        let indices = Bench::names();
        if attribute == "rp_filter" {
            let ifindex = indices.iter().find(|(_, n)| *n == name).unwrap().0;
            self.queued.push(rp_filter(ifindex, number));
        } else if name == "all" {
            if family == "ipv4" {
                self.set("net.ipv4.conf.all.accept_redirects", if number == 0 { "1" } else { "0" });
            }
            for (_, name) in indices {
                self.set(&format!("net.{family}.conf.{name}.forwarding"), value);
            }
            let mut queued: Vec<_> =
                indices.iter().map(|(ifindex, _)| message(af, *ifindex, Some(number), None)).collect();
            if family == "ipv6" {
                queued.rotate_left(1); // IPv6 tells of all last
                queued.retain(|message| !SILENT_DEFAULT.get() || message.ifindex != Some(DEFAULT));
            }
            self.queued.extend(queued);
        } else {
            let ifindex = indices.iter().find(|(_, n)| *n == name).unwrap().0;
            self.queued.push(message(af, ifindex, Some(number), None));
        }
    }

    /// One message at a time, as the guard thread takes them.
    fn receive_and_repair(&mut self) {
        while !self.queued.is_empty() {
            let message = self.queued.remove(0);
            self.now += 10;
            self.state.apply_netconf(&message, self.now);
            self.execute_repairs();
        }
        assert_eq!(self.state.idle(), None);
        self.execute_repairs();
        while self.state.awaits_idle() {
            assert_eq!(self.state.idle(), None);
            self.execute_repairs();
        }
    }

    fn execute_repairs(&mut self) {
        while let Some(repair) = self.state.next_repair(self.now) {
            if let Some(family) = self.execute(repair) {
                self.write_back(family);
                self.receive();
                self.state.fan_out_received(family);
            }
        }
    }

    fn write_back(&mut self, family: Family) {
        for repair in self.state.write_backs(family) {
            assert_eq!(self.execute(repair), None);
        }
    }

    /// Receives all notifications, and executes no repair.
    fn receive(&mut self) {
        for message in std::mem::take(&mut self.queued) {
            self.state.apply_netconf(&message, self.now);
        }
    }

    fn execute(&mut self, repair: Repair) -> Option<Family> {
        let key = repair.key.to_string();
        let found = self.kernel.get(&key).cloned().ok_or(Errno::NOENT);
        let mut outcome =
            Outcome { found: found.clone(), write: None, now: None, finished: self.now + 5, write_usec: 5 };
        if found.is_ok_and(|value| !repair.holds(&value)) {
            let wanted = repair.wanted.clone();
            self.log.push(format!("{key}={wanted}"));
            self.write(&key, &wanted);
            outcome.write = Some(Ok(()));
            outcome.now = Some(wanted.to_string());
        }
        self.state.complete(repair, outcome)
    }

    fn take_log(&mut self) -> String {
        std::mem::take(&mut self.log).join(" ")
    }

    /// Key, old, new, cause and the number of interfaces restored with it.
    fn take_repairs(&mut self) -> Vec<String> {
        let records = self.state.take_records();
        records
            .iter()
            .map(|record| match record {
                Record::Repaired { subject, old, new, received, interfaces, .. } => format!(
                    "{} {}>{new}>{} {} {interfaces}{}",
                    subject.key,
                    old.as_deref().unwrap_or("?"),
                    subject.ours,
                    subject.cause.name(),
                    if received.is_some() { " notified" } else { "" }
                ),
                other => other.text(),
            })
            .collect()
    }
}

#[test]
fn one_drift_of_ip_forward_is_one_record_and_nothing_else_changes() {
    let mut bench = Bench::started(POLICY);
    for _ in 0..3 {
        bench.write("net.ipv4.conf.all.forwarding", "0");
        bench.receive_and_repair();
        assert_eq!(
            bench.take_log(),
            "net.ipv4.conf.all.forwarding=1 net.ipv4.conf.closed0.forwarding=0",
            "the kernel itself sets accept_redirects to 0 again"
        );
        assert_eq!(bench.take_repairs(), ["net.ipv4.ip_forward 1>0>1 write 2 notified"]);
        assert_eq!(bench.get("net.ipv4.conf.closed0.forwarding"), "0");
    }
}

#[test]
fn an_interface_that_the_policy_closes_is_no_drift_of_its_own() {
    let mut bench = Bench::started("net.ipv4.conf.*.forwarding = 1\nnet.ipv4.conf.closed0.forwarding = 0\n");
    bench.write("net.ipv4.conf.all.forwarding", "0");
    bench.receive_and_repair();
    assert_eq!(bench.take_log(), "net.ipv4.conf.all.forwarding=1 net.ipv4.conf.closed0.forwarding=0");
    assert_eq!(bench.take_repairs(), ["net.ipv4.conf.all.forwarding 1>0>1 write 2 notified"]);
}

#[test]
fn at_start_excluded_interfaces_stay_and_others_open() {
    let mut bench = Bench::new("net.ipv4.ip_forward = 1\n-net.ipv4.conf.closed0.forwarding\n");
    bench.write("net.ipv4.conf.all.forwarding", "0");
    bench.queued.clear();
    bench.read_everything(Cause::Start);
    bench.execute_repairs();
    assert_eq!(bench.take_repairs(), ["net.ipv4.ip_forward ?>0>1 start 2"]);
    assert_eq!(bench.get("net.ipv4.conf.eth0.forwarding"), "1", "a router routes");
    assert_eq!(bench.get("net.ipv4.conf.closed0.forwarding"), "0");
}

#[test]
fn ipv6_announces_all_last_and_has_one_record_all_the_same() {
    let mut bench = Bench::started(POLICY);
    bench.write("net.ipv6.conf.all.forwarding", "0");
    bench.receive_and_repair();
    assert_eq!(bench.take_log(), "net.ipv6.conf.all.forwarding=1");
    assert_eq!(bench.take_repairs(), ["net.ipv6.conf.all.forwarding 1>0>1 write 3 notified"]);
    bench.write("net.ipv6.conf.eth0.forwarding", "0");
    bench.receive_and_repair();
    assert_eq!(bench.take_repairs(), ["net.ipv6.conf.eth0.forwarding 1>0>1 write 0 notified"]);
}

#[test]
fn the_order_of_repairs() {
    let mut bench = Bench::new(POLICY);
    for key in ["net.ipv4.conf.tunl0.rp_filter", "net.ipv4.conf.all.rp_filter"] {
        bench.set(key, "1");
    }
    bench.set("net.ipv6.conf.eth0.accept_ra", "1");
    bench.set("net.ipv6.conf.all.forwarding", "0");
    bench.set("net.ipv4.conf.default.forwarding", "0");
    bench.set("net.core.somaxconn", "128");
    bench.read_everything(Cause::Start);
    bench.execute_repairs();
    assert_eq!(
        bench.take_log(),
        "net.ipv6.conf.eth0.accept_ra=2 net.ipv4.conf.all.rp_filter=0 net.ipv6.conf.all.forwarding=1 \
         net.ipv4.conf.default.forwarding=1 net.ipv4.conf.tunl0.rp_filter=0 net.core.somaxconn=0x1000"
    );
}

#[test]
fn a_write_to_default_rp_filter_has_everything_read_again() {
    let mut bench = Bench::started(POLICY);
    bench.state.apply_netconf(&rp_filter(DEFAULT, 2), 1);
    assert_eq!(bench.state.idle(), Some(Cause::Write));
    assert_eq!(bench.state.idle(), None, "once");
    bench.state.apply_netconf(&rp_filter(DEFAULT, 2), 2);
    bench.state.apply_netconf(&forwarding(DEFAULT, 1), 2);
    assert_eq!(bench.state.idle(), None, "no change, and forwarding never fans out");
}

#[test]
fn what_was_restored_before_it_was_checked_has_no_record() {
    let mut bench = Bench::started(POLICY);
    // Both writes wait in the socket: the first message is out of date when it is received.
    bench.write("net.ipv4.conf.eth0.forwarding", "0");
    bench.write("net.ipv4.conf.eth0.forwarding", "1");
    bench.write("net.ipv4.conf.all.forwarding", "0");
    bench.write("net.ipv4.conf.all.forwarding", "1");
    bench.receive_and_repair();
    assert_eq!(bench.take_repairs(), Vec::<String>::new());
    assert_eq!(bench.take_log(), "");
}
