//! The policy while the service runs: reloaded when its files change, and logged with its errors and the lines that conflict with it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::{Daemon, POLICY_WATCH};
use crate::engine::Command;
use crate::journal::Reporter;
use crate::journal::status::notify;
use crate::kernel::altname::find_by_altname;
use crate::kernel::sysctl;
use crate::policy::conflicts::{self, Conflict, Origin};
use crate::policy::{Policy, PolicyError, Source};
use crate::report::record::Record;
use crate::setting::{Key, printable};
use crate::text::why;
use crate::writers::Follow;

/// As records and the status name it.
const SYSCTL_D: &str = "sysctl.d, ufw or TuneD";
/// An editor writes a file in several steps, which lead to one reload.
const POLICY_DEBOUNCE: Duration = Duration::from_millis(50);
/// How long a reload may keep the service manager waiting.
const RELOAD_AT_LATEST: Duration = Duration::from_secs(2);

/// A line against the policy and its value; with the setting where one line sets many.
pub(super) type Against = (Source, Arc<str>, Option<Key>);

fn against(conflict: &Conflict) -> Against {
    // The kernel's command line is one line.
    let key = (conflict.origin == Origin::CommandLine).then(|| conflict.key.clone());
    (conflict.source.clone(), conflict.says.clone(), key)
}

/// Logs each error and each notice of a policy, and that it was loaded.
pub(super) fn log_policy(policy: &Arc<Policy>, reporter: &Reporter) {
    let mut records = errors(&policy.errors, "; ignored");
    records.extend(policy.notices.iter().map(notice));
    records.push(Record::PolicyLoaded { lines: policy.entries().len(), errors: policy.errors.len() });
    reporter.report_all(records, None);
    let (policy, reporter) = (policy.clone(), reporter.clone());
    // In a thread of its own, since the kernel takes the RTNL lock to look for an altname (rtnl_getlink, net/core/rtnetlink.c), which
    // another process may hold for long. Without the thread such a line has no notice.
    let log = move || policy.altname_notices(find_by_altname).iter().for_each(|it| reporter.report(notice(it)));
    _ = std::thread::Builder::new().name("altnames".into()).spawn(log);
}

fn notice(notice: &PolicyError) -> Record {
    Record::PolicyNotice { source: notice.source.clone(), text: notice.to_string() }
}

fn errors(errors: &[PolicyError], and: &str) -> Vec<Record> {
    let record =
        |error: &PolicyError| Record::PolicyError { source: error.source.clone(), text: format!("{error}{and}") };
    errors.iter().map(record).collect()
}

impl Daemon {
    /// Logs each line of sysctl.d, ufw, the kernel's command line or TuneD that conflicts with the policy, once for as long as it
    /// does.
    pub(super) fn log_conflicts(&mut self) {
        // The guard thread logs it if interfaces can't be listed.
        let settings = self.policy.all_settings(sysctl::interfaces().unwrap_or_default().into_iter());
        let mut by_key = HashMap::<String, Vec<String>>::new();
        let mut lines = HashMap::<Against, usize>::new();
        let mut found = Vec::<Conflict>::new();
        for conflict in conflicts::find(&self.policy, &self.root, &settings) {
            let Conflict { key, entry, says, source, .. } = &conflict;
            let place = format!("{}:{}", printable(source.file.as_os_str()), source.line);
            by_key.entry(self.policy.name(key, *entry)).or_default().push(format!("{place} (sets {says})"));
            match lines.entry(against(&conflict)) {
                Entry::Vacant(line) => {
                    line.insert(found.len());
                    found.push(conflict);
                }
                // A vendor's pattern is one record, with all lines that are needed against it.
                Entry::Occupied(line) => {
                    found[*line.get()]
                        .remedy
                        .iter_mut()
                        .zip(conflict.remedy)
                        .for_each(|(remedy, more)| remedy.add(more));
                }
            }
        }
        self.reporter.status.get().conflicts = by_key;
        self.reporter.status_changed(); // a line that is gone has no record
        found.retain(|conflict| !self.conflicts.contains(&against(conflict)));
        for Conflict { key, entry, says, source, origin, behind, remedy } in found {
            self.reporter.report(Record::Conflict {
                key: self.policy.name(&key, entry),
                ours: self.policy.value(entry).into(),
                policy: self.policy.entries()[entry].source.clone(),
                says,
                source,
                origin,
                behind,
                remedy,
            });
        }
        self.conflicts = lines.into_keys().collect();
        self.note_refusal(SYSCTL_D, conflicts::unread(&self.root));
    }

    /// Logs a folder that the kernel refuses to let the service watch.
    pub(super) fn note_unwatched(&self) {
        let Some(watch) = &self.watch else { return };
        let name =
            |(folder, error): &(PathBuf, io::Error)| format!("{}: {}", printable(folder.as_os_str()), why(error));
        self.note_refusal(POLICY_WATCH, watch.paths.refused.as_ref().map(name));
    }

    /// Logs whether the kernel refuses a source.
    fn note_refusal(&self, source: &'static str, reason: Option<String>) {
        match reason {
            Some(reason) => self.lost(source, reason),
            None => self.reporter.report(Record::SourceBack { source }),
        }
    }

    pub(super) fn files_changed(&mut self, changed: io::Result<()>) {
        match changed {
            // Further events do not defer it, so that no stream of them holds it up.
            Ok(()) => _ = self.reload_due.get_or_insert_with(|| Instant::now() + POLICY_DEBOUNCE),
            Err(error) => self.lose_watch(&error),
        }
    }

    fn lose_watch(&mut self, error: &io::Error) {
        self.watch = None;
        self.lost(POLICY_WATCH, error.to_string());
    }

    /// Reads the policy again. When an administrator asked for it, it is always applied; otherwise only if it has changed.
    pub(super) async fn reload(&mut self, asked: bool) {
        self.reload_due = None;
        if let Some(Err(error)) = self.watch.as_mut().map(|watch| watch.renew()) {
            self.lose_watch(&error);
        }
        self.note_unwatched();
        let policy = Policy::load(&self.root);
        let usable = !policy.is_unreadable();
        let same = if usable { policy.says_the_same(&self.policy) } else { policy.errors == self.errors };
        self.errors.clone_from(&policy.errors);
        if !asked && same {
            self.log_conflicts(); // the change may be in sysctl.d, ufw or TuneD
            return;
        }
        if asked {
            self.conflicts.clear();
            let mut states = vec![NotifyState::Reloading];
            states.extend(NotifyState::monotonic_usec_now().ok());
            notify(&states);
        }
        if usable {
            self.policy = Arc::new(policy);
            log_policy(&self.policy, &self.reporter);
            self.tracker.follow(Follow::Policy(self.policy.clone()));
            let (done, applied) = oneshot::channel();
            self.engine.send(Command::Reload(self.policy.clone(), done));
            if asked {
                _ = timeout(RELOAD_AT_LATEST, applied).await;
            }
        } else {
            self.reporter.report_all(errors(&self.errors, "; the last valid policy remains in force"), None);
        }
        if asked {
            self.send_ready();
        }
        if usable && self.ready {
            self.log_conflicts(); // else once it is: this may read the settings of thousands of interfaces
        }
        self.send_status();
    }
}
