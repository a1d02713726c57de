//! `fwdguard check`: compares kernel and policy, and changes nothing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::{Value, json};

use anyhow::{Result, anyhow};
use rustix::io::Errno;

use super::advice::{self, Idle, KernelValues, Warning, summary};
use super::load;
use super::table::{Table, Tone, print_json, print_line};
use crate::kernel::sysctl::{CONF_FOLDER, interfaces, is_absent};
use crate::policy::conflicts::{self, Conflict, Origin, Remedy};
use crate::policy::value::means;
use crate::policy::{Policy, PolicyError, Source, Wanted};
use crate::setting::{Attribute, Family, Key, printable};
use crate::text::{errno_text, one_line, why};

/// More interfaces of one pattern are not listed in the table; JSON has all.
const LISTED_MAX: usize = 20;

/// A table of conflicts for each origin: its title, when the lines are applied again, and how to remove one's own.
const CONFLICT_TABLES: [(Origin, &str, &str, [&str; 2]); 4] = [
    (
        Origin::SysctlD,
        "IN SYSCTL.D",
        "These lines are applied again at boot, by 'sysctl --system' and by udev",
        ["remove or correct", ""],
    ),
    (
        Origin::Ufw,
        "IN UFW'S SETTINGS",
        "These lines are applied again when ufw starts, at boot or by 'ufw enable'",
        ["remove or correct", ""],
    ),
    (
        Origin::CommandLine,
        "ON THE KERNEL'S COMMAND LINE",
        "These settings are applied again at the next boot",
        ["remove", " from the boot loader's configuration"],
    ),
    (
        Origin::Tuned,
        "IN TUNED'S PROFILE",
        "These lines are applied again when TuneD starts or applies the profile",
        ["correct", " in a profile in /etc/tuned"],
    ),
];

/// The result of comparing a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Ok,
    Drift,
    Absent,
    Unreadable(Errno),
    /// An interface's setting holds, but the kernel combines it with `all`'s, and this is the result.
    Overruled(i64),
}

impl Verdict {
    fn name(&self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Drift => "drift",
            Verdict::Absent => "absent",
            Verdict::Unreadable(_) => "unreadable",
            Verdict::Overruled(_) => "overruled",
        }
    }

    /// Whether it is no fault.
    fn holds(&self) -> bool {
        matches!(self, Verdict::Ok | Verdict::Absent)
    }
}

/// One guarded setting compared.
pub struct Compared {
    pub key: Key,
    pub entry: usize,
    pub found: Option<String>,
    pub verdict: Verdict,
    /// The module that creates it, where it is absent.
    pub module: Option<&'static str>,
}

/// The result of a check.
pub struct Report {
    policy: Arc<Policy>,
    settings: Vec<Compared>,
    conflicts: Vec<Conflict>,
    warnings: Vec<Warning>,
    idle: BTreeMap<usize, Idle>,
}

pub fn run(root: &Path, json: bool) -> Result<ExitCode> {
    let report = Report::of(Arc::new(load(root)), root, &HashMap::new())?;
    if json {
        print_json(&report.json());
    } else {
        report.print();
        super::print_errors(&report.policy);
    }
    if let Some(unread) = conflicts::unread(root) {
        eprintln!("fwdguard: {unread}; its conflicts with the policy are unknown");
    }
    Ok(report.exit_status())
}

impl Report {
    /// Compares a policy, and sysctl.d below `root`, with this network namespace. `learned` has the values that the kernel returned
    /// for settings that were just written.
    ///
    /// # Errors
    /// The interfaces cannot be listed; with the kernel's reason.
    pub fn of(policy: Arc<Policy>, root: &Path, learned: &HashMap<Key, Arc<str>>) -> Result<Report> {
        let interfaces = interfaces().map_err(|error| anyhow!("{CONF_FOLDER} cannot be read: {}", why(&error)))?;
        let wanted = policy.all_settings(interfaces.iter().cloned());
        let mut kernel = KernelValues::new();
        let is_learned = |key: &Key, value: &str| learned.get(key).is_some_and(|learned| **learned == *value);
        let compare = |(key, entry): &Wanted| {
            let found = kernel.sysctl.read(key);
            let verdict = match &found {
                Err(errno) if is_absent(*errno) => Verdict::Absent,
                Err(errno) => Verdict::Unreadable(*errno),
                Ok(value) if !means(key, policy.value(*entry), value) && !is_learned(key, value) => Verdict::Drift,
                Ok(value) => kernel.overruled(key, value).unwrap_or(Verdict::Ok),
            };
            let module = if verdict == Verdict::Absent { kernel.module(key) } else { None };
            Compared { key: key.clone(), entry: *entry, found: found.ok(), verdict, module }
        };
        let settings: Vec<Compared> = wanted.iter().map(compare).collect();
        let warnings = kernel.warnings(&policy, &settings, &interfaces);
        let conflicts = conflicts::find(&policy, root, &wanted);
        let idle = advice::idle(&policy, &interfaces);
        Ok(Report { policy, settings, conflicts, warnings, idle })
    }

