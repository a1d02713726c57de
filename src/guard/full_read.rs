//! What the guard makes of everything read at once.
//!
//! A node has thousands of interfaces, and hardly anything is wrong or new: so both are gone through side by side, in the
//! order of their indices, and only what is wrong or new is heard like a message that came by itself.

use std::collections::btree_map::Range;
use std::sync::Arc;

use super::hear::drop_others;
use super::interface::Interface;
use super::{Guard, Move, Slot};
use crate::kernel::message::Link;
use crate::kernel::netconf::NetconfMessage;
use crate::policy::Policy;
use crate::report::record::Cause;
use crate::setting::{ALL, Attribute, Family};

/// Everything read at once.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// By ifindex. `None`: the interfaces known are all there are.
    pub links: Option<Vec<Link>>,
    pub netconf: Vec<NetconfMessage>,
    /// `all.accept_redirects`, read before the rest.
    pub redirects: Option<String>,
    /// When this was, in monotonic microseconds.
    pub at: u64,
}

impl Guard {
    /// Takes everything that was read at once. Decides in the design's order, whatever the order of the dump.
    pub fn snapshot(&mut self, snapshot: &Snapshot, cause: Cause) {
        if let Some(links) = &snapshot.links {
            self.take_links(links, cause);
        }
        if cause == Cause::Overrun && !self.guards_ipv6() {
            // What was lost of it is not read again, and what was known need not be so any more.
            for interface in self.interfaces.values_mut() {
                let cell = interface.cell_mut(Family::V6, Attribute::Forwarding);
                (cell.seen, cell.settled) = (None, None);
            }
        }
        self.wrote_all &= self.episodes[Family::V4 as usize].is_some();
        let is_of_all = |message: &&NetconfMessage| message.ifindex == Some(ALL);
        snapshot.netconf.iter().filter(is_of_all).for_each(|message| self.hear(message, cause, None));
        for message in self.take_what_is_right(&snapshot.netconf) {
            self.hear(message, cause, None);
        }
        if self.redirects.is_none() || self.episodes[Family::V4 as usize].is_none() {
            self.redirects.clone_from(&snapshot.redirects);
        }
        for key in self.others.keys().cloned().collect::<Vec<_>>() {
            self.check(Slot::Other(key), cause, None);
        }
        self.reread = None;
        self.doubt_baselines();
        self.read_at = Some(snapshot.at);
    }

    fn take_links(&mut self, links: &[Link], cause: Cause) {
        let (mut gone, mut new, mut arrived) = (Vec::new(), Vec::new(), Vec::new());
        let mut there = links.iter().peekable();
        for (ifindex, known) in self.interfaces.range_mut(1..) {
            while let Some(link) = there.next_if(|link| link.ifindex < *ifindex) {
                new.push(link);
            }
            match there.next_if(|link| link.ifindex == *ifindex) {
                None => gone.push(*ifindex),
                Some(link) if link.name == known.name => arrived.push((link, known.arrive(link.up))),
                // Names may have been exchanged: all old ones go before the first new one comes.
                Some(link) => {
                    drop_others(known, &mut self.others, &mut self.gone);
                    self.settles.stir(*ifindex, false);
                    new.push(link);
                }
            }
        }
        gone.into_iter().for_each(|ifindex| self.link_gone(ifindex));
        for link in new.into_iter().chain(there) {
            arrived.extend(self.place(link, true).1.map(|arrival| (link, arrival)));
        }
        for (link, (first, came_up)) in arrived {
            if first {
                self.moves.push(Move::Here(link.name));
            }
            // Its messages are lost, or will be no news.
            if (first || came_up) && cause != Cause::Start {
                self.settles.stir(link.ifindex, false);
            }
        }
    }

