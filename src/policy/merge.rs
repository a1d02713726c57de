//! Lines into one ordered list, as systemd 257's `parse_file` and `apply_all` (src/sysctl/sysctl.c) merge them.

use std::collections::HashMap;
use std::collections::hash_map::Entry::{Occupied, Vacant};
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::Arc;

use super::notices::{Kind, Notices, idle_exclusion, strange_name};
use super::parse::{RawLine, Reading, lines};
use super::pattern::Pattern;
use super::{PolicyError, Source, value};
use crate::error::Error;
use crate::setting::{self, Attribute, Family, Key, Place};

/// The setting that a line names, or the settings that its pattern matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    One(Key),
    Many(Pattern),
}

/// A line in effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key under the policy's name, with dots: `net.ipv4.ip_forward`, not its other name.
    pub name: Arc<str>,
    key: Key,
    pub target: Target,
    /// The attribute that it sets, where the kernel announces changes of it.
    pub announced: Option<(Family, Attribute)>,
    /// `None`: the key is excluded from patterns.
    pub value: Option<Arc<str>>,
    /// The value as a number, where it is one.
    pub number: Option<i64>,
    pub ignore_failure: bool,
    pub source: Source,
    /// Earlier lines for the same key that this one replaced, oldest first.
    pub overrides: Vec<(Option<Arc<str>>, Source)>,
    /// Later lines with the same value.
    pub repeats: Vec<Source>,
}

/// Merges lines in the order in which they are applied; later ones replace earlier ones.
#[derive(Default)]
pub struct Merger {
    /// The entry of each canonical key, with its place in the order in which they will be applied.
    entries: HashMap<Key, (usize, Entry)>,
    next: usize,
    reading: Reading,
    notices: Vec<PolicyError>,
}

impl Merger {
    /// A merger for the policy's own files; [`Merger::default`] is for those of sysctl.d.
    ///
    /// It reads lines differently from systemd-sysctl: a line with a value that every kernel refuses is an error, comments behind
    /// values are dropped, interface names may contain dots, and lines for other trees than `net` and a byte order mark are ignored.
    pub fn of_policy() -> Merger {
        Merger { reading: Reading::Policy, ..Merger::default() }
    }

