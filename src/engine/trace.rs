//! What `fwdguard run -v` and `-vv` log of the guard thread: decisions, and every event.

use super::{Command, Engine, Sink};
use crate::kernel::message::Event;
use crate::report::decision::Log;
use crate::setting::printable;

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    #[default]
    Records,
    Decisions,
    Events,
}

impl<O: Sink> Engine<O> {
    /// Logs so much from now on.
    pub fn log(&mut self, verbosity: Verbosity) {
        if verbosity >= Verbosity::Decisions {
            self.state.note_decisions();
        }
        self.events = (verbosity == Verbosity::Events).then(Vec::new);
    }

    /// Nothing is made of an event that is not logged.
    pub(super) fn trace(&mut self, event: impl FnOnce() -> String) {
        if let Some(events) = &mut self.events {
            events.push(event());
        }
    }

    pub(super) fn trace_event(&mut self, message: &Event) {
        if self.events.is_none() {
            return;
        }
        let known = |ifindex: i32| self.state.name(ifindex).map(|name| printable(&name));
        let name = |ifindex: i32| known(ifindex).unwrap_or_else(|| ifindex.to_string());
        let event = match message {
            Event::Netconf(netconf) => {
                let family = if i32::from(netconf.family) == libc::AF_INET { "ipv4" } else { "ipv6" };
                let values = [("forwarding", netconf.forwarding), ("rp_filter", netconf.rp_filter)];
                let shown = values.iter().filter_map(|(what, value)| Some(format!(" {what} {}", (*value)?)));
                let other = netconf.other.map(|number| format!(" attribute {number}"));
                let shown: String = shown.chain(other).collect();
                format!("netconf: {family} {}{shown}", netconf.ifindex.map_or("?".into(), name))
            }
            Event::Link(link) => {
                let up = link.up.map_or("", |up| if up { ", up" } else { ", down" });
                format!("link: {} ({}){up}", printable(&link.name), link.ifindex)
            }
            Event::LinkGone { ifindex } => format!("link: {} is gone", name(*ifindex)),
            Event::Broken => "netlink: malformed message".into(),
            Event::Other => return,
        };
        self.trace(|| event);
    }

    pub(super) fn trace_command(&mut self, command: &Command) {
        let event = match command {
            Command::Audit(cause) => format!("request: audit all settings (cause: {})", cause.name()),
            Command::MarkSleep(_) | Command::Acknowledge(_) => "request: note the changes during a sleep".into(),
            Command::ReportResume(cause, _) => format!("request: report the changes (cause: {})", cause.name()),
            Command::Reload(..) => "request: apply the reloaded policy".into(),
            Command::CheckGlobal => "request: check settings of a loaded kernel module".into(),
            Command::Ping | Command::Stop => return,
        };
        self.trace(|| event);
    }

    pub(super) fn publish_log(&mut self) {
        let events = self.events.as_mut().map(std::mem::take).unwrap_or_default();
        let log = Log { events, decisions: self.state.take_decisions() };
        if log.lines() > 0 {
            self.sink.log(log);
        }
    }
}
