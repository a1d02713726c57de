//! TuneD's profiles: what they set is what a second reading says, which is Python's configparser line by line, and what
//! changes nothing for TuneD changes nothing here.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fwdguard::policy::tuned::{Tuned, sets_otherwise};
use fwdguard::setting::{Key, same_value};

const MINE: &str = "/etc/tuned/mine/tuned.conf";
const HIDES: &str = "/etc/tuned/base/tuned.conf";
const VENDOR: &str = "/usr/lib/tuned/base/tuned.conf";
/// Reserved for what this target adds.
const OUTER: &str = "/etc/tuned/outer/tuned.conf";
const ACTIVE: &str = "/etc/tuned/active_profile";

type Files = HashMap<PathBuf, Vec<u8>>;
/// Key, value where it is known, file and line.
type Lines = Vec<(String, Option<Arc<str>>, PathBuf, u32)>;

pub fn holds(data: &[u8]) {
    let mut parts = super::parts(data);
    let mut next = || parts.next().unwrap_or_default();
    let (mine, hides, vendor, ours) = (next(), next(), next(), next());
    let mut files: Files = [(MINE, mine), (VENDOR, vendor), (ACTIVE, b"mine")].map(file).into();
    if !hides.is_empty() {
        files.extend([file((HIDES, hides))]);
    }
    let tuned = read(&files);
    let lines = judge(&tuned, &files);
    if let Some(expected) = model(&files) {
        assert_eq!(lines, expected);
    }

    // Named twice, included by another, or with Windows's ends of lines: the same.
    let with = |path: &str, text: &[u8]| {
        let mut files = files.clone();
        files.extend([file((path, text))]);
        judge(&read(&files), &files)
    };
    assert_eq!(with(ACTIVE, b" mine\nmine mine"), lines);
    let mut outer = files.clone();
    outer.extend([file((OUTER, b"[main]\ninclude = mine ;mine\n")), file((ACTIVE, b"outer"))]);
    // What stands before any header is a section as well, and the outer file's own, which is empty, is merged onto it.
    let begins_with_a_header = |text: &Vec<u8>| configparser(text).is_some_and(|sections| sections[0].1.is_empty());
    if [MINE, HIDES, VENDOR].iter().filter_map(|path| files.get(Path::new(path))).all(begins_with_a_header) {
        assert_eq!(judge(&read(&outer), &outer), lines);
    }
    if !mine.contains(&b'\r') {
        let text: Vec<u8> = mine
            .iter()
            .flat_map(|b| if *b == b'\n' { &b"\r\n"[..] } else { std::slice::from_ref(b) })
            .copied()
            .collect();
        assert_eq!(with(MINE, &text), lines);
    }
    // A remark in front moves lines, and nothing else.
    let moved = |(key, value, path, line): &(String, Option<Arc<str>>, PathBuf, u32)| {
        (key.clone(), value.clone(), path.clone(), line + u32::from(path == Path::new(MINE)))
    };
    assert_eq!(with(MINE, &[b" # [x]\n", mine].concat()), lines.iter().map(moved).collect::<Lines>());

    let ours = String::from_utf8_lossy(ours);
    for (_, value, ..) in &lines {
        value
            .iter()
            .for_each(|says| assert_eq!(sets_otherwise(&ours, says), otherwise(&ours, says), "{ours:?} {says:?}"));
    }
}

fn file((path, text): (&str, &[u8])) -> (PathBuf, Vec<u8>) {
    (path.into(), text.to_vec())
}

fn read(files: &Files) -> Tuned {
    Tuned::of(Path::new("/"), &|path| files.get(path).cloned())
}

