//! The output of other programs: the firewall's rules, and the journal's records of repairs. They run while the counters are
//! sampled.

use std::fs::read_to_string;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use thiserror::Error;

use super::firewall::{Flow, Ruleset, Suspect, iptables, nft};
use crate::setting::Family;
use crate::text::plain;

/// The MESSAGE_IDs of "repaired" and "repair failed" (`report::record`).
const REPAIRS: [&str; 2] =
    ["MESSAGE_ID=02a3fbd85f774dd6911132d4e66f40b6", "MESSAGE_ID=335c363c6de74cfcbe8d179130a98009"];
/// Where journald keeps its files (systemd-journald.service(8)).
const JOURNALS: [&str; 2] = ["/run/log/journal", "/var/log/journal"];
/// Where the programs are for a user whose PATH has no sbin.
const SBIN: &str = "/usr/sbin";
const OUTPUT_MAX: u64 = 256 << 20;
/// Records of repairs.
const REPAIRS_MAX: usize = 3;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Why the output of a program is missing.
#[derive(Debug, Error)]
enum Failure {
    #[error("not installed")]
    NotInstalled,
    #[error("{}", plain(&.0.to_string()))]
    Io(io::Error),
    #[error("took too long")]
    TookTooLong,
    #[error("needs root")]
    NeedsRoot,
    #[error("failed ({0})")]
    Failed(ExitStatus),
    #[error("printed no output that fwdguard recognizes")]
    UnknownOutput,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::NotFound => Failure::NotInstalled,
            _ => Failure::Io(error),
        }
    }
}

/// A program that runs.
struct Running {
    child: Child,
    output: Receiver<Vec<u8>>,
}

/// A program that was started, or why it was not.
type Started = Result<Running, Failure>;

/// Starts a program and reads its output.
fn start(program: &str, arguments: &[&str]) -> Started {
    let spawn = |program: &str| {
        let mut command = Command::new(program);
        command.args(arguments).env("LC_ALL", "C");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()
    };
    let mut child = spawn(program).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => spawn(&format!("{SBIN}/{program}")),
        _ => Err(error),
    })?;
    let (sender, output) = channel();
    let pipe = child.stdout.take();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if pipe.is_some_and(|pipe| pipe.take(OUTPUT_MAX).read_to_end(&mut bytes).is_ok()) {
            // The receiver is gone if that took too long.
            _ = sender.send(bytes);
        }
    });
    Ok(Running { child, output })
}

/// The output of a program that ends before `deadline`.
fn finish(started: Started, deadline: Instant) -> Result<String, Failure> {
    let Running { mut child, output } = started?;
    let output = output.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    // A program may go on after it has closed its output.
    while output.is_ok() && child.try_wait()?.is_none() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
    let Some(status) = child.try_wait()?.filter(|_| output.is_ok()) else {
        _ = child.kill();
        child.wait()?;
        return Err(Failure::TookTooLong);
    };
    match output {
        Ok(bytes) if status.success() => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        _ if !rustix::process::geteuid().is_root() => Err(Failure::NeedsRoot),
        _ => Err(Failure::Failed(status)),
    }
}

/// The programs that print the rules of a firewall.
pub struct Firewall {
    family: Family,
    nft: Started,
    iptables: Started,
    /// Where the kernel has tables that an iptables of the other kind does not show.
    legacy: Option<Started>,
}

/// What the rules of a firewall may do to a packet.
#[derive(Default)]
pub struct Rules {
    pub suspects: Vec<Suspect>,
    /// What could not be checked.
    pub missing: Vec<String>,
    /// All rules were checked.
    pub whole: bool,
}

impl Firewall {
    pub fn ask(family: Family) -> Firewall {
        let [save, legacy] = saves(family);
        Firewall {
            family,
            nft: start("nft", &["-j", "list", "ruleset"]),
            // Without -t, which would load the module of a table that is not there.
            iptables: start(save, &["-c"]),
            legacy: (!legacy_tables(family).is_empty()).then(|| start(legacy, &["-c"])),
        }
    }

