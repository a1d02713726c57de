//! Every repair has its one record, or its place in a summary: how many are due for each setting, and how many came.

use std::collections::BTreeMap;

use super::settings::canonical;
use crate::common::{REPAIRED, Record, STILL_CONTESTED};

const REPAIR_FAILED: &str = "335c363c6de74cfcbe8d179130a98009";
const RECORDS_DROPPED: &str = "ffc217b33086402aa8bfbbda06a4edb6";

/// Repairs that are due since the start: at least, and at most.
#[derive(Clone, Debug, Default)]
pub struct Tally(BTreeMap<String, (u64, u64)>);

impl Tally {
    pub fn expect(&mut self, key: &str, least: u64, most: u64) {
        let due = self.0.entry(key.to_string()).or_default();
        *due = (due.0 + least, due.1.saturating_add(most));
    }

    /// The setting comes and goes: how often it is repaired is not known from here on.
    pub fn ignore(&mut self, key: &str) {
        self.expect(key, 0, u64::MAX / 2);
    }

    /// Settings with fewer or more repairs than are due.
    pub fn differences(&self, records: &[Record]) -> Vec<String> {
        let mut came = BTreeMap::<String, u64>::new();
        for (key, count) in records.iter().filter_map(repairs) {
            *came.entry(key).or_default() += count;
        }
        let keys = self.0.keys().chain(came.keys().filter(|key| !self.0.contains_key(*key)));
        let differs = |key: &String| {
            let (least, most) = self.0.get(key).copied().unwrap_or_default();
            let count = came.get(key).copied().unwrap_or_default();
            (count < least || count > most)
                .then(|| format!("{key}: {count} repairs were logged, not {least} to {most}"))
        };
        keys.filter_map(differs).collect()
    }
}

/// The setting that a record is about, and for how many repairs it stands.
fn repairs(record: &Record) -> Option<(String, u64)> {
    let count = match record["MESSAGE_ID"].as_str() {
        REPAIRED => 1,
        STILL_CONTESTED => record["COUNT"].parse().expect("a count"),
        _ => return None,
    };
    Some((canonical(&record["SYSCTL"].replace('.', "/")), count))
}

/// What a journal must not have in any case; `end`: the guard was stopped, and its last record counts all repairs.
pub fn faults(records: &[Record], end: bool) -> Vec<String> {
    let refused = |record: &&Record| record["OURVALUE"] == super::settings::REFUSED;
    let bad = |record: &&Record| {
        record["MESSAGE_ID"] == RECORDS_DROPPED || record["MESSAGE_ID"] == REPAIR_FAILED && !refused(record)
    };
    let mut faults: Vec<String> = records.iter().filter(bad).map(|record| record["MESSAGE"].clone()).collect();
    if end {
        let logged: u64 = records.iter().filter_map(repairs).map(|(_, count)| count).sum();
        let last = records.iter().find_map(|record| record["MESSAGE"].strip_prefix("Stopping after "));
        let counted = last.and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
        if counted != Some(logged) {
            faults.push(format!("records and summaries count {logged} repairs, the last record of {counted:?}"));
        }
    }
    faults
}
