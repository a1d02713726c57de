//! The settings, their drifts, and the journal's records of each.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use crate::common::{Namespace, REPAIRED, Record, STILL_CONTESTED, run, sysctl_read, wait_sysctl};

/// Pairs of interfaces.
const PAIRS: usize = 25;
/// Those that the kernel announces, and others; at most 400 of the others are watched (fwdguard(8), NOTES).
const NAMES: [(&str, &str, &str); 9] = [
    ("ipv4", "forwarding", "0"),
    ("ipv4", "rp_filter", "1"),
    ("ipv6", "forwarding", "0"),
    ("ipv4", "arp_ignore", "1"),
    ("ipv4", "arp_announce", "1"),
    ("ipv4", "log_martians", "1"),
    ("ipv4", "accept_local", "1"),
    ("ipv4", "route_localnet", "1"),
    ("ipv6", "hop_limit", "99"),
];
const CHURN: [&str; 2] = ["churn0", "churn1"];
const CHURN_KEY: &str = "rp_filter";
/// fwdguard(8), THE JOURNAL: records of a setting's own, and how many more a minute; one summary every 10 s.
const RECORDS: u64 = 250;
const RECORDS_A_MINUTE: u64 = 6;
const SUMMARIES_A_MINUTE: u64 = 6;
/// Start, policy, a bus that is not there, the end.
const OTHER_RECORDS: u64 = 5;
/// The longest names and a whole command line fit.
const RECORD_BYTES: u64 = 8192;

struct Setting {
    key: String,
    wanted: String,
    drift: &'static str,
    drifted: Instant,
}

#[derive(Default)]
pub struct Drifts {
    settings: Vec<Setting>,
    next: usize,
    pub made: u64,
    churned: u64,
    missed: Vec<String>,
    /// For each setting: records of its own, repairs that summaries count, and summaries.
    logged: BTreeMap<String, (u64, u64, u64)>,
    due: BTreeMap<String, u64>,
    others: Vec<String>,
    records: u64,
    bytes: u64,
    longest: u64,
}

