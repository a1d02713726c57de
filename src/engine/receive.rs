//! Receives the kernel's notifications and applies them to the state, a batch at a time.

use super::{Engine, Sink, TURN};
use crate::kernel::message::Event;
use crate::kernel::socket::Received;
use crate::kernel::sysctl::now_usec;

impl<O: Sink> Engine<O> {
    /// Receives what is queued, and repairs after each batch. False: there may be more, but commands need their turn.
    pub(super) fn receive_all(&mut self) -> bool {
        for _ in 0..TURN {
            match self.notifications.receive() {
                Received::Messages(messages) => {
                    let at = now_usec();
                    messages.iter().for_each(|message| self.apply_event(message, at));
                    self.publish_moves();
                    self.execute_repairs();
                }
                Received::Nothing => {
                    self.execute_repairs();
                    return true;
                }
                Received::Lost(lost) => self.resynchronise(lost.to_string()),
            }
        }
        false
    }

    pub(super) fn apply_event(&mut self, message: &Event, at: u64) {
        self.trace_event(message);
        match message {
            Event::Netconf(message) => {
                let Some(ifindex) = message.ifindex else { return };
                if !self.state.knows(ifindex) {
                    // A new interface's netconf message comes before its link message.
                    let link = self.heartbeat.clone().inside(None, || self.ask_link(ifindex, false));
                    let Some(link) = link else { return };
                    self.state.apply_link(&link, false, at);
                }
                self.state.apply_netconf(message, at);
            }
            Event::Link(link) => {
                if self.state.gives_other_settings(link) {
                    // The kernel announces it before it does it (the order of netdev_chain: rtnetlink_event, inetdev_event, addrconf_notify).
                    self.heartbeat.clone().inside(None, || self.dumps.wait_for_rtnl());
                }
                self.state.apply_link(link, true, at);
            }
            Event::LinkGone { ifindex } => self.state.remove_link(*ifindex),
            Event::Broken | Event::Other => {}
        }
    }
}
