//! Each `unsafe` of the program is counted in SECURITY.md, which states what it is for.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

fn count(folder: &Path, found: &mut BTreeMap<String, usize>) {
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            count(&entry, found);
            continue;
        }
        let text = fs::read_to_string(&entry).expect("a source file");
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let blocks = code.flat_map(|line| line.split_whitespace()).filter(|word| word.ends_with("unsafe")).count();
        if blocks > 0 {
            found.insert(entry.display().to_string(), blocks);
        }
    }
}

#[test]
fn each_is_counted_and_argued() {
    std::env::set_current_dir(env!("CARGO_MANIFEST_DIR")).expect("the repository");
    let mut found = BTreeMap::new();
    count(Path::new("src"), &mut found);
    let document = fs::read_to_string("SECURITY.md").expect("SECURITY.md");
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, file, blocks, _, _] = cells[..] else { return None };
        Some((file.strip_prefix('`')?.strip_suffix('`')?.to_string(), blocks.parse().ok()?))
    };
    let argued: BTreeMap<String, usize> = document.lines().filter_map(row).collect();
    assert_eq!(found, argued, "in the source, and in SECURITY.md");
}
