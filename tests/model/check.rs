//! Checks of the settings that sequences write, and of every other setting below net.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::guarded::Allowed;
use super::policy::Policy;
use super::settings::{canonical, is_written};
use crate::common::all_settings;

/// Counts of the kernel's own, which change by themselves.
const COUNTS: [&str; 2] = ["net/netfilter/nf_conntrack_count", "net/ipv6/route/max_size"];

/// Many short sleeps: should the machine stop for a while, guard and test alike, then the guard has its time all the same.
pub fn two_seconds() {
    (0..20).for_each(|_| std::thread::sleep(Duration::from_millis(100)));
}

/// The settings whose value is not allowed.
pub fn wrong(allowed: &Allowed, observed: &BTreeMap<String, String>, policy: &Policy) -> Vec<String> {
    let wrong = |(key, values): (&String, &BTreeSet<String>)| {
        let found = observed.get(key).filter(|value| !values.contains(*value))?;
        let policy = policy.wanted(key).map_or("the policy does not name it".into(), |value| format!("policy {value}"));
        Some(format!("{key} is {found}, not {} ({policy})", values.iter().cloned().collect::<Vec<_>>().join(" or ")))
    };
    allowed.iter().filter_map(wrong).collect()
}

/// All settings that no sequence writes.
pub fn rest() -> HashMap<PathBuf, Vec<u8>> {
    let mut settings = all_settings();
    settings.retain(|path, _| {
        let key = key(path);
        let written = is_written(&canonical(&key));
        !written && !COUNTS.contains(&key.as_str())
    });
    settings
}

/// The changes of the other settings, but for those of interfaces that came, went or were renamed.
pub fn changed(
    before: &HashMap<PathBuf, Vec<u8>>,
    now: &HashMap<PathBuf, Vec<u8>>,
    but: &BTreeSet<String>,
) -> Vec<String> {
    let text = |value: &[u8]| String::from_utf8_lossy(value).trim().to_string();
    let changed = |(path, was): (&PathBuf, &Vec<u8>)| {
        let key = key(path);
        let touched = key.split('/').any(|part| but.contains(part));
        let is = now.get(path).filter(|is| *is != was && !touched)?;
        Some(format!("{key} changed from {} to {}, and no process wrote it", text(was), text(is)))
    };
    before.iter().filter_map(changed).collect()
}

fn key(path: &Path) -> String {
    path.strip_prefix("/proc/sys").unwrap_or(path).to_string_lossy().into_owned()
}
