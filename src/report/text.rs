//! The sentence of each record.

use rustix::io::Errno;

use super::record::{INTERFACES, Record, Subject};
use super::woke::Woke;
use super::writer::written_by;
use crate::policy::conflicts::Origin;
use crate::setting::{number, printable};
use crate::text::{ascii_line, count, duration, errno_text, plain};

/// As many settings are named in a resumed record; more are counted.
const NAMED_MAX: usize = 10;

/// `addrconf_ifdown` removes them, and only those that router advertisements give come again.
const ADDRESSES_LOST: &str = "; static IPv6 addresses that went with it do not come back by themselves";

impl Record {
    /// The sentence for people: one line that can be read everywhere, whatever stands in it.
    pub fn text(&self) -> String {
        ascii_line(&self.sentence())
    }

    fn sentence(&self) -> String {
        match self {
            Record::Started { settings, interfaces, repaired } => format!(
                "Guarding {} on {}; {} had to be put right at start",
                count(*settings, "setting"),
                count(*interfaces, "interface"),
                repaired
            ),
            Record::PolicyLoaded { lines, errors: 0 } => format!("Policy loaded: {}", count(*lines, "line")),
            Record::PolicyLoaded { lines, errors } => {
                format!("Policy loaded: {}, {} left out", count(*lines, "line"), count(*errors, "bad line"))
            }
            Record::PolicyNotice { text, .. } => format!("In the policy: {text}"),
            Record::PolicyError { text, .. } => format!("Left out of the policy: {text}"),
            Record::Conflict { key, ours, policy, says, source, origin, behind, mend } => {
                let (when, own) = match origin {
                    Origin::SysctlD => ("at boot, with 'sysctl --system' or by udev", "remove or correct it"),
                    Origin::Ufw => ("when ufw starts, at boot or with 'ufw enable'", "remove or correct it"),
                    Origin::CommandLine => {
                        ("at the next boot, before sysctl.d", "remove it from the boot loader's configuration")
                    }
                    Origin::Tuned => {
                        ("when TuneD starts or applies its profile", "correct it in a profile in /etc/tuned")
                    }
                };
                let once = behind.as_ref().map(|line| format!(", once {line} is gone")).unwrap_or_default();
                format!(
                    "{}:{} says {key} = {says}, against the policy's {ours} ({policy}): it comes back {when}{once}; {}",
                    printable(source.file.as_os_str()),
                    source.line,
                    mend.as_ref().map_or(own.into(), |mend| format!("write {mend}"))
                )
            }
            Record::Repaired { subject, new, interfaces, writer, .. } => {
                let latency = self.latency_usec().map(|usec| format!(" within {} of hearing it", duration(usec)));
                let with = match interfaces {
                    0 => String::new(),
                    n => format!("; {} with it", count(*n, "interface")),
                };
                let wrong =
                    self.wrong_usec().map(|usec| format!("; it was last known to hold {} before", duration(usec)));
                let has_addresses =
                    |key: &str| key.ends_with(".disable_ipv6") && !key.ends_with(".default.disable_ipv6");
                let is_ipv6_on = has_addresses(&subject.key) && number(&subject.ours) == Some(0);
                format!(
                    "{} was {}, put back to {}{} ({}){with}{}{}{}",
                    subject.key,
                    if new.is_empty() { "empty" } else { new },
                    subject.ours,
                    latency.unwrap_or_default(),
                    origin(subject),
                    wrong.unwrap_or_default(),
                    if is_ipv6_on { ADDRESSES_LOST } else { "" },
                    written_by(writer)
                )
            }
            Record::Contested { subject, repairs, writers, conflicts, .. } => format!(
                "{} is contested: put back to {} {repairs} times within 10 s{}{}; stop whoever changes it, or correct the \
                 policy ({})",
                subject.key,
                subject.ours,
                by(writers),
                if conflicts.is_empty() { String::new() } else { format!("; see {}", conflicts.join(", ")) },
                subject.source
            ),
            Record::StillContested { subject, count: repairs, since, until, writers, .. } => format!(
                "{} is still contested: put back to {} {} more within {}{}",
                subject.key,
                subject.ours,
                count(*repairs as usize, "time"),
                duration(until.saturating_sub(*since)),
                by(writers)
            ),
            Record::ContestOver { subject, repairs, usec } => format!(
                "{} is no longer contested: nobody has changed it for a minute, after {} within {}",
                subject.key,
                count(*repairs as usize, "repair"),
                duration(*usec)
            ),
            Record::RepairFailed { subject, found, errno } => {
                let found = found.as_ref().map(|found| format!(" is {found} and")).unwrap_or_default();
                let reason = match errno {
                    Some(Errno::INVAL) => "the kernel refuses the value; correct the policy".to_string(),
                    Some(errno @ (Errno::PERM | Errno::ACCESS | Errno::ROFS)) => {
                        format!("{}; CAP_NET_ADMIN and a writable /proc/sys/net are needed", errno_text(*errno))
                    }
                    Some(errno) => errno_text(*errno),
                    None => "the kernel accepted the write and kept another value".to_string(),
                };
                format!("{}{found} could not be set to {}: {reason} ({})", subject.key, subject.ours, origin(subject))
            }
            Record::SlowWrite { key, usec } => {
                format!("Writing {key} took {}: something held the kernel's RTNL lock", duration(*usec))
            }
            Record::Resumed { woke, changed, .. } => {
                let Woke { slept, step_usec, again, .. } = woke;
                let how = match (slept, step_usec) {
                    (Some(slept), _) => format!("Resumed after {} of sleep", duration(slept.as_micros() as u64)),
                    (None, Some(usec)) => {
                        let direction = if *usec < 0 { "back" } else { "forward" };
                        format!("The clock was set {direction} by {}, as after a pause", duration(usec.unsigned_abs()))
                    }
                    (None, None) => "Resumed (how long it slept is not known)".into(),
                };
                format!("{how}; {} (noticed by {})", changes(changed, *again), woke.noticed_by())
            }
            Record::Resynchronised { reason } => {
                format!("Notifications may have been missed ({}); everything was read again", plain(reason))
            }
            Record::SourceLost { source: INTERFACES, reason } => format!("No interface is guarded: {}", plain(reason)),
            Record::SourceLost { source, reason } => {
                format!("Lost {source}: {}; guarding goes on without it", plain(reason))
            }
            Record::SourceBack { source } => format!("{source} is back"),
            Record::RecordsDropped { count: n } => {
                format!("{} could not be told, because the journal did not take them", count(*n as usize, "record"))
            }
            Record::Stopping { repairs } => {
                format!("Stopping after {}; settings are no longer guarded", count(*repairs as usize, "repair"))
            }
        }
    }
}

