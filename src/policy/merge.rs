//! Lines into one ordered list, as systemd 257's `parse_file` and `apply_all` (src/sysctl/sysctl.c) merge them.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use super::notices::{Kind, Notices, idle_exclusion, strange_name};
use super::parse::{RawLine, Reading, lines, without_remark};
use super::pattern::Pattern;
use super::{PolicyError, Source, value};
use crate::error::Error;
use crate::setting::{self, Attribute, Family, Key, same_value};

/// What a line is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    One(Key),
    Many(Pattern),
}

/// A line that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key as the policy names it, with dots: `net.ipv4.ip_forward`, not its other name.
    pub name: Arc<str>,
    key: Key,
    pub target: Target,
    /// The setting that it is about, of one interface or of many, where that is one whose changes the kernel announces.
    pub announced: Option<(Family, Attribute)>,
    /// `None`: the key is excluded from patterns.
    pub value: Option<Arc<str>>,
    /// The value as a number, where it is one.
    pub number: Option<i64>,
    pub ignore_failure: bool,
    pub source: Source,
    /// Earlier lines for the same key that this one replaced, oldest first.
    pub overrides: Vec<(Option<Arc<str>>, Source)>,
    /// Later lines that say the same.
    pub repeats: Vec<Source>,
}

/// Lines as they come; later ones replace earlier ones.
#[derive(Default)]
pub struct Merger {
    /// By the order in which they will be applied.
    slots: BTreeMap<usize, Entry>,
    by_key: HashMap<Key, usize>,
    next: usize,
    reading: Reading,
    notices: Vec<PolicyError>,
}

impl Merger {
    /// One for the policy's own files. [`Merger::default`] is for those of sysctl.d.
    ///
    /// Beside what [`Policy::of`](super::Policy::of) does, this is where the policy is read otherwise than systemd-sysctl would:
    /// a value that no kernel takes is no line, a remark behind a line is dropped, an interface's name may have its dots, lines
    /// for other trees than `net` are passed over, and a byte order mark is.
    pub fn of_policy() -> Merger {
        Merger { reading: Reading::Policy, ..Merger::default() }
    }

    /// Adds the lines of one file; what can't be used goes to `errors`.
    pub fn add(&mut self, file: &Arc<Path>, text: &[u8], errors: &mut Vec<PolicyError>) {
        let mut notices = Notices::default();
        for line in lines(file, text, self.reading) {
            let outcome = line.and_then(|line| {
                let source = Source { file: file.clone(), line: line.number };
                self.add_line(&line, &source, &mut notices).map_err(|error| PolicyError::at(source, error.to_string()))
            });
            errors.extend(outcome.err());
        }
        if self.reading == Reading::Policy {
            self.notices.extend(notices.of_file(file));
        }
    }