/// What it sets, in the order of the keys, each with its place in a file that was asked for.
fn judge(tuned: &Tuned, files: &Files) -> Lines {
    for (at, path) in tuned.paths.iter().enumerate() {
        assert!(path.starts_with("/etc/tuned") || path.starts_with("/usr/lib/tuned"), "{path:?}");
        assert!(!tuned.paths[..at].contains(path), "{path:?} twice");
    }
    let mut lines = Lines::new();
    for (key, (value, source)) in &tuned.lines {
        super::assert_below_net(key);
        assert!(!key.has_wildcard());
        assert!(tuned.paths.iter().any(|path| **path == *source.file), "{:?}", source.file);
        let text = String::from_utf8_lossy(&files[&*source.file]).into_owned();
        let line = text.lines().nth(source.line as usize - 1).expect("a line");
        let (name, rest) = line.split_once('=').expect("an option");
        assert_eq!(Key::parse(name.trim()).map(Key::to_write).as_ref(), Ok(key));
        if let Some(value) = value {
            assert!(!value.is_empty() && !value.contains(|c: char| c.is_control() && c != '\t'), "{value:?}");
            assert!(!value.contains("${") && rest.contains(&**value), "{value:?} of {line:?}");
        }
        lines.push((key.to_string(), value.clone(), source.file.to_path_buf(), source.line));
    }
    lines.sort();
    lines
}

/// `>N` writes the larger of both, `<N` the smaller, and all else itself.
fn otherwise(ours: &str, says: &str) -> bool {
    let bound = |sign| says.strip_prefix(sign)?.trim().parse::<i64>().ok();
    match (ours.parse::<i64>(), bound('>'), bound('<')) {
        (Ok(ours), Some(bound), _) => ours.max(bound) != ours,
        (Ok(ours), _, Some(bound)) => ours.min(bound) != ours,
        _ => !same_value(ours, says),
    }
}

/// Name, and options in their order with value and line.
type Section = (String, Vec<(String, String, u32)>);

#[derive(Default)]
struct Unit {
    section: String,
    kind: String,
    enabled: bool,
    elsewhere: bool,
    options: Vec<(String, String, PathBuf, u32)>,
}

/// What TuneD sets; nothing is said of files that configparser refuses, for then TuneD loads no profile.
fn model(files: &Files) -> Option<Lines> {
    let (mut order, mut seen) = (Vec::new(), Vec::new());
    visit("mine", files, &mut seen, &mut order)?;
    let mut units = Vec::<Unit>::new();
    for (path, sections) in order {
        for (section, options) in sections.into_iter().filter(|section| section.0 != "main") {
            let take = |name: &str| options.iter().find(|option| option.0 == name).map(|option| option.1.as_str());
            let yes = |value| value == "True" || value == "true" || value == "1";
            let at = units.iter().position(|unit| unit.section == section).unwrap_or(units.len());
            if at == units.len() {
                units.push(Unit { section: section.clone(), ..Unit::default() });
            }
            if take("replace").is_some_and(yes) {
                units[at] = Unit { section: section.clone(), ..Unit::default() };
            }
            let unit = &mut units[at];
            unit.kind = take("type").unwrap_or(&section).to_string();
            unit.enabled = take("enabled").is_none_or(yes);
            unit.elsewhere |= take("uname_regex").or(take("cpuinfo_regex")).is_some();
            for gone in take("drop").into_iter().flat_map(|names| names.split([',', ';'])) {
                unit.options.retain(|option| option.0 != gone.trim());
            }
            for (name, value, line) in &options {
                let option = (name.clone(), value.clone(), path.clone(), *line);
                match unit.options.iter().position(|earlier| earlier.0 == *name) {
                    Some(at) => unit.options[at] = option,
                    None => unit.options.push(option),
                }
            }
        }
    }
    let mut lines = HashMap::new();
    for unit in units.into_iter().filter(|unit| unit.kind == "sysctl" && unit.enabled && !unit.elsewhere) {
        for (name, value, path, line) in unit.options {
            let Ok(key) = Key::parse(&name).map(Key::canonical) else { continue };
            // What stands below /proc/sys once dots and slashes have changed places, and is not refused as deprecated.
            let is_dotted = name.split(['.', '/']).next().is_some_and(|first| name[first.len()..].starts_with('.'));
            let is_refused = [".base_reachable_time", ".retrans_time"].iter().any(|end| name.ends_with(end));
            if is_dotted && !is_refused && !key.has_wildcard() {
                let quoted = value.len() > 1 && value.starts_with('"') && value.ends_with('"');
                let value = if quoted { &value[1..value.len() - 1] } else { &value };
                let plain = value.chars().all(|c| c == '\t' || !c.is_control());
                let known = (plain && !value.is_empty() && !value.contains("${")).then(|| value.into());
                lines.insert(key.to_string(), (known, path, line));
            }
        }
    }
    let mut lines: Lines = lines.into_iter().map(|(key, (value, path, line))| (key, value, path, line)).collect();
    lines.sort();
    Some(lines)
}

