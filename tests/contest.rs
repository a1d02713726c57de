//! A process that keeps changing a setting back: logged once, with a bounded number of records, and no other setting suffers.

mod common;

use common::*;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const CONTESTED: &str = "9c066761f54e4c769d543fc025a02450";
const POLICY: &str = "net.ipv4.ip_forward = 1\nnet.ipv4.conf.*.forwarding = 1\n-net.ipv4.conf.closed0.forwarding\n\
                      net.ipv4.conf.b0.rp_filter = 0\nnet.ipv4.conf.a0.rp_filter = 0\nnet.ipv4.conf.a0.arp_ignore = 1\n";

/// Writes `values` in turn, as fast as possible, until it is stopped.
struct Writer {
    goes_on: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// In a thread, whose network namespace is that of the test.
    fn start(key: &str, values: &'static [&'static str]) -> Writer {
        let goes_on = Arc::new(AtomicBool::new(true));
        let (file, go) =
            (std::fs::OpenOptions::new().write(true).open(Path::new("/proc/sys").join(key)), goes_on.clone());
        let file = file.expect("the setting is there");
        let thread = std::thread::spawn(move || {
            for value in values.iter().cycle().take_while(|_| go.load(Ordering::Relaxed)) {
                use std::os::unix::fs::FileExt;
                file.write_at(value.as_bytes(), 0).expect("a write");
            }
        });
        Writer { goes_on, thread: Some(thread) }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.goes_on.store(false, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join);
    }
}

fn of<'r>(records: &'r [Record], id: &str, key: &str) -> Vec<&'r Record> {
    let dotted = key.replace('/', ".");
    records.iter().filter(|r| r["MESSAGE_ID"] == id && r.get("SYSCTL") == Some(&dotted)).collect()
}

/// Contests `key` for two seconds, and checks what must be true of every contest.
fn fight(key: &str, values: &'static [&'static str], wanted: &str) {
    let ns = Namespace::enter();
    ns.veth("a0", "b0");
    ns.veth("closed0", "d0");
    ns.write("etc/fwdguard.d/10.conf", POLICY);
    ns.write("etc/sysctl.d/99-hardening.conf", &format!("{} = {}\n", key.replace('/', "."), values[0]));
    sysctl_write("net/ipv4/conf/closed0/forwarding", "0");
    let guard = ns.guard();
    // The guard searches for such lines once it is READY.
    guard.wait_record("the line against the policy", |record| record.contains_key("CONFLICT_FILE"));
    let others = AtomicU64::new(0);
    let writer = Writer::start(key, values);
    for _ in 0..20 {
        // Another setting is repaired meanwhile.
        sysctl_write("net/ipv4/conf/b0/rp_filter", "1");
        wait_sysctl("net/ipv4/conf/b0/rp_filter", "0");
        others.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(100));
    }
    // So the other setting does not count as contested for longer than this one.
    std::thread::sleep(Duration::from_secs(1));
    drop(writer);
    wait_sysctl(key, wanted);
    // The value stays, and the settings that changed with it are restored.
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(sysctl_read(key), wanted);
    for name in ["all", "default", "lo", "a0", "b0", "d0"] {
        wait_sysctl(&format!("net/ipv4/conf/{name}/forwarding"), "1");
    }
    if values.len() == 1 {
        // A process that writes 1 opens every interface itself, this one too.
        wait_sysctl("net/ipv4/conf/closed0/forwarding", "0");
    }
    let mut status = guard;
    // The status may have listed the other setting as contested before.
    status.wait_notified(&format!("contested: {}", key.replace('/', ".")));
    let (_, records) = status.stop();
    let contested = of(&records, CONTESTED, key);
    assert_eq!(contested.len(), 1, "logged once: {:#?}", messages(&records));
    let message = &contested[0]["MESSAGE"];
    assert!(
        message.contains(" was restored 5 times to ") && message.contains("99-hardening.conf:1 (sets "),
        "{message}"
    );
    assert_eq!((&*contested[0]["COUNT"], &*contested[0]["PRIORITY"]), ("5", "4"));

    // Each repair has its own record, or its place in a summary.
    let (own, summaries) = (of(&records, REPAIRED, key), of(&records, STILL_CONTESTED, key));
    assert!((5..=252).contains(&own.len()), "{}", own.len());
    assert!(summaries.len() <= 2, "{summaries:#?}");
    let stopping = records.iter().find_map(|r| r["MESSAGE"].strip_prefix("Stopping after ")).expect("a last record");
    let all: usize = stopping.split(' ').next().and_then(|count| count.parse().ok()).expect("a count");
    let counted: usize = summaries.iter().map(|r| r["COUNT"].parse::<usize>().expect("a count")).sum();
    let own_of_all = records.iter().filter(|r| r["MESSAGE_ID"] == REPAIRED).count();
    assert_eq!(all, own_of_all + counted, "{:#?}", messages(&records).last());
    assert!(records.len() < 320, "{} records", records.len());
}

#[test]
fn about_ip_forward() {
    fight("net/ipv4/ip_forward", &["0"], "1");
}

#[test]
fn about_ip_forward_both_ways() {
    fight("net/ipv4/ip_forward", &["0", "1"], "1");
}

#[test]
fn about_one_interface() {
    fight("net/ipv4/conf/a0/forwarding", &["0"], "1");
}

#[test]
fn about_rp_filter() {
    fight("net/ipv4/conf/a0/rp_filter", &["2"], "0");
}

#[test]
fn about_a_setting_that_the_kernel_does_not_announce() {
    fight("net/ipv4/conf/a0/arp_ignore", &["0"], "1");
}
