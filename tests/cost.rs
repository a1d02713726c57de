//! What a repair costs, in counts that no load changes: system calls of the guard thread, and allocations of the guard.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::{Namespace, Running, Trace, guard_thread, run, sysctl_write, wait_sysctl};
use fwdguard::kernel::message::Link;
use fwdguard::kernel::netconf::NetconfMessage;
use fwdguard::kernel::sysctl::Outcome;
use fwdguard::policy::Policy;
use fwdguard::report::record::Cause;
use fwdguard::state::{Snapshot, State};

/// Counts what the calling thread allocates.
struct Counting;

thread_local!(static ALLOCATIONS: Cell<u64> = const { Cell::new(0) });

// SAFETY: it does what the system's allocator does.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps alloc's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps dealloc's contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn message(ifindex: i32, forwarding: i32) -> NetconfMessage {
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

/// Allocations from one interface's message to the end of its repair, the most of some.
fn allocations(interfaces: i32) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let mut state = State::new(Arc::new(Policy::load(folder.path())));
    let link = |ifindex| Link { ifindex, name: format!("if{ifindex}").as_str().into(), up: None, mtu: None };
    let netconf = (1..=interfaces).chain([-1, -2]).map(|ifindex| message(ifindex, 1)).collect();
    let links = Some((1..=interfaces).map(link).collect());
    state.apply_snapshot(&Snapshot { links, netconf, redirects: None, at: 0 }, Cause::Start);
    while state.next_repair(0).is_some() {}
    let step = |round: u64| {
        let (at, before) = (round * 1_000_000_000, ALLOCATIONS.get());
        state.apply_netconf(&message(3, 0), at);
        let repair = state.next_repair(at).expect("a repair");
        let (found, now) = (Ok("0".into()), Some("1".into()));
        let outcome = Outcome { found, write: Some(Ok(())), now, finished: at, write_usec: 1 };
        assert_eq!(state.complete(repair, outcome), None);
        state.apply_netconf(&message(3, 1), at);
        assert_eq!(state.take_records().len(), 1);
        state.tick(at);
        ALLOCATIONS.get() - before
    };
    (1..20).map(step).max().unwrap()
}

/// The guard that is traced shares the processors with no other test of this file.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn a_step_of_the_guard_allocates_no_more_with_more_interfaces() {
    let _alone = alone();
    let (few, many) = (allocations(4), allocations(5000));
    assert!(few <= 32, "{few} allocations");
    assert!(many <= few, "{few} allocations with 4 interfaces, {many} with 5000");
}

const FLIPS: usize = 20;

/// System calls of the guard thread for each repair of `key`, including those that read messages and log the repair; and those
/// from its wake-up to the write.
fn system_calls(interfaces: usize, key: &str) -> (f64, usize) {
    let ns = Namespace::enter();
    for number in 1..interfaces {
        run(&format!("ip link add if{number} type ifb"));
    }
    ns.write("/etc/fwdguard.d/10.conf", "net.ipv4.ip_forward = 1\nnet.ipv4.conf.*.forwarding = 1\n");
    let guard = Running::start(&ns, |command| command);
    let flip = || {
        sysctl_write(key, "0");
        wait_sysctl(key, "1");
        std::thread::sleep(Duration::from_millis(30));
    };
    flip(); // opens the file
    // The guard checks later what it wrote, however often it wrote.
    std::thread::sleep(Duration::from_secs(4));
    let trace = Trace::of(guard_thread(guard.pid()), &ns);
    (0..FLIPS).for_each(|_| flip());
    let trace = trace.finish();
    let mut calls = 0;
    let (mut woken_at, mut until_write) = (None, Vec::new());
    // While another process holds the RTNL lock, the kernel has a write begin anew, as often as that takes.
    let is_restart = |line: &&str| line.contains("ERESTARTNOINTR");
    for line in trace.lines().filter(|line| !is_restart(line)) {
        calls += 1;
        if line.starts_with("ppoll(") {
            woken_at = Some(calls);
        } else if line.starts_with("pwrite64") {
            until_write.extend(woken_at.take().map(|woken_at| calls - woken_at - 1));
        }
    }
    // Some of the writes follow from others (`all.accept_redirects`).
    until_write.sort_unstable();
    (calls as f64 / FLIPS as f64, until_write[until_write.len() / 4])
}

/// The folder in /proc of the program's thread named "guard".
#[test]
fn a_repair_takes_a_fixed_number_of_system_calls() {
    let _alone = alone();
    let [of_all, of_all_of_many] = [4, 320].map(|interfaces| counted(interfaces, "net/ipv4/ip_forward"));
    let ((of_all, until_write), (of_all_of_many, _)) = (of_all, of_all_of_many);
    assert!(of_all <= 34.0, "{of_all} system calls for each repair of ip_forward");
    assert!(until_write <= 2, "{until_write} of them before it is written");
    // For each interface the guard receives a message about the drift, and one about its repair.
    assert!(
        of_all_of_many <= of_all + 2.0 * 316.0,
        "{of_all_of_many} system calls for each repair of it with 320 interfaces"
    );
    let [few, many] = [4, 200].map(|interfaces| counted(interfaces, "net/ipv4/conf/if3/forwarding"));
    let ((few, until_write), (many, _)) = (few, many);
    assert!(until_write <= 2, "{until_write} system calls before an interface's setting is written");
    assert!(few <= 18.0, "{few} system calls for each repair of an interface");
    println!("{of_all} for ip_forward, {of_all_of_many} with 320 interfaces, {few} for one interface, {many} of 200");
    assert!(many <= few + 1.0, "{few} system calls with 4 interfaces, {many} with 200");
}

/// In namespaces of a thread's own.
fn counted(interfaces: usize, key: &'static str) -> (f64, usize) {
    std::thread::spawn(move || system_calls(interfaces, key)).join().unwrap()
}
