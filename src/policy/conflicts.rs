//! Lines of sysctl.d, of ufw, of the kernel's command line and of TuneD's profile that conflict with the policy, and when each
//! is applied.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::Writers;
use super::merge::{Entry, Merged, Merger};
use super::parse::without_remark;
use super::tuned::{Tuned, sets_another_value};
use super::{Policy, Source, Wanted, files, value};
use crate::setting::{Key, number, printable, same_value};

/// What systemd-sysctl and procps read, highest priority first.
pub const FOLDERS: [&str; 4] = ["/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d"];
/// procps applies it last; systemd only on CentOS 7, or through a link in sysctl.d.
pub const LEGACY_FILE: &str = "/etc/sysctl.conf";
/// ufw-init reads both in this order: whether ufw is enabled, and the file that it applies with `sysctl -p` after its rules.
const UFW_CONF: [&str; 2] = ["/etc/default/ufw", "/etc/ufw/ufw.conf"];
const UFW_SYSCTL: &str = "/etc/ufw/sysctl.conf";
/// The kernel itself applies its `sysctl.KEY=VALUE` before it starts init (`do_sysctl_args`, since Linux 5.8).
const COMMAND_LINE: &str = "/proc/cmdline";

/// What TuneD applies again after its own lines (`reapply_sysctl`), and then sysctl.conf.
const TUNED_REAPPLIES: [&str; 2] = ["/etc/sysctl.d", "/run/sysctl.d"];

/// The file in which the administrator overrides a vendor's lines.
const OWN_FILE: &str = "k8s-forward.conf";
/// The folder of files that belong to packages.
const VENDORS: &str = "/usr/lib";

/// The configuration that a conflicting line is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    SysctlD,
    Ufw,
    CommandLine,
    Tuned,
}

/// A line of another configuration that sets a guarded setting to another value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    pub key: Key,
    /// The policy's entry.
    pub entry: usize,
    /// The line's value in the unit of `key`, or with the name that it is for (see [`in_unit_of`]).
    pub says: Arc<str>,
    pub source: Source,
    pub origin: Origin,
    /// The line that is in effect instead of this one, until it is removed.
    pub behind: Option<Source>,
    /// For a vendor's line, which should not be edited.
    pub remedy: Option<Remedy>,
}

impl Conflict {
    /// A line that sets `own`, a name of the guarded setting, to `says`.
    fn new(wanted: &Wanted, own: &Key, says: &Arc<str>, source: &Source, origin: Origin) -> Conflict {
        let (key, entry) = wanted.clone();
        let says = in_unit_of(&key, own, says);
        Conflict { key, entry, says, source: source.clone(), origin, behind: None, remedy: None }
    }
}

/// Lines to add to a file of the administrator's, which override a vendor's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remedy {
    pub file: PathBuf,
    pub lines: Vec<String>,
}

impl Remedy {
    /// Adds lines for the same file, each once: a pattern of the policy is one line, however many interfaces it matches.
    pub fn add(&mut self, more: Remedy) {
        for line in more.lines {
            if !self.lines.contains(&line) {
                self.lines.push(line);
            }
        }
    }
}

/// `'net.ipv4.ip_forward = 1' to /etc/sysctl.d/k8s-forward.conf`
impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' to {}", self.lines.join("' and '"), printable(self.file.as_os_str()))
    }
}

/// A file in the first of [`FOLDERS`] that is applied after `vendor`: letters sort after digits, and where that is not enough,
/// `_` after the dot of `.conf`.
fn applied_after(vendor: &Path) -> PathBuf {
    let (stem, name) = (vendor.file_stem().unwrap_or_default(), vendor.file_name().unwrap_or_default());
    let mut file = OsString::new();
    if name >= OsStr::new(OWN_FILE) {
        file.push(stem);
        file.push("_");
    }
    file.push(OWN_FILE);
    Path::new(FOLDERS[0]).join(file)
}

