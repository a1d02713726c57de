//! How long a setting stays wrong: it is broken by a write, and read until it is right again.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::contender::{Contender, Guard, Running};
use crate::document::{COMPARED, Section, percentile};
use crate::floor;
use crate::node::{Node, Target, What, run, within};

/// A contender that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(30);
/// Contenders take turns so often, so that what else the machine does falls on all of them.
const TURNS: usize = 3;

/// A setting to break, and what changes last when it is put right.
pub struct Flips {
    target: Target,
    file: File,
    last_target: Target,
    last: File,
    /// What tells of the repair; none to look without end, with a processor of its own.
    told: Option<OwnedFd>,
}

/// How it is known that a setting is right.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// By reading it without end.
    Always,
    /// By the kernel's word of it, so that no processor is taken from who repairs.
    Told,
}

impl Flips {
    pub fn new(node: &Node, what: What, look: Look) -> io::Result<Flips> {
        let open = |target: &Target| OpenOptions::new().read(true).write(true).open(target.path());
        let target = node.target(what);
        // A change of `all` is over when the last interface has it.
        let last_target = if what == What::IpForward { node.target(What::OneInterface) } else { target.clone() };
        let (file, last) = (open(&target)?, open(&last_target)?);
        let told = (look == Look::Told).then(|| floor::listen(floor::RTNLGRP_IPV4_NETCONF)).transpose()?;
        let flips = Flips { target, file, last_target, last, told };
        flips.file.write_at(flips.target.right.as_bytes(), 0)?;
        Ok(flips)
    }

    /// Breaks the setting and waits until it is right. From the beginning of the breaking write.
    pub fn once(&self) -> Result<Duration> {
        let since = Instant::now();
        self.file.write_at(self.target.wrong.as_bytes(), 0)?;
        while !(self.is_right(&self.file)? && self.is_right(&self.last)?) {
            if let Some(told) = &self.told {
                floor::hear(told, &self.last_target, &self.last_target.right)?;
            }
            if since.elapsed() > PATIENCE {
                bail!("{} was not put right within {PATIENCE:?}", self.target.key);
            }
        }
        Ok(since.elapsed())
    }

    /// Breaks the setting and puts it right.
    fn once_oneself(&self) -> io::Result<()> {
        self.file.write_at(self.target.wrong.as_bytes(), 0)?;
        self.file.write_at(self.target.right.as_bytes(), 0).map(drop)
    }

    fn is_right(&self, file: &File) -> io::Result<bool> {
        let mut now = [0];
        file.read_at(&mut now, 0)?;
        Ok(now == self.target.right.as_bytes())
    }

    /// As often as that, with time between.
    pub fn many(&self, rounds: usize, between: Duration) -> Result<Vec<Duration>> {
        let mut times = Vec::with_capacity(rounds);
        for _ in 0..rounds {
            times.push(self.once()?);
            sleep(between);
        }
        Ok(times)
    }

    /// As often, and looked at only after the time between, so that nobody's looking or listening is part of it.
    pub fn unwatched(&self, rounds: usize, between: Duration) -> Result<()> {
        for _ in 0..rounds {
            let since = Instant::now();
            self.file.write_at(self.target.wrong.as_bytes(), 0)?;
            sleep(between);
            while !(self.is_right(&self.file)? && self.is_right(&self.last)?) {
                if since.elapsed() > PATIENCE {
                    bail!("{} was not put right within {PATIENCE:?}", self.target.key);
                }
                sleep(between);
            }
        }
        Ok(())
    }
}

/// Nothing else runs but who looks.
pub fn unloaded(node: &Node, guard: &Guard, rounds: &dyn Fn(usize) -> usize) -> Result<Section> {
    let mut section = Section::new(format!("Time to repair, {} interfaces", node.interfaces), COMPARED);
    for what in What::ALL {
        let flips = Flips::new(node, what, Look::Always)?;
        let contenders = Contender::ALL.into_iter().filter(|contender| contender.can(what, node.interfaces));
        let mut times: Vec<(Contender, Vec<Duration>)> = contenders.map(|contender| (contender, Vec::new())).collect();
        let count = rounds(match (what, node.interfaces) {
            (What::IpForward, 10_000) => 12,
            (What::IpForward, 1000) => 150,
            (_, 4) => 600,
            _ => 300,
        });
        for _ in 0..TURNS {
            for (contender, times) in &mut times {
                let running = contender.start(guard, &node.target(what))?;
                times.extend(flips.many(count.div_ceil(TURNS), between(what, node.interfaces))?);
                drop(running);
            }
        }
        section.compare(what.name(), &format!("{}, {}", what.name(), node.interfaces), times);
    }
    Ok(section)
}

/// No two drifts come as fast as the guard's rest after a repair is long.
pub const APART: Duration = Duration::from_millis(10);

/// So long that the guard's own share of a processor holds: a change of `all` changes every interface.
fn between(what: What, interfaces: usize) -> Duration {
    let fan_out = if what == What::IpForward { interfaces as u32 } else { 0 };
    APART + Duration::from_micros(60) * fan_out
}

/// As many on each processor that compute without end.
const BUSY_LOOPS: usize = 3;

