//! Lines of sysctl.d, of ufw, of the kernel's command line and of TuneD's profile that conflict with the policy, and when each
//! is applied.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::Writers;
use super::merge::{Entry, Merged, Merger, Target, says_otherwise};
use super::parse::without_remark;
use super::tuned::{Tuned, sets_otherwise};
use super::{Policy, Source, files, value};
use crate::setting::{Key, number, printable};

/// What systemd-sysctl and procps read, highest priority first.
pub const FOLDERS: [&str; 4] = ["/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d"];
/// procps applies it last; systemd only on CentOS 7, or through a link in sysctl.d.
pub const LEGACY_FILE: &str = "/etc/sysctl.conf";
/// Both are read by ufw-init, the second last: whether ufw is on, and which file it has `sysctl -p` apply after its rules.
const UFW_CONF: [&str; 2] = ["/etc/default/ufw", "/etc/ufw/ufw.conf"];
const UFW_SYSCTL: &str = "/etc/ufw/sysctl.conf";
/// The kernel itself applies its `sysctl.KEY=VALUE` before it starts init (`do_sysctl_args`, since Linux 5.8).
const COMMAND_LINE: &str = "/proc/cmdline";

/// What TuneD applies again after its own lines (`reapply_sysctl`), and then sysctl.conf.
const TUNED_REAPPLIES: [&str; 2] = ["/etc/sysctl.d", "/run/sysctl.d"];

/// What the incident's remedy was called.
const OWN_FILE: &str = "k8s-forward.conf";
/// Below it is what packages bring.
const VENDORS: &str = "/usr/lib";

/// Who applies a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    SysctlD,
    Ufw,
    CommandLine,
    Tuned,
}

/// One guarded setting that somebody's configuration would set otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    pub key: Key,
    /// The policy's entry.
    pub entry: usize,
    /// In the unit of `key`, or with the name that it counts for (see [`in_unit_of`]).
    pub says: Arc<str>,
    pub source: Source,
    pub origin: Origin,
    /// The line that counts instead of this one, for as long as it is there.
    pub behind: Option<Source>,
    /// Of a vendor's line, which is not for editing.
    pub mend: Option<Mend>,
}

/// Lines of the administrator's own that win against a vendor's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mend {
    pub file: PathBuf,
    pub lines: Vec<String>,
}

impl Mend {
    /// Takes lines for the same file, each once: a pattern of the policy is one line, however many interfaces it stands for.
    pub fn add(&mut self, more: Mend) {
        for line in more.lines {
            if !self.lines.contains(&line) {
                self.lines.push(line);
            }
        }
    }
}

/// `'net.ipv4.ip_forward = 1' to /etc/sysctl.d/k8s-forward.conf`
impl fmt::Display for Mend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' to {}", self.lines.join("' and '"), printable(self.file.as_os_str()))
    }
}

/// A file that is applied after `vendor`, and below [`FOLDERS`]' first: letters sort after digits, and where that is not
/// enough, `_` after the dot of `.conf`.
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

/// The merged lines of sysctl.d below `root`. Its errors are its own administrator's business and dropped here, and so is who
/// can write there: that one can set every setting of the kernel at the next boot, and needs no guard for it.
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

/// Every file beside sysctl.d and TuneD's that has a say.
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

/// A file or folder of sysctl.d, ufw or TuneD that the kernel does not let this process read, with the reason: what it says
/// against the policy is not known.
pub fn unread(root: &Path) -> Option<String> {
    let mut unreadable = Vec::new();
    let mut paths = files::list(root, &FOLDERS, Writers::Any, &mut unreadable);
    paths.extend(other_files(root));
    paths.extend(Tuned::read(root).paths);
    let folder = unreadable.first().map(|(folder, reason)| format!("{}: {reason}", printable(folder.as_os_str())));
    folder.or_else(|| paths.iter().find_map(|path| files::refusal(root, path)))
}

