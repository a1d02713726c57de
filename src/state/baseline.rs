//! Fan-outs that the kernel does not announce: a write of `default` or of IPv6's `all` changes other settings.
//!
//! It owns the baselines of those that the policy does not name, and of `all.accept_redirects`, which follows `all.forwarding`.
//! Settings that the policy names are checked; the others are written back to their baseline.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::queue::{Job, Repair};
use super::{SettingId, State};
use crate::report::decision::Verdict;
use crate::report::record::Cause;
use crate::setting::{FANNED_OUT_BY_ALL, Family, Key, same_value};

/// What settings that the policy does not name were, before a write to `all` changed them.
#[derive(Debug, Default)]
pub struct Baselines {
    known: HashMap<Key, String>,
    /// To be read, where `all` is right ([`State::take_unread`]).
    unread: BTreeSet<Key>,
    /// `all.accept_redirects` as it was before any drift of `all.forwarding`, which changes it.
    redirects: Option<String>,
    redirects_in_doubt: bool,
}

impl State {
    /// Guarded settings that the kernel changes with `key`, without a notification.
    pub(super) fn followers<'a>(&'a self, key: &'a Key) -> impl Iterator<Item = &'a Key> {
        let place = key.place().filter(|place| place.interface == "default" || place.interface == "all");
        let follows = move |other: &&Key, name: &str| {
            other.place().is_some_and(|place| place.name == name) && other.follows().as_ref() == Some(key)
        };
        place
            .into_iter()
            .flat_map(move |place| self.settings.unannounced_keys().filter(move |other| follows(other, place.name)))
    }

    /// Guarded settings that were never read, where another one that they follow is guarded. They have to be read before that is
    /// repaired, since its repair changes them: what was right then is no drift.
    pub fn unread_followers(&self) -> Vec<Key> {
        let is_unread = |key: &&Key| {
            self.settings.unannounced(key).is_some_and(|setting| setting.current.is_none())
                && key.follows().is_some_and(|leader| self.settings.is_guarded(&leader))
        };
        self.settings.unannounced_keys().filter(is_unread).cloned().collect()
    }

    /// The value of one of them.
    pub fn note_read(&mut self, key: &Key, value: Option<String>) {
        if let Some(setting) = self.settings.unannounced_mut(key) {
            setting.current = value;
            self.settings.recount();
        }
    }

    /// Another process wrote `key`, as was noticed at `received`: checks the settings that may have changed with it.
    pub(super) fn check_followers(&mut self, key: &Key, received: u64) {
        for follower in self.followers(key).cloned().collect::<Vec<_>>() {
            self.check(SettingId::Unannounced(follower), Cause::Write, Some(received));
        }
        self.doubt_baselines_of(key);
    }

    /// fwdguard itself wrote `key`: checks what that changed. What was right before is written back without a record, whether the
    /// policy names it or not: it is the same drift.
    pub(super) fn follow_own_write(&mut self, key: &Key, cause: Cause) {
        let names = [Some(key.clone()), key.other_name()];
        let followers: Vec<Key> = names.iter().flatten().flat_map(|key| self.followers(key)).cloned().collect();
        for follower in followers {
            let Some(setting) = self.settings.unannounced(&follower) else { continue };
            let (entry, old) = (setting.entry, setting.current.clone());
            let id = SettingId::Unannounced(follower);
            if old.as_ref().is_some_and(|current| same_value(self.policy.value(entry), current)) {
                let written_back = self.policy.entries()[entry].value.clone();
                self.queue.replace(id, Job { written_back, ..Job::new(None, cause) });
            } else {
                self.queue.add(id, Job { old, ..Job::new(Some(entry), cause) });
            }
        }
        for key in self.unnamed(key) {
            let Some(value) = self.baselines.known.get(&key) else { continue };
            let job = Job { written_back: Some(value.as_str().into()), ..Job::new(None, cause) };
            self.queue.replace(SettingId::Unannounced(key), job);
        }
        self.doubt_baselines_of(key);
    }

    /// The setting that `repair` follows, where that is guarded, was not checked for it, and is not deferred. A full read checks
    /// both anyway, in their order.
    pub fn leader_of(&self, repair: &Repair) -> Option<Key> {
        let Job { received, after_leader, .. } = repair.job;
        let leader =
            repair.key.follows().filter(|_| received.is_some() && repair.guarded().is_some() && !after_leader)?;
        let (is_guarded, id) = (self.settings.is_guarded(&leader), SettingId::Unannounced(leader.clone()));
        (is_guarded && !self.is_deferred(&id)).then_some(leader)
    }

    /// Queues the check of `leader` before `repair`: one drift is one repair, and one record.
    pub fn put_behind(&mut self, repair: Repair, leader: Key) {
        let Repair { id, job, .. } = repair;
        self.note_decision(&id, job.new.as_deref(), Verdict::Behind(leader.clone()));
        self.check(SettingId::Unannounced(leader), job.cause, job.received);
        self.queue.replace(id, Job { after_leader: true, ..job });
    }

    /// Queues all baselines to be read again, once nothing else is to be done.
    pub(super) fn doubt_baselines(&mut self) {
        for name in FANNED_OUT_BY_ALL {
            self.doubt_baselines_of(&Key::in_table("ipv6", "conf", "all".as_ref(), name));
        }
    }

    fn doubt_baselines_of(&mut self, key: &Key) {
        let unnamed = self.unnamed(key);
        self.baselines.unread.extend(unnamed);
    }

