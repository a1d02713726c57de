//! What the guard is sure to ask for once it has heard a message, told before it has.

use std::sync::Arc;

use super::put_off::all_forwarding;
use super::{Guard, Repair, Slot, rank};
use crate::kernel::netconf::NetconfMessage;
use crate::report::record::Cause;
use crate::setting::{ALL, Attribute, Family, Key};

impl Guard {
    /// The setting that [`Guard::next_repair`] asks for as soon as `message` has been heard, where nothing stands in its way:
    /// no other job, nobody who keeps changing it too fast. IPv6 is not foreseen: there, what is said of an interface may be of `all`.
    pub fn foresee(&self, message: &NetconfMessage) -> Option<Slot> {
        let undisturbed = self.jobs.is_empty() && self.waiting.is_empty() && self.episodes.iter().all(Option::is_none);
        if !undisturbed || i32::from(message.family) != libc::AF_INET || message.settings != 1 {
            return None;
        }
        let (attribute, value) = match (message.forwarding, message.rp_filter) {
            (Some(value), None) => (Attribute::Forwarding, value),
            (None, Some(value)) => (Attribute::RpFilter, value),
            _ => return None,
        };
        let slot = Slot::Announced(Family::V4, attribute, message.ifindex?);
        let entry = self.cell(&slot)?.entry?;
        let all = Slot::Announced(Family::V4, Attribute::Forwarding, ALL);
        let with_all = attribute == Attribute::Forwarding && slot != all && self.contests.is_contested(&all);
        let is_free = !self.failed.contains_key(&slot) && self.contests.is_prompt(&slot) && !with_all;
        (is_free && !self.wants(entry, value)).then_some(slot)
    }

    /// IPv4's `all.forwarding`, if a message that it is wrong would be foreseen.
    pub fn foresee_all(&self) -> Option<Slot> {
        let entry = self.all_entry(Family::V4)?;
        let wrong = i32::from(self.wants(entry, 0));
        let (family, forwarding) = (libc::AF_INET as u8, Some(wrong));
        self.foresee(&NetconfMessage {
            family,
            ifindex: Some(ALL),
            forwarding,
            rp_filter: None,
            settings: 1,
            ..Default::default()
        })
    }

    /// The key of a setting, and the value that the policy wants it to have.
    pub fn wanted(&self, slot: &Slot) -> Option<(Key, Arc<str>)> {
        let entry = self.cell(slot)?.entry?;
        Some((self.key_of(slot)?, self.policy.entries()[entry].value.clone()?))
    }

    /// Has a setting looked at that may hold otherwise.
    pub fn look_at(&mut self, slot: Slot, received: u64) {
        self.check(slot, Cause::Write, Some(received));
    }

    /// The repair of what was foreseen and is done already, whether it has been asked for, was put off, or neither.
    pub fn repair_of(&mut self, slot: &Slot, received: u64) -> Option<Repair> {
        let queued = (rank(slot), slot.clone());
        let job = self.jobs.remove(&queued).or_else(|| self.waiting.remove(&queued));
        if job.is_none() {
            self.look_at(slot.clone(), received);
        }
        let job = job.or_else(|| self.jobs.remove(&queued))?;
        self.repair(slot.clone(), job)
    }

    /// Whether a value that was read of IPv4's `all.forwarding` at `since` stood there in passing, now that all is heard: who has to
    /// wait for the RTNL lock stores his value and takes it back (`devinet_sysctl_forward`), and what he does once he has the lock
    /// is another drift. Of a change, be it his or ours, the kernel would have told.
    pub fn was_in_passing(&self, slot: &Slot, since: u64) -> bool {
        let family = Family::V4;
        *slot == all_forwarding(family)
            && self.all_heard[family as usize] < since
            && !self.is_to_come(slot.clone())
            && !self.contests.is_muted(slot)
    }

    /// Whether nothing has to be done at once about a message that came with a repair of `slot`, which is not `all.forwarding`.
    pub fn can_wait(&self, message: &NetconfMessage, slot: &Slot) -> bool {
        let is_one_of_ipv4 = i32::from(message.family) == libc::AF_INET && message.settings == 1;
        is_one_of_ipv4 && self.foresee(message).is_none_or(|other| other == *slot)
    }

