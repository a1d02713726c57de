//! Lines of sysctl.d that work against the policy: they come back at boot, `sysctl --system`, TuneD or a udev event.

use std::path::Path;
use std::sync::Arc;

use super::merge::{Merged, Merger};
use super::{Policy, Source, files};
use crate::setting::{Key, same_value};

/// What systemd-sysctl and procps read, highest priority first.
pub const FOLDERS: [&str; 4] = ["/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d"];
/// procps applies it last; systemd only on CentOS 7, or through a link in sysctl.d.
pub const LEGACY_FILE: &str = "/etc/sysctl.conf";

/// One guarded setting that sysctl.d would set otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    pub key: Key,
    /// The policy's entry.
    pub entry: usize,
    pub says: Arc<str>,
    pub source: Source,
}

/// The merged lines of sysctl.d below `root`. Its errors are its own administrator's business and dropped here.
pub fn sysctl_d(root: &Path) -> Merged {
    let mut merger = Merger::default();
    let mut paths = files::list(root, &FOLDERS, &mut Vec::new());
    paths.push(LEGACY_FILE.into());
    for path in paths {
        if let Ok(bytes) = files::read(root, &path) {
            merger.add(&files::below(root, &path).into(), &bytes, &mut Vec::new());
        }
    }
    merger.finish()
}

/// Which of `settings` sysctl.d would set otherwise.
pub fn find(policy: &Policy, sysctl_d: &Merged, settings: &[(Key, usize)]) -> Vec<Conflict> {
    let conflict = |(key, entry): &(Key, usize)| {
        let line = sysctl_d.deciding(key)?;
        let says = line.value.clone()?;
        let against = !same_value(policy.value(*entry), &says);
        against.then(|| Conflict { key: key.clone(), entry: *entry, says, source: line.source.clone() })
    };
    settings.iter().filter_map(conflict).collect()
}
