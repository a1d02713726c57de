//! An administrator's "off": what `all.forwarding = 0` does to patterns of `forwarding`, set and excluded.

use std::ffi::OsStr;
use std::path::Path;

use super::merge::{Entry, Merged};
use super::pattern::Pattern;
use super::{FOLDERS, PolicyError, Source};
use crate::setting::{Attribute, Family, Key, printable};

/// An explicit `all.forwarding = 0` removes the patterns that open interfaces: those for every interface, and those whose file has
/// a lower precedence than the file with the 0. A router that its administrator switched off stays off.
///
/// A narrower pattern of the administrator's own remains ("off for the node, on for cali*"), also where a pattern for every
/// interface with value 0 follows it in the same file: that one only repeats `all.forwarding = 0`.
///
/// It also removes the patterns that the vendor excludes, without an error: on a router they keep closed interfaces from being
/// opened, and here they would keep open ones from being closed.
pub fn apply_off(merged: Merged, vendor_file: &Path, errors: &mut Vec<PolicyError>) -> Merged {
    let all = Family::BOTH.map(|family| Key::conf(family, OsStr::new("all"), Attribute::Forwarding));
    let off: Vec<Entry> = all.iter().filter_map(|key| merged.written_out(key)).cloned().collect();
    let Merged { mut entries, mut notices, .. } = merged;
    for off in off.iter().filter(|entry| entry.number == Some(0)) {
        let opens = |entry: &Entry| entry.value.is_some() && entry.number != Some(0);
        entries.retain(|entry| {
            let Some(pattern) = pattern_of(entry, off) else { return true };
            if entry.value.is_none() {
                return !yields(entry, off) && !is_vendors(entry, off, vendor_file);
            }
            let removed = opens(entry) && (pattern.is_every() || yields(entry, off));
            if removed {
                let message = format!("{} contradicts {}; remove one of the two", line(entry), line_with_path(off));
                errors.push(PolicyError { source: entry.source.clone(), message });
            }
            !removed
        });
        for at in 0..entries.len() {
            let (earlier, entry) = (&entries[..at], &entries[at]);
            let closes_every = entry.number == Some(0) && pattern_of(entry, off).is_some_and(Pattern::is_every);
            let is_narrower = |other: &Entry| {
                pattern_of(other, off).is_some() && opens(other) && other.source.file == entry.source.file
            };
            let Some(narrower) = earlier.iter().position(|other| closes_every && is_narrower(other)) else { continue };
            let [narrow, off] = [&entries[narrower], off].map(line_with_path);
            let message = format!("{} does not apply where {narrow} matches, because of {off}", line(entry));
            notices.push(PolicyError { source: entry.source.clone(), message });
            entries[narrower..=at].rotate_right(1);
        }
    }
    Merged::new(entries, notices)
}

/// The pattern, if it is of the family that `off` switches off.
fn pattern_of<'a>(entry: &'a Entry, off: &Entry) -> Option<&'a Pattern> {
    entry.pattern().filter(|_| entry.announced == off.announced)
}

/// Whether it is the vendor's alone, and `off` is not.
fn is_vendors(entry: &Entry, off: &Entry, vendor_file: &Path) -> bool {
    let by_vendor = |source: &Source| *source.file == *vendor_file;
    entry.sources().all(by_vendor) && !off.sources().all(by_vendor)
}

/// Whether every line of the pattern is in a folder of lower precedence than that of `off`.
fn yields(entry: &Entry, off: &Entry) -> bool {
    let off = folder(&off.source);
    entry.sources().all(|source| folder(source) > off)
}

/// The folder's index in [`FOLDERS`]; the built-in file comes last.
fn folder(source: &Source) -> usize {
    let parent = source.file.parent().unwrap_or(Path::new(""));
    FOLDERS.iter().position(|folder| parent.ends_with(&folder[1..])).unwrap_or(FOLDERS.len())
}

/// `'net.ipv4.conf.*.forwarding = 1'`
fn line(entry: &Entry) -> String {
    let value = entry.value.as_deref().unwrap_or_default();
    let value = if entry.number == Some(0) { "0" } else { value };
    format!("'{} = {}'", entry.name, printable(OsStr::new(value)))
}

/// `'net.ipv4.conf.*.forwarding = 1' at /etc/fwdguard.d/60-site.conf:3`
fn line_with_path(entry: &Entry) -> String {
    format!("{} at {}", line(entry), entry.source.with_path())
}
