//! One sequence carried out: a namespace, a guard, the model beside it, and what was done so far.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::check;
use super::guarded::{Allowed, Knows, Many, Model};
use super::kernel::Kernel;
use super::policy::{FOLDERS, File, Files, Line, MARK, NAMES};
use super::settings::{V4, key, links, observe};
use super::steps::{KINDS, LinkStep, NEW_NAMES, Sequence, Step, Write, resolve};
use super::system::{Bus, flood, ip, is_taken, link_commands, overrun, shell, write, writer};
use super::tally;
use crate::common::{Namespace, Record, Running, messages, stop};

/// A setting that is not right by then never will be.
const TIMEOUT: Duration = Duration::from_secs(20);
/// How many of the guard's records a failure shows.
const LAST_RECORDS: usize = 40;
const RESYNCHRONISED: &str = "b90d6a12c4a44e1483f4b76ccdf9a44a";

pub struct World {
    ns: Namespace,
    guard: Running,
    bus: Bus,
    files: Files,
    marks: u32,
    model: Model,
    /// Interfaces that were made, renamed or moved since `rest` was read.
    touched: BTreeSet<String>,
    /// Every other setting below net.
    rest: HashMap<PathBuf, Vec<u8>>,
    away: Vec<String>,
    pub log: Vec<String>,
}

/// Carries a sequence out in namespaces of the calling thread's own.
///
/// # Errors
/// What was not as it should be, and the steps until then.
pub fn play(sequence: &Sequence) -> Result<(), String> {
    let mut world = World::start(sequence)?;
    let done = world.play(&sequence.steps);
    let log = world.log.join("\n  ");
    let records = world.guard.records();
    let shown = messages(&records[records.len().saturating_sub(LAST_RECORDS)..]).join("\n  ");
    done.and_then(|()| world.stop()).map_err(|error| format!("{error}\nafter\n  {log}\nlast records\n  {shown}"))
}

impl World {
    fn start(sequence: &Sequence) -> Result<World, String> {
        let ns = Namespace::enter();
        let mut log = Vec::new();
        let mut add = |kind: u8| {
            log.push(format!("ip link add {}", KINDS[kind as usize]));
            ip(&format!("link add {}", KINDS[kind as usize]));
        };
        sequence.links.iter().for_each(|kind| add(*kind));
        let mut files = Files::default();
        for (folder, name, file) in &sequence.policy {
            let at = (*folder as usize, NAMES[*name as usize]);
            log.push(format!("{}/{}: {file:?}", FOLDERS[at.0], at.1));
            files.put(ns.root(), at, Some(file.clone()));
        }
        let mut kernel = Kernel::fresh();
        for one in &sequence.writes {
            let (key, value) = resolve(&kernel.links, one);
            log.push(format!("{key} = {value}"));
            if write(&key, &value) {
                kernel.write(&key, &value);
            }
            kernel.values = observe();
        }
        let bus = Bus::new(&ns, sequence.bus);
        log.push(format!("the guard starts{}", if sequence.bus { " with a bus" } else { "" }));
        let guard = bus.guard(&ns);
        let policy = files.merged().unwrap_or_default();
        let mut model = Model { kernel, policy, ..Model::default() };
        let before = model.kernel.clone();
        let allowed = model.repair(&before, Knows::Nothing);
        let (marks, touched, rest) = (0, BTreeSet::new(), check::rest());
        let mut world = World { ns, guard, bus, files, marks, model, touched, rest, away: Vec::new(), log };
        world.reach(&allowed, TIMEOUT).map_err(|error| format!("{error}\nafter\n  {}", world.log.join("\n  ")))?;
        Ok(world)
    }

    fn play(&mut self, steps: &[Step]) -> Result<(), String> {
        for step in steps {
            self.take(step)?;
        }
        self.quiet(None)
    }

    /// SIGTERM, and the last records.
    fn stop(self) -> Result<(), String> {
        let (status, records) = self.guard.stop();
        let mut faults = tally::faults(&records, true);
        if !status.success() {
            faults.push(format!("the guard ended with {status}"));
        }
        if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
    }