    /// What is known, to be gone through beside a dump while it comes.
    pub fn beside(&self) -> Beside<'_> {
        Beside { guard: self, checks: Checks::of(self), rest: self.interfaces.range(1..) }
    }

    /// Takes the messages that say nothing wrong, and nothing that something else follows from, as most of them do. Those
    /// that are left, but for those of `all`, have to be heard.
    fn take_what_is_right<'a>(&mut self, netconf: &'a [NetconfMessage]) -> Vec<&'a NetconfMessage> {
        let mut left: Vec<&NetconfMessage> = netconf.iter().filter(|message| message.ifindex != Some(ALL)).collect();
        left.sort_by_key(|message| message.ifindex);
        let (idle, checks) = (self.jobs.is_empty(), Checks::of(self));
        let mut counts = self.counts;
        let mut known = self.interfaces.iter_mut().peekable();
        left.retain(|message| {
            while known.next_if(|(ifindex, _)| Some(**ifindex) < message.ifindex).is_some() {}
            let interface = known.peek_mut().filter(|(ifindex, _)| Some(**ifindex) == message.ifindex);
            let Some((_, interface)) = interface else { return true };
            if !checks.is_right(interface, message, idle) {
                return true;
            }
            for (family, attribute, value) in said(message) {
                let cell = interface.cell_mut(family, attribute);
                if value.is_some() && cell.seen.is_none() {
                    (cell.seen, cell.settled) = (value, value);
                    counts = None;
                }
            }
            false
        });
        self.counts = counts;
        left
    }
}

/// What a dump of known interfaces is compared with.
pub struct Beside<'a> {
    guard: &'a Guard,
    checks: Checks,
    /// Newer kernels tell of interfaces in the order of their indices, older ones in that of 256 lists of them
    /// (`inet_netconf_dump_devconf`, net/ipv4/devinet.c).
    rest: Range<'a, i32, Box<Interface>>,
}

impl Beside<'_> {
    /// Whether there is nothing in it but what is known, and right.
    pub fn says_nothing_new(&mut self, message: &NetconfMessage) -> bool {
        let Some(ifindex) = message.ifindex.filter(|ifindex| *ifindex > 0) else { return false };
        let next = self.rest.next().filter(|(known, _)| **known == ifindex).or_else(|| {
            self.rest = self.guard.interfaces.range(ifindex..);
            self.rest.next().filter(|(known, _)| **known == ifindex)
        });
        next.is_some_and(|(_, interface)| self.checks.is_right(interface, message, false))
    }

    /// Whether these, which are sorted, are all interfaces that are known.
    pub fn are_all(&self, indices: &[i32]) -> bool {
        self.guard.interfaces.range(1..).map(|(ifindex, _)| ifindex).eq(indices)
    }
}

/// What decides whether a message says something wrong, or something that something else follows from.
struct Checks {
    policy: Arc<Policy>,
    nothing_written: bool,
    in_episode: [bool; 2],
}

impl Checks {
    fn of(guard: &Guard) -> Checks {
        Checks {
            policy: guard.policy.clone(),
            nothing_written: guard.written.is_empty(),
            in_episode: [0, 1].map(|family: usize| guard.episodes[family].is_some()),
        }
    }

    /// `news`: what it tells of need not have been told of before.
    fn is_right(&self, interface: &Interface, message: &NetconfMessage, news: bool) -> bool {
        said(message).into_iter().all(|(family, attribute, value)| {
            let cell = interface.cell(family, attribute);
            let wanted = |entry: usize| self.policy.entries()[entry].number == value.map(i64::from);
            let right = cell.entry.map_or(self.nothing_written, wanted);
            let is_known = cell.seen == value && cell.settled == value || news && cell.seen.is_none();
            !self.in_episode[family as usize] && (value.is_none() || right && is_known)
        })
    }
}

/// The settings that a message of a full read may tell of.
fn said(message: &NetconfMessage) -> [(Family, Attribute, Option<i32>); 2] {
    let family = if i32::from(message.family) == libc::AF_INET { Family::V4 } else { Family::V6 };
    [
        (family, Attribute::Forwarding, message.forwarding),
        (family, Attribute::RpFilter, message.rp_filter.filter(|_| family == Family::V4)),
    ]
}
