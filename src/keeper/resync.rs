//! What may have been missed is read again, whole.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::wait::Source;
use super::{Keeper, Outlet};
use crate::guard::Snapshot;
use crate::kernel::message::Link;
use crate::kernel::netconf::NetconfMessage;
use crate::kernel::socket::{Notifications, Received};
use crate::report::record::{Cause, Record};
use crate::setting::{Family, Key};

/// A socket that fails this often in a row has to be made anew.
const RECEIVE_ERRORS_MAX: u32 = 16;
const SUBSCRIBE_RETRY: Duration = Duration::from_secs(1);
const SOCKET: &str = "the rtnetlink socket";
/// NETDEV_HASHENTRIES (include/linux/netdevice.h)
const INDEX_LISTS: i32 = 256;
/// To ask for the names of so many interfaces takes longer than to start a thread that asks for half of them.
const MANY: usize = 1000;
/// `all` and `default`.
const PSEUDO_INTERFACES: usize = 2;

impl<O: Outlet> Keeper<O> {
    /// Something may have been missed. The kernel drops messages until the queue is empty, so it is emptied first, and
    /// then everything is read.
    pub(super) fn resynchronise(&mut self, reason: String) {
        self.drain();
        self.read_everything(Cause::Overrun);
        self.work();
        self.tell(Record::Resynchronised { reason });
    }

    /// Empties the queue. Nothing new comes into it meanwhile, so that nobody who writes without end can keep it full.
    pub(super) fn drain(&mut self) {
        let (mut errors, deaf) = (0, self.notifications.deafen());
        self.notifications.expect_more();
        loop {
            match self.notifications.receive() {
                Received::Nothing => break,
                Received::Messages(_) => errors = 0,
                Received::Lost(_) if errors < RECEIVE_ERRORS_MAX => errors += 1,
                Received::Lost(reason) => return self.subscribe_again(reason),
            }
        }
        if deaf.is_ok() && self.notifications.listen().is_err() {
            self.subscribe_again("its filter can't be changed".into());
        }
    }

    /// The socket gives nothing but errors: makes another, for as long as that takes.
    fn subscribe_again(&mut self, reason: String) {
        self.tell(Record::SourceLost { source: SOCKET, reason });
        loop {
            if let Ok(notifications) = Notifications::subscribe()
                && self.waits.add(Source::Notifications, &notifications).is_ok()
            {
                self.notifications = notifications;
                return self.tell(Record::SourceBack { source: SOCKET });
            }
            self.pulse.turns.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(SUBSCRIBE_RETRY);
        }
    }

    pub(super) fn read_everything(&mut self, cause: Cause) {
        let redirects = self.door.read(&Key::all_accept_redirects()).ok();
        self.notifications.expect_more();
        let pulse = self.pulse.clone();
        let read = pulse.inside(None, || -> io::Result<Snapshot> {
            let mut netconf = self.dumps.netconf(Family::V4)?;
            if self.guard.guards_ipv6() {
                netconf.extend(self.dumps.netconf(Family::V6)?);
            }
            let links = self.links(&netconf, cause);
            Ok(Snapshot { links, netconf, redirects })
        });
        match read {
            Ok(snapshot) => self.guard.snapshot(&snapshot, cause),
            Err(error) => self.tell(Record::SourceLost { source: "rtnetlink dumps", reason: error.to_string() }),
        }
    }
    /// The interfaces of a dump. `None`: those that are known. Of each that comes, goes or gets another name the kernel tells,
    /// unless that was lost.
    fn links(&self, netconf: &[NetconfMessage], cause: Cause) -> Option<Vec<Link>> {
        let of_interface = |message: &NetconfMessage| message.ifindex.filter(|ifindex| *ifindex > 0);
        let mut indices: Vec<i32> = netconf.iter().filter_map(of_interface).collect();
        indices.sort_unstable();
        indices.dedup();
        let all_known =
            indices.len() + PSEUDO_INTERFACES == self.guard.known() && indices.iter().all(|i| self.guard.knows(*i));
        let lost = cause == Cause::Overrun;
        if all_known && !lost {
            return None;
        }
        // The kernel finds an interface in one of 256 lists (dev_get_by_index): one after the other, each stays in the cache.
        indices.sort_unstable_by_key(|ifindex| (ifindex % INDEX_LISTS, *ifindex));
        let dumps = &self.dumps;
        let ask = |indices: &[i32]| indices.iter().filter_map(|i| dumps.link(*i, lost)).collect::<Vec<Link>>();
        let (here, there) = indices.split_at(if indices.len() < MANY { indices.len() } else { indices.len() / 2 });
        let mut links = std::thread::scope(|scope| {
            let helper = || std::thread::Builder::new().spawn_scoped(scope, || ask(there)).ok();
            let helper = if there.is_empty() { None } else { helper() };
            let mut links = ask(here);
            links.extend(helper.and_then(|helper| helper.join().ok()).unwrap_or_else(|| ask(there)));
            links
        });
        links.sort_unstable_by_key(|link| link.ifindex);
        Some(links)
    }
}
