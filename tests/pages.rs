//! Holds the pages for readers together: docs/*.md of the man pages to these, every link of a page to a file, and the README to a
//! length that a newcomer will read.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const MAN_PAGES: [&str; 2] = ["docs/fwdguard.8", "docs/fwdguard.d.5"];
const README_LINES_MAX: usize = 200;

fn read(path: impl AsRef<Path>) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A man page as Markdown: the macros that ours use, and no other.
fn markdown(roff: &str) -> String {
    let (mut out, mut code, mut item, mut tag) = (String::new(), false, false, false);
    for line in roff.lines() {
        let (request, rest) =
            line.strip_prefix('.').map_or(("", line), |line| line.split_once(' ').unwrap_or((line, "")));
        match request {
            "TH" => {
                let words = words(rest);
                out += &format!(
                    "# {}({})\n\n<!-- Made from the man page by 'make pages'. -->\n",
                    words[0].to_lowercase(),
                    words[1]
                );
            }
            "SH" => out += &format!("\n## {}\n\n", plain(rest)),
            "SS" => out += &format!("\n### {}\n\n", plain(rest)),
            "nf" | "EX" => (out, code) = (out + if item { "\n\n```\n" } else { "\n```\n" }, true),
            "fi" | "EE" => (out, code) = (out + "```\n", false),
            "PP" => out += "\n",
            "TP" => (out, item) = (out + "\n- ", true),
            "IP" => out += "\n- ",
            "br" => out += "\\\n",
            "nh" | "nr" | "ad" | "in" | "\\\"" => {}
            "" if code => out += &format!("{}\n", plain(rest)),
            "" => out += &format!("{}\n", inline(rest)),
            "B" | "I" if code => {
                out += &format!("{}\n", words(rest).iter().map(|w| plain(w)).collect::<Vec<_>>().join(" "))
            }
            "B" | "I" => out += &format!("{}\n", font(&request[..1], &words(rest).join(" "))),
            "BR" | "IR" | "RB" | "RI" => {
                let fonts = [&request[..1], &request[1..]].into_iter().cycle();
                out += &format!(
                    "{}\n",
                    words(rest).iter().zip(fonts).map(|(word, name)| font(name, word)).collect::<String>()
                );
            }
            other => panic!("no Markdown for .{other}"),
        }
        if ["SH", "SS", "PP"].contains(&request) {
            item = false;
        }
        if std::mem::replace(&mut tag, request == "TP") {
            out.insert(out.len() - 1, '\\'); // the text of an item begins a line of its own
        }
    }
    let out = out.replace("\n\n\n", "\n\n").replace("`fwdguard.d`(5)", "[fwdguard.d(5)](fwdguard.d.5.md)");
    out.replace("`fwdguard`(8)", "[fwdguard(8)](fwdguard.8.md)")
}

/// The arguments of a macro, of which those with spaces are in quotes.
fn words(rest: &str) -> Vec<String> {
    let (mut words, mut quoted) = (vec![String::new()], false);
    for c in rest.chars() {
        match c {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().expect("a word").push(c),
        }
    }
    words.into_iter().filter(|word| !word.is_empty()).collect()
}

fn font(name: &str, text: &str) -> String {
    match name {
        "R" => escaped(&plain(text)),
        // What is bold or slanted is a name, and may have any character of Markdown in it.
        _ => format!("`{}`", plain(text)),
    }
}

/// Text with `\fB` and `\fI` in it.
fn inline(text: &str) -> String {
    let mut pieces = text.split("\\f");
    let mut out = escaped(&plain(pieces.next().unwrap_or_default()));
    for piece in pieces {
        let (name, rest) = piece.split_at(1);
        out += &if rest.is_empty() { String::new() } else { font(name, rest) };
    }
    out
}

fn plain(text: &str) -> String {
    let known = [
        ("\\-", "-"),
        ("\\(aq", "'"),
        ("\\(dq", "\""),
        ("\\(lq", "\""),
        ("\\(rq", "\""),
        ("\\(bu", ""),
        ("\\&", ""),
        ("\\fB", ""),
        ("\\fI", ""),
        ("\\fR", ""),
        ("\\e", "\\"),
    ];
    known.into_iter().fold(text.to_string(), |text, (roff, plain)| text.replace(roff, plain))
}

fn escaped(text: &str) -> String {
    text.replace('*', "\\*").replace('<', "&lt;")
}

/// With UPDATE_PAGES set, it writes them instead.
#[test]
fn the_man_pages_can_be_read_here() {
    for page in MAN_PAGES {
        let (file, text) = (format!("{page}.md"), markdown(&read(page)));
        if std::env::var_os("UPDATE_PAGES").is_some() {
            fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join(&file), &text).expect("a writable source tree");
        }
        assert!(read(&file) == text, "{file} is of another {page}: 'make pages' renews it");
    }
}

fn markdown_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|end| end == "md")).collect();
    files.sort();
    files
}

/// As GitHub makes it of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn anchors(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#')))
        .map(anchor)
        .collect()
}

/// A link to a place on the web is not followed.
#[test]
fn every_link_leads_to_a_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files: BTreeMap<PathBuf, String> = [root.to_path_buf(), root.join("docs")]
        .iter()
        .flat_map(|folder| markdown_files(folder))
        .map(|path| (path.clone(), read(&path)))
        .collect();
    let (mut links, mut broken) = (0, Vec::new());
    for (file, text) in &files {
        for piece in text.split("](").skip(1) {
            let link = piece.split(')').next().expect("a link");
            if link.starts_with("http") {
                continue;
            }
            links += 1;
            let (path, place) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { file.clone() } else { file.parent().expect("a folder").join(path) };
            let leads = target.canonicalize().is_ok_and(|target| {
                place.is_empty()
                    || files.get(&target).is_some_and(|text| anchors(text).iter().any(|found| found == place))
            });
            if !leads {
                broken.push(format!("{}: {link}", file.display()));
            }
        }
    }
    assert!(links > 20 && broken.is_empty(), "{links} links, of which lead nowhere: {broken:#?}");
}

#[test]
fn the_readme_is_for_newcomers() {
    let lines = read("README.md").lines().count();
    assert!(lines <= README_LINES_MAX, "README.md has {lines} lines; what is reference stands in the man pages");
}
