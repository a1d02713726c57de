//! What the guard makes of everything read at once.
//!
//! A node has thousands of interfaces, and hardly anything is wrong or new: so both are gone through side by side, in the
//! order of their indices, and only what is wrong or new is heard like a message that came by itself.

use super::hear::drop_others;
use super::{Guard, Move, Slot};
use crate::kernel::message::Link;
use crate::kernel::netconf::NetconfMessage;
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
        let others =
            self.interfaces.values().flat_map(|interface| interface.others.iter().cloned()).collect::<Vec<_>>();
        others.into_iter().for_each(|key| self.check(Slot::Other(key), cause, None));
        self.check_elsewhere(cause);
        self.reread = false;
    }

    /// An interface that is there at the start; of its settings [`Guard::snapshot`] tells.
    pub fn found(&mut self, link: &Link) {
        if let (_, Some((true, _))) = self.place(link, true) {
            self.moves.push(Move::Here(link.name));
        }
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

    /// Takes the messages that say nothing wrong, and nothing that something else follows from, as most of them do. Those
    /// that are left, but for those of `all`, have to be heard.
    fn take_what_is_right<'a>(&mut self, netconf: &'a [NetconfMessage]) -> Vec<&'a NetconfMessage> {
        let mut left: Vec<&NetconfMessage> = netconf.iter().filter(|message| message.ifindex != Some(ALL)).collect();
        left.sort_by_key(|message| message.ifindex);
        let entries = self.policy.entries();
        let (idle, nothing_written) = (self.jobs.is_empty(), self.written.is_empty());
        let mut counts = self.counts;
        let mut known = self.interfaces.iter_mut().peekable();
        left.retain(|message| {
            while known.next_if(|(ifindex, _)| Some(**ifindex) < message.ifindex).is_some() {}
            let interface = known.peek_mut().filter(|(ifindex, _)| Some(**ifindex) == message.ifindex);
            let Some((_, interface)) = interface else { return true };
            let family = if i32::from(message.family) == libc::AF_INET { Family::V4 } else { Family::V6 };
            let said = [
                (Attribute::Forwarding, message.forwarding),
                (Attribute::RpFilter, message.rp_filter.filter(|_| family == Family::V4)),
            ];
            let is_right = |(attribute, value): &(Attribute, Option<i32>)| {
                let Some(value) = *value else { return true };
                let cell = interface.cell(family, *attribute);
                let right = cell.entry.map_or(nothing_written, |entry| entries[entry].number == Some(i64::from(value)));
                let is_first = cell.seen.is_none() && idle;
                right && (is_first || cell.seen == Some(value) && cell.settled == Some(value))
            };
            if self.episodes[family as usize].is_some() || !said.iter().all(is_right) {
                return true;
            }
            for (attribute, value) in said {
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
