//! The cost of other events on a node: start, audits, memory, pods that come and go, a process that works against it, rest.

use std::fs;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::time::{ClockId, clock_gettime};

use crate::contender::{GUARD, Running, ready_beyond_nothing};
use crate::document::{Run, percentile};
use crate::floor;
use crate::node::{Node, What, output, run as run_line};

const TIMEOUT: Duration = Duration::from_secs(30);
/// A guard thread that has not run for this long has finished its work.
const DONE: Duration = Duration::from_millis(40);
/// The service pings the watchdog after every third of the unit's `WatchdogSec=`.
const PING: u64 = 10;

/// Start, audit and memory.
pub fn life(node: &Node, run: &mut Run, rounds: usize) -> Result<()> {
    let row = format!("{} interfaces", node.interfaces);
    let mut readies = (0..rounds).map(|_| ready_beyond_nothing()).collect::<Result<Vec<_>>>()?;
    let running = Running::service(GUARD)?;
    let pid = running.pid()?;
    let (mut dumps, mut audits) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let before = spent();
        floor::dump()?;
        dumps.push(spent() - before);
        let before = guards_time(pid)?;
        run_line(&format!("kill -USR1 {pid}"))?;
        let (mut last, mut since) = (before, Instant::now());
        while since.elapsed() < DONE || last == before {
            sleep(Duration::from_millis(2));
            let now = guards_time(pid)?;
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
        audits.push(last - before);
    }
    let [dump, audit, ready] = [&mut dumps, &mut audits, &mut readies].map(|times| percentile(times, 50));
    run.take("Start, audit and memory", &row, "dump, µs", dump);
    run.take("Start, audit and memory", &row, "audit / dump", audit / dump);
    run.take("Start, audit and memory", &row, "start to READY / dump", ready / dump);
    run.take("Start, audit and memory", &row, "memory, MiB", resident_kib(pid)? as f64 / 1024.0);
    Ok(())
}

/// Processor time that the calling thread has used.
fn spent() -> Duration {
    let spent = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(spent.tv_sec as u64, spent.tv_nsec as u32)
}

fn resident_kib(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// The parsed content of one file in /proc of each thread, with the thread's name.
fn of_threads<T>(pid: u32, file: &str, read: impl Fn(&str) -> Option<T>) -> Result<Vec<(String, T)>> {
    let mut all = Vec::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let thread = thread?.path();
        let value = read(&fs::read_to_string(thread.join(file))?).with_context(|| file.to_owned())?;
        all.push((fs::read_to_string(thread.join("comm"))?.trim().to_owned(), value));
    }
    Ok(all)
}

fn processor_times(pid: u32) -> Result<Vec<(String, Duration)>> {
    of_threads(pid, "schedstat", |text| text.split(' ').next()?.parse().ok().map(Duration::from_nanos))
}

fn processor_time(pid: u32) -> Result<Duration> {
    Ok(processor_times(pid)?.into_iter().map(|(_, time)| time).sum())
}

fn guards_time(pid: u32) -> Result<Duration> {
    let guards = processor_times(pid)?.into_iter().find(|(name, _)| name == "guard");
    guards.map(|(_, time)| time).context("a thread that is called guard")
}

fn wake_ups(pid: u32) -> Result<u64> {
    let count = |text: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        line.trim().parse::<u64>().ok()
    };
    Ok(of_threads(pid, "status", count)?.into_iter().map(|(_, count)| count).sum())
}

/// An `ip` process that executes one command for each line that is written to it.
struct Ip(Child);

impl Ip {
    fn start() -> Result<Ip> {
        Ok(Ip(Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn()?))
    }

    fn command(&mut self, line: &str) -> Result<()> {
        Ok(writeln!(self.0.stdin.as_mut().context("piped")?, "{line}")?)
    }
}

