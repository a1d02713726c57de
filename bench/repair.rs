//! How long a setting stays wrong: it is broken by a write, and read until it is right again.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::contender::{Contender, Running};
use crate::document::Run;
use crate::floor;
use crate::node::{Node, Target, What};

/// A contender that takes longer has failed.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How many turns each contender takes, so that other load on the machine falls on all of them.
const TURNS: usize = 2;

/// A setting to break, and the one that changes last when it is repaired.
pub struct Flips {
    target: Target,
    file: File,
    last_target: Target,
    last: File,
    /// The socket on which the kernel announces the repair; without it, a busy loop reads the setting, on a processor of its own.
    announcements: Option<OwnedFd>,
}

/// How the benchmark learns that a setting is right.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// It reads the setting in a busy loop.
    Always,
    /// It waits for the kernel's announcement, so that it takes no processor time from the program that repairs.
    Announced,
}

impl Flips {
    pub fn new(node: &Node, what: What, look: Look) -> io::Result<Flips> {
        let open = |target: &Target| OpenOptions::new().read(true).write(true).open(target.path());
        let target = node.target(what);
        // A change of `all` is complete when the last interface has it.
        let last_target = if what == What::IpForward { node.target(What::OneInterface) } else { target.clone() };
        let (file, last) = (open(&target)?, open(&last_target)?);
        let announcements =
            (look == Look::Announced).then(|| floor::listen(floor::RTNLGRP_IPV4_NETCONF)).transpose()?;
        let flips = Flips { target, file, last_target, last, announcements };
        flips.file.write_at(flips.target.right.as_bytes(), 0)?;
        Ok(flips)
    }

    /// Breaks the setting and waits until it is right. The time counts from the start of the breaking write.
    pub fn once(&self) -> Result<Duration> {
        let since = Instant::now();
        self.file.write_at(self.target.wrong.as_bytes(), 0)?;
        while !(self.is_right(&self.file)? && self.is_right(&self.last)?) {
            if let Some(announcements) = &self.announcements {
                floor::receive_value(announcements, &self.last_target, &self.last_target.right)?;
            }
            if since.elapsed() > TIMEOUT {
                bail!("{} was not put right within {TIMEOUT:?}", self.target.key);
            }
        }
        Ok(since.elapsed())
    }

    fn is_right(&self, file: &File) -> io::Result<bool> {
        let mut now = [0];
        file.read_at(&mut now, 0)?;
        Ok(now == self.target.right.as_bytes())
    }

    /// Does that `rounds` times, with a pause after each.
    pub fn many(&self, rounds: usize, between: Duration) -> Result<Vec<Duration>> {
        let mut times = Vec::with_capacity(rounds);
        for _ in 0..rounds {
            times.push(self.once()?);
            sleep(between);
        }
        Ok(times)
    }

    /// Breaks the setting `rounds` times and reads it only after a pause, so that no reader or listener adds to the cost.
    pub fn unwatched(&self, rounds: usize, between: Duration) -> Result<()> {
        for _ in 0..rounds {
            let since = Instant::now();
            self.file.write_at(self.target.wrong.as_bytes(), 0)?;
            sleep(between);
            while !(self.is_right(&self.file)? && self.is_right(&self.last)?) {
                if since.elapsed() > TIMEOUT {
                    bail!("{} was not put right within {TIMEOUT:?}", self.target.key);
                }
                sleep(between);
            }
        }
        Ok(())
    }
}

/// Nothing else runs but the thread that reads the setting.
pub fn unloaded(node: &Node, run: &mut Run, rounds: &dyn Fn(usize) -> usize) -> Result<()> {
    let title = format!("Time to repair, {} interfaces", node.interfaces);
    for what in What::ALL {
        let flips = Flips::new(node, what, Look::Always)?;
        let contenders = Contender::ALL.into_iter().filter(|contender| contender.can(what, node.interfaces));
        let mut times: Vec<(Contender, Vec<Duration>)> = contenders.map(|contender| (contender, Vec::new())).collect();
        let count = rounds(match (what, node.interfaces) {
            (What::IpForward, 10_000) => 6,
            (What::IpForward, 1000) => 60,
            (_, 4) => 200,
            _ => 60,
        });
        for _ in 0..TURNS {
            for (contender, times) in &mut times {
                let running = contender.start(&node.target(what), true)?;
                times.extend(flips.many(count.div_ceil(TURNS), between(what, node.interfaces))?);
                drop(running);
            }
        }
        run.compare(&title, what.name(), times);
    }
    Ok(())
}

/// The pause between two drifts, which is longer than the guard's pause after a repair.
pub const APART: Duration = Duration::from_millis(10);

/// Long enough for the guard to stay within its share of a processor: a change of `all` changes every interface.
fn between(what: What, interfaces: usize) -> Duration {
    let fan_out = if what == What::IpForward { interfaces as u32 } else { 0 };
    APART + Duration::from_micros(60) * fan_out
}

