//! Judges what `make incident` measured: a table for the terminal, and `incident.md` with the plot.

mod plot;
mod run;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use run::{Record, Run};

/// Traffic has to be back within this after the wake-up or the write, in seconds.
const BACK_WITHIN: f64 = 1.0;
/// A control has to be without any answer for so long at its end, in seconds.
const BROKEN_FOR: f64 = 15.0;

/// Exit status: 0 every control broke for good and every guarded node came back, with true records; else 1.
#[derive(Parser)]
struct Options {
    /// The folder with SCENARIO-guarded and SCENARIO-bare, and where incident.md and incident.svg go
    folder: PathBuf,
    /// In the order of the table
    #[arg(required = true)]
    scenarios: Vec<String>,
}

pub struct Scenario {
    pub title: String,
    pub guarded: Run,
    pub bare: Run,
}

/// The content of one row.
struct Verdict {
    control: String,
    outage: String,
    back: String,
    record: String,
    faults: Vec<String>,
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let scenarios: Vec<_> = options.scenarios.iter().map(|name| read(&options.folder, name)).collect::<Result<_>>()?;
    let verdicts: Vec<_> = scenarios.iter().map(judge).collect();

    print!("{}", table(&scenarios, &verdicts));
    fs::write(options.folder.join("incident.svg"), plot::svg(&scenarios))?;
    fs::write(options.folder.join("incident.md"), document(&scenarios, &verdicts))?;

    let faults = verdicts.iter().any(|verdict| !verdict.faults.is_empty());
    Ok(if faults { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn read(folder: &Path, name: &str) -> Result<Scenario> {
    let variant = |variant| {
        let folder = folder.join(format!("{name}-{variant}"));
        Run::read(&folder).with_context(|| folder.display().to_string())
    };
    let guarded = variant("guarded")?;
    Ok(Scenario { title: guarded.title.clone(), guarded, bare: variant("bare")? })
}

fn judge(scenario: &Scenario) -> Verdict {
    let Scenario { guarded, bare, .. } = scenario;
    let mut faults = Vec::new();
    for (run, who) in [(guarded, "guarded"), (bare, "control")] {
        if !run.flowed_before() {
            faults.push(format!("{who}: no steady traffic before anything was done"));
        }
    }

    let silent = bare.silent_at_end();
    let control = if silent >= BROKEN_FOR {
        format!("down for good ({silent:.0} s)")
    } else {
        faults.push(format!("control: no answer in the last {silent:.1} s only; it proves nothing"));
        format!("not broken ({silent:.1} s)")
    };

    let worst = guarded.outages().into_iter().max_by(|a, b| a.after_event.total_cmp(&b.after_event));
    let (outage, back) = match &worst {
        None => ("none".into(), "at once".into()),
        Some(worst) if !worst.over => ("not over".into(), "never".into()),
        Some(worst) => (format!("{:.2} s", worst.length), format!("{:.2} s", worst.after_event)),
    };
    if worst.is_some_and(|worst| !worst.over || worst.after_event > BACK_WITHIN) {
        faults.push(format!("guarded: traffic was not back within {BACK_WITHIN} s, or not for good"));
    }

    faults.extend(guarded.untrue());
    faults.extend(guarded.found.iter().map(|found| format!("guarded: {found}")));
    let record = guarded.records_of_truth().map(short).next().unwrap_or_else(|| "none".into());
    Verdict { control, outage, back, record, faults }
}

fn short(record: &Record) -> String {
    let by = match (&record.writer, &record.pid, &record.unknown) {
        (Some(writer), Some(pid), _) => format!("by {writer}[{pid}]"),
        (None, Some(pid), _) => format!("by PID {pid}"),
        (_, _, Some(why)) => format!("writer unknown ({why})"),
        _ => "before the guard".into(),
    };
    format!("{}, {by}", record.cause)
}

fn table(scenarios: &[Scenario], verdicts: &[Verdict]) -> String {
    let mut text = String::new();
    for (number, (scenario, verdict)) in scenarios.iter().zip(verdicts).enumerate() {
        let mark = if verdict.faults.is_empty() { "ok  " } else { "FAIL" };
        // A String takes every write.
        let _ = writeln!(text, "{mark} {}. {}", number + 1, scenario.title);
        let _ = writeln!(text, "     without the guard  {}", verdict.control);
        let _ =
            writeln!(text, "     with the guard     longest outage {}, back after {}", verdict.outage, verdict.back);
        let _ = writeln!(text, "     the journal        {}", verdict.record);
        for fault in &verdict.faults {
            let _ = writeln!(text, "     ! {fault}");
        }
    }
    text
}

fn document(scenarios: &[Scenario], verdicts: &[Verdict]) -> String {
    let mut text = String::from(
        "# The incident, with the guard and without\n\n\
         Written by `make incident`: a virtual machine that is a node, with the package installed or not. Requests over \
         HTTP to a\nNodePort of its neighbour, through the IPIP tunnel to a pod, and pings to the pod, 20 a second each. \
         Times are those of\nan emulated machine.\n\n![answers over time](incident.svg)\n\n\
         | what happened | without the guard | with it: longest outage | back after the wake-up or write | cause and \
         writer in the journal | as it was |\n|---|---|---|---|---|---|\n",
    );
    for (scenario, verdict) in scenarios.iter().zip(verdicts) {
        let Verdict { control, outage, back, record, faults } = verdict;
        let so = if faults.is_empty() { "yes".into() } else { faults.join("; ") };
        let _ = writeln!(text, "| {} | {control} | {outage} | {back} | {record} | {so} |", scenario.title);
    }
    text.push_str("\nAn outage while the link itself is down belongs to what was done, not to the guard.\n");
    for scenario in scenarios {
        let _ = write!(text, "\n## {}\n\n", scenario.title);
        for record in scenario.guarded.records_since_strike() {
            let _ = writeln!(text, "    {}", record.message);
        }
    }
    text
}
