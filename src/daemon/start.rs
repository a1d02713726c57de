//! Starts the threads, and gives up privileges before the first of them.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::sync::oneshot;

use crate::engine::{Engine, Mailbox, Sink, Verbosity};
use crate::journal::Reporter;
use crate::kernel::fanotify::{FILES_MAX, Groups, open};
use crate::kernel::privilege::drop_privileges;
use crate::kernel::scheduling::{ask_for_short_slices, stand_alone};
use crate::kernel::sysctl::Heartbeat;
use crate::policy::Policy;
use crate::report::decision::Log;
use crate::report::record::{Cause, Record};
use crate::state::{Move, Summary};
use crate::writers::{Follow, INTERFACE_FILES_MAX, WriterTracker};

/// The table of descriptors has room for this many before there are threads.
const DESCRIPTORS: i32 = FILES_MAX as i32 + 200;

/// Where the guard thread's records and events go.
pub(super) struct ServiceSink {
    pub reporter: Reporter,
    pub tracker: WriterTracker,
}

impl Sink for ServiceSink {
    fn publish(&mut self, records: Vec<Record>, summary: Option<Summary>) {
        self.reporter.report_all(records, summary);
    }

    fn log(&mut self, log: Log) {
        self.reporter.log(log);
    }

    fn interfaces_changed(&mut self, moves: Vec<Move>) {
        self.tracker.follow(Follow::Moves(moves));
    }

    fn write_events(&self) -> Option<BorrowedFd<'_>> {
        self.tracker.writes()
    }

    fn on_write_event(&mut self) {
        self.tracker.read_writes();
    }
}

/// Uses CAP_SYS_ADMIN and CAP_SYS_NICE, and then keeps CAP_NET_ADMIN alone. No other thread exists yet.
pub(super) fn take_and_drop_privileges() -> Result<io::Result<Groups>> {
    // A table of descriptors that threads share grows by waiting for all processors (expand_fdtable, fs/file.c: some 5 ms
    // each time); one that has had a high number in it is large enough for the files that are marked for writers.
    drop(rustix::io::fcntl_dupfd_cloexec(io::stderr(), DESCRIPTORS));
    let groups = open();
    stand_alone();
    drop_privileges().context("cannot drop capabilities; is capset or prctl filtered?")?;
    Ok(groups)
}

/// The summary after the first pass, the result of the guard thread, and the mailbox to it.
pub(super) type Started = (oneshot::Receiver<Summary>, oneshot::Receiver<io::Result<Summary>>, Mailbox);

/// Starts the guard thread: subscribe, read everything, loop.
pub(super) fn start_engine(
    policy: Arc<Policy>,
    heartbeat: Arc<Heartbeat>,
    sink: ServiceSink,
    verbosity: Verbosity,
) -> Result<Started> {
    let (reporter, tracker) = (sink.reporter.clone(), sink.tracker.clone());
    let (mailbox, inbox) = Mailbox::new().context("cannot create an eventfd")?;
    let (passed, first_pass) = oneshot::channel();
    let (end, ended) = oneshot::channel();
    let mut engine = Engine::new(policy.clone(), heartbeat, sink)
        .context("cannot open an rtnetlink socket; is AF_NETLINK allowed?")?;
    engine.log(verbosity);
    super::policy::log_policy(&policy, &reporter); // before the thread logs anything
    let own_mailbox = mailbox.clone();
    std::thread::Builder::new()
        .name("guard".into())
        .spawn(move || {
            ask_for_short_slices();
            engine.audit(Cause::Start);
            let summary = engine.summary();
            let Summary { settings, interfaces, repairs, .. } = summary;
            reporter.report(Record::Started { settings, interfaces, repaired: repairs as usize });
            let ready = move || _ = passed.send(summary);
            if interfaces <= INTERFACE_FILES_MAX {
                // From READY on, writers are known: the files of the interfaces are watched first.
                tracker.follow(Follow::Then(Box::new(ready)));
            } else {
                ready(); // most of them can't be watched anyway
            }
            let result = engine.run(&own_mailbox, &inbox);
            let result = result.map(|()| engine.summary());
            // All reporters but the event loop's are dropped here, so that its record of the stop is the last.
            drop((engine, reporter, tracker));
            _ = end.send(result);
        })
        .context("cannot start the guard thread")?;
    Ok((first_pass, ended, mailbox))
}
