//! What was measured as tables, and which goals hold.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::contender::{Contender, Guard};

/// What is measured against what, and how much it may be: names of values, as [`Section::value`] takes them.
const GOALS: &[(&str, &str, &str, f64)] = &[
    (
        "time to repair ip_forward, p50, 4 interfaces",
        "ip_forward, 4, fwdguard, p50",
        "ip_forward, 4, the floor, p50",
        1.5,
    ),
    (
        "time to repair ip_forward, p99, 4 interfaces",
        "ip_forward, 4, fwdguard, p99",
        "ip_forward, 4, the floor, p99",
        2.0,
    ),
    (
        "time to repair ip_forward, p50, 1,000 interfaces",
        "ip_forward, 1000, fwdguard, p50",
        "ip_forward, 1000, the floor, p50",
        1.5,
    ),
    (
        "time to repair ip_forward, p99, 1,000 interfaces",
        "ip_forward, 1000, fwdguard, p99",
        "ip_forward, 1000, the floor, p99",
        2.0,
    ),
    (
        "one interface's forwarding, p50, 10,000 interfaces against 4",
        "one interface's forwarding, 10000, fwdguard, p50",
        "one interface's forwarding, 4, fwdguard, p50",
        2.0,
    ),
    ("full audit of 10,000 interfaces", "audit, 10000", "dump, 10000", 1.5),
    ("start to READY, 10,000 interfaces", "ready, 10000", "dump, 10000", 3.0),
    ("resident memory, 4 interfaces, MiB", "memory, 4", "", 4.0),
    ("resident memory with a bus, after repairs, MiB", "memory, after repairs", "", 4.0),
    ("resident memory, 10,000 interfaces, MiB", "memory, 10000", "", 12.0),
    ("wake-ups when nothing happens, for each turn of the watchdog's timer", "wake-ups", "watchdog's", 2.0),
    ("packets lost per flip of 100,000/s, 4 interfaces", "lost, fwdguard", "lost, the floor", 2.0),
    ("time to repair ip_forward on a busy node, p99", "busy, fwdguard, p99", "busy, the floor, p99", 0.1),
    (
        "new interface right after its RTM_NEWLINK, p99, 1,000 interfaces, against one repair, p99",
        "new interface, 1000, after its RTM_NEWLINK, fwdguard, p99",
        "beside new interface, 1000, after its RTM_NEWLINK, fwdguard, p99",
        3.0,
    ),
    (
        "new interface while it is still made, p99, 1,000 interfaces, against one repair, p99",
        "new interface, 1000, after its settings came, fwdguard, p99",
        "beside new interface, 1000, after its settings came, fwdguard, p99",
        3.0,
    ),
    (
        "new interface while it is still made, p99, 1,000 interfaces, against one repair, p50",
        "new interface, 1000, after its settings came, fwdguard, p99",
        "beside new interface, 1000, after its settings came, fwdguard, p50",
        3.0,
    ),
    ("who holds RTNL, beside a guard that waits for it", "holder, fwdguard", "holder, nobody", 1.1),
];

/// Of goals that may not hold, by their beginning: what holds them up, as traces of the scheduler and of system calls show it.
const HOLDS_UP: &[(&str, &str)] = &[
    (
        "start to READY",
        "the kernel is asked for each interface's name by a call of its own (SIOCGIFNAME), which together take longer than the \
         dump; a second thread does that meanwhile, as far as the machine has a processor for it. A process has to start, too.",
    ),
    (
        "time to repair ip_forward on a busy node",
        "in the moment of its wake-up the guard's processor is marked for a switch, as traces show of all rounds that took long; \
         in those it took notice 0.3 to 2.5 ms later. What its host takes of a virtual one (the last row of its table) may \
         be a part of that.",
    ),
    (
        "who holds RTNL",
        "each repair spins for 0.1 ms before it waits asleep, and has its own work on the same processor, 50 times a second; what \
         else the machine does shows, too.",
    ),
    (
        "new interface right after its RTM_NEWLINK",
        "one round of a hundred decides it. In slow ones that were traced the guard was on its processor, or next, and either \
         stood still for 0.3 ms or more between two steps that take microseconds, or the interrupt that was to switch to it came \
         1 ms late. Why is not known.",
    ),
    (
        "new interface while it is still made",
        "between its settings and its RTM_NEWLINK whoever makes it is in the kernel, for some 100 µs. If the other processor is \
         busy, here with looking on, the guard is woken on this one and has to wait for him, as the floor has to.",
    ),
];

/// One table.
pub struct Section {
    title: String,
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
    values: BTreeMap<String, f64>,
}

