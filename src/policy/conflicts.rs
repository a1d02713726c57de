//! Lines of sysctl.d and of TuneD's profile that work against the policy, and when each comes back.

use std::path::Path;
use std::sync::Arc;

use super::files::Writers;
use super::merge::{Merged, Merger};
use super::tuned::{Tuned, sets_otherwise};
use super::{Policy, Source, files};
use crate::setting::{Key, same_value};

/// What systemd-sysctl and procps read, highest priority first.
pub const FOLDERS: [&str; 4] = ["/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d"];
/// procps applies it last; systemd only on CentOS 7, or through a link in sysctl.d.
pub const LEGACY_FILE: &str = "/etc/sysctl.conf";
/// What TuneD applies anew after its own lines (`reapply_sysctl`), highest priority first, and then [`LEGACY_FILE`].
const REAPPLIED: [&str; 2] = ["/run/sysctl.d", "/etc/sysctl.d"];

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

/// Which of `settings` the configuration below `root` would set otherwise.
pub fn find(policy: &Policy, root: &Path, settings: &[(Key, usize)]) -> Vec<Conflict> {
    let sysctl_d = sysctl_d(root);
    let by_sysctl_d = |(key, entry): &(Key, usize)| {
        let line = sysctl_d.deciding(key)?;
        let (says, source) = (line.value.clone()?, line.source.clone());
        let against = !same_value(policy.value(*entry), &says);
        against.then(|| Conflict { key: key.clone(), entry: *entry, says, source, origin: Origin::SysctlD })
    };
    let tuned = Tuned::read(root);
    let wins = if tuned.reapplies_sysctl_d { merged(root, &REAPPLIED) } else { Merged::default() };
    let by_tuned = |(key, entry): &(Key, usize)| {
        let (says, source) = tuned.lines.get(key).cloned()?;
        let says = says.filter(|says| sets_otherwise(policy.value(*entry), says))?;
        let lasts = wins.written_out(key).is_none_or(|line| line.value.is_none());
        lasts.then(|| Conflict { key: key.clone(), entry: *entry, says, source, origin: Origin::Tuned })
    };
    settings.iter().filter_map(by_sysctl_d).chain(settings.iter().filter_map(by_tuned)).collect()
}
