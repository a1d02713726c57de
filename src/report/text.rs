//! The sentence of each record.

use rustix::io::Errno;

use super::record::{INTERFACES, Record, SOCKET, Subject};
use super::woke::Woke;
use super::writer::written_by;
use crate::policy::conflicts::Origin;
use crate::setting::{number, printable};
use crate::text::{ascii_line, count, duration, errno_text, plain};

/// A resumed record names at most this many settings; the others are counted.
const NAMED_MAX: usize = 10;

/// `addrconf_ifdown` removes the addresses, and only those from router advertisements return by themselves.
const ADDRESSES_LOST: &str = "; static IPv6 addresses that were lost with it must be added again";

impl Record {
    /// The record's MESSAGE=: one line of ASCII, whatever it quotes.
    pub fn text(&self) -> String {
        ascii_line(&self.sentence())
    }

    fn sentence(&self) -> String {
        match self {
            Record::Started { settings, interfaces, repaired } => {
                let (settings, interfaces) = (count(*settings, "setting"), count(*interfaces, "interface"));
                let repaired = if *repaired == 0 { "none".into() } else { repaired.to_string() };
                format!("Guarding {settings} on {interfaces}; {repaired} had to be restored at start")
            }
            Record::PolicyLoaded { lines, errors: 0 } => format!("Policy loaded: {}", count(*lines, "line")),
            Record::PolicyLoaded { lines, errors } => {
                format!("Policy loaded: {}, {}", count(*lines, "line"), count(*errors, "error"))
            }
            Record::PolicyNotice { text, .. } => format!("Policy notice: {text}"),
            Record::PolicyError { text, .. } => format!("Policy error: {text}"),
            Record::Conflict { key, ours, policy, says, source, origin, behind, remedy } => {
                let (when, own) = match origin {
                    Origin::SysctlD => ("at boot, by 'sysctl --system' or by udev", "remove or correct the line"),
                    Origin::Ufw => ("when ufw starts, at boot or by 'ufw enable'", "remove or correct the line"),
                    Origin::CommandLine => {
                        ("at the next boot, before sysctl.d", "remove it from the boot loader's configuration")
                    }
                    Origin::Tuned => {
                        ("when TuneD starts or applies its profile", "correct it in a profile in /etc/tuned")
                    }
                };
                let once = behind.as_ref().map(|line| format!("if {line} is removed, ")).unwrap_or_default();
                format!(
                    "Conflict: {}:{} sets {key} = {says}, but the policy requires {ours} ({policy}); {once}it will be applied {when}; {}",
                    printable(source.file.as_os_str()),
                    source.line,
                    remedy.as_ref().map_or(own.into(), |remedy| format!("add {remedy}"))
                )
            }
            Record::Repaired { subject, new, received, finished, interfaces, last_good, writer, .. } => {
                let since = |at: u64| duration(finished.saturating_sub(at));
                let latency = received.map(|at| format!("; latency {}", since(at))).unwrap_or_default();
                let with = match interfaces {
                    0 => String::new(),
                    n => format!("; {} restored with it", count(*n, "interface")),
                };
                let wrong = last_good.map(|at| format!("; it was last seen correct {} earlier", since(at)));
                let has_addresses =
                    |key: &str| key.ends_with(".disable_ipv6") && !key.ends_with(".default.disable_ipv6");
                let is_ipv6_on = has_addresses(&subject.key) && number(&subject.ours) == Some(0);
                format!(
                    "Restored {} to {}: it was {} ({}{latency}){with}{}{}{}",
                    subject.key,
                    subject.ours,
                    if new.is_empty() { "empty" } else { new },
                    origin(subject),
                    wrong.unwrap_or_default(),
                    if is_ipv6_on { ADDRESSES_LOST } else { "" },
                    written_by(writer)
                )
            }
            Record::Contested { subject, repairs, usec, writers, conflicts, .. } => format!(
                "Contested: {} was restored {repairs} times to {} within {}{}{}; stop the writer, or correct the policy \
                 ({})",
                subject.key,
                subject.ours,
                duration(*usec),
                by(writers),
                if conflicts.is_empty() { String::new() } else { format!("; see {}", conflicts.join(", ")) },
                subject.source
            ),
            Record::StillContested { subject, count: repairs, since, until, writers, .. } => format!(
                "Still contested: {} was restored {} to {} within {}{}",
                subject.key,
                count(*repairs as usize, "more time"),
                subject.ours,
                duration(until.saturating_sub(*since)),
                by(writers)
            ),
            Record::ContestOver { subject, repairs, usec } => format!(
                "No longer contested: {} has not been changed for a minute, after {} within {}",
                subject.key,
                count(*repairs as usize, "repair"),
                duration(*usec)
            ),
            Record::RepairFailed { subject, found, errno } => {
                let found = found.as_ref().map(|found| format!(" (it is {found})")).unwrap_or_default();
                let reason = match errno {
                    Some(Errno::INVAL) => "the kernel refuses the value; correct the policy".to_string(),
                    Some(errno @ (Errno::PERM | Errno::ACCESS | Errno::ROFS)) => {
                        format!("{}; CAP_NET_ADMIN and a writable /proc/sys/net are required", errno_text(*errno))
                    }
                    Some(errno) => errno_text(*errno),
                    None => "the kernel accepted the write but kept another value".to_string(),
                };
                format!("Failed to set {} to {}{found}: {reason} ({})", subject.key, subject.ours, origin(subject))
            }
            Record::SlowWrite { key, usec } => {
                format!(
                    "Writing {key} took {}; most likely another process held the kernel's RTNL lock",
                    duration(*usec)
                )
            }
            Record::Resumed { woke, changed, .. } => {
                let Woke { slept, step_usec, again, .. } = woke;
                let how = match (slept, step_usec) {
                    (Some(slept), _) => format!("Resumed after {} of sleep", duration(slept.as_micros() as u64)),
                    (None, Some(usec)) => {
                        let direction = if *usec < 0 { "back" } else { "forward" };
                        format!(
                            "The clock was set {direction} by {}, as when a paused machine resumes",
                            duration(usec.unsigned_abs())
                        )
                    }
                    (None, None) => "Resumed (sleep duration unknown)".into(),
                };
                format!("{how}; {} (noticed by {})", changes(changed, *again), woke.noticed_by())
            }
            Record::Resynchronised { reason } => {
                format!("Notifications may have been lost ({}); all settings were read again", plain(reason))
            }
            Record::SourceLost { source: INTERFACES, reason } => format!("No interface is guarded: {}", plain(reason)),
            Record::SourceLost { source: SOCKET, reason } => {
                format!("Lost {SOCKET}: {}; nothing is guarded until it is available again", plain(reason))
            }
            Record::SourceLost { source, reason } => {
                format!("Lost {source}: {}; guarding continues without it", plain(reason))
            }
            Record::SourceBack { source } => format!("Available again: {source}"),
            Record::RecordsDropped { count: n } => {
                let were = if *n == 1 { "was" } else { "were" };
                format!("{} {were} dropped because journald was not reading", count(*n as usize, "log record"))
            }
            Record::Stopping { repairs } => {
                format!("Stopping after {}; settings are no longer guarded", count(*repairs as usize, "repair"))
            }
        }
    }
}

