//! A guard on a node of its own, on which nothing happens.

use std::iter;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::bus::{self, Bus};
use crate::common::{self, Namespace, reworded};
use crate::contender::Guard;
use crate::document::Section;
use crate::life::{processor_time, resident_kib, wake_ups};
use crate::node::POLICY;

/// WatchdogSec= of the unit; the guard's timer has a third of that.
const WATCHDOG: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);
/// Before its memory is looked at.
const REPAIRS: usize = 50;
/// Until what comes after the start is over: no link has changed, which would have looks for another 30 s.
const SETTLED: Duration = Duration::from_secs(5);

/// See the module's documentation.
pub struct Quiet {
    end: Sender<()>,
    measured: JoinHandle<Result<Section>>,
}

impl Quiet {
    /// For at least so long, with a bus and logind, as on a node. (That a bus which is not there wakes nobody is tested.)
    pub fn start(guard: &Guard, at_least: Duration) -> Result<Quiet> {
        let (end, ended) = channel();
        let program = guard.program.clone().into_os_string();
        let measured = std::thread::spawn(move || {
            let ns = Namespace::enter();
            ns.write("etc/fwdguard.d/10.conf", POLICY);
            // A repair is kept in mind for a minute, and then forgotten.
            common::sysctl_write("net/ipv4/ip_forward", "1");
            for name in ["all", "default", "lo"] {
                common::sysctl_write(&format!("net/ipv4/conf/{name}/rp_filter"), "0");
            }
            let bus = Bus::start(&ns);
            let logind = bus.logind(false);
            let mut running = common::Running::start(&ns, |command| {
                command
                    .env("DBUS_SYSTEM_BUS_ADDRESS", bus::ADDRESS)
                    .env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
                reworded(command, |words| iter::once(program).chain(words.into_iter().skip(1)).collect())
            });
            logind.wait_inhibitors(1, 1);
            sleep(SETTLED);
            running.notifications();
            let (since, cpu, wakes) = (Instant::now(), processor_time(running.pid())?, wake_ups(running.pid())?);
            let (mut turns, mut over) = (0, false);
            while !over || since.elapsed() < at_least {
                if over {
                    sleep(SECOND);
                } else {
                    over = ended.recv_timeout(SECOND) != Err(RecvTimeoutError::Timeout);
                }
                // The service manager's queue holds ten.
                turns += running.notifications().iter().filter(|state| state.contains("WATCHDOG=1")).count();
            }
            let (cpu, wakes) = (processor_time(running.pid())? - cpu, wake_ups(running.pid())? - wakes);
            let mut section = Section::new("Nothing happens", &["what", "measured"]);
            section.row(["for, s".into(), format!("{:.0}", since.elapsed().as_secs_f64())]);
            section.row(["wake-ups of all threads".into(), wakes.to_string()]);
            section.row(["turns of the watchdog's timer, in which two threads wake up".into(), turns.to_string()]);
            section.row([
                "processor, µs a minute".into(),
                format!("{:.0}", cpu.as_secs_f64() * 6e7 / since.elapsed().as_secs_f64()),
            ]);
            section.value("wake-ups", wakes as f64);
            section.value("watchdog's", turns as f64);
            // With all that a service has: a bus, logind, an interface, and repairs behind it.
            common::run("ip link add ifb0 type ifb");
            for key in ["net/ipv4/ip_forward", "net/ipv4/conf/ifb0/forwarding"] {
                for _ in 0..REPAIRS {
                    common::sysctl_write(key, "0");
                    common::wait_sysctl(key, "1");
                }
            }
            let memory = resident_kib(running.pid())? as f64 / 1024.0;
            section.row(["resident memory then, after some repairs, MiB".into(), format!("{memory:.2}")]);
            section.value("memory, after repairs", memory);
            Ok(section)
        });
        Ok(Quiet { end, measured })
    }

    pub fn end(self) -> Result<Section> {
        let _ = self.end.send(());
        self.measured.join().unwrap_or_else(|_| bail!("it panicked"))
    }
}
