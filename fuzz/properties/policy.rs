//! Policy files, a file of sysctl.d and an interface: every line counts or is reported, as in a merge written another way.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use fwdguard::policy::merge::{Entry, Merged, Merger, Target};
use fwdguard::policy::parse::{Reading, lines};
use fwdguard::policy::pattern::Pattern;
use fwdguard::policy::{Policy, PolicyError, value};
use fwdguard::setting::{Attribute, Family, Key, must_escape, number};

const SITE: &str = "/etc/fwdguard.d/10-site.conf";
const VENDOR: &str = "/usr/lib/fwdguard.d/50-kubernetes.conf";

pub fn holds(data: &[u8]) {
    let mut parts = super::parts(data);
    let mut next = || parts.next().unwrap_or_default();
    let (interface, site, vendor, sysctl_d) = (next(), next(), next(), next());
    let files: [(Arc<Path>, &[u8]); 2] = [(Path::new(SITE).into(), site), (Path::new(VENDOR).into(), vendor)];
    let (merged, errors) = merge(&files);
    for error in merged.notices.iter().filter(|notice| notice.source.line > 0).chain(&errors) {
        let text = error.to_string();
        assert!(!text.contains(char::is_control) && text.starts_with('/'), "{text:?}");
        let (_, bytes) = files.iter().find(|file| file.0 == error.source.file).expect("its file");
        let last = bytes.split(|byte| matches!(byte, b'\n' | b'\r')).count();
        assert!((1..=last as u32).contains(&error.source.line), "{text}");
    }

    let (expected, bad) = model(&files);
    let found: Vec<(String, Option<&str>)> =
        merged.entries.iter().map(|entry| (written_key(entry).to_string(), entry.value.as_deref())).collect();
    let expected: Vec<(String, Option<&str>)> =
        expected.iter().map(|(key, value)| (key.to_string(), value.as_deref())).collect();
    assert_eq!((found, errors.len()), (expected, bad));
    merged.entries.iter().for_each(judge);

    // The merged policy, written to one file and read again, is the same.
    if merged.entries.iter().all(|entry| !entry.name.contains('\\')) {
        let text: String = merged.entries.iter().map(written).collect();
        let (again, errors) = merge(&[(Path::new(SITE).into(), text.as_bytes())]);
        assert_eq!(errors, [], "{text}");
        assert_eq!(again.entries.iter().map(written).collect::<String>(), text);
    }
    decides(interface, &files, sysctl_d);
}

fn merge(files: &[(Arc<Path>, &[u8])]) -> (Merged, Vec<PolicyError>) {
    let (mut merger, mut errors) = (Merger::of_policy(), Vec::new());
    files.iter().for_each(|(file, text)| merger.add(file, text, &mut errors));
    (merger.finish(), errors)
}

fn sysctl_d(text: &[u8]) -> Merged {
    let mut merger = Merger::default();
    merger.add(&Path::new("/etc/sysctl.d/x.conf").into(), text, &mut Vec::new());
    merger.finish()
}

fn written_key(entry: &Entry) -> Key {
    match &entry.target {
        Target::One(key) => key.clone(),
        Target::Many(_) => Key::parse(&entry.name).unwrap_or_else(|e| panic!("{e}")).to_write(),
    }
}

fn written(entry: &Entry) -> String {
    let minus = if entry.ignore_failure || entry.value.is_none() { "-" } else { "" };
    let value = entry.value.as_ref().map(|value| format!(" = {value}")).unwrap_or_default();
    format!("{minus}{}{value}\n", entry.name)
}

fn judge(entry: &Entry) {
    super::assert_plain(&entry.name);
    super::assert_below_net(&written_key(entry));
    let value = entry.value.as_deref().unwrap_or("none");
    assert!(!value.is_empty() && !value.contains(|c: char| c.is_control() && c != '\t'), "{value:?}");
    assert_eq!(entry.number, entry.value.as_deref().and_then(number));
}

/// Key and value of each line that counts, in their order, and the number of bad lines.
fn model(files: &[(Arc<Path>, &[u8])]) -> (Vec<(Key, Option<String>)>, usize) {
    let (mut kept, mut bad) = (Vec::<(Key, Option<String>)>::new(), 0);
    for (file, text) in files {
        for line in lines(file, text, Reading::Policy) {
            if line.as_ref().is_ok_and(|line| Key::is_of_other_tree(line.key)) {
                continue;
            }
            let parsed = line.ok().and_then(|line| {
                let key = Key::parse(line.key).ok()?;
                let key = key.with_dotted_interface().unwrap_or(key);
                let usable =
                    !key.lacks_interface() && !key.is_folder() && (!key.has_wildcard() || Pattern::new(&key).is_ok());
                let taken = line.value.is_none_or(|value| value::check(&key, value).is_ok());
                (usable && taken).then_some((key, line.value))
            });
            let Some((key, value)) = parsed else {
                bad += 1;
                continue;
            };
            let value = value.map(|value| value::first_number(&key, value));
            let line = (key.to_write(), value.map(String::from));
            if !kept.contains(&line) {
                kept.retain(|(key, _)| key.clone().canonical() != line.0.clone().canonical());
                kept.push(line);
            }
        }
    }
    (kept, bad)
}

/// For an interface, each setting is decided by the line that names it, or else by the last pattern that matches.
fn decides(interface: &[u8], files: &[(Arc<Path>, &[u8])], of_sysctl_d: &[u8]) {
    if matches!(interface, b"" | b"." | b"..") || interface.iter().any(|byte| matches!(byte, b'/' | 0)) {
        return;
    }
    let interface = OsStr::from_bytes(interface);
    let load = || {
        let (merged, errors) = merge(files);
        Policy::of(merged, errors, VENDOR.into(), &sysctl_d(of_sysctl_d))
    };
    let policy = load();
    assert!(policy.says_the_same(&load()));
    let entries = policy.entries();
    let wanted = policy.for_interface(interface);
    for (key, entry) in &wanted {
        super::assert_below_net(key);
        assert_eq!(key.place().map(|place| place.interface), Some(interface), "{key}");
        assert!(!policy.excludes(key), "{key}");
        let names = |entry: &&Entry| matches!(&entry.target, Target::One(one) if one == key);
        let matches = |entry: &&Entry| {
            let Target::Many(pattern) = &entry.target else { return false };
            entry.value.is_some() && pattern.matches(interface) && pattern.key_for(interface) == *key
        };
        let deciding = entries.iter().find(names).or_else(|| entries.iter().rfind(matches)).expect("a line");
        assert!(std::ptr::eq(deciding, &entries[*entry]), "{key}");
    }
    for family in Family::BOTH {
        let all = Key::conf(family, OsStr::new("all"), Attribute::Forwarding);
        let off = entries.iter().any(|entry| entry.sets() == Some(&all) && entry.number == Some(0));
        let opens = |entry: &Entry| {
            entry.announced == Some((family, Attribute::Forwarding))
                && matches!(&entry.target, Target::Many(pattern) if pattern.is_every())
        };
        assert!(!off || entries.iter().all(|e| !opens(e) || e.value.is_none() || e.number == Some(0)), "off is off");
    }
    let mut keys: Vec<Key> =
        policy.all_settings([interface.to_os_string()].into_iter()).into_iter().map(|s| s.0).collect();
    let count = keys.len();
    keys.sort();
    keys.dedup();
    assert!(keys.len() == count || matches!(interface.as_bytes(), b"all" | b"default"), "each setting once");
    assert!(policy.errors.iter().all(|error| !error.to_string().contains(char::is_control)));
    assert!(keys.iter().all(|key| !key.to_string().contains(must_escape)));
}
