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

use std::collections::{BTreeMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::setting::{Attribute, Family, Key, Place, number, printable};
use files::Writers;
use merge::{Entry, Merged, Merger};

/// Highest priority first (sysctl.d(5), "CONFIGURATION DIRECTORIES AND PRECEDENCE").
pub const FOLDERS: [&str; 4] =
    ["/etc/fwdguard.d", "/run/fwdguard.d", "/usr/local/lib/fwdguard.d", "/usr/lib/fwdguard.d"];

const VENDOR_FILE: &str = "/usr/lib/fwdguard.d/50-kubernetes.conf";
const VENDOR_TEXT: &str = include_str!("../packaging/50-kubernetes.conf");
/// The name of the vendor file's text in messages where no policy file exists at all.
const BUILT_IN: &str = "built-in:50-kubernetes.conf";

/// The file and number of a line.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    pub file: Arc<Path>,
    pub line: u32,
}

impl Source {
    /// `/usr/lib/fwdguard.d/50-kubernetes.conf:9`
    pub fn with_path(&self) -> String {
        format!("{}:{}", printable(self.file.as_os_str()), self.line)
    }
}

/// `50-kubernetes.conf:9`: short, for records that have the whole path in a field.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.file.file_name().unwrap_or(self.file.as_os_str());
        write!(f, "{}:{}", printable(name), self.line)
    }
}

/// A line or file that is ignored, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyError {
    /// Line 0: the file or folder as a whole.
    pub source: Source,
    pub message: String,
}

impl PolicyError {
    fn whole(file: PathBuf, message: String) -> PolicyError {
        PolicyError { source: Source { file: file.into(), line: 0 }, message }
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.source.line {
            0 => write!(f, "{}: {}", printable(self.source.file.as_os_str()), self.message),
            _ => write!(f, "{}: {}", self.source.with_path(), self.message),
        }
    }
}

/// A setting that the policy guards, and the index of the entry that decides it.
pub type Wanted = (Key, usize);

/// The merged policy.
#[derive(Debug, Default)]
pub struct Policy {
    merged: Merged,
    pub errors: Vec<PolicyError>,
    /// Lines that are read in another way than they are written, or are ignored with good reason. They are no errors.
    pub notices: Vec<PolicyError>,
    /// Entries that name one setting of an interface, by interface (`all` and `default` too).
    by_interface: BTreeMap<OsString, Vec<usize>>,
    /// Interfaces for which sysctl.d has a line `forwarding = 0`. The vendor's pattern does not apply to them.
    pub exempt: BTreeMap<OsString, Source>,
    vendor_file: PathBuf,
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

    /// The policy of merged lines, those of `vendor_file` included, beside the lines of sysctl.d.
    ///
    /// The policy differs from what systemd-sysctl makes of the same lines in what [`Merger::of_policy`] and [`off::apply_off`]
    /// describe, and in one more way: a pattern of `forwarding` that is excluded keeps other patterns from applying
    /// ([`Policy::applies`]).
    pub fn of(merged: Merged, mut errors: Vec<PolicyError>, vendor_file: PathBuf, sysctl_d: &Merged) -> Policy {
        let mut merged = off::apply_off(merged, &vendor_file, &mut errors);
        let notices = std::mem::take(&mut merged.notices);
        let mut by_interface = BTreeMap::<OsString, Vec<usize>>::new();
        for (index, entry) in merged.entries.iter().enumerate() {
            if let Some(place) = entry.names().and_then(Key::place) {
                by_interface.entry(place.interface.to_os_string()).or_default().push(index);
            }
        }
        let mut policy = Policy { merged, errors, notices, by_interface, exempt: BTreeMap::new(), vendor_file };
        policy.exempt =
            sysctl_d.closed_interfaces().filter(|(interface, _)| policy.only_the_vendor_opens(interface)).collect();
        policy
    }

