//! What runs inside the process on the way from a netconf message to a repair, and in a full read.

#[allow(dead_code)] // what only the other benchmark asks of a node
#[path = "node/node.rs"]
mod node;

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use fwdguard::guard::{Guard, Snapshot};
use fwdguard::kernel::message::{Link, messages};
use fwdguard::kernel::netconf::NetconfMessage;
use fwdguard::kernel::socket::Dumps;
use fwdguard::kernel::sysctl::Outcome;
use fwdguard::policy::Policy;
use fwdguard::report::record::Cause;
use fwdguard::setting::Family;

const ALL: i32 = -1;
const INTERFACES: [i32; 3] = [4, 1000, 10_000];

/// `ip_forward` is 0, as the kernel says it (inet_netconf_notify_devconf).
const MESSAGE: [u8; 36] = [
    36, 0, 0, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // struct nlmsghdr
    2, 0, 0, 0, // struct netconfmsg
    8, 0, 1, 0, 255, 255, 255, 255, // NETCONFA_IFINDEX
    8, 0, 2, 0, 0, 0, 0, 0, // NETCONFA_FORWARDING
];

fn policy() -> Arc<Policy> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    Arc::new(Policy::load(folder.path()))
}

fn netconf(ifindex: i32, forwarding: i32) -> NetconfMessage {
    let rp_filter = Some(0);
    NetconfMessage {
        family: 2,
        ifindex: Some(ifindex),
        forwarding: Some(forwarding),
        rp_filter,
        settings: 1,
        ..Default::default()
    }
}

fn snapshot(interfaces: i32) -> Snapshot {
    let link = |ifindex| Link { ifindex, name: format!("if{ifindex}").as_str().into(), up: None, mtu: None };
    let netconf = (1..=interfaces).chain([ALL, -2]).map(|ifindex| netconf(ifindex, 1)).collect();
    Snapshot { links: Some((1..=interfaces).map(link).collect()), netconf, redirects: None, at: 0 }
}

fn started(policy: &Arc<Policy>, interfaces: i32) -> Guard {
    let mut guard = Guard::new(policy.clone());
    guard.snapshot(&snapshot(interfaces), Cause::Start);
    while guard.next_repair(0).is_some() {}
    guard
}

fn steps(criterion: &mut Criterion) {
    let policy = policy();
    criterion.bench_function("decode one message", |bench| {
        bench.iter(|| messages(black_box(&MESSAGE)).map_while(Result::ok).count());
    });
    criterion.bench_function("policy lookup of one interface", |bench| {
        bench.iter(|| policy.for_interface(black_box("cali0123456789a".as_ref())));
    });
    for interfaces in INTERFACES {
        let mut guard = started(&policy, interfaces);
        // As if each had been mended, and long after the last.
        let mut now = 0;
        criterion.bench_function(
            &format!("from one interface's message to its repair, {interfaces} interfaces"),
            |bench| {
                bench.iter(|| {
                    now += 1_000_000_000;
                    guard.netconf(&netconf(3, 0), now);
                    let repair = guard.next_repair(now).expect("a repair");
                    let outcome = Outcome {
                        found: Ok("0".into()),
                        write: Some(Ok(())),
                        now: Some("1".into()),
                        finished: now,
                        write_usec: 1,
                    };
                    let absorb = guard.done(repair, outcome);
                    guard.netconf(&netconf(3, 1), now);
                    guard.tick(now);
                    (absorb, guard.take_records())
                });
            },
        );
        let first = snapshot(interfaces);
        criterion.bench_function(&format!("the first full read, {interfaces} interfaces"), |bench| {
            bench.iter_with_large_drop(|| {
                let mut guard = Guard::new(policy.clone());
                guard.snapshot(&first, Cause::Start);
                guard
            });
        });
        let everything = Snapshot { links: None, ..snapshot(interfaces) };
        criterion.bench_function(&format!("a full read that finds nothing, {interfaces} interfaces"), |bench| {
            bench.iter(|| guard.snapshot(&everything, Cause::Audit));
        });
    }
}

/// Of this thread's network namespace, a new one each time.
fn dumps(criterion: &mut Criterion) {
    for interfaces in INTERFACES {
        let names = (1..interfaces).map(|number| format!("link add ifb{number} type ifb"));
        if let Err(error) = node::unshare(libc::CLONE_NEWNET).and_then(|()| node::batch(names)) {
            return eprintln!("a dump of {interfaces} interfaces is not measured: {error}");
        }
        let mut dumps = Dumps::open().expect("a socket");
        criterion.bench_function(&format!("a dump of {interfaces} interfaces"), |bench| {
            bench.iter(|| dumps.netconf(Family::V4).expect("a dump").len());
        });
    }
}

criterion_group!(benches, steps, dumps);
criterion_main!(benches);
