//! What other programs know: the firewall's policies and the journal's records of repairs. They run during the look at
//! the counters.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::setting::Family;

/// The MESSAGE_IDs of "repaired" and "repair failed" (`report::record`).
const REPAIRS: [&str; 2] =
    ["MESSAGE_ID=02a3fbd85f774dd6911132d4e66f40b6", "MESSAGE_ID=335c363c6de74cfcbe8d179130a98009"];
/// Where journald keeps them (systemd-journald.service(8)).
const JOURNALS: [&str; 2] = ["/run/log/journal", "/var/log/journal"];
/// Where they are for people whose PATH has no sbin.
const SBIN: &str = "/usr/sbin";
const OUTPUT_MAX: u64 = 256 << 20;
/// Records of repairs.
const REPAIRS_MAX: &str = "3";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A program that was asked.
pub struct Asked {
    child: Child,
    output: Receiver<Vec<u8>>,
}

/// Starts a program and reads what it says.
///
/// # Errors
/// Why it can't be started, for people.
fn start(program: &str, arguments: &[&str]) -> Result<Asked, String> {
    let spawn = |program: &str| {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
    };
    let child = spawn(program).or_else(|error| match error.kind() {
        std::io::ErrorKind::NotFound => spawn(&format!("{SBIN}/{program}")),
        _ => Err(error),
    });
    let mut child = child.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "not installed".to_string(),
        _ => crate::text::plain(&error.to_string()),
    })?;
    let (sender, output) = channel();
    let pipe = child.stdout.take();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if pipe.is_some_and(|pipe| pipe.take(OUTPUT_MAX).read_to_end(&mut bytes).is_ok()) {
            // Nobody waits for it any more: it took too long.
            _ = sender.send(bytes);
        }
    });
    Ok(Asked { child, output })
}

impl Asked {
    /// What it said until `deadline`.
    ///
    /// # Errors
    /// Why it said nothing, for people.
    fn finish(mut self, deadline: Instant) -> Result<String, String> {
        let output = self.output.recv_timeout(deadline.saturating_duration_since(Instant::now()));
        if output.is_err() {
            _ = self.child.kill();
        }
        let status = self.child.wait().map_err(|error| error.to_string())?;
        match output {
            Err(_) => Err("took too long".into()),
            Ok(_) if !status.success() && !rustix::process::geteuid().is_root() => Err("needs root".into()),
            Ok(_) if !status.success() => Err(format!("failed ({status})")),
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        }
    }
}

/// The programs that were asked about the firewall and the journal.
pub struct Beside {
    family: Family,
    nft: Result<Asked, String>,
    iptables: Result<Asked, String>,
    journal: Result<Asked, String>,
}

/// What they said.
#[derive(Default)]
pub struct Said {
    /// FORWARD policies that drop.
    pub suspects: Vec<String>,
    /// What the guard has repaired in the last day, the latest first: when, in seconds since 1970, and what.
    pub repairs: Vec<(u64, String)>,
    pub not_looked_at: Vec<String>,
}

impl Beside {
    pub fn ask(family: Family) -> Beside {
        let save = if family == Family::V4 { "iptables-save" } else { "ip6tables-save" };
        // With -r or --since, -n of systemd 219 and 239 shows others than the last.
        let mut journal = vec!["-u", "fwdguard", "-o", "json", "-n", REPAIRS_MAX, "-q", "--no-pager"];
        journal.extend(REPAIRS);
        Beside {
            family,
            nft: start("nft", &["-j", "list", "ruleset"]),
            iptables: start(save, &["-t", "filter"]),
            journal: start("journalctl", &journal),
        }
    }

    pub fn finish(self, deadline: Instant) -> Said {
        let mut said = Said::default();
        let finish = |asked: Result<Asked, String>| asked.and_then(|asked| asked.finish(deadline));
        let save = if self.family == Family::V4 { "iptables" } else { "ip6tables" };
        match finish(self.nft).and_then(|text| nft_drops(&text, self.family).ok_or("said nothing that is known".into()))
        {
            Ok(drops) => said.suspects.extend(drops),
            Err(why) => said.not_looked_at.push(format!("nftables (nft: {why})")),
        }
        match finish(self.iptables) {
            Ok(text) if iptables_drops(&text) => {
                said.suspects.push(format!(
                    "{save}: the policy of FORWARD is DROP ({save} -S FORWARD shows what it lets through)"
                ));
            }
            Ok(_) => {}
            Err(why) => said.not_looked_at.push(format!("{save} ({save}-save: {why})")),
        }
        match finish(self.journal) {
            Ok(text) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                said.repairs = repairs(&text, now.saturating_sub(DAY).as_secs());
            }
            Err(why) => said.not_looked_at.push(format!("the guard's repairs (journalctl: {why})")),
        }
        if said.repairs.is_empty() && !rustix::process::geteuid().is_root() {
            said.not_looked_at.push("journals that this user may not read".into());
        } else if said.repairs.is_empty() && !JOURNALS.iter().any(|folder| Path::new(folder).exists()) {
            said.not_looked_at.push("the guard's repairs (no journal here)".into());
        }
        said
    }
}