    /// The settings that differ from the policy, without those whose failure it ignores.
    pub fn drifts(&self) -> impl Iterator<Item = &Compared> {
        let ignored = |setting: &Compared| self.policy.entries()[setting.entry].ignore_failure;
        self.settings.iter().filter(move |setting| setting.verdict == Verdict::Drift && !ignored(setting))
    }

    fn holds(&self) -> bool {
        self.settings.iter().all(|setting| setting.verdict.holds())
    }

    pub fn exit_status(&self) -> ExitCode {
        super::exit_status(self.holds(), &self.policy.errors)
    }

    pub fn json(&self) -> Value {
        let setting = |setting: &Compared| {
            let mut object = json!({
                "key": self.policy.name(&setting.key, setting.entry),
                "wanted": self.policy.value(setting.entry),
                "found": setting.found,
                "verdict": setting.verdict.name(),
                "source": source(&self.policy.entries()[setting.entry].source),
            });
            if let Verdict::Overruled(effective) = setting.verdict {
                object["effective"] = effective.to_string().into();
            }
            if let Some(module) = setting.module {
                object["module"] = module.into();
            }
            object
        };
        let conflict = |conflict: &Conflict| {
            json!({
                "key": self.policy.name(&conflict.key, conflict.entry),
                "wanted": self.policy.value(conflict.entry),
                "says": &*conflict.says,
                "source": source(&conflict.source),
            })
        };
        let idle = |(index, idle): (&usize, &Idle)| {
            let entry = &self.policy.entries()[*index];
            json!({"key": &*entry.name, "message": idle.message(&entry.name), "source": source(&entry.source)})
        };
        let warning = |warning: &Warning| json!({"key": warning.key, "message": warning.message, "source": source(&warning.source)});
        let exempt =
            |(interface, place): (&OsString, &Source)| json!({"key": exempt_key(interface), "source": source(place)});
        json!({
            "holds": self.holds(),
            "settings": self.settings.iter().map(setting).collect::<Vec<_>>(),
            "conflicts": self.conflicts.iter().map(conflict).collect::<Vec<_>>(),
            "warnings": self.warnings.iter().map(warning).chain(self.idle.iter().map(idle)).collect::<Vec<_>>(),
            "exempt": self.policy.exempt.iter().map(exempt).collect::<Vec<_>>(),
            "notices": self.policy.notices.iter().map(error).collect::<Vec<_>>(),
            "errors": self.policy.errors.iter().map(error).collect::<Vec<_>>(),
        })
    }

    pub fn print(&self) {
        let mut table = Table::new(&["SETTING", "WANTED", "FOUND", "VERDICT", "POLICY"]);
        let mut by_entry = BTreeMap::<usize, Vec<&Compared>>::new();
        self.settings.iter().for_each(|setting| by_entry.entry(setting.entry).or_default().push(setting));
        self.idle.keys().for_each(|index| _ = by_entry.entry(*index).or_default());
        for (index, settings) in by_entry {
            let entry = &self.policy.entries()[index];
            let (name, wanted, place) = (&*entry.name, self.policy.value(index), &*entry.source.to_string());
            if let Some(idle) = self.idle.get(&index) {
                table.row(&[name, wanted, "-", &idle.to_string(), place], Tone::Plain);
            } else if entry.sets().is_some() {
                settings.iter().for_each(|setting| self.row(&mut table, setting, "", place));
            } else {
                let bad: Vec<&Compared> = settings.iter().copied().filter(|s| !s.verdict.holds()).collect();
                let absent = settings.iter().filter(|s| s.verdict == Verdict::Absent).count();
                let holding = format!("{} of {} hold", settings.len() - bad.len() - absent, settings.len());
                let absent = if absent > 0 { format!(", {absent} absent") } else { String::new() };
                let tone = if bad.is_empty() { Tone::Good } else { Tone::Bad };
                table.row(&[name, wanted, "", &(holding + &absent), place], tone);
                bad.iter().take(LISTED_MAX).for_each(|setting| self.row(&mut table, setting, "  ", place));
                if bad.len() > LISTED_MAX {
                    table.row(&[&format!("  and {} more", bad.len() - LISTED_MAX), "", "", "", ""], Tone::Bad);
                }
            }
        }
        table.print();
        CONFLICT_TABLES.iter().for_each(|(origin, title, when, own)| self.print_conflicts(*origin, title, when, *own));
        for Warning { message, source, .. } in &self.warnings {
            print_line(&one_line(&format!("Warning: {message} ({})", source.with_path())));
        }
        let with = |verdict: Verdict| self.settings.iter().filter(move |setting| setting.verdict == verdict);
        let absent: Vec<Option<&str>> = with(Verdict::Absent).map(|setting| setting.module).collect();
        let holding = with(Verdict::Ok).count();
        let apply_helps = with(Verdict::Drift).next().is_some();
        let unmatched = self.idle.values().filter(|idle| **idle == Idle::MatchesNone).count();
        let bad = self.settings.len() - holding - absent.len();
        print_line(&summary(unmatched, holding, &absent, bad, apply_helps));
    }