/// Which of `settings` the configuration below `root` would set otherwise: of each, the line that counts, and then those that
/// would count if it were gone.
pub fn find(policy: &Policy, root: &Path, settings: &[(Key, usize)]) -> Vec<Conflict> {
    let is_vendors = |source: &Source| source.file.starts_with(files::below(root, Path::new(VENDORS)));
    let sysctl_d = sysctl_d(root);
    let mut found = in_files(policy, settings, &sysctl_d, Origin::SysctlD, is_vendors);
    for conflict in found.iter_mut().filter(|conflict| is_vendors(&conflict.source)) {
        let Conflict { key, entry, source, .. } = &*conflict;
        let by_pattern = sysctl_d.lines_for(key).iter().any(|line| line.1 == source && line.2.names().is_none());
        conflict.mend = Some(Mend {
            file: files::below(root, &applied_after(&source.file)),
            lines: vec![own_line(policy, key, *entry, by_pattern)],
        });
    }
    if let Some(file) = ufw_sysctl(root) {
        let known: HashSet<Source> = found.iter().map(|conflict| conflict.source.clone()).collect();
        let by_ufw = in_files(policy, settings, &merge(root, &[file]), Origin::Ufw, |_| false);
        found.extend(by_ufw.into_iter().filter(|conflict| !known.contains(&conflict.source)));
    }
    let command_line = files::read(root, Path::new(COMMAND_LINE), Writers::Any).unwrap_or_default();
    let command_line = on_command_line(&String::from_utf8_lossy(&command_line));
    let by_command_line = |(key, entry): &(Key, usize)| {
        let named = |(other, _): &&(Key, Arc<str>)| *other == *key || other.other_name().as_ref() == Some(key);
        let (name, says) = command_line.iter().rev().find(named)?;
        let source = Source { file: files::below(root, Path::new(COMMAND_LINE)).into(), line: 1 };
        // sysctl.d is applied later.
        let later = sysctl_d.deciding(key);
        let wanted = policy.value(*entry);
        let is_mended = later.is_some_and(|line| !line.sets_otherwise(key, wanted));
        let behind = later.map(|line| line.source.clone());
        (works_against(name, says, key, wanted) && !is_mended).then(|| Conflict {
            key: key.clone(),
            entry: *entry,
            says: in_unit_of(key, name, says),
            source,
            origin: Origin::CommandLine,
            behind,
            mend: None,
        })
    };
    found.extend(settings.iter().filter_map(by_command_line));
    let tuned = Tuned::read(root);
    let applied_later = if tuned.keeps_its_lines { Merged::default() } else { merged(root, &TUNED_REAPPLIES) };
    // It takes the minus sign for a part of the key.
    let wins =
        |key: &Key| applied_later.written_out(key).is_some_and(|line| line.value.is_some() && !line.ignore_failure);
    let by_tuned = |(key, entry): &(Key, usize)| {
        let name = key.clone().canonical();
        let (says, source) = tuned.lines.get(&name).cloned()?;
        let wanted = key.in_canonical_unit(policy.value(*entry));
        let says = says.filter(|says| wanted.is_none_or(|wanted| sets_otherwise(&wanted, says)))?;
        let says = Some(says).filter(|says| !value::is_refused(&name, says.trim_start_matches(['<', '>'])))?;
        let says = in_unit_of(key, &name, &says);
        let mend = (is_vendors(&source) && !tuned.keeps_its_lines).then(|| Mend {
            file: files::below(root, &Path::new(FOLDERS[0]).join(OWN_FILE)),
            lines: vec![own_line(policy, key, *entry, false)],
        });
        (!wins(&name)).then(|| Conflict {
            key: key.clone(),
            entry: *entry,
            says,
            source,
            origin: Origin::Tuned,
            behind: None,
            mend,
        })
    };
    found.extend(settings.iter().filter_map(by_tuned));
    found
}

/// The same of merged lines. A line that counts for one of the settings is not named again behind another's. Nor is a vendor's
/// that one beats which agrees with the policy: to be beaten is what it is there for.
fn in_files(
    policy: &Policy,
    settings: &[(Key, usize)],
    lines: &Merged,
    origin: Origin,
    is_vendors: impl Fn(&Source) -> bool,
) -> Vec<Conflict> {
    let against = |(key, entry): &(Key, usize)| {
        let line = lines.deciding(key)?;
        let says = line.value.as_deref()?;
        works_against(&own_key(line, key), says, key, policy.value(*entry)).then_some(&line.source)
    };
    let counting: HashSet<&Source> = settings.iter().filter_map(against).collect();
    let mut found = Vec::new();
    for setting in settings {
        let (Some(winner), (key, entry)) = (against(setting), setting) else { continue };
        let mut agreed = false;
        for (says, source, line) in lines.lines_for(key) {
            let is_winner = source == winner;
            let own = own_key(line, key);
            if value::is_refused(&own, without_remark(says)) {
                continue;
            }
            let agrees = !works_against(&own, says, key, policy.value(*entry));
            agreed |= agrees;
            if !agrees && (is_winner || !(counting.contains(source) || agreed && is_vendors(source))) {
                found.push(Conflict {
                    key: key.clone(),
                    entry: *entry,
                    says: in_unit_of(key, &own, says),
                    source: source.clone(),
                    origin,
                    behind: (!is_winner).then(|| winner.clone()),
                    mend: None,
                });
            }
        }
    }
    found
}

/// The name under which a line sets `key`.
fn own_key(line: &Entry, key: &Key) -> Key {
    match (&line.target, key.place()) {
        (Target::Many(pattern), Some(place)) => pattern.key_for(place.interface),
        (Target::One(own), _) => own.clone(),
        (Target::Many(_), None) => key.clone(),
    }
}

/// Whether `says`, written to `own`, makes `key` other than `wanted`. What the kernel refuses makes nothing of it.
fn works_against(own: &Key, says: &str, key: &Key, wanted: &str) -> bool {
    let says = without_remark(says);
    says_otherwise(own, says, key, wanted)
        && !value::is_refused(own, says)
        && !(own == key && value::means(key, wanted, says))
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

/// The policy's value as a line of sysctl.d: written out, which wins against any pattern, or the policy's pattern where a later
/// one is enough.
fn own_line(policy: &Policy, key: &Key, entry: usize, against_pattern: bool) -> String {
    let Entry { name, target, .. } = &policy.entries()[entry];
    let name = match target {
        Target::Many(_) if !against_pattern => &key.to_string(),
        _ => &**name,
    };
    format!("{name} = {}", policy.value(entry))
}