    /// The same of one interface.
    pub(super) fn doubt_baselines_at(&mut self, ifindex: i32) {
        let Some(name) = self.name(ifindex) else { return };
        for setting in FANNED_OUT_BY_ALL {
            let key = Key::in_table("ipv6", "conf", name.as_ref(), setting);
            if self.is_baseline(&key) {
                self.baselines.unread.insert(key);
            }
        }
    }

    pub(super) fn doubt_baseline(&mut self, key: Key) {
        self.baselines.unread.insert(key);
    }

    /// The settings that a write to `all` changes and the policy does not name, if it names `all`.
    fn unnamed(&self, all: &Key) -> Vec<Key> {
        let Some(place) = all.place().filter(|place| place.interface == "all" && self.settings.is_guarded(all)) else {
            return Vec::new();
        };
        let names = self.settings.interfaces().map(|(_, interface)| interface.name);
        let keys = names.map(|name| Key::in_table(place.family, place.table, name.as_ref(), place.name));
        keys.filter(|key| key.follows().as_ref() == Some(all) && !self.settings.is_guarded(key)).collect()
    }

    /// Whether a setting that the policy does not name is one whose value has to be known.
    pub(super) fn is_baseline(&self, key: &Key) -> bool {
        key.follows().is_some_and(|all| {
            all.place().is_some_and(|place| place.interface == "all") && self.settings.is_guarded(&all)
        }) && !self.settings.is_guarded(key)
    }

    pub(super) fn is_known_baseline(&self, key: &Key) -> bool {
        self.baselines.known.contains_key(key)
    }

    /// The settings that have to be read since this was last asked, and for each the `all` that has to be right meanwhile: else
    /// the value may come of its fan-out.
    pub fn take_unread(&mut self) -> Vec<(Key, Key)> {
        // What is still to be written back does not have its value yet.
        let unread = std::mem::take(&mut self.baselines.unread);
        let is_pending = |key: &Key| self.queue.contains(&SettingId::Unannounced(key.clone()));
        let (pending, unread): (BTreeSet<Key>, BTreeSet<Key>) = unread.into_iter().partition(is_pending);
        self.baselines.unread = pending;
        unread
            .into_iter()
            .filter(|key| self.is_baseline(key))
            .filter_map(|key| key.follows().map(|all| (key, all)))
            .collect()
    }

    /// The value of one of them. `undisturbed`: `all` was right before and after it was read. If no value was known before, that
    /// of an excluded setting counts all the same.
    pub fn baseline(&mut self, key: Key, value: Option<String>, undisturbed: bool) {
        let Some(value) = value else {
            self.baselines.known.remove(&key);
            return;
        };
        if !undisturbed && (self.baselines.known.contains_key(&key) || !self.policy.excludes(&key)) {
            return;
        }
        // Another process wrote a setting that the policy does not name.
        let id = SettingId::Unannounced(key.clone());
        self.outcomes.forget_written_back(&id, |ours: &Arc<str>| !same_value(ours, &value));
        self.baselines.known.insert(key, value);
    }

    /// Whether `value` is what the policy wants of a setting whose changes are not announced.
    pub fn other_holds(&self, key: &Key, value: &str) -> bool {
        self.settings.unannounced(key).is_some_and(|setting| {
            same_value(self.policy.value(setting.entry), value) || setting.learned.as_deref() == Some(value)
        })
    }

    /// An interface disappeared, or has another name.
    pub(super) fn forget_baselines(&mut self, name: &std::ffi::OsStr) {
        for setting in FANNED_OUT_BY_ALL {
            let key = Key::in_table("ipv6", "conf", name, setting);
            self.outcomes.forget_written(&SettingId::Unannounced(key.clone()));
            self.settings.note_gone(self.baselines.known.remove_entry(&key).map(|(key, _)| key));
        }
    }

    /// The policy is another. The kernel changed `all.accept_redirects` with `all.forwarding`, if the policy did not name it.
    pub(super) fn forget_all_baselines(&mut self) {
        self.baselines.unread.clear();
        self.settings.note_gone(std::mem::take(&mut self.baselines.known).into_keys());
        if !self.fan_outs.is_on(Family::V4) {
            self.baselines.redirects = None;
        }
    }

    pub(super) fn redirects_baseline(&self) -> Option<&str> {
        self.baselines.redirects.as_deref()
    }

    /// A full read found this value.
    pub(super) fn take_redirects(&mut self, value: Option<String>) {
        if self.baselines.redirects.is_none() || !self.fan_outs.is_on(Family::V4) {
            self.baselines.redirects = value;
        }
    }

    /// A process wrote `all.accept_redirects`, or the kernel may have; `None` if it is not known what its value comes of.
    pub fn redirects(&mut self, value: Option<String>) {
        let key = Key::all_accept_redirects();
        if !self.settings.is_guarded(&key) {
            self.outcomes.forget_written(&SettingId::Unannounced(key)); // not ours any more
        }
        if !self.fan_outs.is_on(Family::V4) {
            self.baselines.redirects = value;
        }
    }

    pub(super) fn doubt_redirects(&mut self) {
        self.baselines.redirects_in_doubt = true;
    }

    /// Whether `all.accept_redirects` has to be read: where another process repairs `all.forwarding`, the kernel sets it.
    pub fn redirects_in_doubt(&mut self) -> bool {
        std::mem::take(&mut self.baselines.redirects_in_doubt)
    }
}
