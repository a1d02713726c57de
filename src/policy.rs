//! The policy: the settings that must hold, merged from the fwdguard.d folders as sysctl.d(5) merges its own.

pub mod conflicts;
pub mod effective;
pub mod files;
pub mod merge;
mod notices;
mod off;
pub mod parse;
pub mod pattern;
#[cfg(test)]
mod tests;
pub mod tuned;
pub mod value;
pub mod watch;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::ffi::{CStr, OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::NixPath;

use crate::setting::{Attribute, Family, Key, Place, number, printable};
use files::Writers;
use merge::{Entry, Merged, Merger, Target};
use pattern::Pattern;

/// Highest priority first (sysctl.d(5), "CONFIGURATION DIRECTORIES AND PRECEDENCE").
pub const FOLDERS: [&str; 4] =
    ["/etc/fwdguard.d", "/run/fwdguard.d", "/usr/local/lib/fwdguard.d", "/usr/lib/fwdguard.d"];

const VENDOR_FILE: &str = "/usr/lib/fwdguard.d/50-kubernetes.conf";
const VENDOR_TEXT: &str = include_str!("../packaging/50-kubernetes.conf");
/// Stands for the vendor file in messages where no policy file exists at all.
const BUILT_IN: &str = "built-in:50-kubernetes.conf";

/// Where a line stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    pub file: Arc<Path>,
    pub line: u32,
}

/// `50-kubernetes.conf:9`: short, for messages that carry the whole path in a field.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.file.file_name().unwrap_or(self.file.as_os_str());
        write!(f, "{}:{}", printable(name), self.line)
    }
}

/// A line or file that was left out, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyError {
    /// Line 0: the file or folder as a whole.
    pub source: Source,
    pub message: String,
}

impl PolicyError {
    pub fn at(source: Source, message: impl Into<String>) -> PolicyError {
        PolicyError { source, message: message.into() }
    }

    fn whole(file: PathBuf, message: impl Into<String>) -> PolicyError {
        PolicyError::at(Source { file: file.into(), line: 0 }, message)
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = printable(self.source.file.as_os_str());
        match self.source.line {
            0 => write!(f, "{file}: {}", self.message),
            line => write!(f, "{file}:{line}: {}", self.message),
        }
    }
}

/// A setting that the policy names, found for a place: the key, and the entry that wants it.
pub type Wanted = (Key, usize);

/// The merged policy.
#[derive(Debug, Default)]
pub struct Policy {
    merged: Merged,
    pub errors: Vec<PolicyError>,
    /// Lines that count, or are rightly passed over, and are read in another way than they are written. No failure.
    pub notices: Vec<PolicyError>,
    /// Entries that name one key in an interface's place, by interface (`all` and `default` too).
    by_interface: BTreeMap<OsString, Vec<usize>>,
    /// Interfaces whose `forwarding = 0` stands written out in sysctl.d, which the vendor's pattern leaves alone.
    pub exempt: BTreeMap<OsString, Source>,
    vendor_file: PathBuf,
    /// What decides the settings of most interfaces: those that no line stands for, and no pattern but `*` matches.
    usual: Vec<usize>,
}

impl Policy {
    /// Reads the policy below `root`. Never fails: what can't be used is in `errors`.
    pub fn load(root: &Path) -> Policy {
        let (mut errors, mut unreadable, mut merger) = (Vec::new(), Vec::new(), Merger::of_policy());
        let writers = Writers::of_policy();
        let files = files::list(root, &FOLDERS, writers, &mut unreadable);
        let mut vendor_file = files::below(root, Path::new(VENDOR_FILE));
        if files.is_empty() && unreadable.is_empty() {
            vendor_file = BUILT_IN.into();
            merger.add(&vendor_file.as_path().into(), VENDOR_TEXT.as_bytes(), &mut errors);
        }
        errors.extend(unreadable.into_iter().map(|(folder, reason)| PolicyError::whole(folder, reason)));
        for path in &files {
            let shown = files::below(root, path);
            match files::read(root, path, writers) {
                Ok(bytes) => merger.add(&shown.into(), &bytes, &mut errors),
                Err(error) => errors.push(PolicyError::whole(shown, error.to_string())),
            }
        }
        Policy::of(merger.finish(), errors, vendor_file, &conflicts::sysctl_d(root))
    }

