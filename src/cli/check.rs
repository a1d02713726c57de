//! `fwdguard check`: compares kernel and policy, and changes nothing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::{Value, json};

use anyhow::{Result, anyhow};
use rustix::io::Errno;

use super::advice::{self, Idle, Numbers, Warning, summary};
use super::load;
use super::table::{Table, Tone, say, say_json};
use crate::kernel::sysctl::{CONF_FOLDER, interfaces, is_absent};
use crate::policy::conflicts::{self, Conflict, Mend, Origin};
use crate::policy::value::means;
use crate::policy::{Policy, PolicyError, Source, Wanted};
use crate::setting::{Attribute, Family, Key, printable};
use crate::text::{errno_text, one_line, why};

/// More interfaces of one pattern are not listed in the table; JSON has all.
const LISTED_MAX: usize = 20;

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

    /// Whether it is none of the faults.
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
        say_json(&report.json());
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
    /// Compares a policy, and sysctl.d below `root`, with this network namespace. `learned` has the values that the kernel returns for
    /// settings that were just written.
    ///
    /// # Errors
    /// The interfaces cannot be listed; with the kernel's reason.
    pub fn of(policy: Arc<Policy>, root: &Path, learned: &HashMap<Key, Arc<str>>) -> Result<Report> {
        let interfaces = interfaces().map_err(|error| anyhow!("{CONF_FOLDER} cannot be read: {}", why(&error)))?;
        let wanted = policy.all_settings(interfaces.iter().cloned());
        let mut numbers = Numbers::new();
        let is_learned = |key: &Key, value: &str| learned.get(key).is_some_and(|learned| **learned == *value);
        let compare = |(key, entry): &Wanted| {
            let found = numbers.door.read(key);
            let verdict = match &found {
                Err(errno) if is_absent(*errno) => Verdict::Absent,
                Err(errno) => Verdict::Unreadable(*errno),
                Ok(value) if !means(key, policy.value(*entry), value) && !is_learned(key, value) => Verdict::Drift,
                Ok(value) => numbers.overruled(key, value).unwrap_or(Verdict::Ok),
            };
            let module = if verdict == Verdict::Absent { numbers.module(key) } else { None };
            Compared { key: key.clone(), entry: *entry, found: found.ok(), verdict, module }
        };
        let settings: Vec<Compared> = wanted.iter().map(compare).collect();
        let warnings = numbers.warnings(&policy, &settings, &interfaces);
        let conflicts = conflicts::find(&policy, root, &wanted);
        let idle = advice::idle(&policy, &interfaces);
        Ok(Report { policy, settings, conflicts, warnings, idle })
    }

    /// The settings that are not what the policy wants, but for those of which it says that this is no error.
    pub fn drifts(&self) -> impl Iterator<Item = &Compared> {
        let matters = |setting: &&Compared| !self.policy.entries()[setting.entry].ignore_failure;
        self.settings.iter().filter(|setting| setting.verdict == Verdict::Drift).filter(matters)
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
            let place = entry.source.to_string();
            if let Some(idle) = self.idle.get(&index) {
                let (name, wanted) = (entry.name.to_string(), self.policy.value(index).into());
                table.row(vec![name, wanted, "-".into(), idle.to_string(), place], Tone::Plain);
            } else if entry.sets().is_none() {
                let bad: Vec<&Compared> = settings.iter().copied().filter(|s| !s.verdict.holds()).collect();
                let absent = settings.iter().filter(|s| s.verdict == Verdict::Absent).count();
                let mut verdict = format!("{} of {} hold", settings.len() - bad.len() - absent, settings.len());
                if absent > 0 {
                    verdict += &format!(", {absent} absent");
                }
                let tone = if bad.is_empty() { Tone::Good } else { Tone::Bad };
                table.row(
                    vec![
                        entry.name.to_string(),
                        self.policy.value(index).into(),
                        String::new(),
                        verdict,
                        place.clone(),
                    ],
                    tone,
                );
                bad.iter().take(LISTED_MAX).for_each(|setting| self.row(&mut table, setting, "  ", &place));
                if bad.len() > LISTED_MAX {
                    let more = format!("  and {} more", bad.len() - LISTED_MAX);
                    table.row(vec![more, String::new(), String::new(), String::new(), String::new()], Tone::Bad);
                }
            } else {
                settings.iter().for_each(|setting| self.row(&mut table, setting, "", &place));
            }
        }
        table.print();
        self.print_sysctl_d();
        self.print_others();
        for Warning { message, source, .. } in &self.warnings {
            say(&one_line(&format!("Warning: {message} ({})", place(source))));
        }
        let standing = |verdict: Verdict| self.settings.iter().filter(move |setting| setting.verdict == verdict);
        let absent: Vec<Option<&str>> = standing(Verdict::Absent).map(|setting| setting.module).collect();
        let holding = standing(Verdict::Ok).count();
        let apply_helps = standing(Verdict::Drift).next().is_some();
        let unmatched = self.idle.values().filter(|idle| **idle == Idle::MatchesNone).count();
        let bad = self.settings.len() - holding - absent.len();
        say(&summary(unmatched, holding, &absent, bad, apply_helps));
    }

    /// Lines of sysctl.d that conflict with the policy, and interfaces that it exempts from the vendor's pattern.
    fn print_sysctl_d(&self) {
        let mut table = Table::new(&["IN SYSCTL.D", "SAYS", "POLICY", "WHERE"]);
        for (interface, source) in &self.policy.exempt {
            table.row(vec![exempt_key(interface), "0".into(), "exempt".into(), place(source)], Tone::Plain);
        }
        let conflicts = self.conflict_rows(&mut table, Origin::SysctlD);
        if !self.policy.exempt.is_empty() || conflicts {
            table.print();
        }
        if conflicts {
            self.say_remedies(
                Origin::SysctlD,
                "These lines are applied again at boot, by 'sysctl --system' and by udev",
                ("remove or correct", ""),
            );
        }
    }

    /// The conflicting lines of other configurations than sysctl.d.
    fn print_others(&self) {
        for (origin, title, when, own) in [
            (
                Origin::Ufw,
                "IN UFW'S SETTINGS",
                "These lines are applied again when ufw starts, at boot or by 'ufw enable'",
                ("remove or correct", ""),
            ),
            (
                Origin::CommandLine,
                "ON THE KERNEL'S COMMAND LINE",
                "These settings are applied again at the next boot",
                ("remove", " from the boot loader's configuration"),
            ),
            (
                Origin::Tuned,
                "IN TUNED'S PROFILE",
                "These lines are applied again when TuneD starts or applies the profile",
                ("correct", " in a profile in /etc/tuned"),
            ),
        ] {
            let mut table = Table::new(&[title, "SAYS", "POLICY", "WHERE"]);
            if self.conflict_rows(&mut table, origin) {
                table.print();
                self.say_remedies(origin, when, own);
            }
        }
    }

    /// The remedies against lines of `origin`: against one's own, and the lines to add against a vendor's.
    fn say_remedies(&self, origin: Origin, when: &str, (own, how): (&str, &str)) {
        let conflicts = || self.conflicts.iter().filter(|conflict| conflict.origin == origin);
        let mut mends = BTreeMap::<&Path, Mend>::new();
        for mend in conflicts().filter_map(|conflict| conflict.mend.as_ref()) {
            mends.entry(&mend.file).and_modify(|known| known.add(mend.clone())).or_insert_with(|| mend.clone());
        }
        let own = match (conflicts().any(|conflict| conflict.mend.is_none()), mends.is_empty()) {
            (true, true) => format!("; {own} them{how}"),
            (true, false) => format!("; {own} your own{how}"),
            (false, _) => String::new(),
        };
        say(&format!("{when}{own}"));
        if conflicts().any(|conflict| conflict.behind.is_some()) {
            say("An indented line takes effect once those above it are removed");
        }
        for Mend { file, lines } in mends.values() {
            say(&format!("Do not edit those in /usr/lib; add to {}:", printable(file.as_os_str())));
            lines.iter().for_each(|line| say(&one_line(&format!("  {line}"))));
        }
    }

    /// Whether there are any.
    fn conflict_rows(&self, table: &mut Table, origin: Origin) -> bool {
        let mut shown = HashSet::new();
        for conflict in self.conflicts.iter().filter(|conflict| conflict.origin == origin) {
            let Conflict { key, entry, says, source, behind, .. } = conflict;
            let many = self.policy.entries()[*entry].sets().is_none();
            // One row for a pattern, not one for each interface.
            if shown.insert((entry, source.file.clone(), source.line)) {
                let name =
                    if many { self.policy.entries()[*entry].name.to_string() } else { self.policy.name(key, *entry) };
                let name = format!("{}{name}", if behind.is_some() { "  " } else { "" });
                table.row(vec![name, says.to_string(), self.policy.value(*entry).into(), place(source)], Tone::Bad);
            }
        }
        !shown.is_empty()
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
        table.row(vec![name, self.policy.value(setting.entry).into(), found, verdict, place.into()], tone);
    }
}

fn exempt_key(interface: &OsStr) -> String {
    Key::conf(Family::V4, interface, Attribute::Forwarding).to_string()
}

fn place(source: &Source) -> String {
    format!("{}:{}", printable(source.file.as_os_str()), source.line)
}

pub fn source(source: &Source) -> Value {
    json!({"file": source.file.to_string_lossy(), "line": source.line})
}

pub fn error(error: &PolicyError) -> Value {
    json!({"file": error.source.file.to_string_lossy(), "line": error.source.line, "message": error.message})
}