impl Drop for Ip {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// This many pods come and go, one every 30 ms.
pub fn storm(run: &mut Run, pods: usize) -> Result<()> {
    const TITLE: &str = "Pods come and go, 33 a second";
    const STAY: usize = 10;
    let running = Running::service(GUARD)?;
    let pid = running.pid()?;
    let (since, before) = (Instant::now(), processor_time(pid)?);
    let mut ip = Ip::start()?;
    for pod in 0..pods {
        ip.command(&format!("link add newpod{pod} type veth peer name pod{pod}"))?;
        ip.command(&format!("link set newpod{pod} up"))?;
        if pod >= STAY {
            ip.command(&format!("link del newpod{}", pod - STAY))?;
        }
        sleep((Duration::from_millis(30) * pod as u32).saturating_sub(since.elapsed()));
    }
    drop(ip);
    let took = since.elapsed();
    for pod in pods.saturating_sub(STAY)..pods {
        let path = format!("/proc/sys/net/ipv4/conf/newpod{pod}/rp_filter");
        while fs::read_to_string(&path)?.trim() != "2" {
            if since.elapsed() > took + TIMEOUT {
                bail!("newpod{pod} was not put right within {TIMEOUT:?}");
            }
        }
    }
    let until = since.elapsed() - took;
    let spent = processor_time(pid)? - before;
    run.take(TITLE, "fwdguard", "of a processor, %", spent.as_secs_f64() / took.as_secs_f64() * 100.0);
    run.take(TITLE, "fwdguard", "until the last are right, µs", until.as_secs_f64() * 1e6);
    for pod in pods.saturating_sub(STAY)..pods {
        run_line(&format!("ip link del newpod{pod}"))?;
    }
    Ok(())
}

/// A process writes 0 without end. Measuring starts after its immediate repairs have used up their share.
pub fn contest(node: &Node, run: &mut Run) -> Result<()> {
    const TITLE: &str = "Another program keeps changing ip_forward back";
    const BEFORE: Duration = Duration::from_secs(10);
    const MEASURED: Duration = Duration::from_secs(12);
    let running = Running::service(GUARD)?;
    let pid = running.pid()?;
    let target = node.target(What::IpForward);
    let file = fs::OpenOptions::new().write(true).open(target.path())?;
    let goes_on = &AtomicBool::new(true);
    scope(|threads| {
        threads.spawn(move || {
            while goes_on.load(Ordering::Relaxed) {
                _ = file.write_at(target.wrong.as_bytes(), 0);
            }
        });
        let measured = (|| {
            sleep(BEFORE);
            let before = (processor_time(pid)?, records()?, Instant::now());
            sleep(MEASURED);
            let took = before.2.elapsed().as_secs_f64();
            let spent = processor_time(pid)? - before.0;
            run.take(TITLE, "fwdguard", "of a processor, %", spent.as_secs_f64() / took * 100.0);
            run.take(TITLE, "fwdguard", "records a minute", (records()? - before.1) as f64 / took * 60.0);
            Ok(())
        })();
        goes_on.store(false, Ordering::Relaxed);
        measured
    })
}

/// How many records of the service the journal has.
fn records() -> Result<usize> {
    Ok(output(&["journalctl", "--quiet", "--output=cat", "--unit", GUARD])?.lines().count())
}

/// Idles for this many seconds, rounded up to whole periods of the watchdog.
pub fn quiet(run: &mut Run, seconds: usize) -> Result<()> {
    const TITLE: &str = "Idle";
    let running = Running::service(GUARD)?;
    let pid = running.pid()?;
    sleep(Duration::from_secs(5)); // the work that follows the start is over by then
    let turns = (seconds as u64).div_ceil(PING);
    let before = (processor_time(pid)?, wake_ups(pid)?);
    sleep(Duration::from_secs(turns * PING));
    let (spent, woken) = (processor_time(pid)? - before.0, wake_ups(pid)? - before.1);
    run.take(TITLE, "fwdguard", "wake-ups per watchdog interval", woken as f64 / turns as f64);
    run.take(
        TITLE,
        "fwdguard",
        "of a processor, µs a minute",
        spent.as_secs_f64() * 1e6 / (turns * PING) as f64 * 60.0,
    );
    Ok(())
}
