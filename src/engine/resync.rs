//! Resync: after a start, an overrun or an audit, everything is read again.

use std::ffi::OsStr;
use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::sources::{DUMPS, IOCTLS, SOCKET};
use super::{Engine, Sink};
use crate::kernel::message::Link;
use crate::kernel::netconf::NetconfMessage;
use crate::kernel::socket::{Notifications, Received};
use crate::kernel::sysctl::{CONF_FOLDER, interfaces, now_usec};
use crate::report::record::{Cause, INTERFACES, Record};
use crate::setting::{ALL, Attribute, DEFAULT, Family, Key};
use crate::state::Snapshot;
use crate::text::{count, why};

/// A socket that fails this often in a row has to be made anew.
const RECEIVE_ERRORS_MAX: u32 = 16;
const SUBSCRIBE_RETRY: Duration = Duration::from_secs(1);
/// NETDEV_HASHENTRIES (include/linux/netdevice.h).
const INDEX_LISTS: i32 = 256;
/// `all` and `default`.
const PSEUDO_INTERFACES: usize = 2;

impl<O: Sink> Engine<O> {
    /// Something may have been missed. The kernel drops messages until the queue is empty, so it is emptied first, and
    /// then everything is read.
    pub(super) fn resynchronise(&mut self, reason: String) {
        self.drain();
        self.read_everything(Cause::Overrun);
        self.execute_repairs();
        self.publish_record(Record::Resynchronised { reason });
    }

    /// Empties the queue. Nothing new comes into it meanwhile, so that no process that writes without end can keep it full.
    pub(super) fn drain(&mut self) {
        let (mut errors, deaf) = (0, self.notifications.deafen());
        loop {
            match self.notifications.receive() {
                Received::Nothing => break,
                Received::Messages(_) => errors = 0,
                Received::Lost(_) if errors < RECEIVE_ERRORS_MAX => errors += 1,
                Received::Lost(lost) => return self.subscribe_again(lost.to_string()),
            }
        }
        if deaf.is_ok() && self.notifications.listen().is_err() {
            self.subscribe_again("its filter cannot be changed".into());
        }
    }

    /// The socket gives nothing but errors: makes another, for as long as that takes.
    fn subscribe_again(&mut self, reason: String) {
        self.source_is_lost(SOCKET, reason);
        loop {
            if let Ok(mut notifications) = Notifications::subscribe() {
                notifications.mute(self.notifications.muted().to_vec());
                _ = notifications.listen(); // else it receives more than it must
                self.notifications = notifications;
                return self.source_is_back(SOCKET);
            }
            self.heartbeat.turns.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(SUBSCRIBE_RETRY);
        }
    }

    pub(super) fn read_everything(&mut self, cause: Cause) {
        let redirects = self.sysctl.read(&Key::all_accept_redirects()).ok();
        let heartbeat = self.heartbeat.clone();
        let (links, netconf) = match heartbeat.inside(None, || self.dump(cause)) {
            Ok(read) => {
                self.source_is_back(DUMPS);
                read
            }
            Err(error) => {
                self.source_is_lost(DUMPS, why(&error));
                heartbeat.inside(None, || self.read_files())
            }
        };
        self.state.apply_snapshot(&Snapshot { links, netconf, redirects, at: now_usec() }, cause);
        for key in self.state.unread_followers() {
            let value = self.sysctl.read(&key).ok();
            self.state.note_read(&key, value);
        }

        self.read_baselines();
        self.check_interfaces_known();
    }

    /// The interfaces and their settings. Interfaces are `None` where those that are known are all: the kernel announces each that
    /// comes, goes or gets another name, unless that was lost.
    fn dump(&mut self, cause: Cause) -> io::Result<(Option<Vec<Link>>, Vec<NetconfMessage>)> {
        let families = if self.state.guards_ipv6() { &Family::BOTH[..] } else { &[Family::V4] };
        let mut netconf = Vec::with_capacity(families.len() * self.state.known());
        for family in families {
            netconf.append(&mut self.dumps.netconf(*family)?);
        }
        let mut indices: Vec<i32> = netconf.iter().filter_map(|message| message.ifindex).filter(|it| *it > 0).collect();
        indices.sort_unstable();
        indices.dedup();
        let lost = cause == Cause::Overrun;
        if !lost && self.state.knows_just(&indices) {
            return Ok((None, netconf));
        }
        // The kernel looks for an index in one of 256 lists (`dev_index_hash`, net/core/dev.c): one after the other, each is in the
        // processor's cache but the first time.
        indices.sort_unstable_by_key(|ifindex| ifindex % INDEX_LISTS);
        // The kernel announces those that have gone meanwhile.
        let mut links: Vec<Link> = indices.iter().filter_map(|ifindex| self.ask_link(*ifindex, lost)).collect();
        links.sort_unstable_by_key(|link| link.ifindex);
        Ok((Some(links), netconf))
    }

    /// The same, from the files of the settings and by what the kernel still answers: where it refuses dumps.
    fn read_files(&mut self) -> (Option<Vec<Link>>, Vec<NetconfMessage>) {
        let (mut links, mut netconf) = (Vec::new(), Vec::new());
        for name in interfaces().unwrap_or_default() {
            let Some(ifindex) = name.to_str().and_then(|name| self.links.index(name).ok()?) else { continue };
            netconf.extend(self.read_settings(&name, ifindex));
            links.extend(self.ask_link(ifindex, false));
        }
        links.sort_unstable_by_key(|link| link.ifindex);
        for (name, ifindex) in [("all", ALL), ("default", DEFAULT)] {
            netconf.extend(self.read_settings(name.as_ref(), ifindex));
        }
        (Some(links), netconf)
    }

    fn read_settings(&mut self, name: &OsStr, ifindex: i32) -> [NetconfMessage; 2] {
        Family::BOTH.map(|family| {
            let mut read = |attribute| self.sysctl.read(&Key::conf(family, name, attribute)).ok()?.parse().ok();
            let rp_filter = (family == Family::V4).then(|| read(Attribute::RpFilter)).flatten();
            let forwarding = read(Attribute::Forwarding);
            NetconfMessage {
                family: family.number(),
                ifindex: Some(ifindex),
                forwarding,
                rp_filter,
                settings: 2,
                ..Default::default()
            }
        })
    }

    /// An interface's name and state, if there is such an interface.
    pub(super) fn ask_link(&mut self, ifindex: i32, state: bool) -> Option<Link> {
        let link = self.links.link(&mut self.dumps, ifindex, state);
        if let Some(error) = self.links.take_refusal() {
            self.source_is_lost(IOCTLS, why(&error));
        }
        link.unwrap_or_else(|error| {
            self.source_is_lost(INTERFACES, why(&error));
            None
        })
    }

    /// No interface is known, and there are some: then nothing of theirs is guarded.
    fn check_interfaces_known(&mut self) {
        if self.state.known() > PSEUDO_INTERFACES {
            return self.source_is_back(INTERFACES);
        }
        match interfaces() {
            Ok(folders) if folders.is_empty() => {}
            Ok(folders) => {
                let reason =
                    format!("{} in {CONF_FOLDER}, but the kernel lists none", count(folders.len(), "interface"));
                self.source_is_lost(INTERFACES, reason);
            }
            Err(error) => self.source_is_lost(INTERFACES, format!("{CONF_FOLDER}: {}", why(&error))),
        }
    }
}
