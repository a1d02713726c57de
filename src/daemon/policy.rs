//! The policy while the service runs: reloaded when its files change, and logged with its errors and the lines that conflict with it.

use std::collections::HashMap;
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
use crate::policy::watch::Watch;
use crate::policy::{Policy, PolicyError, Source};
use crate::report::record::Record;
use crate::setting::{Key, printable};
use crate::text::why;
use crate::writers::Follow;

/// As records and the status name it.
const SYSCTL_D: &str = "sysctl.d, ufw or TuneD";
/// An editor writes a file in several steps; they are taken as one.
const POLICY_DEBOUNCE: Duration = Duration::from_millis(50);
/// How long a reload may keep the service manager waiting.
const RELOAD_AT_LATEST: Duration = Duration::from_secs(2);

/// A line against the policy, what it says, and of which setting, where there are many on one line.
pub(super) type Against = (Source, Arc<str>, Option<Key>);

/// Waits until a policy file may have changed; for ever where that can't be watched.
pub(super) async fn touched(watch: &mut Option<Watch>) -> io::Result<()> {
    match watch {
        Some(watch) => watch.paths.touched().await,
        None => std::future::pending().await,
    }
}

/// Each bad line and each notice once per policy, and the policy itself once it changes.
pub(super) fn tell(policy: &Policy, reporter: &Reporter) {
    let mut records = errors(&policy.errors, "; ignored");
    let notice =
        |notice: &PolicyError| Record::PolicyNotice { source: notice.source.clone(), text: notice.to_string() };
    records.extend(policy.notices.iter().map(notice));
    records.push(Record::PolicyLoaded { lines: policy.entries().len(), errors: policy.errors.len() });
    reporter.tell_all(records, None);
}

fn errors(errors: &[PolicyError], and: &str) -> Vec<Record> {
    let record =
        |error: &PolicyError| Record::PolicyError { source: error.source.clone(), text: format!("{error}{and}") };
    errors.iter().map(record).collect()
}

impl Daemon {
    /// Each line of sysctl.d, ufw, the kernel's command line or TuneD that works against the policy, once for as long as it does.
    pub(super) fn tell_conflicts(&mut self) {
        // A guard that can't read them tells of it.
        let settings = self.policy.all_settings(sysctl::interfaces().unwrap_or_default().into_iter());
        let mut by_key = HashMap::<String, Vec<String>>::new();
        let mut found = HashMap::<Against, Conflict>::new();
        let mut order = Vec::new();
        for conflict in conflicts::find(&self.policy, &self.root, &settings) {
            let Conflict { key, entry, says, source, .. } = &conflict;
            let place = format!("{}:{}", printable(source.file.as_os_str()), source.line);
            by_key.entry(self.policy.name(key, *entry)).or_default().push(format!("{place} (sets {says})"));
            // All that the kernel is told stands on one line.
            let named = (conflict.origin == Origin::CommandLine).then(|| key.clone());
            let line = (source.clone(), says.clone(), named);
            match found.get_mut(&line) {
                // A vendor's pattern is one record, with all that is to be written against it.
                Some(first) => first.mend.iter_mut().zip(conflict.mend).for_each(|(mend, more)| mend.add(more)),
                None => {
                    order.push(line.clone());
                    found.insert(line, conflict);
                }
            }
        }
        self.status.get().conflicts = by_key;
        self.reporter.status_changed(); // a line that is gone has no record
        for line in order.iter().filter(|line| !self.conflicts.contains(line)) {
            let Conflict { key, entry, says, source, origin, behind, mend } = found[line].clone();
            self.reporter.tell(Record::Conflict {
                key: self.policy.name(&key, entry),
                ours: self.policy.value(entry).into(),
                policy: self.policy.entries()[entry].source.clone(),
                says,
                source,
                origin,
                behind,
                mend,
            });
        }
        self.conflicts = order.into_iter().collect();
        self.note_refusal(SYSCTL_D, conflicts::unread(&self.root));
    }

    /// A folder that the kernel does not let the service watch, once for as long as there is one.
    pub(super) fn tell_unwatched(&mut self, watch: Option<&Watch>) {
        let Some(watch) = watch else { return };
        let name =
            |(folder, error): &(PathBuf, io::Error)| format!("{}: {}", printable(folder.as_os_str()), why(error));
        self.note_refusal(POLICY_WATCH, watch.paths.refused.as_ref().map(name));
    }

    /// Tells that a source is refused, once for as long as it is, and that it is not any more.
    fn note_refusal(&mut self, source: &'static str, reason: Option<String>) {
        match reason {
            Some(reason) if self.refused.insert(source) => self.lost(source, reason),
            None if self.refused.remove(source) => self.reporter.tell(Record::SourceBack { source }),
            _ => {}
        }
    }

    pub(super) fn touched(&mut self, touched: io::Result<()>, watch: &mut Option<Watch>) {
        match touched {
            Ok(()) => {
                // Not put off by further events, so that no stream of them holds it up.
                self.reload_due.get_or_insert_with(|| Instant::now() + POLICY_DEBOUNCE);
            }
            Err(error) => {
                *watch = None;
                self.lost(POLICY_WATCH, error.to_string());
            }
        }
    }

    /// Reads the policy again. Asked for by an administrator, it is always applied; otherwise only if it has changed.
    pub(super) async fn reload(&mut self, watch: &mut Option<Watch>, asked: bool) {
        self.reload_due = None;
        if let Some(Err(error)) = watch.as_mut().map(Watch::renew) {
            *watch = None;
            self.lost(POLICY_WATCH, error.to_string());
        }
        self.tell_unwatched(watch.as_ref());
        let mut policy = Policy::load(&self.root);
        policy.note_altnames(find_by_altname);
        let same =
            if policy.is_unreadable() { policy.errors == self.errors } else { policy.says_the_same(&self.policy) };
        self.errors.clone_from(&policy.errors);
        if !asked && same {
            self.tell_conflicts(); // what changed may be in sysctl.d, ufw or TuneD
            return;
        }
        if asked {
            self.conflicts.clear();
            let mut states = vec![NotifyState::Reloading];
            states.extend(NotifyState::monotonic_usec_now().ok());
            notify(&states);
        }
        let usable = !policy.is_unreadable();
        if usable {
            self.policy = Arc::new(policy);
            tell(&self.policy, &self.reporter);
            self.tracker.follow(Follow::Policy(self.policy.clone()));
            let (done, applied) = oneshot::channel();
            self.engine.send(Command::Reload(self.policy.clone(), done));
            if asked {
                _ = timeout(RELOAD_AT_LATEST, applied).await;
            }
        } else {
            self.reporter.tell_all(errors(&self.errors, "; the last valid policy remains in force"), None);
        }
        if asked {
            self.tell_ready();
        }
        if usable && self.ready {
            self.tell_conflicts(); // else once it is: this may look at thousands of interfaces
        }
        self.tell_status();
    }
}
