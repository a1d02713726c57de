//! The programs that repair: the installed service, the floor, and what administrators use instead, each a unit of one systemd.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::document::Run;
use crate::floor;
use crate::node::{Target, What, output, run};

pub const GUARD: &str = "fwdguard.service";
/// The service's unit with a program that reports READY at once.
const NOTHING: &str = "bench-nothing.service";
const OTHER: &str = "bench-contender.service";
/// As in the service's unit file.
const NICENESS: &str = "Nice=-15";
/// How long a contender needs to become idle.
const START_TIME: Duration = Duration::from_millis(300);

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Contender {
    Floor,
    Guard,
    Inotify,
    Monitor,
}

impl Contender {
    pub const ALL: [Contender; 4] = [Contender::Floor, Contender::Guard, Contender::Inotify, Contender::Monitor];

    pub fn name(self) -> &'static str {
        match self {
            Contender::Floor => "the floor",
            Contender::Guard => "fwdguard",
            Contender::Inotify => "an inotify loop",
            Contender::Monitor => "ip monitor and sysctl",
        }
    }

    /// Runs as this contender. The guard is a separate program.
    pub fn be(self, target: &Target) -> Result<()> {
        match self {
            Contender::Floor => floor::floor(target)?,
            Contender::Inotify => floor::inotify_loop(target)?,
            Contender::Guard | Contender::Monitor => bail!("not of this program"),
        }
        Ok(())
    }

    /// Starts the contender for this setting, with the service's niceness or without.
    pub fn start(self, target: &Target, nice: bool) -> Result<Running> {
        if self == Contender::Guard {
            return Running::service(GUARD);
        }
        let own = std::env::current_exe()?.display().to_string();
        let name = clap::ValueEnum::to_possible_value(&self).context("a name")?;
        let command = match self {
            Contender::Monitor => vec!["sh".into(), "-c".into(), floor::monitor_loop(target)],
            _ => vec![own, "be".into(), name.get_name().into(), target.to_text()],
        };
        let nice = if nice { NICENESS } else { "Nice=0" };
        Running::transient(OTHER, &["--property", nice], &command)
    }

    /// Whether the contender can repair this setting at all, and soon enough for the benchmark to wait.
    pub fn can(self, what: What, interfaces: usize) -> bool {
        self != Contender::Monitor || (what == What::IpForward && interfaces <= 1000)
    }
}

/// A unit that runs until this value is dropped.
pub struct Running(String);

impl Running {
    pub fn service(unit: &str) -> Result<Running> {
        run(&format!("systemctl start {unit}"))?;
        sleep(START_TIME);
        Ok(Running(unit.into()))
    }

    pub fn transient(unit: &str, options: &[&str], command: &[String]) -> Result<Running> {
        let unit_option = format!("--unit={unit}");
        let status = Command::new("systemd-run")
            .args(["--quiet", "--collect", "--service-type=exec", &unit_option])
            .args(options)
            .args(command)
            .status()?;
        ensure!(status.success(), "systemd-run {unit}: {status}");
        sleep(START_TIME);
        Ok(Running(unit.into()))
    }

    pub fn pid(&self) -> Result<u32> {
        Ok(property(&self.0, "MainPID")?.parse()?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = run(&format!("systemctl stop {}", self.0));
    }
}

pub fn property(unit: &str, name: &str) -> Result<String> {
    output(&["systemctl", "show", "--property", name, "--value", unit])
}

/// The time from fork to READY. A unit with a program that does nothing is measured too, since systemd sets up the same sandbox
/// for it.
fn start_to_ready(unit: &str) -> Result<Duration> {
    run(&format!("systemctl start {unit}"))?;
    let at = |name: &str| property(unit, name)?.parse::<u64>().context(name.to_owned());
    let took = at("ActiveEnterTimestampMonotonic")?.saturating_sub(at("ExecMainStartTimestampMonotonic")?);
    run(&format!("systemctl stop {unit}"))?;
    Ok(Duration::from_micros(took))
}

/// How much longer [`start_to_ready`] is for the service than for a program that does nothing.
pub fn ready_beyond_nothing() -> Result<Duration> {
    let [guard, nothing] = [start_to_ready(GUARD)?, start_to_ready(NOTHING)?];
    Ok(guard.saturating_sub(nothing))
}

/// Checks that the service runs as it is shipped: with its filter, capabilities, limits and niceness.
pub fn check_as_shipped(run: &mut Run) -> Result<()> {
    let running = Running::service(GUARD)?;
    let folder = format!("/proc/{}", running.pid()?);
    let status = fs::read_to_string(format!("{folder}/status"))?;
    let status: BTreeMap<_, _> = status.lines().filter_map(|line| line.split_once(":\t")).collect();
    for (name, value) in [("Seccomp", "2"), ("NoNewPrivs", "1"), ("CapEff", "0000000000001000")] {
        ensure!(status.get(name) == Some(&value), "{name} of the service is {:?}", status.get(name));
    }
    let limits = fs::read_to_string(format!("{folder}/limits"))?;
    ensure!(limits.lines().any(|line| line.starts_with("Max open files") && line.contains(" 2048 ")), "{limits}");
    let stat = fs::read_to_string(format!("{folder}/stat"))?;
    let niceness = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(16));
    ensure!(niceness == Some("-15"), "its niceness is {niceness:?}");
    let groups = fs::read_to_string(format!("{folder}/cgroup"))?;
    ensure!(groups.contains("/system.slice/fwdguard.service"), "{groups}");
    let is_limited = property(GUARD, "MemoryCurrent")?.parse::<u64>().is_ok();
    run.note(format!(
        "It was found to run with a system call filter, CAP_NET_ADMIN alone, 2048 descriptors and niceness -15, in \
         system.slice/fwdguard.service of systemd {}; MemoryMax= and TasksMax= {} in force in that container.",
        output(&["systemctl", "--version"])?.lines().next().unwrap_or_default().trim_start_matches("systemd "),
        if is_limited { "are" } else { "are not" }
    ));
    Ok(())
}