    /// A notice for each line that names an interface by an altname: the kernel has no setting of that name, so the line guards
    /// nothing. `find` returns the interface of an altname.
    pub fn altname_notices(&self, find: impl Fn(&OsStr) -> Option<OsString>) -> Vec<PolicyError> {
        let notice = |(name, entries): (&OsString, &Vec<usize>)| {
            let (own, Entry { source, name: key, .. }) = (find(name)?, &self.merged.entries[*entries.first()?]);
            let [name, own] = [name, &own].map(|name| printable(name));
            let message = format!(
                "'{key}' has no effect: {name} is an altname of {own}, and the kernel has its settings under {own}"
            );
            Some(PolicyError { source: source.clone(), message })
        };
        let lines = self.by_interface.iter().filter(|(name, _)| *name != "all" && *name != "default");
        lines.filter_map(notice).collect()
    }

    /// The lines in effect, in the order in which systemd-sysctl would apply them.
    pub fn entries(&self) -> &[Entry] {
        &self.merged.entries
    }

    /// The value that entry `index` wants; empty for an exclusion.
    pub fn value(&self, index: usize) -> &str {
        self.merged.entries[index].value.as_deref().unwrap_or_default()
    }

    /// The policy's name of `key`, which entry `index` decides.
    pub fn name(&self, key: &Key, index: usize) -> String {
        let entry = &self.merged.entries[index];
        if entry.sets().is_some() { entry.name.to_string() } else { key.to_string() }
    }

    /// Whether a line is in the vendor's file, or built in.
    fn is_vendors(&self, source: &Source) -> bool {
        *source.file == *self.vendor_file
    }

    /// Whether both policies have the same lines, errors and notices.
    pub fn says_the_same(&self, other: &Policy) -> bool {
        self.merged.entries == other.merged.entries
            && (&self.errors, &self.notices, &self.exempt) == (&other.errors, &other.notices, &other.exempt)
    }

    /// Whether no line at all could be read, because of errors.
    pub fn is_unreadable(&self) -> bool {
        self.merged.entries.is_empty() && !self.errors.is_empty()
    }

    /// The guarded settings of an interface, of `all` or of `default`.
    pub fn for_interface(&self, interface: &OsStr) -> Vec<Wanted> {
        self.deciding(interface).into_iter().map(|index| (self.key_for(index, interface), index)).collect()
    }

    /// The entries that decide the settings of an interface, one for each: the line that names the setting, else the last pattern.
    pub fn deciding(&self, interface: &OsStr) -> Vec<usize> {
        let entries = self.entries();
        let named = self.by_interface.get(interface).map(Vec::as_slice).unwrap_or_default();
        let mut deciding: Vec<usize> = named.iter().copied().filter(|index| entries[*index].value.is_some()).collect();
        for (index, entry) in entries.iter().enumerate().filter(|(_, entry)| entry.value.is_some()) {
            let Some(pattern) = entry.pattern().filter(|pattern| pattern.matches(interface)) else { continue };
            let is_named = named.iter().any(|index| entries[*index].is_of(pattern));
            if is_named || !self.applies(entry, &pattern.place(interface)) {
                continue;
            }
            match deciding.iter_mut().find(|earlier| entries[**earlier].is_of(pattern)) {
                Some(earlier) => *earlier = index,
                None => deciding.push(index),
            }
        }
        deciding
    }

    /// The setting of `interface` that entry `index` decides.
    pub fn key_for(&self, index: usize, interface: &OsStr) -> Key {
        self.merged.entries[index].key_for(interface)
    }

    /// Whether a line names this interface, not a pattern.
    pub fn writes_out(&self, interface: &OsStr) -> bool {
        self.by_interface.contains_key(interface)
    }

    /// Whether it guards the forwarding of any interface in this family.
    pub fn guards_forwarding(&self, family: Family) -> bool {
        self.merged.entries.iter().any(|entry| entry.announced == Some((family, Attribute::Forwarding)))
    }

    /// Settings that belong to no interface, such as `net.core.somaxconn`.
    pub fn global(&self) -> impl Iterator<Item = Wanted> {
        let one = |(index, entry): (usize, &Entry)| Some((entry.sets()?.clone(), index));
        self.merged.entries.iter().enumerate().filter_map(one).filter(|(key, _)| key.place().is_none())
    }

