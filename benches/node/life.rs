//! What else a node's life asks of the guard: start, audits, new interfaces and storms.

use std::fs;
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use fwdguard::guard::{Move, Summary};
use fwdguard::keeper::{Keeper, Outlet};
use fwdguard::policy::Policy;
use fwdguard::report::record::{Cause, Record};

use crate::contender::{Contender, Guard};
use crate::document::{Section, percentile};
use crate::floor;
use crate::node::{Node, ROOT, Target, What};
use crate::repair::{APART, Flips, Look};

const PATIENCE: Duration = Duration::from_secs(30);
const JOURNAL_SOCKET: &str = "/run/systemd/journal/socket";

/// Start, audit, memory, and new interfaces.
pub fn life(node: &Node, guard: &Guard, rounds: &dyn Fn(usize) -> usize) -> Result<Section> {
    let count = node.interfaces;
    let mut section = Section::new(format!("Life with {count} interfaces"), &["what", "measured"]);
    let (mut dumps, mut audits, mut readies) = (Vec::new(), Vec::new(), Vec::new());
    let mut keeper = Keeper::new(Arc::new(Policy::load(ROOT.as_ref())), Arc::default(), Nobody)?;
    keeper.audit(Cause::Start);
    let mut memory = 0;
    for _ in 0..rounds(30) {
        dumps.push(timed(floor::dump)?);
        audits.push(timed(|| {
            keeper.audit(Cause::Audit);
            Ok(())
        })?);
        let (running, ready) = guard.start_timed()?;
        readies.push(ready);
        sleep(Duration::from_millis(100));
        memory = resident_kib(running.pid())?;
    }
    let dump = percentile(&mut dumps, 50);
    section.value(format!("dump, {count}"), dump);
    section.row(["a bare dump of RTM_GETNETCONF, µs".into(), format!("{dump:.0}")]);
    for (what, name, mut times) in [("full audit", "audit", audits), ("start to READY", "ready", readies)] {
        let time = percentile(&mut times, 50);
        section.value(format!("{name}, {count}"), time);
        section.row([format!("{what}, in bare dumps"), format!("{:.2}", time / dump)]);
    }
    section.value(format!("memory, {count}"), memory as f64 / 1024.0);
    section.row(["resident memory, MiB".into(), format!("{:.2}", memory as f64 / 1024.0)]);

    let target = Target { right: "2".into(), ..node.target(What::RpFilter) };
    let looks: &[Look] = if count == 1000 { &[Look::Told, Look::Always] } else { &[Look::Told] };
    for look in looks {
        for contender in [Contender::FloorOfNew, Contender::Guard] {
            let running = contender.start(guard, &target)?;
            let repairs = (contender == Contender::Guard).then(|| Flips::new(node, What::RpFilter, Look::Always));
            let rounds = rounds(if count == 1000 { 500 } else { 200 });
            let (new, beside) = new_interfaces(rounds, *look, repairs.transpose()?.as_ref())?;
            drop(running);
            let since = if *look == Look::Told { "after its RTM_NEWLINK" } else { "after its settings came" };
            let who = contender.name();
            for (what, name, mut times) in [
                (format!("a new interface right {since}"), "new interface", new),
                ("one repair beside it".into(), "beside new interface", beside),
            ] {
                if times.is_empty() {
                    continue; // the floor repairs nothing but new ones
                }
                let [p50, p99] = [50, 99].map(|percent| percentile(&mut times, percent));
                section.value(format!("{name}, {count}, {since}, {who}, p50"), p50);
                section.value(format!("{name}, {count}, {since}, {who}, p99"), p99);
                section.row([format!("{what}, p50 and p99, µs: {who}"), format!("{p50:.0}, {p99:.0}")]);
            }
        }
    }

    section.row(["the journal's cost, of each repair of ip_forward".into(), journal(node, guard, rounds(200))?]);
    Ok(section)
}

/// Takes what the guard has to say, and drops it.
struct Nobody;

impl Outlet for Nobody {
    fn tell(&mut self, _: Vec<Record>, _: Option<Summary>) {}
    fn moved(&mut self, _: Vec<Move>) {}
}

