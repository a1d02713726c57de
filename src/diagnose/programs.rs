//! The output of other programs: the firewall's rules, and the journal's records of repairs. They run while the counters are
//! sampled.

use std::fs::read_to_string;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::firewall::{Flow, Suspect, iptables, nft};
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
const REPAIRS_MAX: usize = 3;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const NOT_INSTALLED: &str = "not installed";

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
        command.args(arguments).env("LC_ALL", "C");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()
    };
    let child = spawn(program).or_else(|error| match error.kind() {
        std::io::ErrorKind::NotFound => spawn(&format!("{SBIN}/{program}")),
        _ => Err(error),
    });
    let mut child = child.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => NOT_INSTALLED.to_string(),
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
        let mut output = self.output.recv_timeout(deadline.saturating_duration_since(Instant::now()));
        // Who has closed his output has not always ended.
        while output.is_ok() && matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() >= deadline {
                output = Err(RecvTimeoutError::Timeout);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
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

/// The programs that know rules of a firewall.
pub struct Firewall {
    family: Family,
    nft: Result<Asked, String>,
    iptables: Result<Asked, String>,
    /// Where the kernel has tables that an iptables of the other kind does not show.
    legacy: Option<Result<Asked, String>>,
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

    /// What may drop packets of these flows, and what could not be looked at. The flag: all of it was looked at.
    pub fn finish(self, flows: &[(Flow, bool)], deadline: Instant) -> (Vec<Suspect>, Vec<String>, bool) {
        let (tool, [save, legacy], tables) = (tool(self.family), saves(self.family), legacy_tables(self.family));
        let (mut rulesets, mut missing, mut whole) = (Vec::new(), Vec::new(), true);
        let strange = || "printed nothing that is known".to_string();
        let finish = |asked: Result<Asked, String>| asked.and_then(|asked| asked.finish(deadline));
        let read = |text: &String| iptables::parse(text, tool).ok_or_else(strange);
        let text = finish(self.iptables);
        // What prints none but the older tables is the older iptables itself.
        let is_legacy = text.as_deref().is_ok_and(|text| {
            let mut names = text.lines().filter_map(|line| line.strip_prefix('*')).peekable();
            let is_of_them = |name: &str| tables.lines().any(|legacy| legacy == name);
            names.peek().is_some() && !iptables::is_of_nft(text) && names.all(is_of_them)
        });
        let by_iptables = text.as_ref().map_err(String::clone).and_then(read);
        // The chains of an iptables that keeps them in nf_tables are shown by both.
        let is_shown = |table: &str, chain: &str| {
            let name = table.split_once(' ').filter(|(family, _)| *family != "inet").map(|(_, name)| name);
            let shown = by_iptables.as_ref().ok().filter(|_| !is_legacy).zip(name);
            shown.is_some_and(|(shown, name)| shown.chains.contains_key(&(name.to_string(), chain.to_string())))
        };
        match finish(self.nft).and_then(|text| nft::parse(&text, self.family, is_shown).ok_or_else(strange)) {
            Ok(ruleset) => rulesets.push(ruleset),
            Err(why) => {
                // Where nf_tables is not loaded, it has no rules.
                let modules = read_to_string("/proc/modules").unwrap_or_default();
                let unused = !modules.lines().any(|module| module.starts_with("nf_tables "));
                whole &= why == NOT_INSTALLED && is_legacy && unused;
                missing.push(format!("nftables (nft: {why})"));
            }
        }
        match by_iptables {
            Ok(ruleset) => rulesets.insert(0, ruleset),
            Err(why) => {
                whole &= why == NOT_INSTALLED && tables.is_empty() && !rulesets.is_empty();
                missing.push(format!("{tool} ({save}: {why})"));
            }
        }
        match self.legacy.filter(|_| !is_legacy).map(|asked| finish(asked).and_then(|text| read(&text))) {
            None => {}
            Some(Ok(ruleset)) => rulesets.insert(0, ruleset),
            Some(Err(why)) => {
                whole = false;
                missing.push(format!("the tables of an older {tool} ({legacy}: {why})"));
            }
        }
        let mut suspects = Vec::<Suspect>::new();
        for (flow, back) in flows {
            for (at, ruleset) in rulesets.iter().enumerate() {
                // When the rules of another tool set their marks, beside these, is not known.
                let others = rulesets.iter().enumerate().filter(|(other, _)| *other != at);
                let foreign = others.fold(0, |marks, (_, other)| marks | other.sets_marks());
                let (found, all) = ruleset.suspects(&Flow { known: flow.known & !foreign, ..flow.clone() }, *back);
                if !all && whole {
                    whole = false;
                    missing.push(format!("all rules of {} (they jump without end)", ruleset.tool));
                }
                // What the answer meets, too, or both tools show, is told once.
                let is_new = |suspect: &Suspect| {
                    !suspects.iter().any(|known| Suspect { back: suspect.back, ..known.clone() } == *suspect)
                };
                let new: Vec<Suspect> = found.into_iter().filter(is_new).collect();
                suspects.extend(new);
            }
        }
        (suspects, missing, whole)
    }
}

/// Reads the counters of suspects again, and of nft's the rules.
pub fn look_again(family: Family, suspects: &mut Vec<Suspect>, deadline: Instant) {
    let is_counted = |suspect: &Suspect| suspect.tool != "nft" && suspect.packets.is_some();
    let asked: Vec<_> = match suspects.iter().any(is_counted) {
        false => Vec::new(),
        true => saves(family).into_iter().map(|save| start(save, &["-c"])).collect(),
    };
    let again: Vec<_> = asked
        .into_iter()
        .filter_map(|asked| iptables::parse(&asked.ok()?.finish(deadline).ok()?, tool(family)))
        .collect();
    for suspect in suspects.iter_mut() {
        let at = (suspect.table.clone(), suspect.chain.clone());
        if suspect.tool == "nft" {
            nft::name(suspect, |words| start("nft", words).ok()?.finish(deadline).ok());
            continue;
        }
        let after = again.iter().filter_map(|ruleset| ruleset.chains.get(&at)).find_map(|chain| {
            let policy = chain.base.as_ref().and_then(|base| base.drops.clone());
            let rules = chain.rules.iter().map(|rule| (&rule.text, rule.packets));
            rules
                .chain(policy.iter().map(|(text, packets)| (text, *packets)))
                .find(|(text, _)| **text == suspect.rule)?
                .1
        });
        suspect.count(after);
    }
    suspects.retain(|suspect| !suspect.if_moved || suspect.moved > Some(0));
}

fn tool(family: Family) -> &'static str {
    if family == Family::V4 { "iptables" } else { "ip6tables" }
}

/// The programs that print the rules, of the iptables that is installed and of the one before nf_tables.
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

/// Repairs of the guard's in the last day, the latest first: when, in seconds since 1970, and what.
pub type Repairs = Vec<(u64, String)>;

pub struct Journal(Result<Asked, String>);

impl Journal {
    pub fn ask() -> Journal {
        // With -r or --since, -n of systemd 219 and 239 shows others than the last.
        let count = REPAIRS_MAX.to_string();
        let mut words = vec!["-u", "fwdguard", "-o", "json", "-n", &count, "-q", "--no-pager"];
        words.extend(REPAIRS);
        Journal(start("journalctl", &words))
    }

    /// The repairs, and why none could be seen.
    pub fn finish(self, deadline: Instant) -> (Repairs, Option<String>) {
        let text = match self.0.and_then(|asked| asked.finish(deadline)) {
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
            // What is not printable is a list of bytes (systemd.journal-fields(7) in JSON).
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
