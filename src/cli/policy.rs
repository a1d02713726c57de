//! `fwdguard policy`: the merged policy, every line with its place and what it overrides.

use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::check::{error, source};
use super::load;
use super::table::{Table, Tone, print_json};
use crate::policy::merge::Entry;

pub fn run(root: &Path, json: bool) -> ExitCode {
    let policy = load(root);
    if json {
        let lines: Vec<Value> = policy.entries().iter().map(entry).collect();
        let errors: Vec<Value> = policy.errors.iter().map(error).collect();
        let notices: Vec<Value> = policy.notices.iter().map(error).collect();
        print_json(&json!({"lines": lines, "notices": notices, "errors": errors}));
    } else {
        let mut table = Table::new(&["SETTING", "VALUE", "WHERE", "OVERRIDES"]);
        for entry in policy.entries() {
            let overrides = entry.overrides.iter().rev().map(|(value, source)| match value {
                Some(value) => format!("{value} at {source}"),
                None => format!("exclusion at {source}"),
            });
            let overrides = overrides.collect::<Vec<_>>().join(", ");
            table.row(&[&entry.name, &shown_value(entry), &entry.source.with_path(), &overrides], Tone::Plain);
        }
        table.print();
        super::print_errors(&policy);
    }
    super::exit_status(true, &policy.errors)
}

fn shown_value(entry: &Entry) -> String {
    match (&entry.value, entry.ignore_failure) {
        (None, _) => "excluded".into(),
        (Some(value), false) => value.to_string(),
        (Some(value), true) => format!("{value} (failure ignored)"),
    }
}

fn entry(entry: &Entry) -> Value {
    let overrides = entry.overrides.iter().rev();
    json!({
        "key": &*entry.name,
        "value": entry.value.as_deref(),
        "excluded": entry.value.is_none(),
        "pattern": entry.pattern().is_some(),
        "ignore_failure": entry.ignore_failure,
        "source": source(&entry.source),
        "overrides": overrides.map(|(value, place)| json!({"value": value.as_deref(), "source": source(place)})).collect::<Vec<_>>(),
    })
}