/// Base chains at the hook `forward` whose policy is drop. `None`: that was not nft's JSON.
fn nft_drops(text: &str, family: Family) -> Option<Vec<String>> {
    let object: Value = serde_json::from_str(text).ok()?;
    let tables = if family == Family::V4 { ["ip", "inet"] } else { ["ip6", "inet"] };
    let drop = |item: &Value| {
        let chain = item.get("chain")?;
        let field = |name| chain.get(name)?.as_str();
        let at = (field("family")?, field("table")?, field("name")?);
        let drops = field("hook") == Some("forward") && field("policy") == Some("drop") && tables.contains(&at.0);
        drops.then(|| {
            format!(
                "nftables: the policy of chain {1} in table {0} is drop (nft list chain {0} {1})",
                format!("{} {}", at.0, at.1),
                at.2
            )
        })
    };
    Some(object.get("nftables")?.as_array()?.iter().filter_map(drop).collect())
}

/// Whether `:FORWARD DROP [0:0]` stands in the table `filter`.
fn iptables_drops(text: &str) -> bool {
    let mut table = "";
    text.lines().any(|line| {
        table = line.strip_prefix('*').unwrap_or(table);
        table == "filter" && line.starts_with(":FORWARD DROP")
    })
}

/// journalctl's JSON, a record a line, the latest last; those that are not older than `since`.
fn repairs(text: &str, since: u64) -> Vec<(u64, String)> {
    let record = |line: &str| {
        let record: Value = serde_json::from_str(line).ok()?;
        let usec: u64 = record.get("__REALTIME_TIMESTAMP")?.as_str()?.parse().ok()?;
        Some((usec / 1_000_000, record.get("MESSAGE")?.as_str()?.to_string()))
    };
    text.lines().rev().filter_map(record).filter(|(at, _)| *at >= since).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_that_drop_are_found() {
        let chain = |family: &str, hook: &str, policy: &str| {
            format!(
                r#"{{"nftables":[{{"metainfo":{{}}}},{{"table":{{"family":"ip"}}}},{{"chain":{{"family":"{family}",
                "table":"filter","name":"FORWARD","hook":"{hook}","prio":0,"policy":"{policy}"}}}},{{"rule":{{}}}}]}}"#
            )
        };
        for (family, hook, policy, found) in [
            ("ip", "forward", "drop", 1),
            ("inet", "forward", "drop", 1),
            ("ip6", "forward", "drop", 0),
            ("ip", "input", "drop", 0),
            ("ip", "forward", "accept", 0),
        ] {
            let drops = nft_drops(&chain(family, hook, policy), Family::V4).unwrap();
            assert_eq!(drops.len(), found, "{family} {hook} {policy}: {drops:?}");
        }
        assert_eq!(nft_drops("nonsense", Family::V4), None);
        assert!(iptables_drops("*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [3:4]\nCOMMIT\n"));
        assert!(!iptables_drops("*mangle\n:FORWARD DROP [0:0]\n*filter\n:FORWARD ACCEPT [0:0]\n:FORWARDX DROP [0:0]"));
    }

    #[test]
    fn records_of_repairs() {
        let line = r#"{"__REALTIME_TIMESTAMP":"1764000000123456","MESSAGE":"net.ipv4.ip_forward was 0"}"#;
        let later = line.replace("1764", "1765").replace("was 0", "was 2");
        let text = format!("{line}\nnonsense\n{{}}\n{later}\n");
        let record = |at, text: &str| (at, text.to_string());
        let latest = record(1_765_000_000, "net.ipv4.ip_forward was 2");
        let both = vec![latest.clone(), record(1_764_000_000, "net.ipv4.ip_forward was 0")];
        assert_eq!((repairs(&text, 1_764_000_000), repairs(&text, 1_764_000_001)), (both, vec![latest]));
    }
}
