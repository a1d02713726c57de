//! What the steps do to the system: writers, interfaces, the bus and logind, a flood, an overrun.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::settings::{REFUSED, V4, key};
use super::steps::{BusStep, KINDS, LinkStep, NEW_NAMES};
use crate::bus;
use crate::common::{Namespace, Running, run, sysctl_read};

/// A network namespace beside the guard's.
const OTHER: &str = "other";
/// More messages than the guard's socket holds (16 MiB, which setsockopt(2) doubles, some 700 bytes each).
const OVERRUN_WRITES: u32 = 80_000;

/// Within this time the guard has received a write, on a busy machine, too.
const NOTICED_WITHIN: Duration = Duration::from_millis(30);

/// `ip ARGUMENTS`; whether that worked.
pub fn ip(arguments: &str) -> bool {
    let mut command = Command::new("ip");
    command.args(arguments.split(' ')).stderr(Stdio::null());
    command.status().expect("ip runs").success()
}

/// A separate process, which runs `script`.
pub fn shell(script: &str) -> Child {
    Command::new("sh").args(["-c", script]).stderr(Stdio::null()).spawn().expect("sh runs")
}

/// Whether the kernel accepts this now: the setting is there and the value is none that it refuses.
pub fn is_taken((key, value): &(String, String)) -> bool {
    value != REFUSED && path(key).exists()
}

/// Writes, from here; whether the kernel accepted it. The next write comes a moment later: of IPv6, `default` written to 1 and
/// `all` right after it are announced as `all` alone (addrconf_fixup_forwarding), unless the guard reads in between.
pub fn write(key: &str, value: &str) -> bool {
    let taken = std::fs::write(path(key), value).is_ok();
    std::thread::sleep(NOTICED_WITHIN);
    taken
}

/// Writes, by a process of its own.
pub fn writer(writes: &[(String, String)]) -> Child {
    let line = |(key, value): &(String, String)| format!("echo {value} >{}; ", path(key).display());
    shell(&writes.iter().map(line).collect::<String>())
}

/// Writes as fast as possible for this long, and returns how often.
pub fn flood(key: &str, value: &str, duration: Duration) -> u64 {
    let Ok(file) = std::fs::OpenOptions::new().write(true).open(path(key)) else { return 0 };
    let (end, mut times) = (Instant::now() + duration, 0);
    while Instant::now() < end && file.write_at(value.as_bytes(), 0).is_ok() {
        times += 1;
    }
    times
}

/// Makes the kernel send more about `link` than an unread socket holds. In the end the setting is as it was.
pub fn overrun(link: &str) {
    let key = key(V4, link, "rp_filter");
    let was = sysctl_read(&key);
    let file = std::fs::OpenOptions::new().write(true).open(path(&key)).expect("the setting is there");
    for number in 1..=OVERRUN_WRITES {
        let value = if number % 2 == 0 {
            was.as_str()
        } else if was == "2" {
            "1"
        } else {
            "2"
        };
        file.write_at(value.as_bytes(), 0).expect("a write");
    }
}

fn path(key: &str) -> std::path::PathBuf {
    Path::new("/proc/sys").join(key)
}

/// The arguments of `ip` for a step, by the interfaces that are here and those that are away; nothing if there is none.
pub fn link_commands(step: LinkStep, links: &[String], away: &[String]) -> Vec<String> {
    let links: Vec<&String> = links.iter().filter(|link| *link != "lo").collect();
    let here = |place: u8| links.get(usize::from(place) % links.len().max(1)).copied();
    let set = |place, what: &str| here(place).map(|link| format!("link set {link} {what}")).into_iter().collect();
    match step {
        LinkStep::Add(kind) => vec![format!("link add {}", KINDS[usize::from(kind)])],
        LinkStep::Delete(place) => here(place).map(|link| format!("link delete {link}")).into_iter().collect(),
        LinkStep::Rename(place, name) => set(place, &format!("name {}", NEW_NAMES[usize::from(name)])),
        LinkStep::Up(place) => set(place, "up"),
        LinkStep::Down(place) => set(place, "down"),
        LinkStep::SmallMtu(place) => ["mtu 1000", "mtu 1400"].iter().flat_map(|what| set(place, what)).collect(),
        LinkStep::Away(place) => {
            if !Path::new("/run/netns").join(OTHER).exists() {
                run(&format!("ip netns add {OTHER}"));
            }
            set(place, &format!("netns {OTHER}"))
        }
        LinkStep::Back(place) => {
            let link = away.get(usize::from(place) % away.len().max(1));
            let here = rustix::thread::gettid().as_raw_nonzero();
            link.map(|link| format!("-n {OTHER} link set {link} netns {here}")).into_iter().collect()
        }
    }
}

/// The system bus of a sequence, and logind on it, if they are there.
pub struct Bus {
    bus: bus::Bus,
    there: bool,
    logind: Option<bus::Logind>,
}

impl Bus {
    pub fn new(ns: &Namespace, there: bool) -> Bus {
        let bus = if there { bus::Bus::start(ns) } else { bus::Bus::absent(ns) };
        let logind = there.then(|| bus.logind(false));
        Bus { bus, there, logind }
    }

    pub fn guard(&self, ns: &Namespace) -> Running {
        self.bus.guard(ns)
    }

    pub fn take(&mut self, step: BusStep) {
        match step {
            BusStep::Bus(there) => {
                self.bus.kill();
                self.logind = None;
                if there {
                    self.bus.restart();
                }
                self.there = there;
            }
            BusStep::Logind(there) => self.logind = (there && self.there).then(|| self.bus.logind(false)),
            BusStep::Sleep(start, times) => {
                if let Some(logind) = &self.logind {
                    (0..times).for_each(|_| logind.sleep(start));
                }
            }
        }
    }
}
