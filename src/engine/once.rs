//! `fwdguard apply`: one pass of the engine, without its loop.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::{Engine, Sink};
use crate::kernel::sysctl::now_usec;
use crate::policy::Policy;
use crate::report::record::{Cause, Record};
use crate::setting::Key;
use crate::state::{Move, Summary};

/// What is in doubt after a repair is read again so many times at most.
const READS_ONCE: u32 = 8;
/// What is applied once is rechecked for some 0.5 s.
const RECHECKS_ONCE: u32 = 2;

/// What was done.
pub struct Applied {
    pub records: Vec<Record>,
    /// Of settings that read back otherwise than they were written, how the kernel prints what is wanted.
    pub learned: HashMap<Key, Arc<str>>,
}

/// Reads and repairs once, in the network namespace that this process is in.
///
/// # Errors
/// No netlink, with the kernel's reason.
pub fn apply_once(policy: Arc<Policy>) -> io::Result<Applied> {
    #[derive(Default)]
    struct Collect(Vec<Record>);
    impl Sink for &mut Collect {
        fn publish(&mut self, records: Vec<Record>, _: Option<Summary>) {
            self.0.extend(records);
        }
        fn interfaces_changed(&mut self, _: Vec<Move>) {}
    }
    let mut collected = Collect::default();
    let mut engine = Engine::new(policy, Arc::default(), &mut collected)?;
    engine.audit(Cause::Start);
    // A write of `default` may have changed interfaces without a notification, and another process may undo their repair for ever.
    for _ in 0..READS_ONCE {
        engine.idle();
        if !engine.state.is_in_doubt() {
            break;
        }
    }
    for _ in 0..RECHECKS_ONCE {
        let undone = engine.state.written().iter().any(|repair| repair.key.waits_for_rtnl());
        if let Some(due) = engine.rechecks.due().filter(|_| undone) {
            std::thread::sleep(Duration::from_micros(due.saturating_sub(now_usec())));
            engine.receive_all();
            engine.idle();
        }
    }
    let learned = engine.state.written().into_iter().filter_map(|repair| Some((repair.key, repair.learned?))).collect();
    drop(engine);
    Ok(Applied { records: collected.0, learned })
}