    /// The conflicting lines of one configuration with what to do, and the interfaces that sysctl.d exempts from the vendor's pattern.
    fn print_conflicts(&self, origin: Origin, title: &str, when: &str, [remove, how]: [&str; 2]) {
        let mut table = Table::new(&[title, "SAYS", "POLICY", "WHERE"]);
        for (interface, source) in self.policy.exempt.iter().filter(|_| origin == Origin::SysctlD) {
            table.row(&[&*exempt_key(interface), "0", "exempt", &source.with_path()], Tone::Plain);
        }
        let conflicts: Vec<&Conflict> = self.conflicts.iter().filter(|conflict| conflict.origin == origin).collect();
        let mut shown = HashSet::new();
        for Conflict { entry, says, source, behind, .. } in &conflicts {
            // One row for a pattern, not one for each interface.
            if shown.insert((entry, source)) {
                let name =
                    format!("{}{}", if behind.is_some() { "  " } else { "" }, self.policy.entries()[*entry].name);
                table.row(&[&*name, says, self.policy.value(*entry), &source.with_path()], Tone::Bad);
            }
        }
        if !table.is_empty() {
            table.print();
        }
        if conflicts.is_empty() {
            return;
        }
        let mut remedies = BTreeMap::<&Path, Remedy>::new();
        for remedy in conflicts.iter().filter_map(|conflict| conflict.remedy.as_ref()) {
            remedies
                .entry(&remedy.file)
                .and_modify(|known| known.add(remedy.clone()))
                .or_insert_with(|| remedy.clone());
        }
        let what_to_do = match (conflicts.iter().any(|conflict| conflict.remedy.is_none()), remedies.is_empty()) {
            (true, true) => format!("; {remove} them{how}"),
            (true, false) => format!("; {remove} your own{how}"),
            (false, _) => String::new(),
        };
        print_line(&format!("{when}{what_to_do}"));
        if conflicts.iter().any(|conflict| conflict.behind.is_some()) {
            print_line("An indented line takes effect once those above it are removed");
        }
        for Remedy { file, lines } in remedies.values() {
            print_line(&format!("Do not edit those in /usr/lib; add to {}:", printable(file.as_os_str())));
            lines.iter().for_each(|line| print_line(&one_line(&format!("  {line}"))));
        }
    }

    fn row(&self, table: &mut Table, setting: &Compared, indent: &str, place: &str) {
        let found = match &setting.verdict {
            Verdict::Unreadable(errno) => errno_text(*errno),
            _ => setting.found.clone().unwrap_or_else(|| "-".into()),
        };
        let verdict = match setting.verdict {
            Verdict::Overruled(effective) => format!("overruled by all: {effective}"),
            ref verdict => verdict.name().to_string(),
        };
        let name = format!("{indent}{}", self.policy.name(&setting.key, setting.entry));
        let tone = if setting.verdict.holds() { Tone::Good } else { Tone::Bad };
        table.row(&[&*name, self.policy.value(setting.entry), &found, &verdict, place], tone);
    }
}

fn exempt_key(interface: &OsStr) -> String {
    Key::conf(Family::V4, interface, Attribute::Forwarding).to_string()
}

pub fn source(source: &Source) -> Value {
    json!({"file": source.file.to_string_lossy(), "line": source.line})
}

pub fn error(error: &PolicyError) -> Value {
    json!({"file": error.source.file.to_string_lossy(), "line": error.source.line, "message": error.message})
}
