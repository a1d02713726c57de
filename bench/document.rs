//! What was measured, run by run, as tables of medians with their spread, and which goals hold.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::contender::Contender;

/// Table, row and column of a number, and the most that its median over all runs may be.
const GOALS: &[(&str, &str, &str, f64)] = &[
    ("Time to repair, 4 interfaces", "ip_forward: fwdguard", "p50 / floor's", 1.5),
    ("Time to repair, 4 interfaces", "ip_forward: fwdguard", "p99 / floor's", 2.0),
    ("Time to repair, 1000 interfaces", "ip_forward: fwdguard", "p50 / floor's", 1.5),
    ("Time to repair, 1000 interfaces", "ip_forward: fwdguard", "p99 / floor's", 2.0),
    ("Time to repair beside busy loops in system.slice", "ip_forward: fwdguard", "p99 / floor's", 0.1),
    ("Time to repair beside busy loops in kubepods.slice", "ip_forward: fwdguard", "p99 / floor's", 0.1),
    ("A stream of 100,000 packets a second", "fwdguard", "lost / floor's", 2.0),
    ("Start, audit and memory", "10000 interfaces", "audit / dump", 1.5),
    ("Start, audit and memory", "10000 interfaces", "start to READY / dump", 5.0),
    ("Start, audit and memory", "4 interfaces", "memory, MiB", 4.0),
    ("Start, audit and memory", "10000 interfaces", "memory, MiB", 12.0),
    ("Another program keeps changing ip_forward back", "fwdguard", "of a processor, %", 8.0),
    ("Another program keeps changing ip_forward back", "fwdguard", "records a minute", 300.0),
    ("Idle", "fwdguard", "wake-ups per watchdog interval", 2.0),
];

/// The numbers of one run, in the order in which they were measured.
pub struct Run {
    notes: Vec<String>,
    cells: Vec<Cell>,
}

struct Cell {
    table: String,
    row: String,
    column: String,
    value: f64,
}

impl Run {
    pub fn new() -> Result<Run> {
        let first = |path: &str, key: &str| {
            let text = fs::read_to_string(path).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.split_once(':'));
            line.map_or("unknown".to_owned(), |(_, value)| value.trim().to_owned())
        };
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").context("osrelease")?;
        let processors = std::thread::available_parallelism()?;
        let (model, memory) = (first("/proc/cpuinfo", "model name"), first("/proc/meminfo", "MemTotal"));
        let is_virtual = first("/proc/cpuinfo", "flags").contains("hypervisor");
        let kind = if is_virtual { "a virtual machine" } else { "a machine" };
        let size = fs::metadata("/usr/sbin/fwdguard").context("the package is not installed")?.len() / 1024;
        let machine = format!(
            "Measured on {kind} with {processors} processors ({model}), {memory} of memory, Linux {}; the program has {size} KiB.",
            kernel.trim()
        );
        Ok(Run { notes: vec![machine], cells: Vec::new() })
    }

    /// A sentence for the document, which is taken from the first run.
    pub fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    pub fn take(&mut self, table: &str, row: &str, column: &str, value: f64) {
        self.cells.push(Cell { table: table.into(), row: row.into(), column: column.into(), value });
    }

    /// Rows of a comparison, the floor first.
    pub fn compare(&mut self, table: &str, what: &str, times: Vec<(Contender, Vec<Duration>)>) {
        let mut floor = None;
        for (contender, mut times) in times {
            let row = format!("{what}: {}", contender.name());
            let (p50, p99) = (percentile(&mut times, 50), percentile(&mut times, 99));
            let (floor50, floor99) = *floor.get_or_insert((p50, p99));
            self.take(table, &row, "p50 / floor's", p50 / floor50);
            self.take(table, &row, "p99 / floor's", p99 / floor99);
            self.take(table, &row, "p50, µs", p50);
            self.take(table, &row, "p99, µs", p99);
            self.take(table, &row, "rounds", times.len() as f64);
        }
    }

    /// A line for each number, and for each note.
    pub fn text(&self) -> String {
        let notes = self.notes.iter().map(|note| format!("{note}\n"));
        let cell = |cell: &Cell| format!("{}\t{}\t{}\t{}\n", cell.table, cell.row, cell.column, cell.value);
        notes.chain(self.cells.iter().map(cell)).collect()
    }

    pub fn from_text(text: &str) -> Run {
        let (mut notes, mut cells) = (Vec::new(), Vec::new());
        for line in text.lines() {
            match line.split('\t').collect::<Vec<_>>()[..] {
                [table, row, column, value] => {
                    let value = value.parse().unwrap_or(f64::NAN);
                    cells.push(Cell { table: table.into(), row: row.into(), column: column.into(), value });
                }
                _ => notes.push(line.into()),
            }
        }
        Run { notes, cells }
    }

    fn value(&self, table: &str, row: &str, column: &str) -> Option<f64> {
        let is = |cell: &&Cell| (&*cell.table, &*cell.row, &*cell.column) == (table, row, column);
        self.cells.iter().find(is).map(|cell| cell.value)
    }
}

