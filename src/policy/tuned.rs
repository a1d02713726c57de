//! The sysctl lines of TuneD's active profile, merged as TuneD does it (tuned/profiles/loader.py, locator.py, merger.py).

use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::conflicts::LEGACY_FILE;
use super::pattern::fnmatch;
use super::{Source, files};
use crate::setting::{Key, same_value};

/// The second is applied after the first, whatever profile is active.
const ACTIVE: [&str; 2] = ["/etc/tuned/active_profile", "/etc/tuned/post_loaded_profile"];
const MAIN_CONF: &str = "/etc/tuned/tuned-main.conf";
/// Highest priority first. `profiles` is there since TuneD 2.24, and the other of each pair not looked into since then,
/// but where a distribution keeps it (CentOS 9).
const FOLDERS: [&str; 4] = ["/etc/tuned/profiles", "/etc/tuned", "/usr/lib/tuned/profiles", "/usr/lib/tuned"];

/// What TuneD applies anew after its own lines (`reapply_sysctl`), highest priority first, and then sysctl.conf
/// (`_apply_system_sysctl` in tuned/plugins/plugin_sysctl.py).
const REAPPLIED: [&str; 2] = ["/run/sysctl.d", "/etc/sysctl.d"];
/// It refuses to write these (`DEPRECATED_SYSCTL_OPTIONS`).
const REFUSED: [&str; 2] = ["/base_reachable_time", "/retrans_time"];

/// The bytes of a file, if there is one.
type Read<'a> = &'a dyn Fn(&Path) -> Option<Vec<u8>>;

/// What TuneD sets.
#[derive(Default)]
pub struct Tuned {
    /// A value with a variable or a function in it is not known here.
    pub lines: HashMap<Key, (Option<Arc<str>>, Source)>,
    /// Whether TuneD applies sysctl.d anew after its own lines, which then lose.
    pub reapplies_sysctl_d: bool,
    /// The names that it leaves out of that (`reapply_sysctl_exclude`).
    excluded: Vec<CString>,
    /// Every file that has a say or would have, were it there.
    pub paths: Vec<PathBuf>,
    units: Vec<Unit>,
}

impl Tuned {
    /// Reads the active profile below `root`. What can't be read or used is passed over: it is its administrator's business.
    pub fn read(root: &Path) -> Tuned {
        Tuned::of(root, &|path| files::read(root, path, files::Writers::Any).ok())
    }

    /// The same of files as `read` has them, by their paths below `root`.
    pub fn of(root: &Path, read: Read) -> Tuned {
        let mut tuned = Tuned::default();
        let main = tuned.bytes(read, Path::new(MAIN_CONF)).map(|bytes| sections(&bytes)).unwrap_or_default();
        let reapply = main.first().and_then(|main| main.value("reapply_sysctl"));
        tuned.reapplies_sysctl_d =
            !reapply.is_some_and(|value| ["0", "no", "false", "off"].contains(&&*value.to_ascii_lowercase()));
        let excluded = main.first().and_then(|main| main.value("reapply_sysctl_exclude")).unwrap_or_default();
        let names = excluded.split([',', ';']).map(str::trim).filter(|name| !name.is_empty());
        tuned.excluded = names.filter_map(|name| CString::new(name).ok()).collect();
        for path in ACTIVE {
            let names = tuned.bytes(read, Path::new(path)).unwrap_or_default();
            String::from_utf8_lossy(&names).split_whitespace().for_each(|name| tuned.load(root, read, name));
        }
        for unit in tuned.units.drain(..).filter(|unit| unit.is_sysctl && unit.enabled && !unit.conditional) {
            for option in unit.options {
                if let Some(key) = key(&option.name) {
                    let source = Source { file: option.file, line: option.line };
                    tuned.lines.insert(key, (known(&option.value), source));
                }
            }
        }
        tuned
    }

    /// The settings that it would apply anew from sysctl.d below `root`. Its reader is a simple one
    /// (`_apply_sysctl_config_line`): what stands before the `=` is the key, be it `-net.ipv4.ip_forward` or a pattern, of
    /// which there is no file then; a line without `=`, so an exclusion, it passes over.
    pub fn reapplied(&self, root: &Path) -> HashSet<Key> {
        let mut files = files::list(root, &REAPPLIED, files::Writers::Any, &mut Vec::new());
        files.push(LEGACY_FILE.into());
        let mut keys = HashSet::new();
        for bytes in files.iter().filter_map(|path| files::read(root, path, files::Writers::Any).ok()) {
            let text = String::from_utf8_lossy(&bytes);
            let lines = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';']));
            let names = lines.filter_map(|line| Some(line.split_once('=')?.0.trim_end()));
            keys.extend(names.filter(|name| !self.excludes(name)).filter_map(key));
        }
        keys
    }

    fn excludes(&self, name: &str) -> bool {
        CString::new(name).is_ok_and(|name| self.excluded.iter().any(|pattern| fnmatch(pattern, &name)))
    }

    fn bytes(&mut self, read: Read, path: &Path) -> Option<Vec<u8>> {
        self.paths.push(path.to_path_buf());
        read(path)
    }

    /// Merges a profile onto what was loaded before, its includes first. Each file counts once, so that a profile may include
    /// the one of the same name that it hides.
    fn load(&mut self, root: &Path, read: Read, name: &str) {
        // '-NAME' may be missing; so may any here.
        let name = name.strip_prefix('-').unwrap_or(name);
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')) {
            return; // nor does TuneD take it, but a variable, which is not known here
        }
        for path in FOLDERS.map(|folder| Path::new(folder).join(name).join("tuned.conf")) {
            if self.paths.contains(&path) {
                continue;
            }
            let Some(bytes) = self.bytes(read, &path) else { continue };
            let sections = sections(&bytes);
            let includes =
                sections.iter().find(|section| section.name == "main").and_then(|main| main.value("include"));
            includes
                .into_iter()
                .flat_map(|names| names.split([',', ';']))
                .for_each(|name| self.load(root, read, name.trim()));
            let file: Arc<Path> = files::below(root, &path).into();
            sections
                .into_iter()
                .filter(|section| section.name != "main")
                .for_each(|section| self.merge(section, &file));
            return;
        }
    }

    fn merge(&mut self, section: Section, file: &Arc<Path>) {
        let is_true = |value: &str| matches!(value, "1" | "true" | "True");
        let at = self.units.iter().position(|unit| unit.name == section.name).unwrap_or_else(|| {
            self.units.push(Unit { name: section.name.clone(), ..Unit::default() });
            self.units.len() - 1
        });
        let unit = &mut self.units[at];
        if section.value("replace").is_some_and(is_true) {
            (unit.options, unit.conditional) = (Vec::new(), false);
        }
        unit.is_sysctl = section.value("type").unwrap_or(&section.name) == "sysctl";
        unit.enabled = section.value("enabled").is_none_or(is_true);
        unit.conditional |= ["cpuinfo_regex", "uname_regex"].iter().any(|name| section.value(name).is_some());
        if let Some(dropped) = section.value("drop") {
            unit.options.retain(|option| !dropped.split([',', ';']).any(|name| name.trim() == option.name));
        }
        for (name, value, line) in section.options {
            let option = UnitOption { name, value, file: file.clone(), line };
            match unit.options.iter_mut().find(|earlier| earlier.name == option.name) {
                Some(earlier) => *earlier = option,
                None => unit.options.push(option),
            }
        }
    }
}