fn timed(act: impl FnOnce() -> io::Result<()>) -> Result<Duration> {
    let since = Instant::now();
    act()?;
    Ok(since.elapsed())
}

/// `ip` that does what it is told, line by line.
struct Ip(Child);

impl Ip {
    fn start() -> Result<Ip> {
        Ok(Ip(Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn()?))
    }

    fn tell(&mut self, line: &str) -> Result<()> {
        Ok(writeln!(self.0.stdin.as_mut().context("piped")?, "{line}")?)
    }
}

impl Drop for Ip {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// How long a new interface stays wrong: from when the kernel tells of it, as everybody learns of it; or from when its settings
/// are there, which is earlier, while whoever makes it is still in the kernel. Each is followed by a repair of another one, so
/// that what else the machine does falls on both.
fn new_interfaces(rounds: usize, look: Look, repairs: Option<&Flips>) -> Result<(Vec<Duration>, Vec<Duration>)> {
    let mut ip = Ip::start()?;
    let (mut times, mut beside) = (Vec::with_capacity(rounds), Vec::with_capacity(rounds));
    for number in 0..rounds {
        let name = format!("new{number}");
        let path = format!("/proc/sys/net/ipv4/conf/{name}/rp_filter");
        let links = floor::listen(floor::RTNLGRP_LINK)?;
        ip.tell(&format!("link add {name} type ifb"))?;
        let asked = Instant::now();
        while !(if look == Look::Told { floor::hear_of_link(&links, &name)? } else { fs::exists(&path)? }) {
            if asked.elapsed() > PATIENCE {
                bail!("{name} did not come");
            }
        }
        let since = Instant::now();
        while fs::read_to_string(&path)?.trim() != "2" {
            if since.elapsed() > PATIENCE {
                bail!("{name} was not put right within {PATIENCE:?}");
            }
        }
        times.push(since.elapsed());
        ip.tell(&format!("link del {name}"))?;
        while fs::exists(&path)? {}
        if let Some(repairs) = repairs {
            sleep(APART);
            beside.push(repairs.once()?);
        }
        sleep(APART);
    }
    Ok((times, beside))
}

/// What the thread that writes to the journal spends on a repair, and what all threads do.
fn journal(node: &Node, guard: &Guard, rounds: usize) -> Result<String> {
    let flips = Flips::new(node, What::IpForward, Look::Always)?;
    // The guard's share of a processor is limited, and with it what it repairs at once.
    let between = Duration::from_millis(5) + Duration::from_micros(150) * node.interfaces as u32;
    let rounds = if node.interfaces > 1000 { 10 } else { rounds };
    fs::create_dir_all("/run/systemd/journal")?;
    let socket = UnixDatagram::bind(JOURNAL_SOCKET)?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let reader = std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        let (mut bytes, mut idle) = (0, 0);
        while idle < 3 {
            match socket.recv(&mut buffer) {
                Ok(length) => (bytes, idle) = (bytes + length, 0),
                Err(_) => idle += 1,
            }
        }
        bytes
    });
    let running = Contender::Guard.start(guard, &node.target(What::IpForward))?;
    let spent = || Ok::<_, anyhow::Error>([reporters_time(running.pid())?, processor_time(running.pid())?]);
    let before = spent()?;
    flips.many(rounds, between)?;
    sleep(Duration::from_millis(300));
    let after = spent()?;
    drop(running);
    fs::remove_file(JOURNAL_SOCKET)?;
    let bytes = reader.join().unwrap_or_default() / rounds;
    let [reporter, all] = [0, 1].map(|at| (after[at] - before[at]).as_secs_f64() * 1e6 / rounds as f64);
    Ok(format!("{reporter:.0} µs of {all:.0} µs of a processor, {bytes} bytes"))
}

pub fn resident_kib(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// What one file of each thread says.
fn of_threads<T>(pid: u32, file: &str, read: impl Fn(&str) -> Option<T>) -> Result<Vec<T>> {
    let mut all = Vec::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = thread?.path().join(file);
        all.push(read(&fs::read_to_string(&path)?).with_context(|| path.display().to_string())?);
    }
    Ok(all)
}

pub fn processor_time(pid: u32) -> Result<Duration> {
    Ok(processor_times(pid)?.into_iter().sum())
}

