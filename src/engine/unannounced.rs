//! Settings whose changes the kernel does not announce: inotify watches on them, and what is read when they were written.

use std::collections::BTreeMap;

use super::sources::WRITES;
use super::{Engine, Sink};
use crate::kernel::sysctl::{Outcome, now_usec};
use crate::setting::{Attribute, Family, Key};
use crate::state::Repair;
use crate::text::why;

/// Each takes a few microseconds, in which a process that writes without end writes more than once.
const OTHERS_TRIES: u32 = 10;

impl<O: Sink> Engine<O> {
    /// Watches a setting that is about to be read, so that no write falls between.
    pub(super) fn watch(&mut self, repair: &Repair) {
        let Some(yields) = self.state.watch_yields(repair) else { return };
        let leader = repair.key.follows().map(|leader| (leader, false));
        for (key, yields) in [(repair.key.clone(), yields)].into_iter().chain(leader) {
            key.other_name().into_iter().for_each(|other| self.watch_key(&other, yields));
            self.watch_key(&key, yields);
        }
    }

    fn watch_key(&mut self, key: &Key, yields: bool) {
        let Ok(writes) = &mut self.writes else { return };
        if let Err(error) = writes.watch(key, yields) {
            let reason = match error.raw_os_error() {
                Some(libc::ENOSPC) => format!("{}; raise fs.inotify.max_user_watches", why(&error)),
                Some(libc::ENOMEM | libc::EMFILE | libc::ENFILE) => why(&error),
                _ => format!("{key}: {}", why(&error)),
            };
            self.source_is_lost(WRITES, reason);
        }
    }

    /// Removes the watches of settings that are not guarded any more.
    pub(super) fn unwatch(&mut self) {
        let gone = self.state.take_gone();
        if let Ok(writes) = &mut self.writes {
            for key in gone.into_iter().filter(|key| *key != Key::all_accept_redirects()) {
                key.other_name().iter().for_each(|other| writes.unwatch(other));
                writes.unwatch(&key);
            }
        }
    }

    /// Logs that writes are not watched, if that is so; audits find them later.
    pub(super) fn log_if_unwatched(&mut self) {
        if let Err(error) = &self.writes {
            let remedy =
                if error.raw_os_error() == Some(libc::EMFILE) { "; raise fs.inotify.max_user_instances" } else { "" };
            self.source_is_lost(WRITES, format!("{}{remedy}", why(error)));
        }
    }

    /// Queues checks of the settings that were written, but for `own`, our own write just now.
    pub(super) fn read_inotify(&mut self, own: Option<&Key>) {
        let at = now_usec();
        let Ok(writes) = &mut self.writes else { return };
        let written = writes.take();
        for key in written {
            if key == Key::all_accept_redirects() && own != Some(&key) {
                self.read_redirects();
            }
            self.trace(|| format!("inotify: {key} was written"));
            self.state.note_written(key.clone(), at, own == Some(&key));
        }
        self.read_baselines();
    }

    /// Reads the baselines of settings that the policy does not name. A value that is read while `all` is wrong may come of its
    /// fan-out.
    pub(super) fn read_baselines(&mut self) {
        let mut of: BTreeMap<Key, Vec<Key>> = BTreeMap::new();
        self.state.take_unread().into_iter().for_each(|(key, all)| of.entry(all).or_default().push(key));
        for (all, keys) in of {
            let held = self.holds(&all);
            let mut read = Vec::with_capacity(keys.len());
            for key in keys {
                self.watch_key(&key, true);
                let value = self.sysctl.read(&key).ok();
                read.push((key, value));
            }
            let undisturbed = held && self.holds(&all);
            read.into_iter().for_each(|(key, value)| self.state.baseline(key, value, undisturbed));
        }
    }

    /// Executes the repair of a setting that follows `leader`, if that holds; else the leader comes first. The kernel reports a file that
    /// is opened to be written before anything is written (O_TRUNC, `do_truncate`), so the leader may have been found right. It is
    /// read after the follower, which changes after it (`addrconf_disable_ipv6`).
    pub(super) fn execute_behind(&mut self, leader: Key, repair: Repair) {
        self.watch(&repair);
        match self.sysctl.read(&repair.key) {
            Ok(value) if repair.holds(&value) => _ = self.state.complete(repair, Outcome::of_reading(Ok(value))),
            Ok(_) if !self.holds(&leader) => self.state.put_behind(repair, leader),
            _ => self.execute(repair),
        }
    }

    fn holds(&mut self, key: &Key) -> bool {
        self.sysctl.read(key).is_ok_and(|value| self.state.other_holds(key, &value))
    }

    /// Whether another process writes `key` right now, as far as inotify reports it.
    pub(super) fn is_written_by_others(&mut self, key: &Key) -> bool {
        // Our own write's event is there when the write returns, so all that comes after it are others'.
        self.read_inotify(Some(key));
        for _ in 0..OTHERS_TRIES {
            _ = self.sysctl.read(key);
            let at = now_usec();
            let Ok(writes) = &mut self.writes else { return false };
            let written = writes.take();
            let by_others = written.contains(key);
            written.into_iter().for_each(|key| self.state.note_written(key, at, false));
            if by_others {
                return true;
            }
        }
        false
    }

    /// The guard must know what `all.accept_redirects` was before a drift of `all.forwarding`.
    pub(super) fn read_redirects(&mut self) {
        if let Ok(value) = self.sysctl.read(&Key::all_accept_redirects()) {
            // A drift whose notification is still queued sets it, too: then the value that was written is not known.
            let all = Key::conf(Family::V4, "all".as_ref(), Attribute::Forwarding);
            let undisturbed = self.sysctl.read(&all).is_ok_and(|all| self.state.all_holds(Family::V4, &all));
            self.state.redirects(undisturbed.then_some(value));
        }
    }
}
