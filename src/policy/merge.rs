//! Lines into one ordered list, as systemd 257's `parse_file` and `apply_all` (src/sysctl/sysctl.c) merge them.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use super::parse::{RawLine, lines};
use super::pattern::Pattern;
use super::{PolicyError, Source};
use crate::setting::{self, Attribute, Family, Key};

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
    pub name: String,
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
}

impl Merger {
    /// Adds the lines of one file; what can't be used goes to `errors`.
    pub fn add(&mut self, file: &Arc<Path>, text: &[u8], errors: &mut Vec<PolicyError>) {
        for line in lines(file, text) {
            let outcome = line.and_then(|line| {
                let source = Source { file: file.clone(), line: line.number };
                self.add_line(&line, &source).map_err(|message| PolicyError::at(source, message))
            });
            errors.extend(outcome.err());
        }
    }

    fn add_line(&mut self, line: &RawLine, source: &Source) -> Result<(), String> {
        let key = Key::parse(line.key)?;
        let name = key.to_string();
        let key = key.canonical();
        let target = if key.has_wildcard() { Target::Many(Pattern::new(&key)?) } else { Target::One(key.clone()) };
        // The kernel takes the first number and passes over what stands behind it: '1 # a remark' is 1.
        let announced = key.place().and_then(|place| place.announced());
        let first_word =
            |value| str::split_ascii_whitespace(value).next().filter(|word| setting::number(word).is_some());
        let value =
            line.value.map(|value| if announced.is_some() { first_word(value).unwrap_or(value) } else { value });
        let mut overrides = Vec::new();
        if let Some(slot) = self.by_key.get(&key) {
            if let Some(earlier) = self.slots.get_mut(slot).filter(|e| e.value.as_deref() == value) {
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
            name,
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
        Merged::new(self.slots.into_values().collect())
    }
}

/// The lines of all files, each key once, in the order in which sysctl.d would apply them.
#[derive(Debug, Default)]
pub struct Merged {
    pub entries: Vec<Entry>,
    by_key: HashMap<Key, usize>,
}

impl Merged {
    fn new(entries: Vec<Entry>) -> Merged {
        let by_key = entries.iter().enumerate().map(|(index, entry)| (entry.key.clone(), index)).collect();
        Merged { entries, by_key }
    }

    /// The entry that names `key` written out, be it to set or to exclude it.
    pub fn written_out(&self, key: &Key) -> Option<&Entry> {
        self.by_key.get(key).map(|index| &self.entries[*index])
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

    /// The same without the entries that `keep` turns down.
    pub fn retain(self, keep: impl FnMut(&Entry) -> bool) -> Merged {
        let mut entries = self.entries;
        entries.retain(keep);
        Merged::new(entries)
    }
}

impl Entry {
    /// Its own line, those that repeat it, and those that it replaced, the youngest first.
    fn lines(&self) -> impl Iterator<Item = (&Option<Arc<str>>, &Source)> {
        let equal = std::iter::once(&self.source).chain(&self.repeats).map(|source| (&self.value, source));
        equal.chain(self.overrides.iter().rev().map(|(value, source)| (value, source)))
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