    /// The policy of merged lines, of which `vendor_file` has the vendor's, beside those of sysctl.d.
    ///
    /// Here the policy differs from what systemd-sysctl makes of the same lines, beside what
    /// [`Merger::of_policy`](merge::Merger::of_policy) says: [`apply_off`], and a pattern of `forwarding` that is excluded is left
    /// alone by the others ([`Policy::is_left_alone`]), but for the administrator's own where the vendor excludes it.
    pub fn of(merged: Merged, mut errors: Vec<PolicyError>, vendor_file: PathBuf, sysctl_d: &Merged) -> Policy {
        let mut merged = off::apply_off(merged, &vendor_file, &mut errors);
        let notices = std::mem::take(&mut merged.notices);
        let mut by_interface = BTreeMap::<OsString, Vec<usize>>::new();
        for (index, entry) in merged.entries.iter().enumerate() {
            if let Some(place) = entry.names().and_then(Key::place) {
                by_interface.entry(place.interface.to_os_string()).or_default().push(index);
            }
        }
        let mut policy =
            Policy { merged, errors, notices, by_interface, exempt: BTreeMap::new(), vendor_file, usual: Vec::new() };
        for (interface, source) in sysctl_d.closed_interfaces() {
            let key = Key::conf(Family::V4, &interface, Attribute::Forwarding);
            if policy.only_the_vendor_opens(&key) {
                policy.exempt.insert(interface, source);
            }
        }
        policy.usual = policy.decide(&[], |_, pattern| pattern.is_any());
        policy
    }

    /// Adds a notice for each line that names an interface by an altname, which `find` knows (the kernel has no setting of that
    /// name, so nothing of it is guarded).
    pub fn note_altnames(&mut self, find: impl Fn(&OsStr) -> Option<OsString>) {
        let lines = self.by_interface.iter().filter(|(name, _)| *name != "all" && *name != "default");
        for (name, own, entry) in lines.filter_map(|(name, entries)| Some((name, find(name)?, *entries.first()?))) {
            let Entry { source, name: key, .. } = &self.merged.entries[entry];
            let [name, own] = [name, &own].map(|name| printable(name));
            let message = format!(
                "'{key}' has no effect: {name} is an altname of {own}, and the kernel has its settings under {own}"
            );
            self.notices.push(PolicyError::at(source.clone(), message));
        }
    }

    /// The lines that count, in the order in which sysctl.d would apply them.
    pub fn entries(&self) -> &[Entry] {
        &self.merged.entries
    }

    /// The value that entry `index` wants; empty for an exclusion.
    pub fn value(&self, index: usize) -> &str {
        self.merged.entries[index].value.as_deref().unwrap_or_default()
    }

    /// What the policy calls `key`, which entry `index` decides.
    pub fn name(&self, key: &Key, index: usize) -> String {
        let entry = &self.merged.entries[index];
        if entry.sets().is_some() { entry.name.to_string() } else { key.to_string() }
    }

    /// Whether a line is the vendor's or built in.
    pub fn is_vendors(&self, source: &Source) -> bool {
        *source.file == *self.vendor_file
    }

    /// Whether reading it again gave nothing new.
    pub fn says_the_same(&self, other: &Policy) -> bool {
        self.merged.entries == other.merged.entries
            && (&self.errors, &self.notices, &self.exempt) == (&other.errors, &other.notices, &other.exempt)
    }

    /// There is something to read, and nothing of it could be.
    pub fn is_unreadable(&self) -> bool {
        self.merged.entries.is_empty() && !self.errors.is_empty()
    }

