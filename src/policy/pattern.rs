//! Patterns in the interface's place of a key, matched as glob(3) with GLOB_BRACE does, which systemd-sysctl uses.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;

use crate::setting::Key;

/// More alternatives than this in one pattern are a mistake (or an attack), not a policy.
const ALTERNATIVES_MAX: usize = 1024;

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
    pub fn new(key: &Key) -> Result<Pattern, String> {
        let place = key.place().filter(|p| !p.name.contains(['*', '?', '['])).ok_or_else(|| {
            format!("'{key}': a pattern may only stand for an interface, as in net.ipv4.conf.*.forwarding")
        })?;
        let mut alternatives = Vec::new();
        expand_braces(place.interface.as_bytes(), &mut alternatives);
        if alternatives.len() > ALTERNATIVES_MAX {
            return Err(format!("'{key}': the braces make more than {ALTERNATIVES_MAX} alternatives"));
        }
        let alternatives = alternatives.into_iter().filter_map(|bytes| CString::new(bytes).ok()).collect();
        Ok(Pattern { family: place.family.into(), table: place.table.into(), name: place.name.into(), alternatives })
    }

    pub fn matches(&self, interface: &OsStr) -> bool {
        let Ok(name) = CString::new(interface.as_bytes()) else { return false };
        self.alternatives.iter().any(|pattern| fnmatch(pattern, &name))
    }

    pub fn key_for(&self, interface: &OsStr) -> Key {
        Key::in_table(&self.family, &self.table, interface, &self.name)
    }
}

/// fnmatch(3) as glob(3) calls it: `*` and `?` don't match a leading dot.
fn fnmatch(pattern: &CString, name: &CString) -> bool {
    // SAFETY: both arguments are NUL-terminated strings that live through the call; fnmatch keeps neither.
    unsafe { libc::fnmatch(pattern.as_ptr(), name.as_ptr(), libc::FNM_PERIOD) == 0 }
}

/// csh-style braces as glibc's GLOB_BRACE has them: `{a,b{c,d}}`; `{}` and a brace without its partner stand for themselves.
fn expand_braces(text: &[u8], out: &mut Vec<Vec<u8>>) {
    if out.len() > ALTERNATIVES_MAX {
        return;
    }
    let open = (0..text.len()).find(|&at| text[at] == b'{' && text.get(at + 1) != Some(&b'}') && !escaped(text, at));
    let Some((open, parts, close)) = open.and_then(|open| brace_parts(text, open).map(|(p, c)| (open, p, c))) else {
        out.push(text.to_vec());
        return;
    };
    for part in parts {
        expand_braces(&[&text[..open], part, &text[close + 1..]].concat(), out);
    }
}

/// The parts between the brace at `open` and its partner, and where that partner is.
fn brace_parts(text: &[u8], open: usize) -> Option<(Vec<&[u8]>, usize)> {
    let (mut depth, mut start, mut parts) = (0, open + 1, Vec::new());
    for at in open + 1..text.len() {
        match text[at] {
            _ if escaped(text, at) => {}
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

fn escaped(text: &[u8], at: usize) -> bool {
    text[..at].iter().rev().take_while(|b| **b == b'\\').count() % 2 == 1
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
            ("x{}*", vec!["x{}y"], vec!["xy"]),
            ("x{a*", vec!["x{ab"], vec!["xab"]),
            ("v.?", vec!["v.1"], vec!["vx1"]),
            ("\\**", vec!["*a"], vec!["a"]),
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
        let bomb = "{a,b}".repeat(40) + "*";
        assert!(Pattern::new(&Key::parse(&format!("net/ipv4/conf/{bomb}/rp_filter")).unwrap()).is_err());
    }
}