    fn take(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Write(one) => {
                let (key, value) = self.setting(one);
                self.log.push(format!("{key} = {value}"));
                if write(&key, &value) {
                    let allowed = self.model.write(&key, &value);
                    self.reach(&allowed, TIMEOUT)?;
                }
                Ok(())
            }
            Step::Link(step) => self.link(*step),
            Step::Policy(folder, name, file, hup) => {
                self.policy((*folder as usize, NAMES[*name as usize]), file.clone(), *hup)
            }
            Step::Signal(hup) => {
                self.log.push(format!("SIG{}", if *hup { "HUP" } else { "USR1" }));
                if *hup {
                    self.hang_up();
                } else {
                    self.guard.signal("USR1");
                }
                Ok(())
            }
            Step::Bus(step) => {
                self.log.push(format!("{step:?}"));
                self.bus.take(*step);
                Ok(())
            }
            Step::Burst(writers, links) => self.burst(writers, links),
            Step::Stopped(writes, links, overrun) => self.stopped(writes, links, *overrun),
            Step::Flood(write, times) => {
                let (key, value) = self.setting(write);
                self.log.push(format!("{key} = {value} for {times}0 ms"));
                let times = flood(&key, &value, Duration::from_millis(u64::from(*times) * 10));
                let many = Many { writes: vec![vec![(key, value)]], times, ..Many::default() };
                if times == 0 {
                    return Ok(());
                }
                let allowed = self.model.at_once(&many);
                self.reach(&allowed, 2 * TIMEOUT)?; // contested settings are put off for a while
                self.quiet(Some(allowed))
            }
            Step::Quiet => self.quiet(None),
        }
    }

    fn setting(&self, write: &Write) -> (String, String) {
        resolve(&self.model.kernel.links, write)
    }

    fn link(&mut self, step: LinkStep) -> Result<(), String> {
        let commands = link_commands(step, &self.model.kernel.links, &self.away);
        for command in &commands {
            self.log.push(format!("ip {command}"));
            if !ip(command) {
                self.log.push("  (refused)".into());
                return Ok(());
            }
        }
        let (old, now) = (self.model.kernel.links.clone(), links());
        let gone: Vec<&String> = old.iter().filter(|link| !now.contains(link)).collect();
        let new: Vec<&String> = now.iter().filter(|link| !old.contains(link)).collect();
        self.touched.extend(gone.iter().chain(&new).map(ToString::to_string));
        self.model.fresh.extend(new.iter().map(ToString::to_string));
        let mut allowed = Allowed::new();
        match (step, &gone[..], &new[..]) {
            (LinkStep::Rename(..), [from], [to]) => {
                self.model.kernel.rename(from, to);
                let before = self.model.kernel.clone();
                allowed = self.model.repair(&before, Knows::All);
            }
            (LinkStep::SmallMtu(_), ..) => {
                let name = commands.first().and_then(|command| command.split(' ').nth(2)).unwrap_or_default();
                self.touched.insert(name.to_string());
                self.model.kernel.renew_v6(name);
                let before = self.model.kernel.clone();
                allowed = self.model.repair(&before, Knows::All);
            }
            _ => {
                if let (LinkStep::Away(_), [name]) = (step, &gone[..]) {
                    self.away.push(name.to_string());
                }
                self.away.retain(|name| !new.contains(&name));
                gone.into_iter().for_each(|name| self.model.kernel.go(name));
                for name in new {
                    let unknown = self.model.come(name);
                    allowed.extend(unknown);
                }
            }
        }
        let mut all = self.model.exactly();
        all.extend(allowed);
        self.reach(&all, TIMEOUT)
    }

    fn policy(&mut self, at: (usize, &'static str), file: Option<File>, hup: bool) -> Result<(), String> {
        let how = if hup { ", SIGHUP" } else { "" };
        self.log.push(format!("{}/{}: {file:?}{how}", FOLDERS[at.0], at.1));
        if !hup && self.marks == 0 {
            // Without any file, for a moment, the built-in policy would apply.
            self.files.put(self.ns.root(), MARK, Some(File::Text(Vec::new())));
        }
        self.files.put(self.ns.root(), at, file);
        if !hup {
            // Once the guard has applied this line, it has also read what was written just now.
            self.marks += 1;
            let mark = Line::Set(key(V4, "lo", "tag"), (100 + self.marks).to_string());
            self.files.put(self.ns.root(), MARK, Some(File::Text(vec![mark])));
        }
        let guarded_v6 = self.model.policy.guards_v6();
        if let Some(policy) = self.files.merged() {
            self.model.policy = policy;
        }
        if hup {
            self.hang_up();
        }
        let before = self.model.kernel.clone();
        let allowed = self.model.repair(&before, Knows::Reloaded { guarded_v6 });
        self.reach(&allowed, TIMEOUT)
    }

    fn hang_up(&mut self) {
        self.guard.notifications();
        self.guard.signal("HUP");
        self.guard.wait_notified("READY=1");
    }

    fn burst(&mut self, writers: &[Vec<Write>], links: &[LinkStep]) -> Result<(), String> {
        let mut many = Many { times: 1, ..Many::default() };
        let mut running = Vec::new();
        for writes in writers {
            let writes: Vec<_> = writes.iter().map(|write| self.setting(write)).filter(is_taken).collect();
            self.log.push(format!("at once: {writes:?}"));
            many.writes.push(writes);
        }
        let script = self.link_script(links, &mut many.touched);
        many.writes.iter().for_each(|writes| running.push(writer(writes)));
        running.push(shell(&script));
        running.into_iter().for_each(|mut child| _ = child.wait().expect("wait"));
        self.after(&many)
    }

    fn stopped(&mut self, writes: &[Write], links: &[LinkStep], overrun_too: bool) -> Result<(), String> {
        let mut many = Many { guard_stopped: true, times: 1, ..Many::default() };
        let writes: Vec<_> = writes.iter().map(|write| self.setting(write)).filter(is_taken).collect();
        let script = self.link_script(links, &mut many.touched);
        let with = if overrun_too { ", with an overrun" } else { "" };
        self.log.push(format!("while stopped{with}: {writes:?}"));
        stop(self.guard.pid());
        if overrun_too {
            // The setting is flipped, and ends as it was. Later messages are lost.
            overrun("lo");
            let lo = key(V4, "lo", "rp_filter");
            let value = observe()[&lo].clone();
            many.writes.push(vec![(lo, value)]);
        }
        many.writes.push(writes.into_iter().filter(|(key, value)| write(key, value)).collect());
        shell(&script).wait().expect("wait");
        let resynchronised = |record: &&Record| record["MESSAGE_ID"] == RESYNCHRONISED;
        let before = self.guard.records().iter().filter(resynchronised).count();
        self.guard.signal("CONT");
        let deadline = Instant::now() + TIMEOUT;
        while overrun_too && self.guard.records().iter().filter(resynchronised).count() == before {
            if Instant::now() > deadline {
                return Err("no record of an overrun".into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.after(&many)
    }

    /// One process does these, one after the other, as if all of them worked.
    fn link_script(&mut self, steps: &[LinkStep], touched: &mut BTreeSet<String>) -> String {
        let mut script = String::new();
        for step in steps {
            let commands = link_commands(*step, &self.model.kernel.links, &self.away);
            for command in &commands {
                self.log.push(format!("and: ip {command}"));
                script += &format!("ip {command} 2>/dev/null; ");
                let names =
                    command.split(' ').filter(|word| word.len() <= 5 && word.contains(|c: char| c.is_ascii_digit()));
                touched.extend(names.map(String::from));
                touched.extend(NEW_NAMES.map(String::from));
            }
            if matches!(step, LinkStep::Delete(_) | LinkStep::Away(_)) {
                // Its peer goes with it, whatever its name.
                touched.extend(self.model.kernel.links.iter().filter(|link| *link != "lo").cloned());
            }
        }
        script
    }

    fn after(&mut self, many: &Many) -> Result<(), String> {
        let allowed = self.model.at_once(many);
        self.touched.extend(many.touched.iter().cloned());
        self.quiet(Some(allowed))
    }

    /// Waits until all is as it should be: the guard is quick, and nothing else happens meanwhile.
    ///
    /// A setting that may have one value or another is known after two reads in a row: the first may have read `all` while the
    /// kernel was still on its way through the interfaces.
    fn reach(&mut self, allowed: &Allowed, timeout: Duration) -> Result<(), String> {
        let deadline = Instant::now() + timeout;
        let mut right_before = false;
        loop {
            let observed = observe();
            let wrong = check::wrong(allowed, &observed, &self.model.policy);
            if wrong.is_empty() && right_before {
                self.model.know(observed, links());
                return Ok(());
            }
            if !wrong.is_empty() && Instant::now() > deadline {
                return Err(format!("not so within {} s:\n{}", timeout.as_secs(), wrong.join("\n")));
            }
            right_before = wrong.is_empty();
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Two seconds in which no process does anything, and then everything is checked.
    fn quiet(&mut self, allowed: Option<Allowed>) -> Result<(), String> {
        self.log.push("quiet".into());
        check::two_seconds();
        let observed = observe();
        let mut allowed = allowed.unwrap_or_else(|| self.model.exactly());
        // Interfaces that came while many events happened.
        let new = observed.keys().filter(|key| !allowed.contains_key(*key));
        let new: Vec<_> =
            new.filter_map(|key| Some((key.clone(), self.model.policy.wanted(key)?.to_string()))).collect();
        for (key, wanted) in new {
            self.model.tally.ignore(&key);
            allowed.insert(key, BTreeSet::from([wanted]));
        }
        let mut wrong = check::wrong(&allowed, &observed, &self.model.policy);
        let rest = check::rest();
        wrong.extend(check::changed(&self.rest, &rest, &self.touched));
        self.guard.notifications();
        let differences = || self.model.tally.differences(&self.guard.records());
        let deadline = Instant::now() + TIMEOUT;
        while !differences().is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50)); // a journal may be late
        }
        wrong.extend(differences());
        wrong.extend(tally::faults(&self.guard.records(), false));
        if !wrong.is_empty() {
            return Err(format!("not so after 2 quiet seconds:\n{}", wrong.join("\n")));
        }
        (self.rest, self.touched) = (rest, BTreeSet::new());
        self.model.fresh.clear();
        self.model.know(observed, links());
        Ok(())
    }
}
