//! Fan-outs that the kernel does not announce: a write of `default` or of IPv6's `all` changes other settings.
//!
//! It owns their baselines. Settings that the policy names are checked; of IPv6's, the others are written back to their baseline.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::{Job, Repair, SettingId, State, rank};
use crate::report::decision::Verdict;
use crate::report::record::Cause;
use crate::setting::{FANNED_OUT_BY_ALL, Key, same_value};

/// What settings that the policy does not name were, before a write to `all` changed them.
#[derive(Debug, Default)]
pub struct Baselines {
    known: HashMap<Key, String>,
    /// To be read, where `all` is right ([`State::take_unread`]).
    unread: BTreeSet<Key>,
}

impl State {
    /// Guarded settings that change in silence with `key`.
    pub(super) fn followers<'a>(&'a self, key: &'a Key) -> impl Iterator<Item = &'a Key> {
        let place = key.place().filter(|place| place.interface == "default" || place.interface == "all");
        let follows = move |other: &&Key, name: &str| {
            other.place().is_some_and(|place| place.name == name) && other.follows().as_ref() == Some(key)
        };
        place.into_iter().flat_map(move |place| self.unannounced.keys().filter(move |other| follows(other, place.name)))
    }

    /// Has the settings looked at that may have changed with `key`, which somebody wrote, as was noticed at `received`.
    pub(super) fn check_followers(&mut self, key: &Key, received: u64) {
        for follower in self.followers(key).cloned().collect::<Vec<_>>() {
            self.check(SettingId::Unannounced(follower), Cause::Write, Some(received));
        }
        self.doubt_baselines_of(key);
    }

    /// The guard itself wrote `key`: has looked at what that changed. What held before is put back without a word, whether the policy
    /// names it or not: it is the same drift.
    pub(super) fn follow_own_write(&mut self, key: &Key, cause: Cause) {
        let names = [Some(key.clone()), key.other_name()];
        let followers: Vec<Key> = names.iter().flatten().flat_map(|key| self.followers(key)).cloned().collect();
        for follower in followers {
            let Some(other) = self.unannounced.get(&follower) else { continue };
            let (entry, old) = (other.entry, other.current.clone());
            let slot = SettingId::Unannounced(follower);
            if old.as_ref().is_some_and(|current| same_value(self.policy.value(entry), current)) {
                let job = Job { written_back: self.policy.entries()[entry].value.clone(), ..Job::new(None, cause) };
                self.jobs.insert((rank(&slot), slot), job);
            } else {
                self.jobs.entry((rank(&slot), slot)).or_insert(Job { old, ..Job::new(Some(entry), cause) });
            }
        }
        for key in self.unnamed(key) {
            let Some(value) = self.baselines.known.get(&key) else { continue };
            let job = Job { written_back: Some(value.as_str().into()), ..Job::new(None, cause) };
            let slot = SettingId::Unannounced(key);
            self.jobs.insert((rank(&slot), slot), job);
        }
        self.doubt_baselines_of(key);
    }

    /// The setting that `repair` goes with, where that is guarded, has not been looked at for it, and need not wait. A full read looks
    /// at both anyway, in their order.
    pub fn leader_of(&self, repair: &Repair) -> Option<Key> {
        let Job { received, after_leader, .. } = repair.job;
        let leader =
            repair.key.follows().filter(|_| received.is_some() && repair.guarded().is_some() && !after_leader)?;
        let (is_guarded, slot) = (self.unannounced.contains_key(&leader), SettingId::Unannounced(leader.clone()));
        (is_guarded && !self.is_deferred(&slot)).then_some(leader)
    }

    /// Has `leader` looked at before `repair`: one drift is one repair, and one record.
    pub fn put_behind(&mut self, repair: Repair, leader: Key) {
        let Repair { slot, job, .. } = repair;
        self.note_decision(&slot, job.new.as_deref(), Verdict::Behind(leader.clone()));
        self.check(SettingId::Unannounced(leader), job.cause, job.received);
        self.jobs.insert((rank(&slot), slot), Job { after_leader: true, ..job });
    }

