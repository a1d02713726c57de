//! Resident memory and open files of the guard over time, and whether they are flat.

use std::fs;

/// Memory after [`LATER`] seconds is compared with memory after this many; a run that is shorter than that, with memory after
/// a third of it.
const REFERENCE: u64 = 60;
const LATER: u64 = 600;
const MEMORY_PERCENT: u64 = 5;
/// Interfaces that come and go have files of their own.
const FILES: f64 = 8.0;
const ROWS: usize = 30;

struct Sample {
    at: u64,
    memory_kib: u64,
    files: usize,
    drifts: u64,
}

pub struct Samples {
    pid: u32,
    samples: Vec<Sample>,
}

impl Samples {
    pub fn of(pid: u32) -> Samples {
        Samples { pid, samples: Vec::new() }
    }

    pub fn take(&mut self, at: u64, drifts: u64) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("the guard runs");
        let memory =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().split(' ').next()?.parse().ok());
        let files = fs::read_dir(format!("/proc/{}/fd", self.pid)).expect("the guard runs").count();
        self.samples.push(Sample { at, memory_kib: memory.expect("VmRSS"), files, drifts });
    }

    /// The sample at a time, or the last before it.
    fn at(&self, seconds: u64) -> Option<&Sample> {
        self.samples.iter().rev().find(|sample| sample.at <= seconds)
    }

    pub fn faults(&self) -> Vec<String> {
        let end = self.samples.last().map_or(0, |sample| sample.at);
        let reference = if end < LATER { end / 3 } else { REFERENCE };
        let mut faults = Vec::new();
        let Some(early) = self.at(reference) else { return vec!["too short a run for a sample".into()] };
        for late in [self.at(LATER), self.samples.last()].into_iter().flatten() {
            if late.memory_kib.abs_diff(early.memory_kib) * 100 > early.memory_kib * MEMORY_PERCENT {
                faults.push(format!(
                    "memory was {} KiB after {} s and {} KiB after {} s",
                    early.memory_kib, early.at, late.memory_kib, late.at
                ));
            }
        }
        let later: Vec<&Sample> = self.samples.iter().filter(|sample| sample.at >= reference).collect();
        let mean = |samples: &[&Sample]| samples.iter().map(|s| s.files as f64).sum::<f64>() / samples.len() as f64;
        let (first, last) = later.split_at(later.len() / 2);
        if !first.is_empty() && mean(last) > mean(first) + FILES {
            faults.push(format!("open files grow: {:.1} on average, then {:.1}", mean(first), mean(last)));
        }
        faults
    }

    pub fn print(&self) {
        println!("{:>8} {:>12} {:>8} {:>10}", "seconds", "memory KiB", "files", "drifts");
        let last = self.samples.len().saturating_sub(1);
        for (number, sample) in self.samples.iter().enumerate() {
            if number % (self.samples.len() / ROWS).max(1) == 0 || number == last {
                println!("{:>8} {:>12} {:>8} {:>10}", sample.at, sample.memory_kib, sample.files, sample.drifts);
            }
        }
    }
}
