//! Applies a full read to the state: each message of the dump is applied as a notification is.
//!
//! It owns when everything was read last, and whether it has to be read again.

use super::{SettingId, State};
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

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Reads {
    /// Everything has to be read again, and why.
    requested: Option<Cause>,
    /// When everything was read last (monotonic microseconds).
    at: Option<u64>,
}

impl Reads {
    pub fn request(&mut self, cause: Cause) {
        self.requested = Some(cause);
    }

    pub fn is_requested(&self) -> bool {
        self.requested.is_some()
    }

    pub fn take_request(&mut self) -> Option<Cause> {
        self.requested.take()
    }

    /// When everything was read last (monotonic microseconds).
    pub fn last(&self) -> Option<u64> {
        self.at
    }
}

impl State {
    /// Applies everything that was read at once, in the order of repairs, whatever the order of the dump.
    pub fn apply_snapshot(&mut self, snapshot: &Snapshot, cause: Cause) {
        if let Some(links) = &snapshot.links {
            self.apply_links(links, cause);
        }
        if cause == Cause::Overrun && !self.guards_ipv6() {
            // What was lost of it is not read again, and its known values may have changed.
            for (_, cell) in self.settings.cells_mut(Family::V6, Attribute::Forwarding) {
                (cell.current, cell.baseline) = (None, None);
            }
        }
        if !self.fan_outs.is_on(Family::V4) {
            self.fan_outs.forget_all_written();
        }
        let of =
            |these: fn(i32) -> bool| snapshot.netconf.iter().filter(move |message| message.ifindex.is_some_and(these));
        let in_order =
            of(|ifindex| ifindex == ALL).chain(of(|ifindex| ifindex == DEFAULT)).chain(of(|ifindex| ifindex > 0));
        in_order.for_each(|message| self.apply_message(message, cause, None));
        self.take_redirects(snapshot.redirects.clone());
        for key in self.settings.unannounced_keys().cloned().collect::<Vec<_>>() {
            self.check(SettingId::Unannounced(key), cause, None);
        }
        self.doubt_baselines();
        self.reads = Reads { requested: None, at: Some(snapshot.at) };
    }

    fn apply_links(&mut self, links: &[Link], cause: Cause) {
        let mut differences = self.settings.compare(links);
        differences.gone.into_iter().for_each(|ifindex| self.remove_link(ifindex));
        self.forget_unannounced(differences.dropped);
        differences.renamed.into_iter().for_each(|ifindex| self.link_schedule.mark_changed(ifindex, false));
        for link in differences.new {
            differences.arrived.extend(self.place(link, true).arrival.map(|arrival| (link, arrival)));
        }
        for (link, (first, came_up)) in differences.arrived {
            if first {
                self.settings.note_here(link.name);
            }
            // Its notifications are lost, or will say nothing new.
            if (first || came_up) && cause != Cause::Start {
                self.link_schedule.mark_changed(link.ifindex, false);
            }
        }
    }
}
