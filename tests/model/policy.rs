//! What sysctl.d(5) and fwdguard.d(5) say of a folder of policy files, without the program's code.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::settings::{FORWARDING, REFUSED, V4, V6, all_forwarding, apart, canonical, key};

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

    /// `None`: there is something to read, and nothing of it is usable.
    pub fn merged(&self) -> Option<Policy> {
        let mut counting = BTreeMap::new();
        // The first folder that has a name counts.
        self.0.iter().for_each(|((_, name), file)| _ = counting.entry(*name).or_insert(file));
        let (mut policy, mut errors) = (Policy::default(), 0);
        if counting.is_empty() {
            for (key, value) in [
                ("net/ipv4/conf/all/forwarding", "1"),
                ("net/ipv4/conf/*/forwarding", "1"),
                ("net/ipv4/conf/all/rp_filter", "0"),
                ("net/ipv4/conf/tunl0/rp_filter", "0"),
            ] {
                policy.add(key, Some(value));
            }
        }
        for file in counting.values() {
            match file {
                File::Mask => {}
                File::Dangling | File::Folder => errors += 1,
                File::Text(lines) => {
                    for line in lines {
                        match line {
                            Line::Set(key, value) => policy.add(key, Some(value)),
                            Line::Exclude(key) => policy.add(key, None),
                            Line::Bad(_) => errors += 1,
                        }
                    }
                }
            }
        }
        for folder in [V4, V6] {
            if policy.written_out(&all_forwarding(folder)) == Some(Some("0")) {
                let opens = key(folder, "*", FORWARDING);
                let same_kind =
                    |key: &str| apart(key).is_some_and(|(f, _, n)| apart(&opens).is_some_and(|o| (f, n) == (o.0, o.2)));
                policy.0.retain(|(key, value)| !(is_pattern(key) && same_kind(key) && value.as_deref() == Some("1")));
            }
        }
        (!policy.0.is_empty() || errors == 0).then_some(policy)
    }
}

fn text(line: &Line) -> String {
    match line {
        Line::Set(key, value) => format!("{key} = {value}\n"),
        Line::Exclude(key) => format!("-{}\n", key.replace('/', ".")),
        Line::Bad(text) => format!("{text}\n"),
    }
}

/// The lines that count, in the order in which sysctl.d would apply them.
#[derive(Clone, Debug, Default)]
pub struct Policy(Vec<(String, Option<String>)>);

impl Policy {
    fn add(&mut self, key: &str, value: Option<&str>) {
        let (key, value) = (canonical(key), value.map(str::to_string));
        match self.0.iter().position(|(known, _)| *known == key) {
            Some(at) if self.0[at].1 == value => return,
            Some(at) => _ = self.0.remove(at),
            None => {}
        }
        self.0.push((key, value));
    }

    fn written_out(&self, key: &str) -> Option<Option<&str>> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_deref())
    }

    fn line_for(&self, key: &str) -> Option<&str> {
        if let Some(value) = self.written_out(key) {
            return value;
        }
        let of_pattern = |(pattern, value): &'_ (String, Option<String>)| {
            is_pattern(pattern) && value.is_some() && matches(pattern.as_bytes(), key.as_bytes())
        };
        self.0.iter().rev().find(|line| of_pattern(line)).and_then(|(_, value)| value.as_deref())
    }

    /// What a setting must be, if the kernel takes it.
    pub fn wanted(&self, key: &str) -> Option<&str> {
        self.line_for(key).filter(|value| *value != REFUSED)
    }

    /// Whether any line is about IPv6 forwarding, for which the guard reads more.
    pub fn guards_v6(&self) -> bool {
        self.0.iter().any(|(key, _)| apart(key).is_some_and(|(folder, _, name)| (folder, name) == (V6, FORWARDING)))
    }

    pub fn excludes(&self, key: &str) -> bool {
        self.written_out(key) == Some(None)
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