/// The merged lines of sysctl.d below `root`. Its errors are not reported, and its owners are not checked: a user who can write there
/// can set every setting of the kernel at the next boot anyway.
pub fn sysctl_d(root: &Path) -> Merged {
    merged(root, &FOLDERS)
}

fn merged(root: &Path, folders: &[&str]) -> Merged {
    let mut paths = files::list(root, folders, Writers::Any, &mut Vec::new());
    paths.push(LEGACY_FILE.into());
    merge(root, &paths)
}

fn merge(root: &Path, paths: &[PathBuf]) -> Merged {
    let mut merger = Merger::default();
    for path in paths {
        if let Ok(bytes) = files::read(root, path, Writers::Any) {
            merger.add(&files::below(root, path).into(), &bytes, &mut Vec::new());
        }
    }
    merger.finish()
}

/// The file that ufw applies below `root`, unless it is off.
fn ufw_sysctl(root: &Path) -> Option<PathBuf> {
    let text: String = UFW_CONF
        .iter()
        .filter_map(|path| files::read(root, Path::new(path), Writers::Any).ok())
        .fold(String::new(), |text, bytes| text + &String::from_utf8_lossy(&bytes) + "\n");
    let variable = |name: &str| {
        let value = |line: &str| Some(line.trim().strip_prefix(name)?.strip_prefix('=')?.trim().to_string());
        text.lines().filter_map(value).next_back().map(|value| value.replace(['"', '\''], ""))
    };
    let is_off = variable("ENABLED").is_some_and(|value| !value.eq_ignore_ascii_case("yes"));
    let file = PathBuf::from(variable("IPT_SYSCTL").unwrap_or_else(|| UFW_SYSCTL.into()));
    Some(file).filter(|file| !is_off && file.is_absolute())
}

/// Every file, apart from those of sysctl.d and TuneD, that conflicts are read from.
pub fn other_files(root: &Path) -> Vec<PathBuf> {
    let fixed = [LEGACY_FILE, UFW_CONF[0], UFW_CONF[1]].map(PathBuf::from);
    fixed.into_iter().chain(ufw_sysctl(root)).collect()
}

/// The settings on a kernel's command line, as `parse_args` (kernel/params.c) and `process_sysctl_arg` read it.
fn on_command_line(text: &str) -> Vec<(Key, Arc<str>)> {
    let mut quoted = false;
    let words = text.split(|c: char| {
        quoted ^= c == '"';
        c.is_ascii_whitespace() && !quoted
    });
    let bare = |word: &str| word.trim_matches('"').to_string();
    let setting = |word: &str| {
        let word = word.strip_prefix('"').unwrap_or(word);
        let (name, value) = word.split_once('=')?;
        let name = name.strip_prefix("sysctl").filter(|name| name.starts_with(['.', '/']))?;
        // Unlike in sysctl.d, each dot is a slash.
        let key = Key::parse(&name[1..].replace('.', "/")).ok()?.to_write();
        let value = bare(value);
        (!key.has_wildcard() && !value.is_empty() && !value.contains(char::is_control)).then(|| (key, value.into()))
    };
    words.take_while(|word| *word != "--").filter_map(setting).collect()
}

/// A file or folder of sysctl.d, ufw or TuneD that the kernel does not let this process read, with the reason. Its conflicts with
/// the policy are not known.
pub fn unread(root: &Path) -> Option<String> {
    let mut unreadable = Vec::new();
    let mut paths = files::list(root, &FOLDERS, Writers::Any, &mut unreadable);
    paths.extend(other_files(root));
    paths.extend(Tuned::read(root).paths);
    let folder = unreadable.first().map(|(folder, reason)| format!("{}: {reason}", printable(folder.as_os_str())));
    folder.or_else(|| paths.iter().find_map(|path| files::refusal(root, path)))
}

