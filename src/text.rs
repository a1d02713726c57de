//! Text formatting: counts, times and errors in words, escaped and shortened for terminal, journal and service manager.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::io;

use rustix::io::Errno;

use crate::setting::printable;

/// The length of a sentence: errors of other programs, or a wrong key, may be as long as a message or a file. With the status it
/// has to fit into the 4096 bytes that the service manager accepts (NOTIFY_BUFFER_MAX).
pub const TEXT_MAX: usize = 1000;

/// `1 setting`, `2 settings`
pub fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// `84 us`, `3.2 ms`, `12 s`, `2 min 5 s`, `3 h 0 min`
pub fn duration(usec: u64) -> String {
    let seconds = usec / 1_000_000;
    match usec {
        0..1_000 => format!("{usec} us"),
        1_000..1_000_000 => format!("{:.1} ms", usec as f64 / 1e3),
        1_000_000..10_000_000 => format!("{:.1} s", usec as f64 / 1e6),
        _ if seconds < 60 => format!("{seconds} s"),
        _ if seconds < 3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// `Permission denied`
pub fn errno_text(errno: Errno) -> String {
    plain(&io::Error::from(errno).to_string())
}

/// An error's text, with a hint if permission was denied.
pub fn why(error: &io::Error) -> String {
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied => "; if SELinux refuses it, 'ausearch -m avc -ts recent' shows what",
        _ => "",
    };
    format!("{}{hint}", plain(&error.to_string()))
}

/// Text on one line: tabs, which the kernel puts between the parts of a value, and line ends become spaces; the rest as [`printable`].
pub fn one_line(text: &str) -> String {
    printable(OsStr::new(&text.replace(['\t', '\n'], " ")))
}

/// One line of ASCII for the journal, the service manager and the service's stderr.
pub fn ascii_line(text: &str) -> String {
    ascii(&one_line(text), TEXT_MAX).into_owned()
}

/// Text that `journalctl -o json` of systemd 219 can show, which makes `\uffffffc3` of each byte above 127 (`json_escape`): all but
/// ASCII is escaped, and control characters. Text longer than `most` is cut and ends in `...`.
pub fn ascii(text: &str, most: usize) -> Cow<'_, str> {
    let is_plain = |c: char| matches!(c, ' '..='~' | '\t');
    if text.len() <= most && text.chars().all(is_plain) {
        return text.into();
    }
    let mut out = String::new();
    for c in text.chars() {
        if is_plain(c) {
            out.push(c)
        } else {
            out.extend(c.escape_default())
        }
        if out.len() > most {
            out.truncate(most.saturating_sub(3));
            out += "...";
            break;
        }
    }
    out.into()
}

/// An error's text without Rust's `(os error 13)`.
pub fn plain(text: &str) -> String {
    match text.split_once(" (os error ").and_then(|(before, rest)| Some((before, rest.split_once(')')?.1))) {
        Some((before, after)) => format!("{before}{after}"),
        None => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_plain() {
        assert_eq!(errno_text(Errno::ROFS), "Read-only file system");
        assert_eq!(
            plain("connect: No such file or directory (os error 2), gave up"),
            "connect: No such file or directory, gave up"
        );
    }

    #[test]
    fn text_is_ascii_and_bounded() {
        assert_eq!(ascii("a\tb", 3), "a\tb");
        assert_eq!(ascii("é\u{202e}\n\u{7f}", 99), "\\u{e9}\\u{202e}\\n\\u{7f}");
        assert_eq!(ascii("abcdef", 5), "ab...");
        assert_eq!(ascii("ééééé", 9), "\\u{e9}...");
    }

    #[test]
    fn durations() {
        for (usec, text) in [
            (84, "84 us"),
            (3_210, "3.2 ms"),
            (1_500_000, "1.5 s"),
            (12_000_000, "12 s"),
            (125_000_000, "2 min 5 s"),
            (10_800_000_000, "3 h 0 min"),
        ] {
            assert_eq!(duration(usec), text);
        }
    }
}