    /// Walks these flows through the rules; the flag of a flow is whether it is the answer.
    pub fn finish(self, flows: &[(Flow, bool)], deadline: Instant) -> Rules {
        let (tool, [save, legacy], tables) = (tool(self.family), saves(self.family), legacy_tables(self.family));
        let (mut rulesets, mut missing, mut whole) = (Vec::<Ruleset>::new(), Vec::new(), true);
        let read = |text: String| iptables::parse(&text, tool).ok_or(Failure::UnknownOutput);
        let text = finish(self.iptables, deadline);
        // An iptables that prints none but the older tables is the older iptables itself.
        let is_legacy = text.as_deref().is_ok_and(|text| {
            let mut names = text.lines().filter_map(|line| line.strip_prefix('*')).peekable();
            let is_of_them = |name: &str| tables.lines().any(|legacy| legacy == name);
            names.peek().is_some() && !iptables::is_of_nft(text) && names.all(is_of_them)
        });
        let by_iptables = text.and_then(read);
        // nft also shows the chains of an iptables that keeps them in nf_tables.
        let is_shown = |table: &str, chain: &str| {
            let name = table.split_once(' ').filter(|(family, _)| *family != "inet").map(|(_, name)| name);
            let shown = by_iptables.as_ref().ok().filter(|_| !is_legacy).zip(name);
            shown.is_some_and(|(shown, name)| shown.chains.contains_key(&(name.to_string(), chain.to_string())))
        };
        let by_nft = finish(self.nft, deadline)
            .and_then(|text| nft::parse(&text, self.family, is_shown).ok_or(Failure::UnknownOutput));
        let mut add = |name: &str, ruleset: Result<Ruleset, Failure>, is_unused: bool| match ruleset {
            Ok(ruleset) => rulesets.push(ruleset),
            Err(why) => {
                whole &= matches!(why, Failure::NotInstalled) && is_unused;
                missing.push(format!("{name}: {why})"));
            }
        };
        // Where nf_tables is not loaded, it has no rules.
        let modules = read_to_string("/proc/modules").unwrap_or_default();
        let is_loaded = modules.lines().any(|module| module.starts_with("nf_tables "));
        let has_nft = by_nft.is_ok();
        add("nftables (nft", by_nft, is_legacy && !is_loaded);
        add(&format!("{tool} ({save}"), by_iptables, tables.is_empty() && has_nft);
        if let Some(started) = self.legacy.filter(|_| !is_legacy) {
            let ruleset = finish(started, deadline).and_then(read);
            add(&format!("the tables of legacy {tool} ({legacy}"), ruleset, false);
        }
        rulesets.reverse();
        let mut suspects = Vec::<Suspect>::new();
        for (flow, back) in flows {
            for (at, ruleset) in rulesets.iter().enumerate() {
                // Whether another tool's rules set their marks before these rules is not known.
                let others = rulesets.iter().enumerate().filter(|(other, _)| *other != at);
                let foreign = others.fold(0, |marks, (_, other)| marks | other.sets_marks());
                let (found, all) = ruleset.suspects(&Flow { known: flow.known & !foreign, ..flow.clone() }, *back);
                if !all && whole {
                    whole = false;
                    missing.push(format!("all rules of {} (their chains jump in a loop)", ruleset.tool));
                }
                // A rule that the answer meets, too, or that both tools show, is reported once.
                for suspect in found {
                    if !suspects.iter().any(|known| Suspect { back: suspect.back, ..known.clone() } == suspect) {
                        suspects.push(suspect);
                    }
                }
            }
        }
        Rules { suspects, missing, whole }
    }
}

/// Reads the counters of suspects again, and the text of nft's rules.
pub fn check_again(family: Family, suspects: &mut Vec<Suspect>, deadline: Instant) {
    let output = |program: &str, words: &[&str]| finish(start(program, words), deadline).ok();
    let mut again = Vec::new();
    if suspects.iter().any(|suspect| suspect.tool != "nft" && suspect.packets.is_some()) {
        let started = saves(family).map(|save| start(save, &["-c"]));
        let texts = started.into_iter().filter_map(|started| finish(started, deadline).ok());
        again.extend(texts.filter_map(|text| iptables::parse(&text, tool(family))));
    }
    for suspect in suspects.iter_mut() {
        if suspect.tool == "nft" {
            nft::name(suspect, |words| output("nft", words));
            continue;
        }
        let at = (suspect.table.clone(), suspect.chain.clone());
        let after = again.iter().filter_map(|ruleset| ruleset.chains.get(&at)).find_map(|chain| {
            let policy = chain.base.as_ref().and_then(|base| base.drops.as_ref());
            let rules = chain.rules.iter().map(|rule| (&rule.text, rule.packets));
            let mut counted = rules.chain(policy.map(|(text, packets)| (text, *packets)));
            counted.find(|(text, _)| **text == suspect.rule)?.1
        });
        suspect.count(after);
    }
    suspects.retain(|suspect| !suspect.if_moved || suspect.moved > Some(0));
}

