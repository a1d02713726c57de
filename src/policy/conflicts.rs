//! Lines of sysctl.d and of TuneD's profile that work against the policy, and when each comes back.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::Writers;
use super::merge::{Entry, Merged, Merger, Target};
use super::tuned::{Tuned, sets_otherwise};
use super::{Policy, Source, files};
use crate::setting::{Key, printable};

/// What systemd-sysctl and procps read, highest priority first.
pub const FOLDERS: [&str; 4] = ["/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d"];
/// procps applies it last; systemd only on CentOS 7, or through a link in sysctl.d.
pub const LEGACY_FILE: &str = "/etc/sysctl.conf";
/// What TuneD applies anew after its own lines (`reapply_sysctl`), highest priority first, and then [`LEGACY_FILE`].
const REAPPLIED: [&str; 2] = ["/run/sysctl.d", "/etc/sysctl.d"];

/// What the incident's remedy was called.
const OWN_FILE: &str = "k8s-forward.conf";
/// Below it is what packages bring.
const VENDORS: &str = "/usr/lib";

/// Who applies a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    SysctlD,
    Tuned,
}

/// One guarded setting that somebody's configuration would set otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    pub key: Key,
    /// The policy's entry.
    pub entry: usize,
    pub says: Arc<str>,
    pub source: Source,
    pub origin: Origin,
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

/// `'net.ipv4.ip_forward = 1' into /etc/sysctl.d/k8s-forward.conf`
impl fmt::Display for Mend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' into {}", self.lines.join("' and '"), printable(self.file.as_os_str()))
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
    let mut merger = Merger::default();
    let mut paths = files::list(root, folders, Writers::Any, &mut Vec::new());
    paths.push(LEGACY_FILE.into());
    for path in paths {
        if let Ok(bytes) = files::read(root, &path, Writers::Any) {
            merger.add(&files::below(root, &path).into(), &bytes, &mut Vec::new());
        }
    }
    merger.finish()
}

/// A file or folder of sysctl.d or of TuneD that the kernel does not let this process read, with the reason: what it says against
/// the policy is not known.
pub fn unread(root: &Path) -> Option<String> {
    let mut unreadable = Vec::new();
    let mut paths = files::list(root, &FOLDERS, Writers::Any, &mut unreadable);
    paths.push(LEGACY_FILE.into());
    paths.extend(Tuned::read(root).paths);
    let folder = unreadable.first().map(|(folder, reason)| format!("{}: {reason}", printable(folder.as_os_str())));
    folder.or_else(|| paths.iter().find_map(|path| files::refusal(root, path)))
}

/// Which of `settings` the configuration below `root` would set otherwise.
pub fn find(policy: &Policy, root: &Path, settings: &[(Key, usize)]) -> Vec<Conflict> {
    let is_vendors = |source: &Source| source.file.starts_with(files::below(root, Path::new(VENDORS)));
    let sysctl_d = sysctl_d(root);
    let by_sysctl_d = |(key, entry): &(Key, usize)| {
        let line = sysctl_d.deciding(key)?;
        let (says, source) = (line.value.clone()?, line.source.clone());
        let mend = is_vendors(&source).then(|| Mend {
            file: files::below(root, &applied_after(&source.file)),
            lines: vec![own_line(policy, key, *entry, line.sets().is_none())],
        });
        line.sets_otherwise(key, policy.value(*entry)).then(|| Conflict {
            key: key.clone(),
            entry: *entry,
            says,
            source,
            origin: Origin::SysctlD,
            mend,
        })
    };
    let tuned = Tuned::read(root);
    let wins = if tuned.reapplies_sysctl_d { merged(root, &REAPPLIED) } else { Merged::default() };
    let by_tuned = |(key, entry): &(Key, usize)| {
        let named = [Some(key.clone()), key.other_name()].into_iter().flatten();
        let (name, (says, source)) =
            named.filter_map(|name| tuned.lines.get(&name).map(|line| (name, line.clone()))).next()?;
        let wanted = policy.value(*entry);
        let otherwise = |says: &str| match (key.in_canonical_unit(wanted), name.in_canonical_unit(says)) {
            _ if name == *key => sets_otherwise(wanted, says),
            (Some(wanted), Some(says)) => sets_otherwise(&wanted, &says),
            _ => true,
        };
        let says = says.filter(|says| otherwise(says))?;
        let lasts = wins.written_out(key).is_none_or(|line| line.value.is_none());
        let mend = (is_vendors(&source) && tuned.reapplies_sysctl_d).then(|| Mend {
            file: files::below(root, &Path::new(FOLDERS[0]).join(OWN_FILE)),
            lines: vec![own_line(policy, key, *entry, false)],
        });
        lasts.then(|| Conflict { key: key.clone(), entry: *entry, says, source, origin: Origin::Tuned, mend })
    };
    settings.iter().filter_map(by_sysctl_d).chain(settings.iter().filter_map(by_tuned)).collect()
}

/// The policy's value as a line of sysctl.d: written out, which wins against any pattern, or the policy's pattern where a later
/// one is enough.
fn own_line(policy: &Policy, key: &Key, entry: usize, against_pattern: bool) -> String {
    let Entry { name, target, .. } = &policy.entries()[entry];
    let name = match target {
        Target::Many(_) if !against_pattern => &key.to_string(),
        _ => name,
    };
    format!("{name} = {}", policy.value(entry))
}
