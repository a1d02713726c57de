//! An administrator's "off": what `all.forwarding = 0` does to patterns of `forwarding`, set and excluded.

use std::ffi::OsStr;
use std::path::Path;

use super::merge::{Entry, Merged, Target};
use super::{FOLDERS, PolicyError, Source};
use crate::setting::{Attribute, Family, Key, printable};

/// An explicit `all.forwarding = 0` drops patterns that say 1: those that stand for every interface, and those whose file yields
/// to the one with the 0. A router that its administrator switched off stays off.
///
/// A narrower pattern of the administrator's own counts ("off for the node, on for cali*"), also where a pattern for every
/// interface that says 0 follows it in the same file: that one only says again what `all.forwarding = 0` says.
///
/// It drops the patterns that the vendor excludes, too, in silence: on a router they keep closed interfaces from being opened, and
/// here they would keep open ones from being closed.
pub fn apply_off(merged: Merged, vendor_file: &Path, errors: &mut Vec<PolicyError>) -> Merged {
    let off: Vec<Entry> = Family::BOTH
        .into_iter()
        .filter_map(|family| merged.written_out(&Key::conf(family, OsStr::new("all"), Attribute::Forwarding)))
        .filter(|entry| entry.number == Some(0))
        .cloned()
        .collect();
    if off.is_empty() {
        return merged;
    }
    let Merged { mut entries, mut notices, .. } = merged;
    for off in &off {
        entries.retain(|entry| {
            !excludes_pattern(entry, off) || !(yields(entry, off) || is_vendors(entry, off, vendor_file))
        });
        entries.retain(|entry| {
            let drops = opens(entry, off).is_some_and(|every| every || yields(entry, off));
            if drops {
                let message = format!(
                    "{} contradicts {} at {}; remove one of the two",
                    line(entry),
                    line(off),
                    place(&off.source)
                );
                errors.push(PolicyError::at(entry.source.clone(), message));
            }
            !drops
        });
        let mut at = 0;
        while at < entries.len() {
            let closes = closes_every(&entries[at], off);
            let narrower = entries[..at].iter().position(|entry| {
                closes && opens(entry, off).is_some() && entry.source.file == entries[at].source.file
            });
            if let Some(narrower) = narrower {
                let message = format!(
                    "{} yields to {} at {}, because of {} at {}",
                    line(&entries[at]),
                    line(&entries[narrower]),
                    place(&entries[narrower].source),
                    line(off),
                    place(&off.source)
                );
                notices.push(PolicyError::at(entries[at].source.clone(), message));
                entries[narrower..=at].rotate_right(1);
            }
            at += 1;
        }
    }
    Merged::new(entries, notices)
}

/// Whether a pattern of the family that `off` switches off says on, and if so, whether for every interface.
fn opens(entry: &Entry, off: &Entry) -> Option<bool> {
    let Target::Many(pattern) = &entry.target else { return None };
    let says_on = entry.value.is_some() && entry.number != Some(0) && entry.announced == off.announced;
    says_on.then(|| pattern.is_every())
}

fn closes_every(entry: &Entry, off: &Entry) -> bool {
    let is_every = matches!(&entry.target, Target::Many(pattern) if pattern.is_every());
    is_every && entry.number == Some(0) && entry.announced == off.announced
}

fn excludes_pattern(entry: &Entry, off: &Entry) -> bool {
    matches!(&entry.target, Target::Many(_)) && entry.value.is_none() && entry.announced == off.announced
}

/// Whether it is the vendor's alone, and `off` is not.
fn is_vendors(entry: &Entry, off: &Entry, vendor_file: &Path) -> bool {
    let by_vendor = |source: &Source| *source.file == *vendor_file;
    entry.sources().all(by_vendor) && !off.sources().all(by_vendor)
}

/// Whether no line of the pattern stands in a file of a folder that has as much to say as that of `off`.
fn yields(entry: &Entry, off: &Entry) -> bool {
    let off = folder(&off.source);
    entry.sources().all(|source| folder(source) > off)
}

/// The folder's place in [`FOLDERS`]; the built-in file comes last.
fn folder(source: &Source) -> usize {
    let parent = source.file.parent().unwrap_or(Path::new(""));
    FOLDERS.iter().position(|folder| parent.ends_with(&folder[1..])).unwrap_or(FOLDERS.len())
}

fn line(entry: &Entry) -> String {
    let value = entry.value.as_deref().unwrap_or_default();
    let value = if entry.number == Some(0) { "0" } else { value };
    format!("'{} = {}'", entry.name, printable(OsStr::new(value)))
}

fn place(source: &Source) -> String {
    format!("{}:{}", printable(source.file.as_os_str()), source.line)
}
