//! One scenario's run as the machine left it: the traffic, the guard's records, and what they should be.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

const REPAIRED: &str = "02a3fbd85f774dd6911132d4e66f40b6";
const RESUMED: &str = "51cf4aab661e45d0960bd38d8c964d14";
/// Microseconds in which an answer may come; requests younger than that at the end are not judged.
const ANSWERED_WITHIN: f64 = 0.9;

/// One request; times in seconds of CLOCK_MONOTONIC.
pub struct Probe {
    pub kind: Kind,
    pub sent: f64,
    pub answered: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Http,
    Ping,
}

/// A stretch without answers that was not over before the event.
pub struct Outage {
    /// From its first lost request to the first answered one, in seconds.
    pub length: f64,
    /// From the event, or its first lost request if that came later.
    pub after_event: f64,
    /// Whether an answer came at all.
    pub over: bool,
}

/// A "repaired" record of the guard's, or one that the node woke.
pub struct Record {
    pub at: f64,
    pub message: String,
    pub setting: String,
    pub cause: String,
    pub writer: Option<String>,
    /// Why the writer is not known.
    pub unknown: Option<String>,
    pub pid: Option<String>,
    /// In the record of a wake-up: the source that noticed it.
    noticed_by: Option<String>,
}

/// One sleep or pause: the source that should have noticed it, and a setting that had changed over it.
struct Slept {
    setting: String,
    noticed_by: String,
}

/// What a record should contain; `None` where that cannot be known.
struct Truth {
    setting: String,
    cause: Option<String>,
    writer: Option<String>,
    pid: Option<String>,
    /// No process wrote the setting while the guard was running.
    nobody: bool,
    /// The writer may have come before the files of a new interface were watched.
    perhaps_early: bool,
}

pub struct Run {
    pub title: String,
    /// In the order of their sending.
    pub probes: Vec<Probe>,
    /// When it was done, or the machine woke, or the pod was set up again.
    pub event: f64,
    strike: f64,
    /// From here on the journal's records count: the whole boot, where the strike was a reboot.
    judged_from: f64,
    end: f64,
    records: Vec<Record>,
    truths: Vec<Truth>,
    sleeps: Vec<Slept>,
    /// Faults that the scenario itself found.
    pub found: Vec<String>,
}

impl Run {
    /// Reads what the machine handed over.
    ///
    /// # Errors
    /// A file is missing, or a line of it is not as the machine writes it.
    pub fn read(folder: &Path) -> Result<Run> {
        let file = |name: &str| fs::read_to_string(folder.join(name)).with_context(|| name.to_owned());
        let (mut probes, mut marks) = parse_traffic(&file("traffic")?)?;
        // Another boot has another clock: what was before it ends two seconds before the set-up after it.
        let before = file("traffic.before").ok();
        let rebooted = before.is_some();
        if let Some(before) = before {
            let (mut earlier, earlier_marks) = parse_traffic(&before)?;
            let last = earlier.iter().filter(|probe| probe.answered).map(|probe| probe.sent).fold(0.0, f64::max);
            let first = marks.first().context("traffic: no mark")?.0;
            let shift = first - 2.0 - last;
            earlier.retain(|probe| probe.sent <= last);
            earlier.iter_mut().for_each(|probe| probe.sent += shift);
            earlier.append(&mut probes);
            probes = earlier;
            marks.splice(0..0, earlier_marks.into_iter().map(|(at, name)| (at + shift, name)));
        }
        probes.sort_by(|a, b| a.sent.total_cmp(&b.sent));
        marks.sort_by(|a, b| a.0.total_cmp(&b.0));

        let at = |wanted: &str| marks.iter().find(|(_, name)| name == wanted).map(|(at, _)| *at);
        let end = at("end").context("traffic: no mark 'end'")?;
        let strike = at("strike").context("traffic: no mark 'strike'")?;
        Ok(Run {
            title: file("title")?.trim_end().to_owned(),
            event: marks.iter().rfind(|(_, name)| name != "end").context("traffic: no mark")?.0,
            strike,
            judged_from: if rebooted { 0.0 } else { strike },
            end,
            probes,
            records: parse_records(&file("guard.json")?)?,
            truths: parse_truths(&file("truth").unwrap_or_default())?,
            sleeps: parse_sleeps(&file("sleeps").unwrap_or_default())?,
            found: file("faults").unwrap_or_default().lines().map(str::to_owned).collect(),
        })
    }

