//! Patterns in the interface's place of a key, matched as glob(3) with GLOB_BRACE does, which systemd-sysctl uses.

use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;

use nix::NixPath;

use crate::error::Error;
use crate::setting::{Key, Place, canonical_name};

/// More alternatives than this in one pattern are a mistake or an attack.
const ALTERNATIVES_MAX: usize = 1024;
/// So is more text than this in all alternatives together.
const EXPANDED_MAX_BYTES: usize = 1 << 20;

/// A key whose interface is a pattern, such as `net.ipv4.conf.*.forwarding`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    family: String,
    table: String,
    pub name: String,
    /// The interface's part with its braces expanded, to be matched with fnmatch(3).
    alternatives: Vec<CString>,
}

impl Pattern {
    /// # Errors
    /// A reason for people: the wildcard is not in the interface's place, or the braces make too many alternatives.
    pub fn new(key: &Key) -> Result<Pattern, Error> {
        let place = key.place().filter(|p| !p.name.contains(['*', '?', '[']));
        let place = place.ok_or_else(|| Error::PatternElsewhere(key.to_string()))?;
        let mut alternatives = Vec::new();
        if !expand_braces(place.interface.as_bytes(), &mut { EXPANDED_MAX_BYTES }, &mut alternatives) {
            return Err(Error::TooManyAlternatives(ALTERNATIVES_MAX));
        }
        let whole = |mut bytes: Vec<u8>| {
            // glob drops a backslash before a slash.
            if bytes.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1 {
                bytes.pop();
            }
            CString::new(bytes).ok()
        };
        let alternatives = alternatives.into_iter().filter_map(whole).collect();
        Ok(Pattern { family: place.family.into(), table: place.table.into(), name: place.name.into(), alternatives })
    }

    /// Whether it matches this attribute, under either of its names, whatever the interface.
    pub fn is_about(&self, place: &Place) -> bool {
        let names_agree = || canonical_name(&self.table, &self.name) == canonical_name(place.table, place.name);
        self.family == place.family && self.table == place.table && (self.name == place.name || names_agree())
    }

    /// Whether it matches this setting.
    pub fn is_for(&self, place: &Place) -> bool {
        self.is_about(place) && self.matches(place.interface)
    }

    /// Whether it is `*`, which matches every name without a leading dot.
    fn is_any(&self) -> bool {
        matches!(&self.alternatives[..], [only] if only.as_bytes() == b"*")
    }

    /// Whether it matches every interface, written as `*` or in a longer way.
    pub fn is_every(&self) -> bool {
        let every = |text: &[u8]| text.contains(&b'*') && text.iter().all(|byte| matches!(byte, b'*' | b'?'));
        self.alternatives.iter().any(|pattern| every(pattern.as_bytes()))
    }

    /// Whether it matches an interface, as fnmatch(3) does for glob(3): `*` and `?` don't match a leading dot. Below `neigh` there
    /// is no `all` (net/core/neighbour.c), and no interface may have that name.
    pub fn matches(&self, interface: &OsStr) -> bool {
        if self.table == "neigh" && interface == "all" {
            return false;
        }
        if self.is_any() {
            return !interface.as_bytes().starts_with(b".");
        }
        let matches = |pattern: &CString, name: &CStr| {
            // SAFETY: both arguments are NUL-terminated strings that live through the call; fnmatch keeps neither.
            unsafe { libc::fnmatch(pattern.as_ptr(), name.as_ptr(), libc::FNM_PERIOD) == 0 }
        };
        // Copies the name to the stack with its NUL: at the start there may be thousands of interfaces.
        let any = |name: &CStr| self.alternatives.iter().any(|pattern| matches(pattern, name));
        interface.with_nix_path(any).unwrap_or(false)
    }

    /// The parts of the key of `interface` that it matches.
    pub fn place<'a>(&'a self, interface: &'a OsStr) -> Place<'a> {
        Place { family: &self.family, table: &self.table, interface, name: &self.name }
    }

    pub fn key_for(&self, interface: &OsStr) -> Key {
        Key::in_table(&self.family, &self.table, interface, &self.name)
    }
}

