//! A guard on a node of its own, on which nothing happens.

use std::iter;
use std::sync::mpsc::{Sender, channel};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::bus::{self, Bus};
use crate::common::{self, Namespace, reworded};
use crate::contender::Guard;
use crate::document::Section;
use crate::life::{processor_time, wake_ups};
use crate::node::POLICY;

/// WatchdogSec= of the unit; the guard's timer has a third of that.
const WATCHDOG: Duration = Duration::from_secs(30);
/// Until what comes after the start is over.
const SETTLED: Duration = Duration::from_secs(35);

/// See the module's documentation.
pub struct Quiet {
    end: Sender<()>,
    measured: JoinHandle<Result<Section>>,
}

impl Quiet {
    /// For at least so long. A search for a bus or for logind would be something, so both are there.
    pub fn start(guard: &Guard, at_least: Duration) -> Result<Quiet> {
        let (end, ended) = channel();
        let program = guard.program.clone().into_os_string();
        let measured = std::thread::spawn(move || {
            let ns = Namespace::enter();
            ns.write("etc/fwdguard.d/10.conf", POLICY);
            let bus = Bus::start(&ns);
            let logind = bus.logind(false);
            let running = common::Running::start(&ns, |command| {
                command
                    .env("DBUS_SYSTEM_BUS_ADDRESS", bus::ADDRESS)
                    .env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
                reworded(command, |words| iter::once(program).chain(words.into_iter().skip(1)).collect())
            });
            logind.wait_inhibitors(1, 1);
            sleep(SETTLED);
            let (since, cpu, wakes) = (Instant::now(), processor_time(running.pid())?, wake_ups(running.pid())?);
            let _ = ended.recv();
            sleep(at_least.saturating_sub(since.elapsed()));
            let (cpu, wakes) = (processor_time(running.pid())? - cpu, wake_ups(running.pid())? - wakes);
            // As many as a span of this length can have in it.
            let ticks = (since.elapsed().as_secs_f64() / (WATCHDOG / 3).as_secs_f64()).ceil();
            let mut section = Section::new("Nothing happens", &["what", "measured"]);
            section.row(["for, s".into(), format!("{:.0}", since.elapsed().as_secs_f64())]);
            section.row(["wake-ups of all threads".into(), wakes.to_string()]);
            section.row(["turns of the watchdog's timer, two wake-ups each".into(), format!("{ticks:.0}")]);
            section.row([
                "processor, µs a minute".into(),
                format!("{:.0}", cpu.as_secs_f64() * 6e7 / since.elapsed().as_secs_f64()),
            ]);
            section.value("wake-ups", wakes as f64);
            section.value("watchdog's", ticks);
            Ok(section)
        });
        Ok(Quiet { end, measured })
    }

    pub fn end(self) -> Result<Section> {
        let _ = self.end.send(());
        self.measured.join().unwrap_or_else(|_| bail!("it panicked"))
    }
}
