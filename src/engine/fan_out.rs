//! After a write of `all.forwarding`, which changes every interface: writes interfaces back and receives the whole fan-out.

use super::{Engine, Sink, TURN};
use crate::kernel::socket::Received;
use crate::kernel::sysctl::now_usec;
use crate::report::record::{Cause, Record};
use crate::setting::{Attribute, Family, Key};

impl<O: Sink> Engine<O> {
    /// A write of `all.forwarding` changed every interface: writes back at once what it should not have changed, and receives
    /// the whole fan-out before anything else is decided.
    pub(super) fn receive_fan_out(&mut self, family: Family, ours: bool) {
        let all = || Key::conf(family, "all".as_ref(), Attribute::Forwarding);
        if !ours {
            // It may not be over yet.
            self.heartbeat.clone().inside(Some(&all().into()), || self.dumps.wait_for_rtnl());
        }
        for repair in self.state.write_backs(family) {
            self.execute(repair);
        }
        let (mut wrong, mut received_all) = (false, false);
        // Two messages come for each interface; a process that writes without end must not hold up everything else.
        for _ in 0..TURN + 4 * self.state.known() {
            match self.notifications.receive() {
                Received::Messages(messages) => {
                    let at = now_usec();
                    messages.iter().for_each(|message| self.apply_event(message, at));
                }
                Received::Nothing => {
                    received_all = true;
                    break;
                }
                Received::Lost(lost) => {
                    self.drain();
                    self.publish_record(Record::Resynchronised { reason: lost.to_string() });
                    self.read_everything(Cause::Overrun);
                    received_all = true;
                    break;
                }
            }
            let was_wrong = std::mem::replace(&mut wrong, self.state.is_all_reported_wrong(family));
            if wrong && !was_wrong {
                // The message is old and its drift repaired already, or a process writes faster than this receives: repair first.
                if self.sysctl.read(&all()).is_ok_and(|value| !self.state.all_holds(family, &value)) {
                    break;
                }
            }
        }
        // Otherwise the fan-out is over once the rest has been received ([`State::idle`]).
        if received_all || self.state.is_all_reported_wrong(family) {
            self.state.fan_out_received(family);
        }
    }
}