/// The number of busy loops for each processor.
const BUSY_LOOPS: usize = 3;

/// Three busy loops on each processor, as pods have them in their slice, or daemons in the service's own. The thread that reads
/// has a real-time policy, so that its own waiting is not measured.
pub fn busy(node: &Node, slice: &str, run: &mut Run, rounds: usize) -> Result<()> {
    let title = format!("Time to repair beside busy loops in {slice}");
    let processors = std::thread::available_parallelism()?.get();
    let loops = loops(slice, processors * BUSY_LOOPS)?;
    real_time()?;
    let flips = Flips::new(node, What::IpForward, Look::Announced)?;
    let mut times = [(Contender::Floor, Vec::new()), (Contender::Guard, Vec::new())];
    let mut waited = Duration::ZERO;
    let before = processors_time()?;
    for _ in 0..TURNS {
        for (contender, times) in &mut times {
            let running = contender.start(&node.target(What::IpForward), false)?;
            let pid = running.pid()?;
            groups::place("system.slice", pid)?;
            let wait = || if *contender == Contender::Guard { waited_for_processor(pid) } else { Ok(waited) };
            let before = wait()?;
            times.extend(flips.many(rounds.div_ceil(TURNS), Duration::from_millis(10))?);
            waited += wait()?.saturating_sub(before);
            drop(running);
        }
    }
    let now = processors_time()?;
    let [stolen, all] = [0, 1].map(|at| now[at] - before[at]);
    drop(loops);
    ordinary()?;
    let repairs = times[1].1.len();
    run.compare(&title, "ip_forward", times.into());
    let waited = waited.as_secs_f64() * 1e6 / repairs as f64;
    run.take("The busy node", slice, "the guard thread waits for a processor, of each repair, µs", waited);
    run.take("The busy node", slice, "processor time taken by the host (steal), %", stolen as f64 / all as f64 * 100.0);
    Ok(())
}

/// Starts this many busy loops.
fn loops(slice: &str, count: usize) -> Result<Vec<Running>> {
    let start = |number: usize| {
        let command = ["sh", "-c", "while :; do :; done"].map(str::to_owned);
        let unit = format!("loop{number}.service");
        let running = Running::transient(&unit, &[&format!("--slice={slice}")], &command)?;
        groups::place(slice, running.pid()?)?;
        Ok(running)
    };
    (0..count).map(start).collect()
}

/// In ticks (proc_stat(5)): what a virtual machine's host took (`steal`), and all.
fn processors_time() -> Result<[u64; 2]> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let ticks: Vec<u64> =
        stat.lines().next().context("stat")?.split(' ').filter_map(|word| word.parse().ok()).collect();
    Ok([*ticks.get(7).context("steal")?, ticks.iter().take(8).sum()])
}

/// How long the guard's thread was ready to run but did not run.
fn waited_for_processor(pid: u32) -> Result<Duration> {
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let thread = thread?.path();
        if std::fs::read_to_string(thread.join("comm"))?.trim() == "guard" {
            let schedstat = std::fs::read_to_string(thread.join("schedstat"))?;
            return Ok(Duration::from_nanos(schedstat.split(' ').nth(1).context("schedstat")?.parse()?));
        }
    }
    bail!("no thread of {pid} is the guard's")
}

/// SCHED_FIFO for the calling thread, not for its children.
fn real_time() -> io::Result<()> {
    schedule(libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, 1)
}

fn ordinary() -> io::Result<()> {
    schedule(libc::SCHED_OTHER, 0)
}

fn schedule(policy: libc::c_int, sched_priority: libc::c_int) -> io::Result<()> {
    let parameter = libc::sched_param { sched_priority };
    // SAFETY: `parameter` lives through the call; 0 is the calling thread.
    match unsafe { libc::sched_setscheduler(0, policy, &raw const parameter) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The processor's control groups of version 1, which a container's systemd can't write: `run.sh` binds the container's own, and
/// processes are put where systemd and kubelet have them on a node. With version 2 systemd does it.
mod groups {
    use std::fs;
    use std::path::Path;

    use anyhow::Result;

    const ROOT: &str = "/run/bench-cpu";

    /// kubelet gives its slice 1024 shares for each processor.
    pub fn place(slice: &str, pid: u32) -> Result<()> {
        if !Path::new(ROOT).join("cpu.shares").exists() {
            return Ok(());
        }
        let group = Path::new(ROOT).join(slice);
        fs::create_dir_all(&group)?;
        if slice == "kubepods.slice" {
            fs::write(group.join("cpu.shares"), (1024 * std::thread::available_parallelism()?.get()).to_string())?;
        }
        Ok(fs::write(group.join("cgroup.procs"), pid.to_string())?)
    }
}
