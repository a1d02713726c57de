//! 100 drifts a second over many settings, with interfaces that come and go: memory and descriptors stay flat, every drift
//! is repaired and logged once, and the journal keeps its limits. Some seconds as a test; `make soak` for as long as it takes.

#[path = "../common/mod.rs"]
mod common;
mod drifts;
mod samples;

use std::time::{Duration, Instant};

use common::{Namespace, Running, reworded};
use drifts::Drifts;
use samples::Samples;

/// How long, and another build than the test's.
const SECONDS: &str = "FWDGUARD_SOAK_SECONDS";
const PROGRAM: &str = "FWDGUARD_PROGRAM";
const SECONDS_AS_A_TEST: u64 = 20;
const DRIFT_EVERY: Duration = Duration::from_millis(10);
const SAMPLE_EVERY: Duration = Duration::from_secs(5);
const CHURN_EVERY: Duration = Duration::from_secs(1);
/// A pause of the whole machine is not made up for: that would be a flood.
const LATE: Duration = Duration::from_millis(200);

#[test]
fn soak() {
    let seconds = std::env::var(SECONDS).map_or(SECONDS_AS_A_TEST, |text| text.parse().expect("a number of seconds"));
    let ns = Namespace::enter();
    let mut drifts = Drifts::prepare(&ns);
    let mut guard = Running::start(&ns, |command| match std::env::var_os(PROGRAM) {
        None => command,
        Some(program) => reworded(command, |words| std::iter::once(program).chain(words.into_iter().skip(1)).collect()),
    });
    println!("{} settings, {seconds} s", drifts.settings());
    let (begun, mut samples) = (Instant::now(), Samples::of(guard.pid()));
    let (mut next, mut sample, mut churn) = (begun, begun, begun);
    while begun.elapsed() < Duration::from_secs(seconds) {
        drifts.drift();
        if churn.elapsed() >= CHURN_EVERY {
            churn = Instant::now();
            drifts.churn();
        }
        if sample.elapsed() >= SAMPLE_EVERY {
            sample = Instant::now();
            samples.take(begun.elapsed().as_secs(), drifts.made);
            drifts.count(guard.take_records());
            guard.notifications(); // a service manager reads; else the status would wait for it in the end
        }
        next += DRIFT_EVERY;
        match next.checked_duration_since(Instant::now()) {
            Some(rest) => std::thread::sleep(rest),
            None if next.elapsed() > LATE => next = Instant::now(),
            None => {}
        }
    }
    let elapsed = begun.elapsed();
    drifts.all_hold();
    let (status, records) = guard.stop();
    drifts.count(records);
    let faults: Vec<String> = samples.faults().into_iter().chain(drifts.faults(elapsed)).collect();
    samples.print();
    drifts.print(elapsed);
    assert!(status.success(), "the guard ended with {status}");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