/// The lines below `root` that set one of `settings` to another value: for each setting the line in effect, and then those that
/// would be in effect if it were removed.
pub fn find(policy: &Policy, root: &Path, settings: &[Wanted]) -> Vec<Conflict> {
    let is_vendors = |source: &Source| source.file.starts_with(files::below(root, Path::new(VENDORS)));
    let remedy = |file: &Path, line: String| Some(Remedy { file: files::below(root, file), lines: vec![line] });
    let sysctl_d = sysctl_d(root);
    let mut found = in_files(policy, settings, &sysctl_d, Origin::SysctlD, is_vendors);
    for conflict in found.iter_mut().filter(|conflict| is_vendors(&conflict.source)) {
        let Conflict { key, entry, source, .. } = &*conflict;
        let by_pattern = sysctl_d.lines_for(key).iter().any(|line| line.1 == source && line.2.names().is_none());
        conflict.remedy = remedy(&applied_after(&source.file), own_line(policy, key, *entry, by_pattern));
    }
    if let Some(file) = ufw_sysctl(root) {
        let known: HashSet<Source> = found.iter().map(|conflict| conflict.source.clone()).collect();
        let by_ufw = in_files(policy, settings, &merge(root, &[file]), Origin::Ufw, |_| false);
        found.extend(by_ufw.into_iter().filter(|conflict| !known.contains(&conflict.source)));
    }
    let command_line = files::read(root, Path::new(COMMAND_LINE), Writers::Any).unwrap_or_default();
    let command_line = on_command_line(&String::from_utf8_lossy(&command_line));
    let source = Source { file: files::below(root, Path::new(COMMAND_LINE)).into(), line: 1 };
    found.extend(settings.iter().filter_map(|setting| {
        let (key, wanted) = (&setting.0, policy.value(setting.1));
        let named = |(other, _): &&(Key, Arc<str>)| other == key || other.other_name().as_ref() == Some(key);
        let (name, says) =
            command_line.iter().rev().find(named).filter(|(name, says)| conflicts(name, says, key, wanted))?;
        // sysctl.d is applied later.
        let later = sysctl_d.deciding(key);
        let agrees = |line: &Entry, value: &str| !differs(&key_of(line, key), without_remark(value), key, wanted);
        let corrects = |line: &Entry| line.value.as_deref().is_some_and(|value| agrees(line, value));
        let behind = later.map(|line| line.source.clone());
        let conflict = Conflict::new(setting, name, says, &source, Origin::CommandLine);
        (!later.is_some_and(corrects)).then_some(Conflict { behind, ..conflict })
    }));
    let tuned = Tuned::read(root);
    let applied_later = if tuned.keeps_its_lines { Merged::default() } else { merged(root, &TUNED_REAPPLIES) };
    // TuneD takes the minus sign for a part of the key.
    let is_overridden =
        |key: &Key| applied_later.written_out(key).is_some_and(|line| line.value.is_some() && !line.ignore_failure);
    found.extend(settings.iter().filter_map(|setting| {
        let (key, name) = (&setting.0, setting.0.clone().canonical());
        let (says, source) = tuned.lines.get(&name).filter(|_| !is_overridden(&name))?;
        let (says, wanted) = (says.as_ref()?, key.in_canonical_unit(policy.value(setting.1)));
        let is_otherwise = wanted.is_none_or(|wanted| sets_another_value(&wanted, says));
        let is_refused = value::is_refused(&name, says.trim_start_matches(['<', '>']));
        let mut conflict = Conflict::new(setting, &name, says, source, Origin::Tuned);
        if is_vendors(source) && !tuned.keeps_its_lines {
            conflict.remedy = remedy(&Path::new(FOLDERS[0]).join(OWN_FILE), own_line(policy, key, setting.1, false));
        }
        (is_otherwise && !is_refused).then_some(conflict)
    }));
    found
}

