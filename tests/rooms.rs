//! The rooms of src, its top modules with their folders, use each other in one direction: the order in ARCHITECTURE.md.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The beginning of the line in ARCHITECTURE.md that names the rooms, each using only those behind it.
const BEGINNING: &str = "Rooms, from top to bottom: ";

fn order() -> Vec<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md")).expect("read");
    let line = text.lines().find_map(|line| line.strip_prefix(BEGINNING)).expect("a line that names the rooms");
    line.split('`').skip(1).step_by(2).map(str::to_string).collect()
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    paths.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}

/// What follows each `crate::` of a file, in `use` or inline. No file uses `crate::{...}`.
fn used(text: &str) -> BTreeSet<String> {
    let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    let behind = code.flat_map(|line| line.split("crate::").skip(1));
    behind
        .map(|path| path.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default().into())
        .collect()
}

#[test]
fn a_room_uses_only_those_below_it() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let order = order();
    let mut there = BTreeSet::new();
    let mut upwards = Vec::new();
    for path in sources(&src) {
        let below = path.strip_prefix(&src).expect("below src").with_extension("");
        let room = below.iter().next().expect("a name").to_str().expect("UTF-8").to_string();
        if ["lib", "main"].contains(&&*room) {
            continue;
        }
        there.insert(room.clone());
        let place = |room: &String| order.iter().position(|other| other == room);
        for other in used(&fs::read_to_string(&path).expect("read")) {
            if other != room && place(&other) <= place(&room) {
                upwards.push(format!("{} uses {other}", path.display()));
            }
        }
    }
    assert_eq!(there, order.iter().cloned().collect(), "the rooms in ARCHITECTURE.md");
    assert!(upwards.is_empty(), "{upwards:#?}");
}