    /// Whether a write of this setting leaves nothing to be done at once: no interface that is to stay closed stands open.
    pub fn may_rest(&self, slot: &Slot) -> bool {
        match slot {
            Slot::Announced(family, Attribute::Forwarding, ALL) => self.closed(*family).next().is_none(),
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::Snapshot;
    use crate::kernel::message::Link;
    use crate::kernel::sysctl::Outcome;
    use crate::policy::Policy;
    use crate::setting::DEFAULT;

    fn message(family: i32, ifindex: i32, forwarding: Option<i32>, rp_filter: Option<i32>) -> NetconfMessage {
        NetconfMessage {
            family: family as u8,
            ifindex: Some(ifindex),
            forwarding,
            rp_filter,
            settings: 1,
            ..Default::default()
        }
    }

    /// The policy without files, `eth0` with index 1, and everything as it should be.
    fn guard() -> Guard {
        let folder = tempfile::tempdir().unwrap();
        let mut guard = Guard::new(std::sync::Arc::new(Policy::load(folder.path())));
        let links = Some(vec![Link { ifindex: 1, name: "eth0".into(), up: None, mtu: None }]);
        let netconf = [ALL, DEFAULT, 1].map(|ifindex| message(libc::AF_INET, ifindex, Some(1), Some(0))).into();
        guard.snapshot(&Snapshot { links, netconf, redirects: None, at: 0 }, Cause::Start);
        while guard.next_repair(0).is_some() {}
        guard
    }

    fn repair(guard: &mut Guard, at: u64) -> Option<Slot> {
        let repair = guard.next_repair(at)?;
        let slot = repair.guarded();
        let outcome = Outcome { found: Ok("0".into()), write: Some(Ok(())), now: None, finished: at, write_usec: 1 };
        let family = guard.done(repair, outcome);
        if let Some(Slot::Announced(_, attribute, ifindex)) = slot {
            let values = if attribute == Attribute::Forwarding { (Some(1), None) } else { (None, Some(0)) };
            guard.netconf(&message(libc::AF_INET, ifindex, values.0, values.1), at);
            if (attribute, ifindex) == (Attribute::Forwarding, ALL) {
                guard.netconf(&message(libc::AF_INET, 1, values.0, None), at); // it goes with it
            }
        }
        family.into_iter().for_each(|family| guard.absorbed(family));
        slot
    }

    #[test]
    fn what_is_foreseen_is_asked_for_next() {
        let drifts = [ALL, DEFAULT, 1].map(|ifindex| message(libc::AF_INET, ifindex, Some(0), None));
        for drift in drifts {
            let mut guard = guard();
            for at in (1..=400).map(|round| round * 20_000) {
                let foreseen = guard.foresee(&drift);
                assert!(drift.ifindex != Some(ALL) || guard.foresee_all() == foreseen);
                guard.netconf(&drift, at);
                let asked = repair(&mut guard, at);
                assert!(foreseen.is_none() || foreseen == asked, "{foreseen:?} {asked:?}");
                // Until it has cost too much to be mended at once.
                assert!(foreseen.is_some() || at > 1_000_000, "not foreseen at {at}: {drift:?}");
                if let Some(slot) = &asked {
                    guard.charge(slot, at, 5_000);
                } else {
                    guard.netconf(&message(libc::AF_INET, drift.ifindex.unwrap(), Some(1), None), at);
                }
                guard.tick(at);
            }
        }
    }

    #[test]
    fn another_setting_that_is_broken_at_the_same_time_can_not_wait() {
        let (guard, v4) = (guard(), libc::AF_INET);
        let slot = Slot::Announced(Family::V4, Attribute::Forwarding, 1);
        let cases = [
            (message(v4, 1, Some(0), None), true),
            (message(v4, ALL, Some(0), None), false),
            (message(v4, ALL, None, Some(0)), true), // as it should be
            (message(v4, ALL, None, Some(1)), false),
            (NetconfMessage { settings: 5, ..message(v4, 7, Some(1), Some(0)) }, false), // a new interface
            (message(libc::AF_INET6, ALL, Some(0), None), false),
        ];
        for (message, can_wait) in cases {
            assert_eq!(guard.can_wait(&message, &slot), can_wait, "{message:?}");
        }
    }

    #[test]
    fn what_is_done_already_is_not_put_off() {
        let (mut guard, drift) = (guard(), message(libc::AF_INET, ALL, Some(0), None));
        let mut at = 0;
        let slot = loop {
            at += 1_000;
            guard.netconf(&drift, at);
            let Some(slot) = repair(&mut guard, at) else {
                break Slot::Announced(Family::V4, Attribute::Forwarding, ALL);
            };
            guard.charge(&slot, at, 5_000);
        };
        let repair = guard.repair_of(&slot, at).expect("it was put off");
        assert!(repair.is_of(&slot) && repair.job.cause == Cause::Write);
        assert!(guard.repair_of(&slot, at).is_some(), "nothing has asked for it");
    }

    #[test]
    fn a_value_that_the_kernel_never_told_of_stood_there_in_passing() {
        let (mut guard, drift) = (guard(), message(libc::AF_INET, ALL, Some(0), None));
        let [all, interface] = [ALL, 1].map(|ifindex| Slot::Announced(Family::V4, Attribute::Forwarding, ifindex));
        guard.netconf(&message(libc::AF_INET, 1, Some(0), None), 5);
        assert!(guard.was_in_passing(&all, 5));
        assert!(!guard.was_in_passing(&interface, 5));
        guard.netconf(&drift, 5);
        assert!(!guard.was_in_passing(&all, 5));
        repair(&mut guard, 6);
        assert!(!guard.was_in_passing(&all, 5), "told of, and put right");
        assert!(guard.was_in_passing(&all, 7), "of an earlier one");
    }

    #[test]
    fn what_is_right_unknown_or_not_sure_is_not_foreseen() {
        let mut guard = guard();
        let v4 = libc::AF_INET;
        for message in [
            message(v4, 1, Some(1), None),
            message(v4, 7, Some(0), None),
            message(v4, 1, Some(0), Some(1)),
            message(v4, 1, None, None),
            message(libc::AF_INET6, 1, Some(0), None),
            NetconfMessage { settings: 5, ..message(v4, 1, Some(0), None) },
        ] {
            assert_eq!(guard.foresee(&message), None, "{message:?}");
        }
        guard.netconf(&message(v4, ALL, Some(0), None), 1);
        assert_eq!(guard.foresee(&message(v4, 1, Some(0), None)), None, "an interface that goes with all");
    }
}