    /// Most requests of the seconds before the strike were answered, of either kind.
    pub fn flowed_before(&self) -> bool {
        [Kind::Http, Kind::Ping].into_iter().all(|kind| {
            let of_kind = self.of(kind).filter(|probe| (self.strike - 2.0..self.strike).contains(&probe.sent));
            let (sent, answered) =
                of_kind.fold((0, 0), |(sent, answered), probe| (sent + 1, answered + usize::from(probe.answered)));
            answered >= 20 && answered * 10 >= sent * 9
        })
    }

    /// For how many seconds neither kind was answered at the end.
    pub fn silent_at_end(&self) -> f64 {
        let last = self.probes.iter().filter(|probe| probe.answered).map(|probe| probe.sent).fold(self.event, f64::max);
        self.end - last
    }

    /// The outages of either kind of request that were not over before the event.
    pub fn outages(&self) -> Vec<Outage> {
        let mut outages = Vec::new();
        for kind in [Kind::Http, Kind::Ping] {
            let mut since = None;
            let mut ends = |since: f64, at: f64, over| {
                if at > self.event {
                    outages.push(Outage { length: at - since, after_event: at - since.max(self.event), over });
                }
            };
            let judged = self.of(kind).filter(|probe| (self.strike..self.end - ANSWERED_WITHIN).contains(&probe.sent));
            for probe in judged {
                match since {
                    None if !probe.answered => since = Some(probe.sent),
                    Some(start) if probe.answered => {
                        ends(start, probe.sent, true);
                        since = None;
                    }
                    _ => (),
                }
            }
            if let Some(start) = since {
                ends(start, self.end, false);
            }
        }
        outages
    }

    pub fn of(&self, kind: Kind) -> impl Iterator<Item = &Probe> {
        self.probes.iter().filter(move |probe| probe.kind == kind)
    }

    pub fn records_since_strike(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(|record| record.at >= self.judged_from)
    }

    /// The records of the settings that were struck.
    pub fn records_of_truth(&self) -> impl Iterator<Item = &Record> {
        self.records_since_strike().filter(|record| self.truths.iter().any(|truth| truth.setting == record.setting))
    }

    /// The records that are missing or not true.
    pub fn untrue(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.truths.is_empty() {
            faults.push("guarded: the scenario does not say what really happened".into());
        }
        for truth in &self.truths {
            let of_setting = || self.records_since_strike().filter(|record| record.setting == truth.setting);
            if !of_setting().any(|record| truth.is_shown_by(record)) {
                faults.push(format!("guarded: no true record of {}: {}", truth.setting, truth.wanted()));
            }
            for record in of_setting().filter(|record| !truth.agrees_with(record)) {
                faults.push(format!("guarded: untrue: {}", record.message));
            }
        }
        let shown: Vec<_> = self.records_since_strike().filter(|record| record.noticed_by.is_some()).collect();
        if !self.sleeps.is_empty() && shown.len() != self.sleeps.len() {
            faults.push(format!("guarded: {} records of {} sleeps", shown.len(), self.sleeps.len()));
        }
        for (Slept { setting, noticed_by }, record) in self.sleeps.iter().zip(shown) {
            let names = record.message.split([' ', ',']).any(|word| word == setting);
            if !names || record.noticed_by.as_ref() != Some(noticed_by) {
                faults.push(format!("guarded: not {setting}, noticed by {noticed_by}: {}", record.message));
            }
        }
        faults
    }
}

