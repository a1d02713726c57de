//! The lines of one sysctl.d(5) file, as systemd 257's `parse_file` (src/sysctl/sysctl.c) reads them.

use std::path::Path;
use std::sync::Arc;

use super::{PolicyError, Source};
use crate::error::Error;
use crate::setting::is_invisible;

/// Longer lines are mistakes; systemd's own limit is 1 MiB (`LONG_LINE_MAX`), CentOS 7's is 2 KiB.
const LINE_MAX_BYTES: usize = 256 * 1024;

/// Some editors write it at the start of a file.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// How lines are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reading {
    /// As systemd-sysctl reads them.
    #[default]
    SysctlD,
    /// The same, extended by what is no valid sysctl.d syntax but has only one possible meaning; see [`super::merge`].
    Policy,
}

/// One line that is neither empty nor a comment, not yet validated.
#[derive(Debug, PartialEq, Eq)]
pub struct RawLine<'a> {
    pub number: u32,
    pub key: &'a str,
    /// `None` is an exclusion: `-key` with no `=`.
    pub value: Option<&'a str>,
    pub ignore_failure: bool,
    /// A comment behind it was dropped.
    pub has_remark: bool,
}

/// Every line of `text` that is neither empty nor a comment; for a line that can't be used an error with its file and line.
pub fn lines<'a>(
    file: &'a Arc<Path>,
    text: &'a [u8],
    reading: Reading,
) -> impl Iterator<Item = Result<RawLine<'a>, PolicyError>> {
    let text = text.strip_prefix(BYTE_ORDER_MARK).filter(|_| reading == Reading::Policy).unwrap_or(text);
    physical_lines(text).zip(1..).filter_map(move |(bytes, number)| {
        line(bytes, number, reading)
            .map_err(|error| {
                let source = Source { file: file.clone(), line: number };
                PolicyError { source, message: error.to_string() }
            })
            .transpose()
    })
}

fn line(bytes: &[u8], number: u32, reading: Reading) -> Result<Option<RawLine<'_>>, Error> {
    let bytes = bytes.trim_ascii();
    if bytes.is_empty() || matches!(bytes[0], b'#' | b';') {
        return Ok(None);
    }
    if bytes.len() > LINE_MAX_BYTES {
        return Err(Error::LineTooLong { length: bytes.len(), most: LINE_MAX_BYTES });
    }
    let remark = remark(bytes).filter(|_| reading == Reading::Policy);
    let (bytes, has_remark) = (&bytes[..remark.unwrap_or(bytes.len())], remark.is_some());
    let text = str::from_utf8(bytes).map_err(|_| Error::NotUtf8)?;
    if let Some(unseen) = text.chars().find(|c| is_invisible(*c)) {
        return Err(Error::Unseen(unseen));
    }
    let rest = text.strip_prefix('-');
    let Some((key, value)) = rest.unwrap_or(text).split_once('=') else {
        let key = rest.ok_or(Error::NoAssignment)?.trim();
        return Ok(Some(RawLine { number, key, value: None, ignore_failure: false, has_remark }));
    };
    let value = value.trim();
    if value.is_empty() || reading == Reading::Policy && value.starts_with(['#', ';']) {
        return Err(Error::NoValue);
    }
    if value.chars().any(|c| c.is_control() && c != '\t') {
        return Err(Error::ControlInValue);
    }
    Ok(Some(RawLine { number, key: key.trim(), value: Some(value), ignore_failure: rest.is_some(), has_remark }))
}

/// The value without a comment behind it.
pub fn without_remark(value: &str) -> &str {
    remark(value.as_bytes()).map_or(value, |at| value[..at].trim())
}

/// Where a comment behind a value begins: white space, then `#` or `;`.
fn remark(bytes: &[u8]) -> Option<usize> {
    bytes.windows(2).position(|pair| matches!(pair, [b' ' | b'\t', b'#' | b';']))
}

/// Lines end at `\n` or `\r`, a pair of both being one end (systemd's `read_line_full`).
fn physical_lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text).filter(|t| !t.is_empty());
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = text.iter().position(|b| matches!(b, b'\n' | b'\r')) else { return rest.take() };
        let pair = matches!((text[end], text.get(end + 1)), (b'\r', Some(b'\n')) | (b'\n', Some(b'\r')));
        rest = Some(&text[end + 1 + usize::from(pair)..]).filter(|t| !t.is_empty());
        Some(&text[..end])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Number, key, value and ignored failure; the number alone of a bad line.
    type Parsed = Result<(u32, String, Option<String>, bool), u32>;

    fn parsed(text: &str) -> Vec<Parsed> {
        let file: Arc<Path> = Path::new("x.conf").into();
        lines(&file, text.as_bytes(), Reading::SysctlD)
            .map(|l| match l {
                Ok(l) => Ok((l.number, l.key.to_string(), l.value.map(str::to_string), l.ignore_failure)),
                Err(e) => Err(e.source.line),
            })
            .collect()
    }

    fn set(number: u32, key: &str, value: &str) -> Parsed {
        Ok((number, key.into(), Some(value.into()), false))
    }

    #[test]
    fn comments_blanks_and_spaces() {
        let text = "# a\n\t;b = c\n\n  net.a =  1 2\t3  \nnet.b=2 # no comment here";
        assert_eq!(parsed(text), [set(4, "net.a", "1 2\t3"), set(5, "net.b", "2 # no comment here")]);
    }

    #[test]
    fn the_minus_sign() {
        let text = "-net.a\n- net.b \n-net.c = 1\n-net.d=";
        assert_eq!(
            parsed(text),
            [
                Ok((1, "net.a".into(), None, false)),
                Ok((2, "net.b".into(), None, false)),
                Ok((3, "net.c".into(), Some("1".into()), true)),
                Err(4),
            ]
        );
    }

    #[test]
    fn line_ends() {
        assert_eq!(
            parsed("net.a=1\r\nnet.b=2\rnet.c=3\n\nnet.d = = 4\n"),
            [set(1, "net.a", "1"), set(2, "net.b", "2"), set(3, "net.c", "3"), set(5, "net.d", "= 4")]
        );
    }

    #[test]
    fn bad_lines_leave_the_rest() {
        let long = format!("net.a={}\n", "x".repeat(1_000_000));
        assert_eq!(
            parsed(&format!("{long}net.b=1\nnet.c\nnet.d=\x1b1\nnet.e=1")),
            [Err(1), set(2, "net.b", "1"), Err(3), Err(4), set(5, "net.e", "1")]
        );
        let file: Arc<Path> = Path::new("x.conf").into();
        let bytes = b"net.a=\xff\n# comment in latin-1: \xe9\nnet.b=1";
        assert_eq!(lines(&file, bytes, Reading::SysctlD).map(|l| l.is_ok()).collect::<Vec<_>>(), [false, true]);
    }
}
