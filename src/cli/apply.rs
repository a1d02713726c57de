//! `fwdguard apply`: restores all settings once.

use std::collections::HashMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use serde_json::json;

use super::check::Report;
use super::load;
use super::table::{print_json, print_line};
use crate::engine;
use crate::report::record::Record;
use crate::text::{count, errno_text};

pub fn run(root: &Path, json: bool) -> Result<ExitCode> {
    let policy = Arc::new(load(root));
    if policy.is_unreadable() {
        if json {
            print_json(&Report::of(policy.clone(), root, &HashMap::new())?.json());
        }
        super::print_errors(&policy);
        eprintln!("fwdguard: no line of the policy is valid; nothing was changed");
        return Ok(ExitCode::from(super::EXIT_USAGE));
    }
    let engine::Applied { records, learned } =
        engine::apply_once(policy.clone()).context("cannot open an rtnetlink socket; is AF_NETLINK allowed?")?;
    let after = Report::of(policy.clone(), root, &learned)?;
    let (mut repaired, mut failed) = (Vec::new(), Vec::new());
    for record in &records {
        match record {
            Record::Repaired { subject, new, .. } => {
                repaired.push(json!({"key": subject.key, "from": new, "to": &*subject.ours}));
                if !json {
                    print_line(&record.text());
                }
            }
            Record::RepairFailed { subject, found, errno } => {
                let reason = errno.map_or("the kernel kept another value".into(), errno_text);
                failed.push(json!({"key": subject.key, "found": found, "wanted": &*subject.ours, "error": reason}));
                eprintln!("fwdguard: {}", record.text());
            }
            Record::SourceLost { .. } => eprintln!("fwdguard: {}", record.text()),
            _ => {}
        }
    }
    for drift in after.drifts() {
        let (key, wanted) = (policy.name(&drift.key, drift.entry), policy.value(drift.entry));
        if !failed.iter().any(|known| known["key"] == key) {
            let reason = "it still differs, or has been changed again";
            let found = drift.found.clone().unwrap_or_default();
            eprintln!("fwdguard: {key} is {found}, not {wanted}: {reason}");
            failed.push(json!({"key": key, "found": found, "wanted": wanted, "error": reason}));
        }
    }
    let all_went_well = failed.is_empty();
    if json {
        let mut object = after.json();
        object["repaired"] = repaired.into();
        object["failed"] = failed.into();
        print_json(&object);
    } else {
        print_line(&format!("{} repaired, {} failed", count(repaired.len(), "setting"), failed.len()));
        super::print_errors(&policy);
    }
    Ok(super::exit_status(all_went_well, &policy.errors))
}