    /// Every guarded setting on a node with these interfaces, and the settings that lines name of other interfaces.
    pub fn all_settings(&self, interfaces: impl Iterator<Item = OsString>) -> Vec<Wanted> {
        let names: Vec<OsString> = ["all", "default"].map(OsString::from).into_iter().chain(interfaces).collect();
        let present: HashSet<&OsString> = names.iter().collect();
        let absent =
            self.by_interface.iter().filter(|(name, _)| !present.contains(name)).flat_map(|(_, entries)| entries);
        let absent = absent.filter_map(|index| Some((self.merged.entries[*index].sets()?.clone(), *index)));
        names.iter().flat_map(|name| self.for_interface(name)).chain(absent).chain(self.global()).collect()
    }

    /// Whether the policy excludes `key`.
    pub fn excludes(&self, key: &Key) -> bool {
        match (self.merged.written_out(key), key.place()) {
            (Some(entry), _) => entry.value.is_none(),
            (None, Some(place)) => {
                let is_excluded = self.is_exempt(&place) || self.exclusions(&place).next().is_some();
                is_excluded && !self.merged.patterns_for(key).any(|entry| self.applies(entry, &place))
            }
            (None, None) => false,
        }
    }

    /// Whether a pattern that matches this setting applies to it: it does not where sysctl.d exempts the interface, nor where
    /// another pattern that matches is excluded, unless this one outweighs the exclusion.
    fn applies(&self, entry: &Entry, place: &Place) -> bool {
        !self.is_exempt(place) && self.exclusions(place).all(|excluded| self.outweighs(entry, excluded))
    }

    /// The excluded patterns that match this setting. Only those of `forwarding` exclude anything, since an interface that was closed
    /// on purpose must not be opened (Podman's internal networks); sysctl.d excludes single keys only. An excluded pattern for every
    /// interface only revokes a line.
    fn exclusions(&self, place: &Place) -> impl Iterator<Item = &Entry> {
        let entries = if place.name == "forwarding" { self.entries() } else { &[] };
        let matches =
            |entry: &&Entry| entry.pattern().is_some_and(|pattern| !pattern.is_every() && pattern.is_for(place));
        entries.iter().filter(|entry| entry.value.is_none()).filter(matches)
    }

    /// Whether a pattern applies although `excluded` excludes another: it is the administrator's, and only the vendor excludes. Not
    /// so a pattern that opens every interface, which means none of those that the vendor keeps closed.
    fn outweighs(&self, entry: &Entry, excluded: &Entry) -> bool {
        let is_narrow = entry.pattern().is_some_and(|pattern| !pattern.is_every());
        excluded.sources().all(|source| self.is_vendors(source))
            && entry.sources().any(|source| !self.is_vendors(source))
            && (is_narrow || entry.number == Some(0))
    }

    fn is_exempt(&self, place: &Place) -> bool {
        place.announced() == Some((Family::V4, Attribute::Forwarding)) && self.exempt.contains_key(place.interface)
    }

    /// Whether patterns would open this interface, and all of them are the vendor's. A pattern of the administrator's opens it even
    /// if the vendor's line follows it, repeats it or replaces it.
    fn only_the_vendor_opens(&self, interface: &OsStr) -> bool {
        let key = Key::conf(Family::V4, interface, Attribute::Forwarding);
        let by_vendor = |source: &Source| self.is_vendors(source);
        // The administrator's last line for the same pattern, which the vendor's line replaced: `= 01` before `= 1`.
        let opened_before = |entry: &Entry| {
            let replaced = entry.overrides.iter().rev().find(|(_, source)| !by_vendor(source));
            replaced.and_then(|(value, _)| value.as_deref()).is_some_and(|value| number(value) != Some(0))
        };
        let by_vendor_alone = |entry: &Entry| entry.sources().all(by_vendor) && !opened_before(entry);
        let decides = |entry: &Entry| entry.pattern().is_some() && by_vendor(&entry.source);
        self.merged.deciding(&key).is_some_and(decides)
            && self.merged.patterns_for(&key).filter(|entry| entry.number != Some(0)).all(by_vendor_alone)
    }
}