impl Section {
    pub fn new(title: impl Into<String>, columns: &[&str]) -> Section {
        let columns = columns.iter().map(|&column| column.to_owned()).collect();
        Section { title: title.into(), columns, rows: Vec::new(), values: BTreeMap::new() }
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Something that a goal asks for.
    pub fn value(&mut self, name: impl Into<String>, value: f64) {
        self.values.insert(name.into(), value);
    }

    /// Rows of a comparison, the floor first: ratios, then what the clock said. Values are NAME, CONTENDER, PERCENTILE.
    pub fn compare(&mut self, what: &str, name: &str, times: Vec<(Contender, Vec<Duration>)>) {
        let mut floor = None;
        for (contender, mut times) in times {
            let (p50, p99) = (percentile(&mut times, 50), percentile(&mut times, 99));
            let (floor50, floor99) = *floor.get_or_insert((p50, p99));
            self.row([
                what.into(),
                contender.name().into(),
                format!("{:.2}", p50 / floor50),
                format!("{:.2}", p99 / floor99),
                format!("{p50:.0}"),
                format!("{p99:.0}"),
                times.len().to_string(),
            ]);
            self.value(format!("{name}, {}, p50", contender.name()), p50);
            self.value(format!("{name}, {}, p99", contender.name()), p99);
        }
    }
}

/// Of a comparison, with its ratios.
pub const COMPARED: &[&str] = &["what", "who", "p50 / floor's", "p99 / floor's", "p50, µs", "p99, µs", "rounds"];

/// The percentile, in microseconds.
pub fn percentile(times: &mut [Duration], percent: usize) -> f64 {
    times.sort_unstable();
    let time = times.get((times.len() * percent / 100).min(times.len().saturating_sub(1))).copied();
    time.unwrap_or_default().as_secs_f64() * 1e6
}

/// Everything.
pub struct Document {
    machine: String,
    sections: Vec<Section>,
    /// Something could not be measured.
    pub failed: bool,
}

impl Document {
    pub fn new(guard: &Guard) -> Result<Document> {
        let first = |path: &str, key: &str| {
            let text = fs::read_to_string(path).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.split_once(':'));
            line.map_or("unknown".to_owned(), |(_, value)| value.trim().to_owned())
        };
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").context("osrelease")?;
        let processors = std::thread::available_parallelism()?;
        let (model, memory) = (first("/proc/cpuinfo", "model name"), first("/proc/meminfo", "MemTotal"));
        let kind =
            if first("/proc/cpuinfo", "flags").contains("hypervisor") { "a virtual machine" } else { "a machine" };
        let size = fs::metadata(&guard.program)?.len() / 1024;
        let machine = format!(
            "Measured on {kind} with {processors} processors ({model}), {memory} of memory, Linux {}; the program has {size} KiB.",
            kernel.trim()
        );
        Ok(Document { machine, sections: Vec::new(), failed: false })
    }

    /// What was measured, or why it could not be.
    pub fn take(&mut self, measured: Result<Section>) {
        self.sections.push(measured.unwrap_or_else(|error| {
            self.failed = true;
            eprintln!("bench: not measured: {error:#}");
            let mut section = Section::new("Not measured", &["why"]);
            section.row([format!("{error:#}")]);
            section
        }));
    }

    fn value(&self, name: &str) -> Option<f64> {
        self.sections.iter().find_map(|section| section.values.get(name).copied())
    }

    /// One line each.
    fn goals(&self) -> Vec<[String; 4]> {
        let measured = |&(what, of, against, at_most): &(&str, &str, &str, f64)| {
            let against = if against.is_empty() { Some(1.0) } else { self.value(against) };
            let (ratio, holds) = match self.value(of).zip(against).map(|(value, against)| value / against) {
                Some(ratio) if ratio <= at_most => (format!("{ratio:.2}"), "holds"),
                Some(ratio) => (format!("{ratio:.2}"), "does not hold"),
                None => (String::new(), "not measured"),
            };
            [what.to_owned(), ratio, format!("{at_most}"), holds.to_owned()]
        };
        GOALS.iter().map(measured).collect()
    }

    /// For the terminal.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        for [what, ratio, at_most, holds] in self.goals() {
            // A String takes every write.
            let _ = writeln!(text, "{holds:14} {ratio:>8} of at most {at_most:4}  {what}");
        }
        text
    }

    /// The whole, as Markdown.
    pub fn text(&self) -> String {
        let mut text = format!(
            "# Performance\n\nWritten by `make bench`; ratios of one run, side by side on one machine. Times are those of that \
             machine and no promise.\n\n{}\n\n\
             The floor is the least that a program can do that waits for netconf messages: a loop of direct system calls that\n\
             receives one and writes, without a policy, a record or a second setting (`benches/node/floor.rs`). A change of\n\
             `ip_forward` is told of while it still holds the RTNL lock, so who hears of it later, as an inotify loop does,\n\
             may be quicker with it. fwdguard runs as its unit starts it, at nice -15 and in a session of its own, but without\n\
             its sandbox, and so do all others; on the busy node all others are at 0. Drifts come at least 10 ms apart. A time\n\
             runs from the beginning of the write that breaks the setting. Audits are timed inside the harness, in a build that\n\
             is optimised less. A systemd path unit or timer is not here: its service manager has the host's namespaces.\n\
             `ip monitor` is measured with `ip_forward` alone, and with 1,000 interfaces at most.\n",
            self.machine
        );
        let goals = self.goals().into_iter().map(Vec::from).collect::<Vec<_>>();
        table(&mut text, "Goals", &["what", "measured", "at most", ""].map(str::to_owned), &goals);
        let failed = |what: &str| goals.iter().any(|goal| goal[0].starts_with(what) && goal[3] != "holds");
        for (what, why) in HOLDS_UP.iter().filter(|(what, _)| failed(what)) {
            let _ = write!(text, "\nWhat holds up *{what}*: {why}\n");
        }
        for section in &self.sections {
            table(&mut text, &section.title, &section.columns, &section.rows);
        }
        text
    }
}

fn table(text: &mut String, title: &str, columns: &[String], rows: &[Vec<String>]) {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let _ = write!(text, "\n## {title}\n\n{}|{}\n", line(columns), "---|".repeat(columns.len()));
    rows.iter().for_each(|row| text.push_str(&line(row)));
}