impl Drifts {
    /// Makes the interfaces, and a policy that keeps them as they are.
    pub fn prepare(ns: &Namespace) -> Drifts {
        let mut drifts = Drifts::default();
        let mut policy = String::from("net.ipv4.ip_forward = 1\nnet.ipv6.conf.all.forwarding = 1\n");
        run("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
        for pair in 0..PAIRS {
            ns.veth(&format!("s{pair}a"), &format!("s{pair}b"));
        }
        for (family, name, drift) in NAMES {
            let key = |place: &str| format!("net/{family}/conf/{place}/{name}");
            let wanted = sysctl_read(&key("s0a"));
            policy += &format!("{} = {wanted}\n", key("s[0-9]*"));
            for link in (0..PAIRS).flat_map(|pair| [format!("s{pair}a"), format!("s{pair}b")]) {
                let drift = if wanted == drift { "0" } else { drift };
                let (key, wanted) = (key(&link), wanted.clone());
                drifts.settings.push(Setting { key, wanted, drift, drifted: Instant::now() });
            }
        }
        policy += &format!("net.ipv4.conf.churn*.{CHURN_KEY} = 2\n");
        ns.write("etc/fwdguard.d/10.conf", &policy);
        drifts
    }

    pub fn settings(&self) -> usize {
        self.settings.len()
    }

    /// The next setting drifts. By its turn it must have been put back since the last time.
    pub fn drift(&mut self) {
        let (at, count) = (self.next, self.settings.len());
        self.next = (at + 1) % count;
        let Setting { key, wanted, drift, drifted } = &mut self.settings[at];
        let found = sysctl_read(key);
        if found != *wanted {
            self.missed
                .push(format!("{key} is still {found} after a round of {:.1} s", drifted.elapsed().as_secs_f64()));
        }
        *drifted = Instant::now();
        fs::write(format!("/proc/sys/{key}"), drift).expect("a write");
        self.made += 1;
        *self.due.entry(key.clone()).or_default() += 1;
    }

    /// Two interfaces come with a setting that is wrong, and go.
    pub fn churn(&mut self) {
        run(&format!("ip link add {} type veth peer name {}", CHURN[0], CHURN[1]));
        for link in CHURN {
            let key = format!("net/ipv4/conf/{link}/{CHURN_KEY}");
            wait_sysctl(&key, "2");
            *self.due.entry(key).or_default() += 1;
            self.made += 1;
        }
        run(&format!("ip link set {} up", CHURN[0]));
        run(&format!("ip link delete {}", CHURN[0]));
        self.churned += 1;
    }

    /// In the end all is as it was.
    pub fn all_hold(&self) {
        self.settings.iter().for_each(|setting| wait_sysctl(&setting.key, &setting.wanted));
    }

    pub fn count(&mut self, records: Vec<Record>) {
        for record in records {
            let bytes = record.iter().map(|(field, value)| (field.len() + value.len() + 2) as u64).sum::<u64>();
            (self.records, self.bytes, self.longest) = (self.records + 1, self.bytes + bytes, self.longest.max(bytes));
            let key = record.get("SYSCTL").map(|key| key.replace('.', "/")).unwrap_or_default();
            let logged = self.logged.entry(key).or_default();
            match record["MESSAGE_ID"].as_str() {
                REPAIRED => logged.0 += 1,
                STILL_CONTESTED => {
                    (logged.1, logged.2) = (logged.1 + record["COUNT"].parse::<u64>().expect("a count"), logged.2 + 1)
                }
                _ => self.others.push(record["MESSAGE"].clone()),
            }
        }
    }

    pub fn faults(&self, elapsed: Duration) -> Vec<String> {
        let mut faults = self.missed.clone();
        let minutes = elapsed.as_secs() / 60 + 1;
        for (key, due) in &self.due {
            let (own, counted, summaries) = self.logged.get(key).copied().unwrap_or_default();
            if own + counted != *due {
                faults.push(format!("{key}: {due} drifts, {own} records and {counted} repairs in summaries"));
            }
            // An interface that is made again is another one, with limits of its own.
            let churned = CHURN.iter().any(|link| key.contains(link));
            if !churned && (own > RECORDS + RECORDS_A_MINUTE * minutes || summaries > SUMMARIES_A_MINUTE * minutes) {
                faults.push(format!("{key}: {own} records and {summaries} summaries in {minutes} min are too many"));
            }
        }
        let repairs = |key: &String| !self.due.contains_key(key) && self.logged[key].0 > 0;
        faults.extend(
            self.logged
                .keys()
                .filter(|key| repairs(key))
                .map(|key| format!("{key} was repaired, and nothing wrote it")),
        );
        if self.others.len() as u64 > OTHER_RECORDS {
            faults.push(format!("records of other kinds: {:?}", self.others));
        }
        if self.longest > RECORD_BYTES {
            faults.push(format!("a record of {} bytes", self.longest));
        }
        faults
    }

    pub fn print(&self, elapsed: Duration) {
        let seconds = elapsed.as_secs_f64();
        let (own, counted) = self.logged.values().fold((0, 0), |sum, logged| (sum.0 + logged.0, sum.1 + logged.1));
        println!(
            "drifts {} ({:.1} a second, {} rounds of interfaces that came and went), not put back {}",
            self.made,
            self.made as f64 / seconds,
            self.churned,
            self.missed.len()
        );
        println!("repairs logged {} (records {own}, in summaries {counted})", own + counted);
        println!(
            "journal: {} records, {:.1} a second; {} bytes, {} a record, {:.1} KiB a second; the longest {} bytes",
            self.records,
            self.records as f64 / seconds,
            self.bytes,
            self.bytes / self.records.max(1),
            self.bytes as f64 / 1024.0 / seconds,
            self.longest
        );
    }
}