fn by(writers: &[String]) -> String {
    if writers.is_empty() {
        ", by whom is unknown".into()
    } else {
        format!(", written by {}", writers.join(" and by "))
    }
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
    let since = if again { " since that was told" } else { "" };
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
    fn a_repair_reads_well() {
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
            "net.ipv4.ip_forward was 0, put back to 1 within 84 us of hearing it (cause: write; policy 50-kubernetes.conf:9); 12 interfaces with it; \
             written by an unknown process (without fanotify nobody can say)"
        );
        if let Record::Repaired { received, interfaces, writer, .. } = &mut record {
            (*received, *interfaces, *writer) = (None, 0, Writer::BeforeStart);
        }
        assert_eq!(
            record.text(),
            "net.ipv4.ip_forward was 0, put back to 1 (cause: write; policy 50-kubernetes.conf:9)"
        );
    }

    #[test]
    fn a_line_against_the_policy_says_when_it_comes_back() {
        let source = |file: &str| Source { file: Path::new(file).into(), line: 1 };
        for (origin, behind, says) in [
            (Origin::SysctlD, None, "at boot, with 'sysctl --system' or by udev; remove or correct it"),
            (
                Origin::SysctlD,
                Some(source("/etc/sysctl.d/99-x.conf")),
                "at boot, with 'sysctl --system' or by udev, once 99-x.conf:1 is gone; remove or correct it",
            ),
            (Origin::Ufw, None, "when ufw starts, at boot or with 'ufw enable'; remove or correct it"),
            (
                Origin::CommandLine,
                None,
                "at the next boot, before sysctl.d; remove it from the boot loader's configuration",
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
                mend: None,
            };
            let text =
                "/f:1 says net.ipv4.ip_forward = 0, against the policy's 1 (50-kubernetes.conf:9): it comes back ";
            assert_eq!(record.text(), format!("{text}{says}"));
        }
    }

    #[test]
    fn a_failure_names_the_remedy() {
        let record = Record::RepairFailed { subject: subject(), found: Some("0".into()), errno: Some(Errno::ROFS) };
        assert_eq!(
            record.text(),
            "net.ipv4.ip_forward is 0 and could not be set to 1: Read-only file system; CAP_NET_ADMIN and a writable \
             /proc/sys/net are needed (cause: write; policy 50-kubernetes.conf:9)"
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