fn processor_times(pid: u32) -> Result<Vec<Duration>> {
    of_threads(pid, "schedstat", |text| text.split(' ').next()?.parse().ok().map(Duration::from_nanos))
}

fn reporters_time(pid: u32) -> Result<Duration> {
    let names = of_threads(pid, "comm", |name| Some(name.trim() == "reporter"))?;
    Ok(names.iter().zip(processor_times(pid)?).filter(|(is_reporter, _)| **is_reporter).map(|(_, time)| time).sum())
}

pub fn wake_ups(pid: u32) -> Result<u64> {
    let count = |text: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        line.trim().parse().ok()
    };
    Ok(of_threads::<u64>(pid, "status", count)?.into_iter().sum())
}

/// 1,000 pods come and go within 30 seconds, and the messages of a change are lost on purpose.
pub fn storm(node: &Node, guard: &Guard) -> Result<Section> {
    const PODS: u32 = 1000;
    let mut section = Section::new("Storms", &["what", "measured"]);
    let running = Contender::Guard.start(guard, &node.target(What::OneInterface))?;
    let (since, cpu) = (Instant::now(), processor_time(running.pid())?);
    let mut ip = Ip::start()?;
    for pod in 0..PODS {
        ip.tell(&format!("link add newpod{pod} type veth peer name pod{pod}"))?;
        ip.tell(&format!("link set newpod{pod} up"))?;
        if pod >= 10 {
            ip.tell(&format!("link del newpod{}", pod - 10))?;
        }
        sleep((Duration::from_millis(30) * pod).saturating_sub(since.elapsed()));
    }
    drop(ip);
    let took = since.elapsed();
    for pod in PODS - 10..PODS {
        let path = format!("/proc/sys/net/ipv4/conf/newpod{pod}/rp_filter");
        while fs::read_to_string(&path)?.trim() != "2" {
            if since.elapsed() > took + PATIENCE {
                bail!("newpod{pod} was not put right within {PATIENCE:?}");
            }
        }
    }
    let held = since.elapsed() - took;
    let recovered = Flips::new(node, What::OneInterface, Look::Always)?.once()?;
    let spent = processor_time(running.pid())? - cpu;
    section.row(["1,000 pods come and go, s".into(), format!("{:.1}", took.as_secs_f64())]);
    section.row([
        "the guard's share of a processor, %".into(),
        format!("{:.2}", spent.as_secs_f64() / took.as_secs_f64() * 100.0),
    ]);
    section.row([
        "until those that stay are right, µs after the last came".into(),
        format!("{:.0}", held.as_secs_f64() * 1e6),
    ]);
    section.row(["a repair right after them, µs".into(), format!("{:.0}", recovered.as_secs_f64() * 1e6)]);
    Ok(section)
}

/// The guard is stopped until its buffer has overrun; then everything has to be read again.
pub fn overrun(node: &Node, guard: &Guard) -> Result<Section> {
    let mut section =
        Section::new(format!("The buffer overruns, {} interfaces", node.interfaces), &["what", "measured"]);
    let running = Contender::Guard.start(guard, &node.target(What::IpForward))?;
    let (all, one) = (node.target(What::IpForward).path(), node.target(What::RpFilter).path());
    running.signal(libc::SIGSTOP);
    for _ in 0..100 {
        fs::write(&all, "0")?;
        fs::write(&all, "1")?;
    }
    fs::write(&all, "0")?;
    fs::write(&one, "1")?;
    let cpu = processor_time(running.pid())?;
    let since = Instant::now();
    running.signal(libc::SIGCONT);
    while fs::read_to_string(&all)?.trim() != "1" || fs::read_to_string(&one)?.trim() != "0" {
        if since.elapsed() > PATIENCE {
            bail!("not put right within {PATIENCE:?}");
        }
    }
    let took = since.elapsed();
    sleep(Duration::from_secs(1));
    section.row(["until all is right, ms".into(), format!("{:.1}", took.as_secs_f64() * 1e3)]);
    section.row(["processor, ms".into(), format!("{:.1}", (processor_time(running.pid())? - cpu).as_secs_f64() * 1e3)]);
    Ok(section)
}