/// Includes before who includes them, each file once.
fn visit(name: &str, files: &Files, seen: &mut Vec<PathBuf>, order: &mut Vec<(PathBuf, Vec<Section>)>) -> Option<()> {
    let name = name.strip_prefix('-').unwrap_or(name);
    let candidates: &[&str] = match name {
        "mine" => &[MINE],
        "base" => &[HIDES, VENDOR],
        _ => &[],
    };
    let there = |path: &&&str| files.contains_key(Path::new(path)) && !seen.contains(&PathBuf::from(path));
    let Some(path) = candidates.iter().find(there).map(PathBuf::from) else { return Some(()) };
    seen.push(path.clone());
    let sections = configparser(&files[&path])?;
    let main = sections.iter().find(|section| section.0 == "main").map(|section| &section.1[..]).unwrap_or_default();
    if let Some((_, names, _)) = main.iter().find(|option| option.0 == "include") {
        for name in names.split([',', ';']) {
            visit(name.trim(), files, seen, order)?;
        }
    }
    order.push((path, sections));
    Some(())
}

/// `RawConfigParser._read` of Python 3.6, as TuneD sets it up: `=` alone between name and value, remarks behind `#`, sections
/// and options more than once. `None`: a line that it refuses, or an end of line that only Python takes for one.
fn configparser(bytes: &[u8]) -> Option<Vec<Section>> {
    let text = String::from_utf8_lossy(bytes).replace("\r\n", "\n");
    if text.contains('\r') {
        return None;
    }
    let mut sections: Vec<Section> = vec![(String::new(), Vec::new())];
    let (mut section, mut option, mut indent) = (0, None::<String>, 0);
    for (number, line) in (1..).zip(text.split('\n')) {
        let chars: Vec<char> = line.chars().collect();
        let behind_space = |at: usize| at == 0 || chars[at - 1].is_whitespace();
        let mut remark = (0..chars.len()).find(|at| chars[*at] == '#' && behind_space(*at));
        if line.trim().starts_with(['#', ';']) {
            remark = Some(0);
        }
        let kept: String = chars[..remark.unwrap_or(chars.len())].iter().collect();
        let value = kept.trim();
        if value.is_empty() {
            continue; // what an empty line adds to a value only shows once the value goes on, and then it is not known
        }
        let depth = chars.iter().position(|c| !c.is_whitespace()).unwrap_or(0);
        if let Some(name) = option.as_ref().filter(|_| depth > indent) {
            let known = sections[section].1.iter_mut().find(|known| known.0 == *name)?;
            known.1 = known.1.clone() + "\n" + value;
            continue;
        }
        indent = depth;
        // `\[(?P<header>[^]]+)\]`
        let header = value.strip_prefix('[').and_then(|rest| rest.find(']').map(|end| &rest[..end]));
        if let Some(header) = header.filter(|header| !header.is_empty()) {
            section = sections.iter().position(|known| known.0 == header).unwrap_or_else(|| {
                sections.push((header.to_string(), Vec::new()));
                sections.len() - 1
            });
            option = None;
        } else {
            let (name, value) = value.split_once('=').filter(|(name, _)| !name.is_empty())?;
            let (name, value) = (name.trim_end().to_string(), value.trim().to_string());
            let options = &mut sections[section].1;
            match options.iter_mut().find(|known| known.0 == name) {
                Some(known) => (known.1, known.2) = (value, number),
                None => options.push((name.clone(), value, number)),
            }
            option = Some(name);
        }
    }
    Some(sections)
}