/// The percentile, in microseconds.
pub fn percentile(times: &mut [Duration], percent: usize) -> f64 {
    times.sort_unstable();
    let time = times.get((times.len() * percent / 100).min(times.len().saturating_sub(1))).copied();
    time.unwrap_or_default().as_secs_f64() * 1e6
}

/// All runs.
pub struct Document(Vec<Run>);

impl Document {
    pub fn of(runs: Vec<Run>) -> Result<Document> {
        ensure!(!runs.is_empty() && runs.iter().all(|run| !run.cells.is_empty()), "a run has measured nothing");
        Ok(Document(runs))
    }

    /// Sorted; the number of each run.
    fn values(&self, table: &str, row: &str, column: &str) -> Vec<f64> {
        let mut values: Vec<f64> = self.0.iter().filter_map(|run| run.value(table, row, column)).collect();
        values.sort_by(f64::total_cmp);
        values
    }

    /// One line each.
    fn goals(&self) -> Vec<[String; 4]> {
        let measured = |&(table, row, column, at_most): &(&str, &str, &str, f64)| {
            let values = self.values(table, row, column);
            let holds = match median(&values) {
                Some(value) if value <= at_most => "holds",
                Some(_) => "does not hold",
                None => "not measured",
            };
            [format!("{table}, {row}: {column}"), shown(&values), format!("{at_most}"), holds.into()]
        };
        GOALS.iter().map(measured).collect()
    }

    /// For the terminal.
    pub fn summary(&self) -> String {
        let line = |[what, value, at_most, holds]: [String; 4]| {
            format!("{holds:14} {value:>20} of at most {at_most:4}  {what}\n")
        };
        self.goals().into_iter().map(line).collect()
    }

    /// The whole document, as Markdown.
    pub fn text(&self) -> String {
        let mut text = format!(
            "# Performance\n\nWritten by `make bench`: the median of {} runs, and in brackets the minimum and maximum. Times are those of \
             one machine and no promise.\n\n{}\n\n\
             fwdguard is the service from the package, started by systemd in a container: with its system call filter, capabilities,\n\
             limits, niceness and control group, and with journald beside it. Each run is a container of its own. All others are units of\n\
             the same systemd at the same niceness, without a sandbox; in the runs beside busy loops\n\
             their niceness is 0. The floor is the least that a\n\
             program can do that waits for netconf messages: a loop of direct system calls that receives one and writes, without a\n\
             policy, a record or a second setting (`bench/floor.rs`). The kernel announces a change of `ip_forward` while it still holds\n\
             the RTNL lock, so a program that learns of it later, as an inotify loop does, may be quicker. Drifts come at least 10 ms\n\
             apart. A time runs from the beginning of the write that breaks the setting. An audit is the processor's time that the guard\n\
             thread takes for one, a dump that of a bare one of RTM_GETNETCONF. From start to READY is what the service takes longer than\n\
             its unit with a program that sends READY at once. Beside busy loops p99 varies from run to run on this kernel (EEVDF, a tick of\n\
             4 ms): it gives a woken thread the average progress of its group, whatever its niceness, and a loop that has made less and\n\
             whose deadline is earlier runs first, until the next tick. That affects some 1 to 4 % of all repairs.\n",
            self.0.len(),
            self.0[0].notes.join(" ")
        );
        let goals = self.goals().into_iter().map(Vec::from).collect::<Vec<_>>();
        table(&mut text, "Goals", &["what", "measured", "at most", ""].map(str::to_owned), &goals);
        for title in in_order(self.0[0].cells.iter().map(|cell| &*cell.table)) {
            let cells = || self.0[0].cells.iter().filter(|cell| cell.table == title);
            let columns = in_order(cells().map(|cell| &*cell.column));
            let row = |row: &str| {
                let values = columns.iter().map(|column| shown(&self.values(title, row, column)));
                std::iter::once(row.to_owned()).chain(values).collect()
            };
            let rows: Vec<Vec<String>> = in_order(cells().map(|cell| &*cell.row)).into_iter().map(row).collect();
            let columns: Vec<String> = std::iter::once("").chain(columns.iter().copied()).map(str::to_owned).collect();
            table(&mut text, title, &columns, &rows);
        }
        text
    }
}

/// Each item once, where it comes first.
fn in_order<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut once = Vec::new();
    names.for_each(|name| {
        if !once.contains(&name) {
            once.push(name)
        }
    });
    once
}

fn median(sorted: &[f64]) -> Option<f64> {
    sorted.get(sorted.len() / 2).copied()
}

/// `1.23 (1.10 to 1.40)`
fn shown(sorted: &[f64]) -> String {
    let number =
        |value: f64| if value >= 100.0 || value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.2}") };
    match (median(sorted), sorted.first(), sorted.last()) {
        (Some(median), Some(least), Some(most)) if least != most => {
            format!("{} ({} to {})", number(median), number(*least), number(*most))
        }
        (Some(median), ..) => number(median),
        (None, ..) => String::new(),
    }
}

fn table(text: &mut String, title: &str, columns: &[String], rows: &[Vec<String>]) {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let _ = write!(text, "\n## {title}\n\n{}|{}\n", line(columns), "---|".repeat(columns.len()));
    rows.iter().for_each(|row| text.push_str(&line(row)));
}