    fn add_line(&mut self, line: &RawLine, source: &Source, notices: &mut Notices) -> Result<(), Error> {
        let of_policy = self.reading == Reading::Policy;
        if of_policy && Key::is_of_other_tree(line.key) {
            notices.other_trees += 1;
            return Ok(());
        }
        let mut key = Key::parse(line.key)?;
        let dotted = key.with_dotted_interface().filter(|_| of_policy);
        let is_dotted = dotted.is_some();
        key = dotted.unwrap_or(key);
        let name = key.to_string();
        let written = key.clone().to_write();
        let (named, key) = (key, written.clone().canonical());
        let target =
            if key.has_wildcard() { Target::Many(Pattern::new(&written)?) } else { Target::One(written.clone()) };
        let announced = key.place().and_then(|place| place.announced());
        let value = line.value.map(|value| value::first_number(&written, value));
        if of_policy {
            line.value.map_or(Ok(()), |value| value::check(&named, value))?;
            if key.lacks_interface() {
                return Err(Error::NoInterface(name));
            }
            if key.is_folder() {
                return Err(Error::Folder(name));
            }
            let mut note = |kind, message| notices.add(kind, line.number, message);
            if is_dotted {
                note(Kind::Dotted, format!("'{}' is read as {name}; write it so, as sysctl.d requires", line.key));
            }
            if let Some(message) = strange_name(line.key, &name, &target) {
                note(Kind::Strange, message);
            }
            let earlier = self.by_key.get(&key).and_then(|slot| self.slots.get(slot));
            let takes_back = earlier.is_some_and(|entry| entry.value.is_some());
            if let Some(message) = idle_exclusion(&name, &target).filter(|_| value.is_none() && !takes_back) {
                note(Kind::Idle, message);
            }
            if line.has_remark || value.is_some_and(|value| Some(value) != line.value) {
                let of = if value.is_some() { "the value of " } else { "-" };
                note(
                    Kind::Remark,
                    format!("the text behind {of}{name} is ignored; write comments on lines of their own"),
                );
            }
        }
        let mut overrides = Vec::new();
        if let Some(slot) = self.by_key.get(&key) {
            let says_the_same = |e: &&mut Entry| e.value.as_deref() == value && e.writes_as(&target);
            if let Some(earlier) = self.slots.get_mut(slot).filter(says_the_same) {
                earlier.ignore_failure |= line.ignore_failure;
                earlier.repeats.push(source.clone());
                return Ok(());
            }
            if let Some(earlier) = self.slots.remove(slot) {
                overrides = earlier.overrides;
                overrides.push((earlier.value.clone(), earlier.source));
                overrides.extend(earlier.repeats.into_iter().map(|source| (earlier.value.clone(), source)));
            }
        }
        let entry = Entry {
            name: name.into(),
            key: key.clone(),
            target,
            announced,
            value: value.map(Arc::from),
            number: value.and_then(setting::number),
            ignore_failure: line.ignore_failure,
            source: source.clone(),
            overrides,
            repeats: Vec::new(),
        };
        self.by_key.insert(key, self.next);
        self.slots.insert(self.next, entry);
        self.next += 1;
        Ok(())
    }

    pub fn finish(self) -> Merged {
        Merged::new(self.slots.into_values().collect(), self.notices)
    }
}

/// The lines of all files, each key once, in the order in which sysctl.d would apply them.
#[derive(Debug, Default)]
pub struct Merged {
    pub entries: Vec<Entry>,
    by_key: HashMap<Key, usize>,
    /// What was read in another way than it is written, and stays no secret.
    pub notices: Vec<PolicyError>,
}

impl Merged {
    pub fn new(entries: Vec<Entry>, notices: Vec<PolicyError>) -> Merged {
        let by_key = entries.iter().enumerate().map(|(index, entry)| (entry.key.clone(), index)).collect();
        Merged { entries, by_key, notices }
    }

    /// The entry that names `key` written out, be it to set or to exclude it.
    pub fn written_out(&self, key: &Key) -> Option<&Entry> {
        self.by_key.get(&key.clone().canonical()).map(|index| &self.entries[*index])
    }

    /// The entry that decides `key`: the one that names it, else the last pattern that matches it.
    pub fn deciding(&self, key: &Key) -> Option<&Entry> {
        match self.written_out(key) {
            Some(entry) => Some(entry).filter(|e| e.value.is_some()),
            None => self.patterns_for(key).next_back(),
        }
    }

    /// The patterns that match `key`, the deciding one last, as if nothing named it.
    pub fn patterns_for(&self, key: &Key) -> impl DoubleEndedIterator<Item = &Entry> {
        let place = key.place();
        self.entries.iter().filter(move |entry| match (&entry.target, place) {
            (Target::Many(pattern), Some(place)) => {
                entry.value.is_some()
                    && pattern.is_about(place.family, place.table, place.name)
                    && pattern.matches(place.interface)
            }
            _ => false,
        })
    }

