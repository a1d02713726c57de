//! Tables that fit 100 columns, and colour only where a person sees it.

use std::io::{IsTerminal, Write};

use serde_json::Value;

use crate::setting::must_escape;
use crate::text::one_line;

/// Wider cells are cut in the middle of what they say, so that both ends stay.
const COLUMNS: usize = 100;
const GAP: usize = 2;
/// A column is not cut below this.
const NARROW: usize = 16;

/// Colour is an aid; every word stands without it, too.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Good,
    Bad,
}

/// Rows of text cells under a header.
pub struct Table {
    rows: Vec<(Vec<String>, Tone)>,
}

impl Table {
    pub fn new(header: &[&str]) -> Table {
        Table { rows: vec![(header.iter().map(|h| h.to_string()).collect(), Tone::Plain)] }
    }

    /// The kernel puts tabs between numbers, and a tab is as wide as the terminal likes.
    pub fn row(&mut self, cells: Vec<String>, tone: Tone) {
        let cells = cells.iter().map(|cell| one_line(cell)).collect();
        self.rows.push((cells, tone));
    }

    /// Prints to stdout; a reader that went away is no error.
    pub fn print(&self) {
        let mut out = std::io::stdout().lock();
        let colour = use_colour();
        for (line, tone) in self.lines() {
            let (on, off) = match tone {
                Tone::Good if colour => ("\x1b[32m", "\x1b[0m"),
                Tone::Bad if colour => ("\x1b[31m", "\x1b[0m"),
                _ => ("", ""),
            };
            if writeln!(out, "{on}{line}{off}").is_err() {
                return;
            }
        }
    }

    fn lines(&self) -> Vec<(String, Tone)> {
        let columns = self.rows[0].0.len();
        let mut widths: Vec<usize> = (0..columns)
            .map(|c| self.rows.iter().map(|(cells, _)| cells[c].chars().count()).max().unwrap_or(0))
            .collect();
        // The key, which stands first, is cut last.
        while widths.iter().sum::<usize>() + GAP * (columns - 1) > COLUMNS {
            let widest = widths[1..].iter().copied().max().filter(|width| *width > NARROW);
            let at = widest.and_then(|widest| widths.iter().rposition(|width| *width == widest)).unwrap_or(0);
            widths[at] -= 1;
        }
        let line = |cells: &[String]| {
            let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{:width$}", cut(cell, *width)));
            padded.collect::<Vec<_>>().join(&" ".repeat(GAP)).trim_end().to_string()
        };
        self.rows.iter().map(|(cells, tone)| (line(cells), *tone)).collect()
    }
}

/// Prints a line of prose; a reader that went away is no error.
pub fn say(text: &str) {
    _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Prints an object. JSON lets DEL, the controls of Latin-1 and others stand as they are, and a terminal obeys them.
pub fn say_json(object: &Value) {
    let mut text = String::new();
    for c in object.to_string().chars() {
        if must_escape(c) {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| text += &format!("\\u{unit:04x}"));
        } else {
            text.push(c);
        }
    }
    say(&text);
}

fn cut(cell: &str, width: usize) -> String {
    let length = cell.chars().count();
    if length <= width {
        return cell.to_string();
    }
    // The end of a path or of a key says more than its beginning.
    let tail = width.saturating_sub(1) * 2 / 3;
    let head = width.saturating_sub(1) - tail;
    cell.chars().take(head).chain(['…']).chain(cell.chars().skip(length - tail)).collect()
}

/// Only on a terminal, and never with NO_COLOR (no-color.org).
fn use_colour() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_fit_100_columns() {
        let mut table = Table::new(&["SETTING", "WHERE"]);
        table.row(vec!["net.ipv4.conf.".repeat(10), "/usr/lib/fwdguard.d/".repeat(5)], Tone::Good);
        table.row(vec!["short".into(), "x".into()], Tone::Bad);
        for (line, _) in table.lines() {
            assert!(line.chars().count() <= 100, "{line}");
        }
        assert!(table.lines()[1].0.contains('…'));
        assert!(table.lines()[2].0.starts_with("short  "));
    }
}