    /// All settings of one interface, of `all` or of `default`.
    pub fn for_interface(&self, interface: &OsStr) -> Vec<Wanted> {
        self.deciding(interface).iter().map(|index| (self.key_for(*index, interface), *index)).collect()
    }

    /// The entries that decide its settings, one for each.
    pub fn deciding(&self, interface: &OsStr) -> Cow<'_, [usize]> {
        // A copy with its NUL on the stack: at the start, thousands are waited for.
        interface.with_nix_path(|name| self.deciding_of(interface, name)).unwrap_or_default()
    }

    fn deciding_of(&self, interface: &OsStr, name: &CStr) -> Cow<'_, [usize]> {
        let named = self.by_interface.get(interface);
        let is_exempt = self.exempt.contains_key(interface);
        let is_usual = |entry: &Entry| match &entry.target {
            Target::Many(pattern) => pattern.matches_name(name) == pattern.is_any(),
            Target::One(_) => true,
        };
        if named.is_none() && !is_exempt && self.merged.entries.iter().all(is_usual) {
            return Cow::Borrowed(&self.usual);
        }
        let named = named.map(Vec::as_slice).unwrap_or_default();
        Cow::Owned(self.decide(named, |entry, pattern| {
            pattern.matches_name(name)
                && !(is_exempt && self.is_exempt(&pattern.key_for(interface)))
                && !self.is_left_alone(entry, pattern, name)
        }))
    }

    /// The entries that decide settings, one for each, of an interface that lines stand for and patterns match.
    fn decide(&self, named: &[usize], matches: impl Fn(&Entry, &Pattern) -> bool) -> Vec<usize> {
        let entries = &self.merged.entries;
        let mut deciding: Vec<usize> = named.iter().copied().filter(|index| entries[*index].sets().is_some()).collect();
        for (index, entry) in entries.iter().enumerate() {
            let Target::Many(pattern) = &entry.target else { continue };
            let is_named = named.iter().any(|index| entries[*index].is_of(pattern));
            if entry.value.is_none() || is_named || !matches(entry, pattern) {
                continue;
            }
            match deciding.iter_mut().find(|earlier| entries[**earlier].is_of(pattern)) {
                Some(earlier) => *earlier = index,
                None => deciding.push(index),
            }
        }
        deciding
    }

    /// The key of an interface that entry `index` decides.
    pub fn key_for(&self, index: usize, interface: &OsStr) -> Key {
        match &self.merged.entries[index].target {
            Target::One(key) => key.clone(),
            Target::Many(pattern) => pattern.key_for(interface),
        }
    }

    /// Whether a line stands for this interface alone.
    pub fn writes_out(&self, interface: &OsStr) -> bool {
        self.by_interface.contains_key(interface)
    }

    /// Whether it names the forwarding of any interface of this family.
    pub fn guards_forwarding(&self, family: Family) -> bool {
        self.merged.entries.iter().any(|entry| entry.announced == Some((family, Attribute::Forwarding)))
    }

    /// Settings that belong to no interface, such as `net.core.somaxconn`.
    pub fn global(&self) -> impl Iterator<Item = Wanted> {
        let one = |(index, entry): (usize, &Entry)| Some((entry.sets()?.clone(), index));
        self.merged.entries.iter().enumerate().filter_map(one).filter(|(key, _)| key.place().is_none())
    }

    /// Every setting that the policy names where these interfaces are, and those that are written out for others.
    pub fn all_settings(&self, interfaces: impl Iterator<Item = OsString>) -> Vec<Wanted> {
        let mut names: Vec<OsString> = ["all", "default"].map(OsString::from).into();
        names.extend(interfaces);
        let there: HashSet<&OsString> = names.iter().collect();
        let mut absent: Vec<&OsString> = self.by_interface.keys().filter(|name| !there.contains(name)).collect();
        absent.sort();
        let written_out = |name: &&OsString| self.by_interface[*name].clone();
        let mut wanted: Vec<Wanted> = names.iter().flat_map(|name| self.for_interface(name)).collect();
        let absent = absent.iter().flat_map(written_out);
        wanted.extend(absent.filter_map(|index| Some((self.merged.entries[index].sets()?.clone(), index))));
        wanted.extend(self.global());
        wanted
    }

    /// Whether the policy says of `key` that it is to be left alone.
    pub fn excludes(&self, key: &Key) -> bool {
        match (self.merged.written_out(key), key.place()) {
            (Some(entry), _) => entry.value.is_none(),
            (None, Some(place)) => self.is_exempt(key) || self.is_excluded_by_pattern(key, &place),
            (None, None) => false,
        }
    }

    fn is_excluded_by_pattern(&self, key: &Key, place: &Place) -> bool {
        let excluding = |pattern: &Pattern| pattern.is_for(place);
        let mut patterns = self.merged.patterns_for(key);
        self.exclusions(place.name, excluding).next().is_some()
            && patterns.all(|entry| self.exclusions(place.name, excluding).any(|other| !self.outweighs(entry, other)))
    }

    /// Whether another pattern is excluded that stands for this interface, too. sysctl.d excludes single keys only. It is so for
    /// `forwarding`, where what is closed on purpose must not be opened (the bridges of Podman's internal networks), and not for
    /// an excluded `*`, which only takes back a line.
    fn is_left_alone(&self, entry: &Entry, pattern: &Pattern, name: &CStr) -> bool {
        let same = |other: &Pattern| {
            other.is_about(&pattern.family, &pattern.table, &pattern.name) && other.matches_name(name)
        };
        self.exclusions(&pattern.name, same).any(|excluded| !self.outweighs(entry, excluded))
    }

    /// The entries that exclude a pattern of the setting `name`.
    fn exclusions(&self, name: &str, is_meant: impl Fn(&Pattern) -> bool) -> impl Iterator<Item = &Entry> {
        let entries = if name == "forwarding" { &self.merged.entries[..] } else { &[] };
        entries.iter().filter(|entry| entry.value.is_none()).filter(move |entry| match &entry.target {
            Target::Many(pattern) => !pattern.is_every() && is_meant(pattern),
            Target::One(_) => false,
        })
    }

    /// Whether a pattern counts where `excluded` excludes another: the administrator's own, where the vendor alone excludes. What
    /// opens every interface names none of those that the vendor keeps from being opened.
    fn outweighs(&self, entry: &Entry, excluded: &Entry) -> bool {
        let is_narrow = matches!(&entry.target, Target::Many(pattern) if !pattern.is_every());
        excluded.sources().all(|source| self.is_vendors(source))
            && entry.sources().any(|source| !self.is_vendors(source))
            && (is_narrow || entry.number == Some(0))
    }

    fn is_exempt(&self, key: &Key) -> bool {
        key.place().is_some_and(|place| {
            place.announced() == Some((Family::V4, Attribute::Forwarding)) && self.exempt.contains_key(place.interface)
        })
    }

    /// Whether `key` would be opened by a pattern, and by no line but the vendor's: what the administrator writes in a file
    /// of his own is meant, be it applied before the vendor's line, repeat it, or be replaced by it.
    fn only_the_vendor_opens(&self, key: &Key) -> bool {
        let by_vendor = |source: &Source| self.is_vendors(source);
        // The administrator's last word on this very pattern, where the vendor's line replaced it: `= 01` before `= 1`.
        let opened_before = |entry: &Entry| {
            let replaced = entry.overrides.iter().rev().find(|(_, source)| !by_vendor(source));
            replaced.and_then(|(value, _)| value.as_deref()).is_some_and(|value| number(value) != Some(0))
        };
        let by_vendor_alone = |entry: &Entry| entry.sources().all(by_vendor) && !opened_before(entry);
        let mut openers = self.merged.patterns_for(key).filter(|entry| entry.number != Some(0));
        self.merged
            .deciding(key)
            .is_some_and(|entry| matches!(entry.target, Target::Many(_)) && by_vendor(&entry.source))
            && openers.all(by_vendor_alone)
    }
}