/// The conflicting ones of merged lines. A line that is in effect for one of the settings is not listed again behind another
/// setting's. Nor is a vendor's line that a line overrides which agrees with the policy: it has no effect, as intended.
fn in_files(
    policy: &Policy,
    settings: &[Wanted],
    lines: &Merged,
    origin: Origin,
    is_vendors: impl Fn(&Source) -> bool,
) -> Vec<Conflict> {
    let in_effect = |(key, entry): &Wanted| {
        let line = lines.deciding(key)?;
        let says = line.value.as_deref()?;
        conflicts(&key_of(line, key), says, key, policy.value(*entry)).then_some(&line.source)
    };
    let all_in_effect: HashSet<&Source> = settings.iter().filter_map(in_effect).collect();
    let mut found = Vec::new();
    let mut files = HashMap::new();
    for setting in settings {
        let (Some(winner), (key, entry)) = (in_effect(setting), setting) else { continue };
        let (mut agreed, mut places) = (false, HashSet::new());
        for (says, source, line) in lines.lines_for(key) {
            let own = key_of(line, key);
            if value::is_refused(&own, without_remark(says)) {
                continue;
            }
            let is_winner = source == winner;
            let agrees = !conflicts(&own, says, key, policy.value(*entry));
            agreed |= agrees;
            if !agrees && (is_winner || !(all_in_effect.contains(source) || agreed && is_vendors(source))) {
                // A line of /etc/sysctl.conf is one line, though sysctl.d of CentOS and Debian has a link to that file.
                let file = files.entry(&source.file).or_insert_with(|| identity(&source.file));
                if file.is_some_and(|file| !places.insert((file, source.line))) {
                    continue;
                }
                let behind = (!is_winner).then(|| winner.clone());
                found.push(Conflict { behind, ..Conflict::new(setting, &own, says, source, origin) });
            }
        }
    }
    found
}

/// Device and inode of the file that a path leads to.
fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// The name under which a line sets `key`.
fn key_of(line: &Entry, key: &Key) -> Key {
    line.key_for(key.place().map(|place| place.interface).unwrap_or_default())
}

/// Whether `says`, written to `own`, sets `key` to another value than `wanted`. A value that the kernel refuses sets nothing.
fn conflicts(own: &Key, says: &str, key: &Key, wanted: &str) -> bool {
    let says = without_remark(says);
    differs(own, says, key, wanted) && !value::is_refused(own, says) && !(own == key && value::means(key, wanted, says))
}

/// Whether `says` of `own`, which may be another name of the setting `key`, differs from `wanted`.
fn differs(own: &Key, says: &str, key: &Key, wanted: &str) -> bool {
    if own == key {
        return !same_value(wanted, says);
    }
    let values = key.in_canonical_unit(wanted).zip(own.in_canonical_unit(says));
    values.is_none_or(|(wanted, says)| !same_value(&wanted, &says))
}

/// A value of `own`, another name of the setting `key`, in the unit of `key`: `40` of `base_reachable_time` is `40000` of
/// `base_reachable_time_ms`. Where that is not known, with the name: `3 as unres_qlen`.
fn in_unit_of(key: &Key, own: &Key, says: &Arc<str>) -> Arc<str> {
    let Some(place) = own.place().filter(|place| own != key && place.table == "neigh") else { return says.clone() };
    let amount = |key: &Key, value: &str| number(&key.in_canonical_unit(value)?);
    let unit = amount(key, "1").filter(|unit| *unit > 0);
    match unit.zip(amount(own, says)) {
        Some((unit, amount)) if amount % unit == 0 => (amount / unit).to_string().into(),
        _ => format!("{says} as {}", place.name).into(),
    }
}

/// The policy's value as a line of sysctl.d: for the key, which overrides any pattern, or with the policy's pattern where a later
/// pattern is enough.
fn own_line(policy: &Policy, key: &Key, entry: usize, against_pattern: bool) -> String {
    let name = &policy.entries()[entry].name;
    let name = if against_pattern { name.to_string() } else { policy.name(key, entry) };
    format!("{name} = {}", policy.value(entry))
}