/// Three busy loops on each processor. Who looks has a real-time policy, so that its own waiting is not measured.
pub fn busy(node: &Node, guard: &Guard, rounds: &dyn Fn(usize) -> usize) -> Result<Section> {
    let mut section = Section::new("Time to repair on a busy node, 4 interfaces", COMPARED);
    let processors = std::thread::available_parallelism()?.get();
    let busy =
        (0..processors * BUSY_LOOPS).map(|_| Running::start(Command::new("sh").args(["-c", "while :; do :; done"])));
    let busy: Vec<Running> = busy.collect::<Result<_>>()?;
    real_time()?;
    let flips = Flips::new(node, What::IpForward, Look::Told)?;
    let mut times = [(Contender::Floor, Vec::new()), (Contender::Guard, Vec::new())];
    let mut waited = Duration::ZERO;
    let before = processors_time()?;
    for _ in 0..TURNS {
        for (contender, times) in &mut times {
            let running = contender.start_ordinary(guard, &node.target(What::IpForward))?;
            let wait = || if *contender == Contender::Guard { waited_for_processor(running.pid()) } else { Ok(waited) };
            let before = wait()?;
            times.extend(flips.many(rounds(600).div_ceil(TURNS), Duration::from_millis(10))?);
            waited += wait()?.saturating_sub(before);
            drop(running);
        }
    }
    let now = processors_time()?;
    let [stolen, all] = [0, 1].map(|at| now[at] - before[at]);
    drop(busy);
    let repairs = times[1].1.len();
    section.compare("ip_forward", "busy", times.into());
    let mean = format!("{:.0} on average", waited.as_secs_f64() * 1e6 / repairs as f64);
    let what = "its thread waits for a processor";
    section.row([what, "fwdguard", "", "", &mean, "", &repairs.to_string()].map(str::to_owned));
    let stolen = format!("{:.1} %", stolen as f64 / all as f64 * 100.0);
    section.row(["the host takes of the processors' time", "all", "", "", &stolen, "", ""].map(str::to_owned));
    Ok(section)
}

/// In ticks: what a virtual machine's host took of it (`steal`, proc_stat(5)), and all.
fn processors_time() -> Result<[u64; 2]> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let ticks: Vec<u64> =
        stat.lines().next().context("stat")?.split(' ').filter_map(|word| word.parse().ok()).collect();
    Ok([*ticks.get(7).context("steal")?, ticks.iter().take(8).sum()])
}

/// How long the guard's thread was ready to run and did not.
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

/// Keeps the calling thread on one processor.
fn stay_on(processor: usize) {
    let mut only = CpuSet::new();
    only.set(processor);
    _ = sched_setaffinity(None, &only);
}

/// SCHED_FIFO for the calling thread, not for its children.
fn real_time() -> io::Result<()> {
    let parameter = libc::sched_param { sched_priority: 1 };
    // SAFETY: `parameter` lives through the call; 0 is the calling thread.
    match unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const parameter) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// How many interfaces another node has, whose changes hold the RTNL lock that all share.
const HOLDERS_INTERFACES: usize = 1000;
const HELD_FOR: Duration = Duration::from_secs(1);
/// More than elsewhere: what else the machine does shows in the holder's time.
const HOLDERS_TURNS: usize = 8;

/// Another node on the same processor as the guard changes its own `ip_forward` without end: what does it lose by repairs
/// here, and how long do these take?
pub fn rtnl_held(node: &Node, guard: &Guard) -> Result<Section> {
    let columns = ["who repairs, each 20 ms", "the holder's time, of that with nobody", "p50, µs", "p99, µs"];
    let mut section = Section::new("RTNL is held on the guard's own processor", &columns);
    let (ends, changes) = (AtomicBool::new(false), AtomicU64::new(0));
    let (ends, changes) = (&ends, &changes);
    std::thread::scope(|threads| -> Result<()> {
        let holder = threads.spawn(move || {
            within(HOLDERS_INTERFACES, |holder| {
                stay_on(1);
                let file = OpenOptions::new().write(true).open(holder.target(What::IpForward).path())?;
                while !ends.load(Ordering::Relaxed) {
                    file.write_at(["0", "1"][changes.fetch_add(1, Ordering::Relaxed) as usize % 2].as_bytes(), 0)?;
                }
                Ok(())
            })
        });
        let measured = (|| {
            stay_on(0);
            while changes.load(Ordering::Relaxed) == 0 && !holder.is_finished() {
                sleep(Duration::from_millis(10));
            }
            let flips = Flips::new(node, What::IpForward, Look::Told)?;
            let contenders = [None, Some(Contender::Floor), Some(Contender::Guard)];
            let mut held = contenders.map(|contender| (contender, Duration::ZERO, 0, Vec::new()));
            for _ in 0..HOLDERS_TURNS {
                for (contender, time, count, times) in &mut held {
                    let start = |contender: Contender| contender.start(guard, &node.target(What::IpForward));
                    let running = contender.map(start).transpose()?;
                    if let Some(running) = &running {
                        run(&format!("taskset --all-tasks --cpu-list --pid 1 {}", running.pid()))?;
                    }
                    let (since, before) = (Instant::now(), changes.load(Ordering::Relaxed));
                    while since.elapsed() < HELD_FOR {
                        match running {
                            Some(_) => times.push(flips.once()?),
                            None => flips.once_oneself()?,
                        }
                        sleep(Duration::from_millis(20));
                    }
                    *time += since.elapsed();
                    *count += changes.load(Ordering::Relaxed) - before;
                }
            }
            let mut nobody = None;
            for (contender, time, count, mut times) in held {
                let each = time.as_secs_f64() / count as f64;
                let nobody = *nobody.get_or_insert(each);
                let name = contender.map_or("nobody but who breaks it", Contender::name);
                section.value(format!("holder, {}", contender.map_or("nobody", Contender::name)), each);
                let [p50, p99] = [50, 99].map(|percent| percentile(&mut times, percent));
                let mut cells =
                    [name.into(), format!("{:.2}", each / nobody), format!("{p50:.0}"), format!("{p99:.0}")];
                if times.is_empty() {
                    cells[2..].fill("".into());
                }
                section.row(cells);
            }
            Ok(())
        })();
        ends.store(true, Ordering::Relaxed);
        measured.and(holder.join().unwrap_or(Ok(())))
    })?;
    Ok(section)
}
