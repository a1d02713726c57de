//! Patterns in the interface's place of a key, matched as glob(3) with GLOB_BRACE does, which systemd-sysctl uses.

use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;

use nix::NixPath;

use crate::error::Error;
use crate::setting::{Key, Place, canonical_name};

/// More alternatives than this in one pattern are a mistake (or an attack), not a policy.
const ALTERNATIVES_MAX: usize = 1024;
/// So is more text than this, in all alternatives together.
const EXPANDED_MAX_BYTES: usize = 1 << 20;

/// A key whose interface is a pattern, such as `net.ipv4.conf.*.forwarding`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    pub family: String,
    pub table: String,
    pub name: String,
    /// The interface's part, braces expanded, each to match with fnmatch(3).
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
            // glob drops a backslash that stands before a slash.
            if bytes.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1 {
                bytes.pop();
            }
            CString::new(bytes).ok()
        };
        let alternatives = alternatives.into_iter().filter_map(whole).collect();
        Ok(Pattern { family: place.family.into(), table: place.table.into(), name: place.name.into(), alternatives })
    }

    /// Whether this is its setting, under either name, whatever the interface.
    pub fn is_about(&self, family: &str, table: &str, name: &str) -> bool {
        let names_agree = self.name == name || canonical_name(table, &self.name) == canonical_name(table, name);
        names_agree && (self.family.as_str(), self.table.as_str()) == (family, table)
    }

    /// Whether it stands for this setting of this interface.
    pub fn is_for(&self, place: &Place) -> bool {
        self.is_about(place.family, place.table, place.name) && self.matches(place.interface)
    }

    pub fn matches(&self, interface: &OsStr) -> bool {
        interface.with_nix_path(|name| self.matches_name(name)).unwrap_or(false)
    }

    /// Whether it is `*`, which matches whatever has no leading dot.
    pub fn is_any(&self) -> bool {
        matches!(&self.alternatives[..], [only] if only.as_bytes() == b"*")
    }

    /// Whether it stands for every interface, written as `*` or in a longer way.
    pub fn is_every(&self) -> bool {
        let every = |text: &[u8]| text.contains(&b'*') && text.iter().all(|byte| matches!(byte, b'*' | b'?'));
        self.alternatives.iter().any(|pattern| every(pattern.as_bytes()))
    }

    /// The same as [`Pattern::matches`], for who asks several patterns about one name. Below `neigh` is no `all`
    /// (net/core/neighbour.c), and no interface may have that name.
    pub fn matches_name(&self, name: &CStr) -> bool {
        if self.table == "neigh" && name == c"all" {
            return false;
        }
        if self.is_any() {
            return !name.to_bytes().starts_with(b".");
        }
        self.alternatives.iter().any(|pattern| fnmatch(pattern, name))
    }

    pub fn key_for(&self, interface: &OsStr) -> Key {
        Key::in_table(&self.family, &self.table, interface, &self.name)
    }
}

/// fnmatch(3) as glob(3) calls it: `*` and `?` don't match a leading dot.
pub(super) fn fnmatch(pattern: &CStr, name: &CStr) -> bool {
    // SAFETY: both arguments are NUL-terminated strings that live through the call; fnmatch keeps neither.
    unsafe { libc::fnmatch(pattern.as_ptr(), name.as_ptr(), libc::FNM_PERIOD) == 0 }
}

/// csh-style braces as glibc's GLOB_BRACE has them: `{a,b{c,d}}`, and `{}` is nothing; a brace without its partner stands
/// for itself.
/// False: it makes too much.
fn expand_braces(text: &[u8], room: &mut usize, out: &mut Vec<Vec<u8>>) -> bool {
    // What is only on the way counts as well: it bounds how deep this goes.
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

/// The bytes from `at` on that neither are a backslash nor stand behind one, and where.
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
    fn what_matches() {
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
