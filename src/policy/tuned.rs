//! The `[sysctl]` lines of TuneD's active profile and of what it includes. Variables and a section's options are not followed.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Source, files, parse::without_remark};
use crate::setting::{Key, number, same_value};

const ACTIVE: [&str; 2] = ["/etc/tuned/active_profile", "/etc/tuned/post_loaded_profile"];
const FOLDERS: [&str; 4] = ["/etc/tuned/profiles", "/etc/tuned", "/usr/lib/tuned/profiles", "/usr/lib/tuned"];

#[derive(Default)]
pub struct Tuned {
    /// The lines that TuneD applies. A value with a variable in it is `None`.
    pub lines: HashMap<Key, (Option<Arc<str>>, Source)>,
    /// Whether TuneD does not apply sysctl.d again after its own lines.
    pub keeps_its_lines: bool,
    /// Every file that is read, or would be if it existed.
    pub paths: Vec<PathBuf>,
}

impl Tuned {
    /// Reads the active profile below `root`. Files that can't be read and lines that can't be used are ignored.
    pub fn read(root: &Path) -> Tuned {
        let mut tuned = Tuned::default();
        let main = tuned.text(root, "/etc/tuned/tuned-main.conf".as_ref()).unwrap_or_default().to_lowercase();
        let mut reapply = options(&main).filter(|(_, name, ..)| *name == "reapply_sysctl");
        tuned.keeps_its_lines = reapply.any(|(_, _, value, _)| ["0", "no", "false", "off"].contains(&value));
        for names in ACTIVE.map(|path| tuned.text(root, path.as_ref()).unwrap_or_default()) {
            names.split_whitespace().for_each(|name| tuned.load(root, name));
        }
        tuned
    }

    fn text(&mut self, root: &Path, path: &Path) -> Option<String> {
        self.paths.push(path.to_path_buf());
        Some(String::from_utf8_lossy(&files::read(root, path, files::Writers::Any).ok()?).into_owned())
    }

    /// Adds a profile's lines, those of its includes first. Each file is read once: a profile may include the one that it replaces.
    fn load(&mut self, root: &Path, name: &str) {
        let name = name.strip_prefix('-').unwrap_or(name); // '-NAME' may be missing; so may any here
        let folders = FOLDERS.iter().filter(|_| !name.is_empty() && !name.contains('/'));
        for path in folders.map(|folder| Path::new(folder).join(name).join("tuned.conf")) {
            let Some(text) = (!self.paths.contains(&path)).then(|| self.text(root, &path)).flatten() else { continue };
            let includes = options(&text).filter(|(section, name, ..)| (*section, *name) == ("main", "include"));
            includes.flat_map(|include| include.2.split([',', ';'])).for_each(|name| self.load(root, name.trim()));
            for (_, name, value, line) in options(&text).filter(|(section, ..)| *section == "sysctl") {
                // TuneD does not write names that have another unit (`DEPRECATED_SYSCTL_OPTIONS`).
                let is_written = |key: &Key| !key.has_wildcard() && key.in_canonical_unit("1").as_deref() == Some("1");
                let Some(key) = Key::parse(name).ok().filter(is_written) else { continue };
                let value = value.trim_matches('"');
                let is_known = !value.is_empty() && !value.contains(|c: char| c == '$' || c.is_control() && c != '\t');
                let source = Source { file: files::below(root, &path).into(), line };
                self.lines.insert(key.canonical(), (is_known.then(|| value.into()), source));
            }
            return;
        }
    }
}

/// Section, name, value and number of each line `name = value`.
fn options(text: &str) -> impl Iterator<Item = (&str, &str, &str, u32)> {
    let mut section = "";
    text.lines().map(|line| without_remark(line).trim()).zip(1..).filter_map(move |(line, number)| {
        section = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')).unwrap_or(section);
        let (name, value) = line.split_once('=').filter(|_| !line.starts_with(['#', ';']))?;
        Some((section, name.trim(), value.trim(), number))
    })
}

/// Whether TuneD replaces `ours` by another value: `>N` only raises, `<N` only lowers (`_process_assignment_modifiers`).
pub fn sets_another_value(ours: &str, value: &str) -> bool {
    match (value.get(..1), number(ours).zip(value.get(1..).and_then(|bound| number(bound.trim())))) {
        (Some(">"), Some((ours, bound))) => bound > ours,
        (Some("<"), Some((ours, bound))) => bound < ours,
        _ => !same_value(ours, value),
    }
}