impl Truth {
    fn is_shown_by(&self, record: &Record) -> bool {
        if self.perhaps_early && record.cause == "write" && record.unknown.is_some() {
            return true;
        }
        let same = |wanted: &Option<String>, shown: &Option<String>| wanted.is_none() || wanted == shown;
        self.cause.as_ref().is_none_or(|cause| *cause == record.cause)
            && same(&self.writer, &record.writer)
            && same(&self.pid, &record.pid)
            && self.agrees_with(record)
    }

    /// A writer that the record names really wrote the setting.
    fn agrees_with(&self, record: &Record) -> bool {
        if self.nobody {
            return record.pid.is_none();
        }
        let contradicts =
            |was: &Option<String>, shown: &Option<String>| was.is_some() && shown.is_some() && was != shown;
        !contradicts(&self.writer, &record.writer) && !contradicts(&self.pid, &record.pid)
    }

    fn wanted(&self) -> String {
        let any = |wanted: &Option<String>| wanted.clone().unwrap_or_else(|| "any".into());
        format!("cause {}, writer {}[{}]", any(&self.cause), any(&self.writer), any(&self.pid))
    }
}

type Marks = Vec<(f64, String)>;

fn parse_traffic(text: &str) -> Result<(Vec<Probe>, Marks)> {
    let (mut probes, mut marks) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let mut fields = line.split('\t');
        let (Some(kind), Some(at), Some(what)) = (fields.next(), fields.next(), fields.next()) else {
            anyhow::bail!("traffic: {line:?}");
        };
        let at = at.parse::<f64>().with_context(|| format!("traffic: {line:?}"))? / 1e6;
        let kind = match kind {
            "mark" => {
                marks.push((at, what.to_owned()));
                continue;
            }
            "http" => Kind::Http,
            _ => Kind::Ping,
        };
        probes.push(Probe { kind, sent: at, answered: what != "-" });
    }
    Ok((probes, marks))
}

fn parse_records(text: &str) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    for line in text.lines() {
        let entry: Value = serde_json::from_str(line).context("guard.json")?;
        let field = |name: &str| entry.get(name).and_then(Value::as_str).map(str::to_owned);
        if matches!(field("MESSAGE_ID").as_deref(), Some(REPAIRED | RESUMED)) {
            records.push(Record {
                at: field("__MONOTONIC_TIMESTAMP").and_then(|at| at.parse::<f64>().ok()).context("guard.json")? / 1e6,
                message: field("MESSAGE").unwrap_or_default(),
                setting: field("SYSCTL").unwrap_or_default(),
                cause: field("CAUSE").unwrap_or_default(),
                writer: field("WRITER_COMM"),
                unknown: field("WRITER_UNKNOWN"),
                pid: field("WRITER_PID"),
                noticed_by: field("NOTICED_BY"),
            });
        }
    }
    Ok(records)
}

fn parse_sleeps(text: &str) -> Result<Vec<Slept>> {
    let sleep = |line: &str| {
        let (setting, noticed_by) = line.split_once('\t').with_context(|| format!("sleeps: {line:?}"))?;
        Ok(Slept { setting: setting.to_owned(), noticed_by: noticed_by.to_owned() })
    };
    text.lines().map(sleep).collect()
}

fn parse_truths(text: &str) -> Result<Vec<Truth>> {
    let known = |field: &str| (field != "-").then(|| field.to_owned());
    text.lines()
        .map(|line| {
            let fields: Vec<_> = line.split('\t').collect();
            let [setting, cause, writer, pid] = fields[..] else { anyhow::bail!("truth: {line:?}") };
            let nobody = writer == "nobody";
            let perhaps_early = writer.ends_with('?');
            let writer = known(writer.trim_end_matches('?')).filter(|_| !nobody);
            Ok(Truth {
                setting: setting.to_owned(),
                cause: known(cause),
                writer,
                pid: known(pid),
                nobody,
                perhaps_early,
            })
        })
        .collect()
}
