//! Notices about the lines of a policy file: few of each kind, however long the file.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use super::merge::Target;
use super::{PolicyError, Source};
use crate::setting::Key;
use crate::text::count;

/// More notices of one kind are only counted.
const SHOWN_MAX: usize = 3;
/// `IFNAMSIZ`, without the NUL.
const NAME_MAX_BYTES: usize = 15;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Dotted,
    Strange,
    Remark,
    Idle,
}

/// The notices about one file.
#[derive(Default)]
pub struct Notices {
    /// Lines for settings that are not below `net`.
    pub other_trees: usize,
    shown: Vec<(Kind, u32, String)>,
    /// For notices that are only counted: the first one's line, and how many there are.
    counted: Vec<(Kind, u32, usize)>,
}

impl Notices {
    pub fn add(&mut self, kind: Kind, line: u32, message: String) {
        if self.shown.iter().filter(|notice| notice.0 == kind).count() < SHOWN_MAX {
            return self.shown.push((kind, line, message));
        }
        match self.counted.iter_mut().find(|counted| counted.0 == kind) {
            Some((_, _, count)) => *count += 1,
            None => self.counted.push((kind, line, 1)),
        }
    }

    pub fn of_file(self, file: &Arc<Path>) -> Vec<PolicyError> {
        let at = |line, message| PolicyError { source: Source { file: file.clone(), line }, message };
        let mut notices = Vec::new();
        if self.other_trees > 0 {
            let lines = count(self.other_trees, "line");
            notices.push(at(0, format!("{lines} left to sysctl.d: fwdguard guards only settings below net.")));
        }
        notices.extend(self.shown.into_iter().map(|(_, line, message)| at(line, message)));
        notices.extend(self.counted.into_iter().map(|(kind, line, more)| {
            let what = match kind {
                Kind::Dotted => "an interface name with dots",
                Kind::Strange => "a name that may not be what was intended",
                Kind::Remark => "a comment behind a value, which is ignored",
                Kind::Idle => "an excluded pattern, which excludes nothing",
            };
            at(line, format!("{what}: in {} from this one on", count(more, "line")))
        }));
        notices
    }
}

/// The notice about an excluded pattern that revokes no line and, as in sysctl.d, has no effect. Only exclusions of `forwarding` do.
pub fn idle_exclusion(name: &str, target: &Target) -> Option<String> {
    let Target::Many(pattern) = target else { return None };
    if pattern.name == "forwarding" {
        return None;
    }
    let key = Key::parse(name).ok()?;
    let interface = key.place()?.interface.as_bytes();
    let start = interface.split(|byte| b"*?[{\\".contains(byte)).next().filter(|start| !start.is_empty());
    let example = start.map_or(b"eth0".to_vec(), |start| [start, b"1"].concat());
    let single = pattern.key_for(OsStr::from_bytes(&example));
    Some(format!("'-{name}' excludes nothing: only a pattern of forwarding does; write -{single} for each interface"))
}

/// The notice about a key that is valid, but probably not what was intended: it names one setting literally, or none.
pub fn strange_name(text: &str, name: &str, target: &Target) -> Option<String> {
    if text.starts_with('.') {
        return Some(format!("'{text}' begins with a dot and is read as {name}"));
    }
    if matches!(target, Target::Many(_)) && !text.contains(['*', '?', ']']) {
        return Some(format!("'{name}' is taken literally as one setting, because its '[' has no ']'"));
    }
    let Target::One(key) = target else { return None };
    let literal = key.place().map_or(key.path(), |place| place.interface).as_encoded_bytes();
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || !byte.is_ascii() || b"-_./".contains(byte);
    if let Some(strange) = literal.iter().find(|byte| !plain(byte)) {
        let hint = match strange {
            b'{' | b'}' => "braces alone are no pattern; write a line for each, or add *, as in {eth,ens}*",
            b':' => "a label of an address has no settings of its own",
            b'@' => "an interface's name ends before the @ that 'ip link' shows",
            _ => "only *, ? and [...] stand for several interfaces",
        };
        return Some(format!(
            "'{name}' is taken literally as one setting, including its '{}': {hint}",
            char::from(*strange)
        ));
    }
    let too_long = key.place().is_some() && literal.len() > NAME_MAX_BYTES;
    too_long.then(|| format!("'{name}' cannot match an interface: names have {NAME_MAX_BYTES} bytes at most"))
}
