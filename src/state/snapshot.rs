//! Applies a full read to the state: each message of the dump goes the way of a notification.

use super::events::drop_unannounced;
use super::{Move, SettingId, State};
use crate::kernel::message::Link;
use crate::kernel::netconf::NetconfMessage;
use crate::report::record::Cause;
use crate::setting::{ALL, Attribute, DEFAULT, Family};

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

impl State {
    /// Takes everything that was read at once. Decides in the design's order, whatever the order of the dump.
    pub fn apply_snapshot(&mut self, snapshot: &Snapshot, cause: Cause) {
        if let Some(links) = &snapshot.links {
            self.take_links(links, cause);
        }
        if cause == Cause::Overrun && !self.guards_ipv6() {
            // What was lost of it is not read again, and what was known need not be so any more.
            for interface in self.interfaces.values_mut() {
                let cell = interface.cell_mut(Family::V6, Attribute::Forwarding);
                (cell.current, cell.baseline) = (None, None);
            }
        }
        self.wrote_all &= self.fan_outs[Family::V4 as usize].is_some();
        let of =
            |these: fn(i32) -> bool| snapshot.netconf.iter().filter(move |message| message.ifindex.is_some_and(these));
        let in_order =
            of(|ifindex| ifindex == ALL).chain(of(|ifindex| ifindex == DEFAULT)).chain(of(|ifindex| ifindex > 0));
        in_order.for_each(|message| self.apply_message(message, cause, None));
        if self.redirects.is_none() || self.fan_outs[Family::V4 as usize].is_none() {
            self.redirects.clone_from(&snapshot.redirects);
        }
        for key in self.unannounced.keys().cloned().collect::<Vec<_>>() {
            self.check(SettingId::Unannounced(key), cause, None);
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
                    drop_unannounced(known, &mut self.unannounced, &mut self.gone);
                    self.link_schedule.mark_changed(*ifindex, false);
                    new.push(link);
                }
            }
        }
        gone.into_iter().for_each(|ifindex| self.remove_link(ifindex));
        for link in new.into_iter().chain(there) {
            arrived.extend(self.place(link, true).1.map(|arrival| (link, arrival)));
        }
        for (link, (first, came_up)) in arrived {
            if first {
                self.moves.push(Move::Here(link.name));
            }
            // Its messages are lost, or will be no news.
            if (first || came_up) && cause != Cause::Start {
                self.link_schedule.mark_changed(link.ifindex, false);
            }
        }
    }
}