    /// Adds the lines of one file. Lines that can't be used are added to `errors`.
    pub fn add(&mut self, file: &Arc<Path>, text: &[u8], errors: &mut Vec<PolicyError>) {
        let mut notices = Notices::default();
        for line in lines(file, text, self.reading) {
            let outcome = line.and_then(|line| {
                let source = Source { file: file.clone(), line: line.number };
                self.add_line(&line, &source, &mut notices)
                    .map_err(|error| PolicyError { source, message: error.to_string() })
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
        let key = Key::parse(line.key)?;
        let dotted = key.with_dotted_interface().filter(|_| of_policy);
        let is_dotted = dotted.is_some();
        let named = dotted.unwrap_or(key);
        let name = named.to_string();
        let written = named.clone().to_write();
        let value = line.value.map(|value| value::first_number(&written, value));
        let key = written.clone().canonical();
        let announced = key.place().and_then(|place| place.announced());
        let target = if key.has_wildcard() { Target::Many(Pattern::new(&written)?) } else { Target::One(written) };
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
                note(
                    Kind::Dotted,
                    format!("'{}' is read as {name}; write it that way, as sysctl.d requires", line.key),
                );
            }
            if let Some(message) = strange_name(line.key, &name, &target) {
                note(Kind::Strange, message);
            }
            let revokes = self.entries.get(&key).is_some_and(|(_, earlier)| earlier.value.is_some());
            if let Some(message) = idle_exclusion(&name, &target).filter(|_| value.is_none() && !revokes) {
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
        match self.entries.entry(key.clone()) {
            Occupied(mut slot) if slot.get().1.value.as_deref() == value && slot.get().1.writes_as(&target) => {
                let (_, earlier) = slot.get_mut();
                earlier.ignore_failure |= line.ignore_failure;
                earlier.repeats.push(source.clone());
                return Ok(());
            }
            Occupied(slot) => {
                let (_, earlier) = slot.remove();
                overrides = earlier.overrides;
                let sources = [earlier.source].into_iter().chain(earlier.repeats);
                overrides.extend(sources.map(|source| (earlier.value.clone(), source)));
            }
            Vacant(_) => {}
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
        self.entries.insert(key, (self.next, entry));
        self.next += 1;
        Ok(())
    }

    pub fn finish(self) -> Merged {
        let mut entries: Vec<(usize, Entry)> = self.entries.into_values().collect();
        entries.sort_unstable_by_key(|(order, _)| *order);
        Merged::new(entries.into_iter().map(|(_, entry)| entry).collect(), self.notices)
    }
}

/// The lines of all files, each key once, in the order in which systemd-sysctl would apply them.
#[derive(Debug, Default)]
pub struct Merged {
    pub entries: Vec<Entry>,
    by_key: HashMap<Key, usize>,
    /// Lines that are read in another way than they are written.
    pub notices: Vec<PolicyError>,
}

impl Merged {
    pub fn new(entries: Vec<Entry>, notices: Vec<PolicyError>) -> Merged {
        let by_key = entries.iter().enumerate().map(|(index, entry)| (entry.key.clone(), index)).collect();
        Merged { entries, by_key, notices }
    }

    /// The entry that sets or excludes `key` itself, not by a pattern.
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

    /// The patterns that match `key`, also if a line names it; the last one decides.
    pub fn patterns_for(&self, key: &Key) -> impl DoubleEndedIterator<Item = &Entry> {
        let place = key.place();
        let matches =
            move |entry: &&Entry| entry.pattern().zip(place).is_some_and(|(pattern, place)| pattern.is_for(&place));
        self.entries.iter().filter(|entry| entry.value.is_some()).filter(matches)
    }

    /// Every line that would set `key` if the ones before it in this list were removed, the one in effect first.
    pub fn lines_for(&self, key: &Key) -> Vec<(&Arc<str>, &Source, &Entry)> {
        let written_out = self.written_out(key);
        // An exclusion among them keeps patterns away even if the other lines are removed.
        let excluded = written_out.is_some_and(|entry| entry.lines().any(|(value, _)| value.is_none()));
        let patterns = self.patterns_for(key).rev().filter(|_| !excluded);
        let all = written_out
            .into_iter()
            .chain(patterns)
            .flat_map(|entry| entry.lines().filter_map(move |(value, source)| Some((value.as_ref()?, source, entry))));
        all.collect()
    }

    /// The interfaces for which a line sets IPv4's `forwarding` to 0, with that line.
    pub fn closed_interfaces(&self) -> impl Iterator<Item = (OsString, Source)> {
        let closes =
            |entry: &&Entry| entry.number == Some(0) && entry.announced == Some((Family::V4, Attribute::Forwarding));
        self.entries.iter().filter(closes).filter_map(|entry| {
            let place = entry.names()?.place().filter(Place::is_of_interface)?;
            Some((place.interface.to_os_string(), entry.source.clone()))
        })
    }
}

impl Entry {
    /// Its own line, those that repeat it, and those that it replaced, the latest first.
    fn lines(&self) -> impl Iterator<Item = (&Option<Arc<str>>, &Source)> {
        let equal = self.sources().map(|source| (&self.value, source));
        equal.chain(self.overrides.iter().rev().map(|(value, source)| (value, source)))
    }

    /// Its line, and those that repeat it.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        std::iter::once(&self.source).chain(&self.repeats)
    }

    pub fn pattern(&self) -> Option<&Pattern> {
        match &self.target {
            Target::One(_) => None,
            Target::Many(pattern) => Some(pattern),
        }
    }

    /// The key that it sets or excludes, if it is no pattern.
    pub fn names(&self) -> Option<&Key> {
        match &self.target {
            Target::One(key) => Some(key),
            Target::Many(_) => None,
        }
    }

    /// The key that it sets, if it is neither a pattern nor an exclusion.
    pub fn sets(&self) -> Option<&Key> {
        self.names().filter(|_| self.value.is_some())
    }

    /// The key that it sets, with `interface` in the pattern's place.
    pub fn key_for(&self, interface: &OsStr) -> Key {
        match &self.target {
            Target::One(key) => key.clone(),
            Target::Many(pattern) => pattern.key_for(interface),
        }
    }

    /// Whether both are written to the same file, or files.
    fn writes_as(&self, target: &Target) -> bool {
        match (&self.target, target) {
            (Target::One(own), Target::One(other)) => own == other,
            (Target::Many(own), Target::Many(other)) => own.name == other.name,
            _ => false,
        }
    }

    /// Whether it sets or excludes the same attribute as `pattern`, of whatever interface.
    pub fn is_of(&self, pattern: &Pattern) -> bool {
        let place = match &self.target {
            Target::One(key) => key.place(),
            Target::Many(other) => Some(other.place(OsStr::new("*"))),
        };
        place.is_some_and(|place| pattern.is_about(&place))
    }
}