fn by(writers: &[String]) -> String {
    if writers.is_empty() { "; writer unknown".into() } else { format!("; written by {}", writers.join(" and by ")) }
}

fn origin(subject: &Subject) -> String {
    format!("cause: {}; policy {}", subject.cause.name(), subject.source)
}

fn changes(changed: &[String], again: bool) -> String {
    if changed.is_empty() {
        return "no setting had changed".into();
    }
    let named = changed[..changed.len().min(NAMED_MAX)].join(", ");
    let more = match changed.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let since = if again { " since the previous record" } else { "" };
    format!("{} had changed{since}: {named}{more}", count(changed.len(), "setting"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Source;
    use crate::report::record::Cause;
    use crate::report::writer::{UnknownBecause, Writer};
    use crate::setting::Key;
    use crate::text::TEXT_MAX;
    use std::path::Path;

    fn subject() -> Subject {
        let source = Source { file: Path::new("/usr/lib/fwdguard.d/50-kubernetes.conf").into(), line: 9 };
        Subject {
            key: "net.ipv4.ip_forward".into(),
            rule: "net.ipv4.ip_forward".into(),
            ours: "1".into(),
            source,
            cause: Cause::Write,
        }
    }

    #[test]
    fn a_repair_names_value_cause_policy_and_writer() {
        let mut record = Record::Repaired {
            subject: subject(),
            old: Some("1".into()),
            new: "0".into(),
            key: Key::all_accept_redirects(),
            received: Some(1_000_000),
            finished: 1_000_084,
            interfaces: 12,
            last_good: None,
            writer: Writer::Unknown(UnknownBecause::NoFanotify),
        };
        assert_eq!(
            record.text(),
            "Restored net.ipv4.ip_forward to 1: it was 0 (cause: write; policy 50-kubernetes.conf:9; latency 84 us); 12 interfaces restored with it; \
             writer unknown: fanotify is not available"
        );
        if let Record::Repaired { received, interfaces, writer, .. } = &mut record {
            (*received, *interfaces, *writer) = (None, 0, Writer::BeforeStart);
        }
        assert_eq!(
            record.text(),
            "Restored net.ipv4.ip_forward to 1: it was 0 (cause: write; policy 50-kubernetes.conf:9)"
        );
    }

    #[test]
    fn a_conflict_states_when_the_line_is_applied() {
        let source = |file: &str| Source { file: Path::new(file).into(), line: 1 };
        for (origin, behind, says) in [
            (
                Origin::SysctlD,
                None,
                "it will be applied at boot, by 'sysctl --system' or by udev; remove or correct the line",
            ),
            (
                Origin::SysctlD,
                Some(source("/etc/sysctl.d/99-x.conf")),
                "if 99-x.conf:1 is removed, it will be applied at boot, by 'sysctl --system' or by udev; remove or correct the line",
            ),
            (
                Origin::Ufw,
                None,
                "it will be applied when ufw starts, at boot or by 'ufw enable'; remove or correct the line",
            ),
            (
                Origin::CommandLine,
                None,
                "it will be applied at the next boot, before sysctl.d; remove it from the boot loader's configuration",
            ),
        ] {
            let record = Record::Conflict {
                key: "net.ipv4.ip_forward".into(),
                ours: "1".into(),
                policy: subject().source,
                says: "0".into(),
                source: source("/f"),
                origin,
                behind,
                remedy: None,
            };
            let text =
                "Conflict: /f:1 sets net.ipv4.ip_forward = 0, but the policy requires 1 (50-kubernetes.conf:9); ";
            assert_eq!(record.text(), format!("{text}{says}"));
        }
    }

    #[test]
    fn a_failure_names_the_remedy() {
        let record = Record::RepairFailed { subject: subject(), found: Some("0".into()), errno: Some(Errno::ROFS) };
        assert_eq!(
            record.text(),
            "Failed to set net.ipv4.ip_forward to 1 (it is 0): Read-only file system; CAP_NET_ADMIN and a writable \
             /proc/sys/net are required (cause: write; policy 50-kubernetes.conf:9)"
        );
    }

    #[test]
    fn a_sentence_is_bounded() {
        let (long, reason) = ("é".repeat(TEXT_MAX), "x".repeat(300_000));
        for record in [Record::Resynchronised { reason: long.clone() }, Record::Resynchronised { reason }] {
            let text = record.text();
            assert!(text.is_ascii() && text.len() == TEXT_MAX && text.ends_with("..."), "{text}");
        }
    }
}