/// The setting that TuneD writes for a name: it swaps dots and slashes, whichever comes first (`_get_sysctl_path`).
fn key(name: &str) -> Option<Key> {
    let is_dotted = name.find(['.', '/']).is_some_and(|at| name[at..].starts_with('.'));
    let key = Key::parse(name).ok().filter(|key| is_dotted && !key.has_wildcard())?;
    let is_refused = REFUSED.iter().any(|name| key.path().as_encoded_bytes().ends_with(name.as_bytes()));
    (!is_refused).then(|| key.canonical())
}

/// Whether TuneD, where it finds `ours`, writes something else: `>N` only raises and `<N` only lowers
/// (`_process_assignment_modifiers` in tuned/plugins/base.py).
pub fn sets_otherwise(ours: &str, says: &str) -> bool {
    let bound = |sign| says.strip_prefix(sign)?.trim().parse::<i64>().ok().zip(ours.parse().ok());
    match (bound('>'), bound('<')) {
        (Some((bound, ours)), _) => bound > ours,
        (_, Some((bound, ours))) => bound < ours,
        _ => !same_value(ours, says),
    }
}

/// One plugin's instance, merged from every profile's section of that name.
#[derive(Default)]
struct Unit {
    name: String,
    is_sysctl: bool,
    enabled: bool,
    /// Applied to some machines only, by a regular expression of Python's.
    conditional: bool,
    options: Vec<UnitOption>,
}

struct UnitOption {
    name: String,
    value: String,
    file: Arc<Path>,
    line: u32,
}

struct Section {
    name: String,
    /// Name, value and line, each name once.
    options: Vec<(String, String, u32)>,
}

impl Section {
    fn value(&self, name: &str) -> Option<&str> {
        self.options.iter().find(|option| option.0 == name).map(|option| &*option.1)
    }
}

/// The sections of one file as Python's configparser reads them for TuneD; the first is what stands before any header.
fn sections(bytes: &[u8]) -> Vec<Section> {
    let mut sections = vec![Section { name: String::new(), options: Vec::new() }];
    let (mut at, mut last, mut indent) = (0, 0, None);
    for (line, number) in String::from_utf8_lossy(bytes).lines().zip(1..) {
        let line = without_remark(line);
        let text = line.trim();
        let depth = line.chars().take_while(|c| c.is_whitespace()).count();
        if text.is_empty() || text.starts_with(';') {
            continue;
        }
        let options = &mut sections[at].options;
        if indent.is_some_and(|indent| depth > indent) {
            // It goes on with the value above.
            if let Some(option) = options.get_mut(last) {
                option.1.push('\n');
                option.1.push_str(text);
            }
        } else if let Some((name, _)) = text.strip_prefix('[').and_then(|text| text.split_once(']'))
            && !name.is_empty()
        {
            at = sections.iter().position(|section| section.name == name).unwrap_or_else(|| {
                sections.push(Section { name: name.to_string(), options: Vec::new() });
                sections.len() - 1
            });
            indent = None;
        } else if let Some((name, value)) = text.split_once('=') {
            let option = (name.trim_end().to_string(), value.trim_start().to_string(), number);
            last = options.iter().position(|earlier| earlier.0 == option.0).unwrap_or(options.len());
            match options.get_mut(last) {
                Some(earlier) => *earlier = option,
                None => options.push(option),
            }
            indent = Some(depth);
        }
    }
    sections
}

/// A remark begins with a `#` that stands first or behind white space.
fn without_remark(line: &str) -> &str {
    let begins = |(at, _): &(usize, &str)| line[..*at].chars().next_back().is_none_or(char::is_whitespace);
    line.match_indices('#').find(begins).map_or(line, |(at, _)| &line[..at])
}

fn known(value: &str) -> Option<Arc<str>> {
    let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    let strange = |c: char| c.is_control() && c != '\t';
    (!value.is_empty() && !value.contains("${") && !value.contains(strange)).then(|| value.into())
}
