//! What sysctl.d(5) and fwdguard.d(5) define for a folder of policy files, without the program's code.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::settings::{FORWARDING, REFUSED, V4, V6, all_forwarding, apart, canonical};

/// In the order of their precedence.
pub const FOLDERS: [&str; 3] = ["etc/fwdguard.d", "run/fwdguard.d", "usr/lib/fwdguard.d"];
pub const NAMES: [&str; 3] = ["10-a.conf", "20-b.conf", "50-kubernetes.conf"];
/// Applies last, whatever else there is.
pub const MARK: (usize, &str) = (1, "99-mark.conf");

#[derive(Clone, Debug)]
pub enum Line {
    Set(String, String),
    Exclude(String),
    Bad(&'static str),
    /// Left to sysctl.d, which is no error.
    Left,
}

#[derive(Clone, Debug)]
pub enum File {
    Text(Vec<Line>),
    Mask,
    Dangling,
    Folder,
}

/// The policy files, by folder and name.
#[derive(Clone, Debug, Default)]
pub struct Files(pub BTreeMap<(usize, &'static str), File>);

impl Files {
    /// Puts a file in place, or removes it.
    pub fn put(&mut self, root: &Path, at: (usize, &'static str), file: Option<File>) {
        let folder = root.join(FOLDERS[at.0]);
        let path = folder.join(at.1);
        fs::create_dir_all(&folder).expect("a folder");
        // As an editor does it: a folder that is empty for a moment would have the built-in policy apply.
        let other = folder.join("new");
        match &file {
            None => {}
            Some(File::Mask) => symlink("/dev/null", &other).expect("a link"),
            Some(File::Dangling) => symlink("nowhere", &other).expect("a link"),
            Some(File::Folder) => fs::create_dir(&other).expect("a folder"),
            Some(File::Text(lines)) => fs::write(&other, lines.iter().map(text).collect::<String>()).expect("a file"),
        }
        if file.is_none() {
            _ = fs::remove_file(&path).or_else(|_| fs::remove_dir(&path));
        } else if fs::rename(&other, &path).is_err() {
            // One is a folder, the other is not: they are exchanged.
            renameat_with(CWD, &other, CWD, &path, RenameFlags::EXCHANGE).expect("another file in its place");
            fs::remove_file(&other).or_else(|_| fs::remove_dir(&other)).expect("the old one goes");
        }
        match file {
            Some(file) => _ = self.0.insert(at, file),
            None => _ = self.0.remove(&at),
        }
    }

    /// `None`: there are files, and nothing in them is usable.
    pub fn merged(&self) -> Option<Policy> {
        let mut counting = BTreeMap::new();
        // The first folder that has a name counts.
        self.0.iter().for_each(|((folder, name), file)| _ = counting.entry(*name).or_insert((*folder, file)));
        let (mut policy, mut errors) = (Policy::default(), 0);
        if counting.is_empty() {
            for (key, value) in [
                ("net/ipv4/conf/all/forwarding", "1"),
                ("net/ipv4/conf/*/forwarding", "1"),
                ("net/ipv4/conf/all/rp_filter", "0"),
                ("net/ipv4/conf/tunl0/rp_filter", "0"),
            ] {
                policy.add(key, Some(value), VENDORS);
            }
        }
        for (name, (folder, file)) in counting {
            match file {
                File::Mask => {}
                File::Dangling | File::Folder => errors += 1,
                File::Text(lines) => {
                    for line in lines {
                        match line {
                            Line::Set(key, value) => policy.add(key, Some(value), (folder, name)),
                            Line::Exclude(key) => policy.add(key, None, (folder, name)),
                            Line::Bad(_) => errors += 1,
                            Line::Left => {}
                        }
                    }
                }
            }
        }
        for folder in [V4, V6] {
            policy.apply_off(folder);
        }
        (!policy.0.is_empty() || errors == 0).then_some(policy)
    }
}

fn text(line: &Line) -> String {
    match line {
        Line::Set(key, value) => format!("{key} = {value}\n"),
        Line::Exclude(key) => format!("-{}\n", key.replace('/', ".")),
        Line::Bad(text) => format!("{text}\n"),
        Line::Left => "kernel.panic = 1\n".into(),
    }
}

/// Folder and name of a file.
type At = (usize, &'static str);
/// The vendor's, or the policy without files.
const VENDORS: At = (2, "50-kubernetes.conf");

#[derive(Clone, Debug)]
struct Rule {
    key: String,
    value: Option<String>,
    /// The file of its line, and those of lines that repeat it.
    from: Vec<At>,
}

impl Rule {
    fn is_about_forwarding(&self, folder: &str) -> bool {
        apart(&self.key).is_some_and(|(f, _, name)| (f, name) == (folder, FORWARDING))
    }

    fn is_every(&self) -> bool {
        apart(&self.key).is_some_and(|(_, place, _)| place == "*")
    }

    fn is_vendors(&self) -> bool {
        self.from.iter().all(|at| *at == VENDORS)
    }
}

/// The lines that count, in the order in which sysctl.d would apply them.
#[derive(Clone, Debug, Default)]
pub struct Policy(Vec<Rule>);

impl Policy {
    fn add(&mut self, key: &str, value: Option<&str>, at: At) {
        let (key, value) = (canonical(key), value.map(str::to_string));
        match self.0.iter().position(|known| known.key == key) {
            Some(place) if self.0[place].value == value => return self.0[place].from.push(at),
            Some(place) => _ = self.0.remove(place),
            None => {}
        }
        self.0.push(Rule { key, value, from: vec![at] });
    }

    /// What an explicit off does to patterns: of those that open, every interface's go, and those of files that yield to it; the
    /// vendor's exclusions go; and what closes every interface comes before what opens some, in the same file.
    fn apply_off(&mut self, folder: &str) {
        let is_off = |rule: &&Rule| rule.key == all_forwarding(folder) && rule.value.as_deref() == Some("0");
        let Some(off) = self.0.iter().find(is_off).cloned() else { return };
        let is_pattern_of = |rule: &Rule| is_pattern(&rule.key) && rule.is_about_forwarding(folder);
        let yields = |rule: &Rule| rule.from.iter().all(|at| at.0 > off.from[0].0);
        self.0.retain(|rule| {
            let goes = match rule.value.as_deref() {
                None => yields(rule) || rule.is_vendors() && !off.is_vendors(),
                Some(value) => value != "0" && (rule.is_every() || yields(rule)),
            };
            !(is_pattern_of(rule) && goes)
        });
        for at in 0..self.0.len() {
            let rule = &self.0[at];
            if !(is_pattern_of(rule) && rule.is_every() && rule.value.as_deref() == Some("0")) {
                continue;
            }
            let opens = |other: &Rule| is_pattern_of(other) && other.value.as_deref().is_some_and(|value| value != "0");
            let narrower = self.0[..at].iter().position(|other| opens(other) && other.from[0] == rule.from[0]);
            if let Some(narrower) = narrower {
                self.0[narrower..=at].rotate_right(1);
            }
        }
    }

    fn written_out(&self, key: &str) -> Option<Option<&str>> {
        self.0.iter().find(|known| known.key == key).map(|rule| rule.value.as_deref())
    }

    /// Excluded patterns that stand for a setting of forwarding; for other settings they have no meaning.
    fn exclusions<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a Rule> {
        self.0.iter().filter(move |rule| {
            let excludes = is_pattern(&rule.key) && !rule.is_every() && rule.value.is_none();
            excludes && rule.key.ends_with(FORWARDING) && matches(rule.key.as_bytes(), key.as_bytes())
        })
    }

    fn line_for(&self, key: &str) -> Option<&str> {
        if let Some(value) = self.written_out(key) {
            return value;
        }
        let counts = |rule: &&Rule| {
            let own = |excluded: &Rule| excluded.is_vendors() && !rule.from.iter().all(|at| *at == VENDORS);
            let outweighs = |excluded: &Rule| own(excluded) && (!rule.is_every() || rule.value.as_deref() == Some("0"));
            is_pattern(&rule.key)
                && rule.value.is_some()
                && matches(rule.key.as_bytes(), key.as_bytes())
                && self.exclusions(key).all(outweighs)
        };
        self.0.iter().rev().find(counts).and_then(|rule| rule.value.as_deref())
    }

    /// The value that a setting must have, if the kernel accepts it.
    pub fn wanted(&self, key: &str) -> Option<&str> {
        self.line_for(key).filter(|value| *value != REFUSED)
    }

    /// Whether any line is about IPv6 forwarding, for which the guard reads more.
    pub fn guards_v6(&self) -> bool {
        self.0.iter().any(|rule| rule.is_about_forwarding(V6))
    }

    pub fn excludes(&self, key: &str) -> bool {
        match self.written_out(key) {
            Some(value) => value.is_none(),
            None => self.line_for(key).is_none() && self.exclusions(key).next().is_some(),
        }
    }
}

fn is_pattern(key: &str) -> bool {
    key.contains(['*', '?', '['])
}

/// glob(7), as far as the sequences use it: `*` and `?` stay within an interface's name, `[...]` lists characters.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => {
            matches(rest, text) || text.first().is_some_and(|byte| *byte != b'/') && matches(pattern, &text[1..])
        }
        ([b'?', rest @ ..], [byte, more @ ..]) => *byte != b'/' && matches(rest, more),
        ([b'[', rest @ ..], [byte, more @ ..]) => {
            let end = rest.iter().position(|b| *b == b']').expect("a bracket that closes");
            rest[..end].contains(byte) && matches(&rest[end + 1..], more)
        }
        ([one, rest @ ..], [other, more @ ..]) => one == other && matches(rest, more),
        _ => false,
    }
}