/// Expands csh-style braces as glibc's GLOB_BRACE does: `{a,b{c,d}}`; `{}` is empty, and a brace without its partner is literal.
/// False: there are too many alternatives, or too long ones.
fn expand_braces(text: &[u8], room: &mut usize, out: &mut Vec<Vec<u8>>) -> bool {
    // Intermediate results count, too, which bounds the depth of the recursion.
    let Some(left) = room.checked_sub(text.len()).filter(|_| out.len() < ALTERNATIVES_MAX) else { return false };
    *room = left;
    let open = unescaped(text, 0).find(|(_, byte)| *byte == b'{');
    let Some((open, parts, close)) = open.and_then(|(open, _)| brace_parts(text, open).map(|(p, c)| (open, p, c)))
    else {
        out.push(text.to_vec());
        return true;
    };
    let whole = |part: &[u8]| [&text[..open], part, &text[close + 1..]].concat();
    parts.into_iter().all(|part| expand_braces(&whole(part), room, out))
}

/// The parts between the brace at `open` and its partner, and where that partner is.
fn brace_parts(text: &[u8], open: usize) -> Option<(Vec<&[u8]>, usize)> {
    let (mut depth, mut start, mut parts) = (0, open + 1, Vec::new());
    for (at, byte) in unescaped(text, open + 1) {
        match byte {
            b'{' => depth += 1,
            b'}' if depth > 0 => depth -= 1,
            b'}' => {
                parts.push(&text[start..at]);
                return Some((parts, at));
            }
            b',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    None
}

/// The bytes from `at` on that neither are a backslash nor follow one, with their positions.
fn unescaped(text: &[u8], mut at: usize) -> impl Iterator<Item = (usize, u8)> {
    std::iter::from_fn(move || {
        while text.get(at) == Some(&b'\\') {
            at += 2;
        }
        let byte = *text.get(at)?;
        at += 1;
        Some((at - 1, byte))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(interface: &str) -> Pattern {
        Pattern::new(&Key::parse(&format!("net/ipv4/conf/{interface}/rp_filter")).unwrap()).unwrap()
    }

    #[test]
    fn names_that_patterns_match() {
        for (text, yes, no) in [
            ("*", vec!["all", "default", "eth0.100"], vec![".hidden"]),
            ("cali*", vec!["cali", "cali1234567890a"], vec!["xcali"]),
            ("eth?", vec!["eth0"], vec!["eth", "eth10"]),
            ("[a-c]0", vec!["a0", "c0"], vec!["d0"]),
            ("[!a]0", vec!["b0"], vec!["a0"]),
            ("[[:alpha:]]0", vec!["a0"], vec!["00"]),
            ("{a0,b*}", vec!["a0", "b7"], vec!["c0"]),
            ("{a,{b,v}}?", vec!["a1", "b1", "v1"], vec!["c1"]),
            ("x{}?", vec!["xy"], vec!["x{}y"]),
            ("x{a*", vec!["x{ab"], vec!["xab"]),
            ("v.?", vec!["v.1"], vec!["vx1"]),
            ("\\**", vec!["*a"], vec!["a"]),
            ("a*\\", vec!["ab"], vec!["b"]),
        ] {
            for name in yes {
                assert!(pattern(text).matches(OsStr::new(name)), "{text} {name}");
            }
            for name in no {
                assert!(!pattern(text).matches(OsStr::new(name)), "{text} {name}");
            }
        }
    }

    #[test]
    fn names_that_are_not_utf8_match_too() {
        assert!(pattern("x*").matches(OsStr::from_bytes(b"x\xff")));
    }

    #[test]
    fn only_in_the_interfaces_place() {
        for text in
            ["net.ipv4.*.all.rp_filter", "net.ipv4.conf.all.rp_*", "net.*", "net.ipv4.conf.{a,b/c*}.d.rp_filter"]
        {
            assert!(Pattern::new(&Key::parse(text).unwrap()).is_err(), "{text}");
        }
    }

    #[test]
    fn braces_are_bounded() {
        let new = |text| Pattern::new(&Key::parse(&format!("net/ipv4/conf/{text}*/rp_filter")).unwrap());
        // Many, deep in each other, and one behind the other, as long as a line of the policy may be.
        for bomb in ["{a,b}".repeat(40), "{".repeat(100_000) + &"}".repeat(100_000), "{a}".repeat(80_000)] {
            assert!(new(bomb).is_err_and(|error| error.to_string().len() < 200));
        }
        assert!(new("{a,b}".repeat(10)).is_ok());
        assert!(new("\\".repeat(200_000) + "{a,b}").is_ok());
    }
}
