//! The container's network with a given number of interfaces, and the settings that are broken on it.

use std::ffi::CString;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

const NETCONFA_FORWARDING: u16 = 2;
const NETCONFA_RP_FILTER: u16 = 3;
/// linux/netconf.h
const NETCONFA_IFINDEX_ALL: i32 = -1;

/// The policy that is added to the package's own.
const POLICY: &str = "net.ipv4.conf.*.rp_filter = 0\nnet.ipv4.conf.newpod*.rp_filter = 2\n";

/// The setting that is broken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum What {
    IpForward,
    OneInterface,
    RpFilter,
}

impl What {
    pub const ALL: [What; 3] = [What::IpForward, What::OneInterface, What::RpFilter];

    pub fn name(self) -> &'static str {
        match self {
            What::IpForward => "ip_forward",
            What::OneInterface => "one interface's forwarding",
            What::RpFilter => "one interface's rp_filter",
        }
    }
}

/// A setting, and how a netconf message announces its wrong value.
#[derive(Clone)]
pub struct Target {
    pub key: String,
    pub ifindex: i32,
    pub attribute: u16,
    pub right: String,
    pub wrong: String,
}

impl Target {
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/proc/sys").join(&self.key)
    }

    /// For the command line of a child.
    pub fn to_text(&self) -> String {
        let Target { key, ifindex, attribute, right, wrong } = self;
        format!("{key} {ifindex} {attribute} {right} {wrong}")
    }

    pub fn from_text(text: &str) -> Option<Target> {
        let words: Vec<_> = text.split(' ').collect();
        let [key, ifindex, attribute, right, wrong] = words[..] else { return None };
        let (ifindex, attribute) = (ifindex.parse().ok()?, attribute.parse().ok()?);
        Some(Target { key: key.into(), ifindex, attribute, right: right.into(), wrong: wrong.into() })
    }
}

/// See the module's documentation.
pub struct Node {
    pub interfaces: usize,
    /// The last interface: the kernel applies changes of `all` to it last.
    last: (String, i32),
}

impl Node {
    /// The container's network as it was booted, with the policy and the options of the service.
    pub fn new() -> Result<Node> {
        fs::write("/etc/fwdguard.d/10-bench.conf", POLICY)?;
        fs::write("/etc/sysconfig/fwdguard", "OPTIONS=\"--audit-interval 86400\"\n")?;
        // NetworkManager examines every new interface by itself.
        _ = run("systemctl stop NetworkManager");
        Ok(Node { interfaces: fs::read_dir("/sys/class/net")?.count(), last: ("lo".into(), 1) })
    }

    /// Adds interfaces until there are this many.
    pub fn grow(&mut self, interfaces: usize) -> Result<()> {
        eprintln!("bench: {interfaces} interfaces");
        let names: Vec<_> = (self.interfaces..interfaces).map(|number| format!("ifb{number}")).collect();
        batch(names.iter().map(|name| format!("link add {name} type ifb")))?;
        let last = names.last().context("it has as many already")?;
        (self.interfaces, self.last) = (interfaces, (last.clone(), index_of(last)?));
        Ok(())
    }

    pub fn target(&self, what: What) -> Target {
        let (name, ifindex) = &self.last;
        let (key, ifindex, attribute) = match what {
            What::IpForward => ("net/ipv4/ip_forward".into(), NETCONFA_IFINDEX_ALL, NETCONFA_FORWARDING),
            What::OneInterface => (format!("net/ipv4/conf/{name}/forwarding"), *ifindex, NETCONFA_FORWARDING),
            What::RpFilter => (format!("net/ipv4/conf/{name}/rp_filter"), *ifindex, NETCONFA_RP_FILTER),
        };
        let (right, wrong) = if what == What::RpFilter { ("0", "1") } else { ("1", "0") };
        Target { key, ifindex, attribute, right: right.into(), wrong: wrong.into() }
    }
}

fn index_of(name: &str) -> Result<i32> {
    let name = CString::new(name)?;
    // SAFETY: `name` ends with a NUL and lives through the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 { bail!("no interface {name:?}") } else { Ok(index as i32) }
}

/// Runs a command line, split at spaces without quoting; it must succeed.
pub fn run(line: &str) -> Result<()> {
    output(&line.split_whitespace().collect::<Vec<_>>()).map(drop)
}

/// The output of a command, without white space around it.
pub fn output(words: &[&str]) -> Result<String> {
    let output = Command::new(words[0]).args(&words[1..]).output().context(words.join(" "))?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {}: {error}", words.join(" "), output.status);
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Executes all of these commands in one `ip` process.
pub fn batch(lines: impl Iterator<Item = String>) -> Result<()> {
    let mut child = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().context("ip")?;
    let mut text = lines.collect::<Vec<_>>().join("\n");
    text.push('\n');
    child.stdin.take().context("piped")?.write_all(text.as_bytes())?;
    let status = child.wait()?;
    ensure!(status.success(), "ip -batch: {status}");
    Ok(())
}
