//! What may have been missed is read again, whole.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::names::Names;
use super::wait::Source;
use super::{Keeper, Outlet};
use crate::guard::Snapshot;
use crate::kernel::message::Link;
use crate::kernel::netconf::NetconfMessage;
use crate::kernel::socket::{Dumps, Notifications, Received};
use crate::report::record::{Cause, Record};
use crate::setting::{Family, Key};

/// A socket that fails this often in a row has to be made anew.
const RECEIVE_ERRORS_MAX: u32 = 16;
const SUBSCRIBE_RETRY: Duration = Duration::from_secs(1);
const SOCKET: &str = "the rtnetlink socket";
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
            if let Ok(mut notifications) = Notifications::subscribe()
                && self.waits.add(Source::Notifications, &notifications).is_ok()
            {
                notifications.mute(self.notifications.muted().to_vec());
                _ = notifications.listen(); // else it hears more than it must
                self.notifications = notifications;
                return self.tell(Record::SourceBack { source: SOCKET });
            }
            self.pulse.turns.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(SUBSCRIBE_RETRY);
        }
    }

    pub(super) fn read_everything(&mut self, cause: Cause) {
        self.settle_ahead(false); // an interface that our write opened would be taken for open
        let redirects = self.door.read(&Key::all_accept_redirects()).ok();
        self.notifications.expect_more();
        let pulse = self.pulse.clone();
        match pulse.inside(None, || self.dump(cause)) {
            Ok((links, netconf)) => self.guard.snapshot(&Snapshot { links, netconf, redirects }, cause),
            Err(error) => self.tell(Record::SourceLost { source: "rtnetlink dumps", reason: error.to_string() }),
        }
    }

    /// The interfaces, and what is not known already of their settings. Interfaces are `None` where those are all there are
    /// that are known: of each that comes, goes or gets another name the kernel tells, unless that was lost.
    fn dump(&mut self, cause: Cause) -> io::Result<(Option<Vec<Link>>, Vec<NetconfMessage>)> {
        let Keeper { dumps, links, guard, .. } = self;
        let (lost, first) = (cause == Cause::Overrun, cause == Cause::Start && guard.known() == PSEUDO_INTERFACES);
        let families = if guard.guards_ipv6() { &Family::BOTH[..] } else { &[Family::V4] };
        if !lost && !first {
            let (mut beside, mut indices) = (guard.beside(), Vec::with_capacity(guard.known()));
            let netconf = read(dumps, families, |message| {
                indices.extend(of_interface(message));
                !beside.says_nothing_new(message)
            })?;
            if beside.are_all(&sorted(indices)) {
                return Ok((None, netconf));
            }
            // Under another name, what was right may be wrong: so all of it is needed.
        }
        std::thread::scope(|scope| {
            let mut names = Names::new(scope, links, lost);
            let mut indices = Vec::new();
            let netconf = read(dumps, families, |message| {
                let ifindex = of_interface(message);
                ifindex
                    .into_iter()
                    .filter(|_| message.family == Family::V4.number())
                    .for_each(|ifindex| names.tell(ifindex));
                indices.extend(ifindex);
                true
            })?;
            let indices = sorted(indices);
            if first {
                // Beside those that are still asked for. One that has gone meanwhile is told of.
                names.each(&indices, |link| guard.found(&link));
                return Ok((None, netconf));
            }
            let mut links = Vec::with_capacity(indices.len());
            names.each(&indices, |link| links.push(link));
            links.sort_unstable_by_key(|link| link.ifindex);
            links.dedup_by_key(|link| link.ifindex);
            Ok((Some(links), netconf))
        })
    }
}

fn of_interface(message: &NetconfMessage) -> Option<i32> {
    message.ifindex.filter(|ifindex| *ifindex > 0)
}

fn sorted(mut indices: Vec<i32>) -> Vec<i32> {
    indices.sort_unstable();
    indices.dedup();
    indices
}

fn read(
    dumps: &mut Dumps,
    families: &[Family],
    mut keep: impl FnMut(&NetconfMessage) -> bool,
) -> io::Result<Vec<NetconfMessage>> {
    let mut kept = Vec::new();
    for family in families {
        kept.append(&mut dumps.netconf(*family, &mut keep)?);
    }
    Ok(kept)
}