fn tool(family: Family) -> &'static str {
    if family == Family::V4 { "iptables" } else { "ip6tables" }
}

/// The programs that print the rules: of the installed iptables, and of the one before nf_tables.
fn saves(family: Family) -> [&'static str; 2] {
    if family == Family::V4 {
        ["iptables-save", "iptables-legacy-save"]
    } else {
        ["ip6tables-save", "ip6tables-legacy-save"]
    }
}

/// The names of tables outside nf_tables, which only root may read.
fn legacy_tables(family: Family) -> String {
    let file = if family == Family::V4 { "/proc/net/ip_tables_names" } else { "/proc/net/ip6_tables_names" };
    read_to_string(file).unwrap_or_default()
}

/// The service's repairs in the last day, the latest first: the time in seconds since 1970, and the text.
pub type Repairs = Vec<(u64, String)>;

pub struct Journal(Started);

impl Journal {
    pub fn ask() -> Journal {
        // With -r or --since, -n of systemd 219 and 239 shows others than the last.
        let count = REPAIRS_MAX.to_string();
        let words = ["-u", "fwdguard", "-o", "json", "-n", &count, "-q", "--no-pager", REPAIRS[0], REPAIRS[1]];
        Journal(start("journalctl", &words))
    }

    /// The repairs, and why none could be seen.
    pub fn finish(self, deadline: Instant) -> (Repairs, Option<String>) {
        let text = match finish(self.0, deadline) {
            Ok(text) => text,
            Err(why) => return (Repairs::new(), Some(format!("the guard's repairs (journalctl: {why})"))),
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let repairs = repairs(&text, now.saturating_sub(DAY).as_secs());
        let missing = match repairs.is_empty() {
            true if !rustix::process::geteuid().is_root() => Some("journals that this user may not read".into()),
            true if !JOURNALS.iter().any(|folder| Path::new(folder).exists()) => {
                Some("repairs by fwdguard (no journal here)".into())
            }
            _ => None,
        };
        (repairs, missing)
    }
}

/// journalctl's JSON, a record a line; those that are not older than `since`.
fn repairs(text: &str, since: u64) -> Repairs {
    let record = |line: &str| {
        let record: Value = serde_json::from_str(line).ok()?;
        let usec: u64 = record.get("__REALTIME_TIMESTAMP")?.as_str()?.parse().ok()?;
        let message = match record.get("MESSAGE")? {
            Value::String(text) => text.clone(),
            // A text with unprintable bytes is a list of bytes (systemd.journal-fields(7) in JSON).
            bytes => String::from_utf8_lossy(&serde_json::from_value::<Vec<u8>>(bytes.clone()).ok()?).into_owned(),
        };
        Some((usec / 1_000_000, message))
    };
    let mut repairs: Repairs = text.lines().filter_map(record).filter(|(at, _)| *at >= since).collect();
    repairs.reverse();
    repairs.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    repairs.truncate(REPAIRS_MAX);
    repairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_repairs() {
        let line = r#"{"__REALTIME_TIMESTAMP":"1764000000123456","MESSAGE":"net.ipv4.ip_forward was 0"}"#;
        let later = line.replace("1764", "1765").replace("was 0", "was 2");
        let bytes = r#"{"__REALTIME_TIMESTAMP":"1763000000000000","MESSAGE":[195,164]}"#;
        let record = |at, text: &str| (at, text.to_string());
        let latest = record(1_765_000_000, "net.ipv4.ip_forward was 2");
        let both = vec![latest.clone(), record(1_764_000_000, "net.ipv4.ip_forward was 0")];
        // In whatever order journalctl has them.
        for text in [format!("{line}\nnonsense\n{{}}\n{later}\n"), format!("{later}\n{line}\n{bytes}\n")] {
            assert_eq!(
                (repairs(&text, 1_764_000_000), repairs(&text, 1_764_000_001)),
                (both.clone(), vec![latest.clone()])
            );
        }
        assert_eq!(repairs(bytes, 0), [record(1_763_000_000, "\u{e4}")]);
    }
}
