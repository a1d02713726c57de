//! The status line of `systemctl status`, and the other notifications to the service manager (sd_notify(3)).

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use sd_notify::NotifyState;

use crate::report::record::{Cause, Record};
use crate::state::Summary;
use crate::text::{ascii_line, count};

/// How long a notification may wait for room in the service manager's queue, which other services use, too.
const NOTIFY_TIMEOUT: Duration = Duration::from_millis(100);

/// The data of the status line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    pub summary: Summary,
    /// When the last repair was made, in Unix time.
    pub last_at: Option<u64>,
    /// The writer that made the last repair necessary, as `sysctl[4242]`.
    pub last_writer: Option<String>,
    pub lost: BTreeSet<&'static str>,
    /// The setting whose write the kernel holds up.
    pub waits_for: Option<String>,
    pub policy_errors: usize,
    /// Conflicting lines of a setting, as `FILE:LINE (sets VALUE)`; not shown, but named by records.
    pub conflicts: HashMap<String, Vec<String>>,
}

impl Status {
    /// One line: a second one would be another assignment to the service manager.
    pub fn text(&self) -> String {
        let Summary { settings, interfaces, repairs, failing, last, contested } = &self.summary;
        let mut text = format!("Guarding {} on {}", count(*settings, "setting"), count(*interfaces, "interface"));
        text += &format!("; {} since start", count(*repairs as usize, "repair"));
        if let (Some((setting, cause)), Some(at)) = (last, self.last_at) {
            let by = self.last_writer.as_ref().map(|writer| format!("; written by {writer}")).unwrap_or_default();
            text += &format!(", last: {setting} at {} (cause: {}{by})", clock_time(at), Cause::name(*cause));
        }
        if let Some((first, more)) = contested {
            let more = if *more > 0 { format!(" and {more} more") } else { String::new() };
            text += &format!("; contested: {first}{more}");
        }
        if *failing > 0 {
            text += &format!("; {} cannot be restored", count(*failing, "setting"));
        }
        if self.policy_errors > 0 {
            text += &format!("; {}", count(self.policy_errors, "policy error"));
        }
        if !self.lost.is_empty() {
            text += &format!("; lost: {}", self.lost.iter().copied().collect::<Vec<_>>().join(", "));
        }
        if let Some(what) = &self.waits_for {
            text += &format!("; waiting in the kernel: {what}");
        }
        ascii_line(&text)
    }
}

/// The status, shared by the reporter, which sets what was repaired, and the event loop, which sets the rest.
#[derive(Default)]
pub struct SharedStatus(Mutex<Status>);

impl SharedStatus {
    pub fn get(&self) -> MutexGuard<'_, Status> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Stores the guard thread's summary together with the writer of its last repair, so that no repair is shown with another's
    /// writer.
    pub fn set_summary(&self, summary: Summary, writer: Option<String>) {
        let mut status = self.get();
        if summary.repairs < status.summary.repairs {
            return; // an older one, which waited for journald
        }
        if summary.repairs != status.summary.repairs {
            status.last_at = Some(unix_seconds());
            status.last_writer = writer;
        }
        status.summary = summary;
    }

    /// Notes sources that are lost or available again, and drops the records of those that already were.
    pub fn note_sources(&self, records: &mut Vec<Record>) {
        records.retain(|record| match record {
            Record::SourceLost { source, .. } => self.get().lost.insert(source),
            Record::SourceBack { source } => self.get().lost.remove(source),
            _ => true,
        });
    }

    /// Sends the status line to the service manager.
    pub fn send(&self) {
        let text = self.get().text();
        notify(&[NotifyState::Status(&text)]);
    }
}

/// Notifies the service manager, if there is one, and returns whether that succeeded.
pub fn notify(states: &[NotifyState]) -> bool {
    // Guarding goes on without a service manager that can be reached.
    std::env::var_os("NOTIFY_SOCKET").is_none_or(|address| send(&address, states).is_ok())
}

/// sd_notify(3). The crate opens a new descriptor each time, which fails when none is left, so that the watchdog would end the
/// service; and it waits for ever for a service manager that hangs.
fn send(address: &OsStr, states: &[NotifyState]) -> io::Result<()> {
    static SOCKET: OnceLock<UnixDatagram> = OnceLock::new();
    let socket = match SOCKET.get() {
        Some(socket) => socket,
        None => {
            let socket = UnixDatagram::unbound()?;
            socket.set_write_timeout(Some(NOTIFY_TIMEOUT))?;
            SOCKET.get_or_init(|| socket)
        }
    };
    let address = match address.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(OsStr::from_bytes(path))?,
    };
    let text: String = states.iter().map(|state| format!("{state}\n")).collect();
    socket.send_to_addr(text.as_bytes(), &address).map(drop)
}

pub(super) fn unix_seconds() -> u64 {
    rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec.try_into().unwrap_or(0)
}

/// The time of day in UTC, `14:03:07 UTC`.
fn clock_time(at: u64) -> String {
    format!("{:02}:{:02}:{:02} UTC", at / 3600 % 24, at / 60 % 60, at % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_names_the_last_repair_and_present_problems() {
        let summary = Summary { settings: 31, interfaces: 12, ..Summary::default() };
        let mut status = Status { summary, ..Status::default() };
        assert_eq!(status.text(), "Guarding 31 settings on 12 interfaces; 0 repairs since start");
        status.summary.repairs = 3;
        status.summary.last = Some(("net.ipv4.ip_forward".into(), Cause::Write));
        status.last_at = Some(14 * 3600 + 3 * 60 + 7);
        status.last_writer = Some("sysctl[4242]".into());
        status.summary.contested = Some(("net.ipv4.ip_forward".into(), 1));
        status.lost = BTreeSet::from(["logind"]);
        assert_eq!(
            status.text(),
            "Guarding 31 settings on 12 interfaces; 3 repairs since start, last: net.ipv4.ip_forward at 14:03:07 UTC (cause: write; written by sysctl[4242]); \
             contested: net.ipv4.ip_forward and 1 more; lost: logind"
        );
    }
}
