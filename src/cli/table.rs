//! Output to stdout: tables that fit 100 columns, lines and JSON; colour only on a terminal.

use std::io::{IsTerminal, Write};

use serde_json::Value;

use crate::setting::must_escape;
use crate::text::one_line;

/// Wider cells are shortened in the middle, so that both ends stay.
const COLUMNS: usize = 100;
const GAP: usize = 2;
/// A column is not cut below this.
const NARROW: usize = 16;

/// The colour of a row, which repeats what its words say.
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

    /// Adds a row. Tabs, which the kernel puts between numbers, become spaces: their width depends on the terminal.
    pub fn row(&mut self, cells: &[&str], tone: Tone) {
        self.rows.push((cells.iter().map(|cell| one_line(cell)).collect(), tone));
    }

    /// Whether it has only its header.
    pub fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }

    /// Prints to stdout; a closed pipe is no error.
    pub fn print(&self) {
        let mut out = std::io::stdout().lock();
        // Only on a terminal, and never with NO_COLOR (no-color.org).
        let colour = out.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
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
        // The key, in the first column, is cut last.
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

/// Prints a line; a closed pipe is no error.
pub fn print_line(text: &str) {
    _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Prints an object. JSON does not escape DEL, the controls of Latin-1 and others, and a terminal would obey them.
pub fn print_json(object: &Value) {
    let mut text = String::new();
    for c in object.to_string().chars() {
        if must_escape(c) {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| text += &format!("\\u{unit:04x}"));
        } else {
            text.push(c);
        }
    }
    print_line(&text);
}

fn cut(cell: &str, width: usize) -> String {
    let length = cell.chars().count();
    if length <= width {
        return cell.to_string();
    }
    // The end of a path or of a key matters more than its beginning.
    let tail = width.saturating_sub(1) * 2 / 3;
    let head = width.saturating_sub(1) - tail;
    cell.chars().take(head).chain(['…']).chain(cell.chars().skip(length - tail)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_fit_100_columns() {
        let mut table = Table::new(&["SETTING", "WHERE"]);
        table.row(&[&"net.ipv4.conf.".repeat(10), &"/usr/lib/fwdguard.d/".repeat(5)], Tone::Good);
        table.row(&["short", "x"], Tone::Bad);
        for (line, _) in table.lines() {
            assert!(line.chars().count() <= 100, "{line}");
        }
        assert!(table.lines()[1].0.contains('…'));
        assert!(table.lines()[2].0.starts_with("short  "));
    }
}