    /// Every line that would set `key` if the ones before it in this list were gone, the one that counts first.
    pub fn lines_for(&self, key: &Key) -> Vec<(&Arc<str>, &Source, &Entry)> {
        let written_out = self.written_out(key);
        // An exclusion that was written among them keeps patterns away also when they are gone.
        let excluded = written_out.is_some_and(|entry| entry.lines().any(|(value, _)| value.is_none()));
        let patterns = self.patterns_for(key).rev().filter(|_| !excluded);
        let all = written_out
            .into_iter()
            .chain(patterns)
            .flat_map(|entry| entry.lines().filter_map(move |(value, source)| Some((value.as_ref()?, source, entry))));
        all.collect()
    }

    /// Interfaces whose IPv4 `forwarding = 0` is written out, with the line.
    pub fn closed_interfaces(&self) -> impl Iterator<Item = (OsString, Source)> {
        self.entries.iter().filter_map(|entry| {
            let Target::One(key) = &entry.target else { return None };
            let place = key.place()?;
            let closed = entry.number == Some(0)
                && place.announced() == Some((Family::V4, Attribute::Forwarding))
                && place.interface != "all"
                && place.interface != "default";
            closed.then(|| (place.interface.to_os_string(), entry.source.clone()))
        })
    }
}

/// Whether `says`, written as `own`, makes the setting `key`, which may be another name of it, other than `wanted`.
pub fn says_otherwise(own: &Key, says: &str, key: &Key, wanted: &str) -> bool {
    if own == key {
        return !same_value(wanted, says);
    }
    let values = key.in_canonical_unit(wanted).zip(own.in_canonical_unit(says));
    values.is_none_or(|(wanted, says)| !same_value(&wanted, &says))
}

impl Entry {
    /// Its own line, those that repeat it, and those that it replaced, the youngest first.
    fn lines(&self) -> impl Iterator<Item = (&Option<Arc<str>>, &Source)> {
        let equal = self.sources().map(|source| (&self.value, source));
        equal.chain(self.overrides.iter().rev().map(|(value, source)| (value, source)))
    }

    /// Where the lines stand that say what it says.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        std::iter::once(&self.source).chain(&self.repeats)
    }

    /// The one key that this entry sets, if it sets one.
    pub fn sets(&self) -> Option<&Key> {
        self.names().filter(|_| self.value.is_some())
    }

    /// The one key that this entry sets or excludes, if it is no pattern.
    pub fn names(&self) -> Option<&Key> {
        match &self.target {
            Target::One(key) => Some(key),
            Target::Many(_) => None,
        }
    }

    /// Whether it sets `key` to another value than `wanted`, which is its own or that of another name of the same setting.
    pub fn sets_otherwise(&self, key: &Key, wanted: &str) -> bool {
        self.value.as_deref().is_some_and(|says| self.would_set_otherwise(says, key, wanted))
    }

    /// The same with `says` in its value's place.
    pub fn would_set_otherwise(&self, says: &str, key: &Key, wanted: &str) -> bool {
        let own = match (&self.target, key.place()) {
            (Target::Many(pattern), Some(place)) => &pattern.key_for(place.interface),
            (Target::One(own), _) => own,
            _ => key,
        };
        // What stands behind the numbers that it takes the kernel passes over.
        says_otherwise(own, without_remark(says), key, wanted)
    }

    /// Whether it is written to the same file, or files.
    fn writes_as(&self, target: &Target) -> bool {
        match (&self.target, target) {
            (Target::One(own), Target::One(other)) => own == other,
            (Target::Many(own), Target::Many(other)) => own.name == other.name,
            _ => false,
        }
    }

    /// Whether it is about the same setting of interfaces as `pattern`.
    pub fn is_of(&self, pattern: &Pattern) -> bool {
        match &self.target {
            Target::One(key) => {
                key.place().is_some_and(|place| pattern.is_about(place.family, place.table, place.name))
            }
            Target::Many(other) => pattern.is_about(&other.family, &other.table, &other.name),
        }
    }
}