    /// Has read again, once nothing else is to be done, what a write to `all` would change and the policy does not name.
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
        for name in FANNED_OUT_BY_ALL {
            let all = Key::in_table("ipv6", "conf", "all".as_ref(), name);
            let Some(interface) = self.interfaces.get(&ifindex).filter(|_| self.unannounced.contains_key(&all)) else {
                continue;
            };
            let key = Key::in_table("ipv6", "conf", interface.name.as_ref(), name);
            if !self.unannounced.contains_key(&key) {
                self.baselines.unread.insert(key);
            }
        }
    }

    pub(super) fn doubt_baseline(&mut self, key: Key) {
        self.baselines.unread.insert(key);
    }

    /// The settings that a write to `all` changes and the policy does not name, if it names `all`.
    fn unnamed(&self, all: &Key) -> Vec<Key> {
        let Some(place) = all.place().filter(|place| place.interface == "all" && self.unannounced.contains_key(all))
        else {
            return Vec::new();
        };
        let names = self.interfaces.values().map(|interface| interface.name);
        let keys = names.map(|name| Key::in_table(place.family, place.table, name.as_ref(), place.name));
        keys.filter(|key| key.follows().as_ref() == Some(all) && !self.unannounced.contains_key(key)).collect()
    }

    /// Whether a setting that the policy does not name is one whose value has to be known.
    pub(super) fn is_baseline(&self, key: &Key) -> bool {
        key.follows().is_some_and(|all| {
            all.place().is_some_and(|place| place.interface == "all") && self.unannounced.contains_key(&all)
        }) && !self.unannounced.contains_key(key)
    }

    pub(super) fn is_known_baseline(&self, key: &Key) -> bool {
        self.baselines.known.contains_key(key)
    }

    /// The settings that have to be read since this was last asked, and for each the `all` that has to be right meanwhile: else
    /// what stands there may be its doing.
    pub fn take_unread(&mut self) -> Vec<(Key, Key)> {
        // What is still to be put back does not stand there yet.
        let unread = std::mem::take(&mut self.baselines.unread);
        let is_pending = |key: &Key| self.is_to_come(SettingId::Unannounced(key.clone()));
        let (pending, unread): (BTreeSet<Key>, BTreeSet<Key>) = unread.into_iter().partition(is_pending);
        self.baselines.unread = pending;
        unread
            .into_iter()
            .filter(|key| self.is_baseline(key))
            .filter_map(|key| key.follows().map(|all| (key, all)))
            .collect()
    }

    /// What one of them is. `undisturbed`: `all` was right before and after it was read. With nothing known before, an excluded
    /// setting is taken as it is all the same.
    pub fn baseline(&mut self, key: Key, value: Option<String>, undisturbed: bool) {
        let Some(value) = value else {
            self.baselines.known.remove(&key);
            return;
        };
        if !undisturbed && (self.baselines.known.contains_key(&key) || !self.policy.excludes(&key)) {
            return;
        }
        let slot = SettingId::Unannounced(key.clone());
        let is_others =
            |written_back: &Option<Arc<str>>| written_back.as_ref().is_some_and(|ours| !same_value(ours, &value));
        if self.written.get(&slot).is_some_and(is_others) {
            self.written.remove(&slot); // somebody else's word on a setting that the policy does not name
        }
        self.baselines.known.insert(key, value);
    }

    /// Whether what is written at `all` is what the policy wants there.
    pub fn other_holds(&self, key: &Key, value: &str) -> bool {
        self.unannounced.get(key).is_some_and(|other| {
            same_value(self.policy.value(other.entry), value) || other.learned.as_deref() == Some(value)
        })
    }

    /// An interface went, or has another name.
    pub(super) fn forget_baselines(&mut self, name: &std::ffi::OsStr) {
        for setting in FANNED_OUT_BY_ALL {
            let key = Key::in_table("ipv6", "conf", name, setting);
            self.written.remove(&SettingId::Unannounced(key.clone()));
            self.gone.extend(self.baselines.known.remove_entry(&key).map(|(key, _)| key));
        }
    }

    pub(super) fn forget_all_baselines(&mut self) {
        self.gone.extend(std::mem::take(&mut self.baselines).known.into_keys());
    }
}
