//! Who repairs: the guard, the floor, and what administrators do instead. Each as a process of its own.

use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Signal, set_parent_process_death_signal, setpriority_process, setsid};

use crate::floor;
use crate::node::{ROOT, Target, What};

const NOTIFY_SOCKET: &str = "/run/notify";
/// What its unit says (`Nice=`).
const GUARD_NICENESS: i32 = -15;
/// Until a contender has come to rest.
const SETTLED: Duration = Duration::from_millis(300);

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Contender {
    Floor,
    /// Of new interfaces.
    FloorOfNew,
    Guard,
    Inotify,
    Monitor,
}

impl Contender {
    pub const ALL: [Contender; 4] = [Contender::Floor, Contender::Guard, Contender::Inotify, Contender::Monitor];

    pub fn name(self) -> &'static str {
        match self {
            Contender::Floor | Contender::FloorOfNew => "the floor",
            Contender::Guard => "fwdguard",
            Contender::Inotify => "an inotify loop",
            Contender::Monitor => "ip monitor and sysctl",
        }
    }

    /// Becomes this one. The guard is a program of its own.
    pub fn be(self, target: &Target) -> Result<()> {
        match self {
            Contender::Floor => floor::floor(target)?,
            Contender::FloorOfNew => floor::floor_of_new(target)?,
            Contender::Inotify => floor::inotify_loop(target)?,
            Contender::Monitor => bail!("{}", Command::new("sh").args(["-c", &floor::monitor_loop(target)]).exec()),
            Contender::Guard => {}
        }
        Ok(())
    }

    /// Starts it in the calling thread's namespaces, for this setting, and as the guard is started.
    pub fn start(self, guard: &Guard, target: &Target) -> Result<Running> {
        self.start_as(guard, target, as_a_service)
    }

    /// The same, but all except the guard are ordinary processes.
    pub fn start_ordinary(self, guard: &Guard, target: &Target) -> Result<Running> {
        self.start_as(guard, target, as_a_child)
    }

    fn start_as(self, guard: &Guard, target: &Target, prepared: fn(&mut Command) -> &mut Command) -> Result<Running> {
        let running = if self == Contender::Guard {
            guard.start()?
        } else {
            let name = clap::ValueEnum::to_possible_value(&self).context("a name")?;
            let mut command = Command::new("/proc/self/exe");
            command.args(["be", name.get_name(), &target.to_text()]).stdout(Stdio::piped());
            let mut child = Running(prepared(&mut command).spawn()?);
            BufReader::new(child.0.stdout.take().context("piped")?).read_line(&mut String::new())?;
            child
        };
        std::thread::sleep(SETTLED);
        Ok(running)
    }

    /// Whether it can put this right at all, within a time that can be waited for.
    pub fn can(self, what: What, interfaces: usize) -> bool {
        self != Contender::Monitor || (what == What::IpForward && interfaces <= 1000)
    }
}

/// The program to measure.
pub struct Guard {
    pub program: PathBuf,
}

impl Guard {
    /// Starts it and waits until it is READY.
    pub fn start(&self) -> Result<Running> {
        self.start_timed().map(|(running, _)| running)
    }

    /// The same, and how long that took.
    pub fn start_timed(&self) -> Result<(Running, Duration)> {
        let _ = std::fs::remove_file(NOTIFY_SOCKET);
        let notify = UnixDatagram::bind(NOTIFY_SOCKET)?;
        notify.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut command = Command::new(&self.program);
        command.args(["run", "--audit-interval", "86400", "--root", ROOT]);
        as_a_service(&mut command);
        command.env("NOTIFY_SOCKET", NOTIFY_SOCKET).env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/run/no-bus");
        let since = Instant::now();
        let running = Running(command.stderr(Stdio::null()).spawn()?);
        let mut buffer = [0; 4096];
        loop {
            let length = notify.recv(&mut buffer).context("the guard is not READY")?;
            if String::from_utf8_lossy(&buffer[..length]).contains("READY=1") {
                return Ok((running, since.elapsed()));
            }
        }
    }
}

/// In a session of its own, at the niceness of the guard's unit; it does not outlive the thread that starts it.
fn as_a_service(command: &mut Command) -> &mut Command {
    let alone = || {
        setsid()?;
        set_parent_process_death_signal(Some(Signal::KILL))?;
        Ok(setpriority_process(None, GUARD_NICENESS)?)
    };
    // SAFETY: three system calls, which take no memory and no lock of this process.
    unsafe { command.pre_exec(alone) }
}

/// In a group of its own; it does not outlive the thread that starts it.
fn as_a_child(command: &mut Command) -> &mut Command {
    let mortal = || Ok(set_parent_process_death_signal(Some(Signal::KILL))?);
    // SAFETY: a system call, which takes no memory and no lock of this process.
    unsafe { command.process_group(0).pre_exec(mortal) }
}

/// A process with those that it started; they go with this.
pub struct Running(Child);

impl Running {
    /// Starts any program.
    pub fn start(command: &mut Command) -> Result<Running> {
        Ok(Running(as_a_child(command).spawn()?))
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    pub fn signal(&self, signal: libc::c_int) {
        // SAFETY: kill(2) takes no pointer; the child has not been waited for, so that its number is its own.
        unsafe { libc::kill(self.pid() as libc::pid_t, signal) };
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // SAFETY: kill(2) takes no pointer; the child leads its group and has not been waited for.
        unsafe { libc::kill(-(self.pid() as libc::pid_t), libc::SIGKILL) };
        let _ = self.0.wait();
    }
}
