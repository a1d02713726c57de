//! A node with so many interfaces, in namespaces of the calling thread's own, and the settings that are broken on it.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

const NETCONFA_FORWARDING: u16 = 2;
const NETCONFA_RP_FILTER: u16 = 3;
/// linux/netconf.h
const NETCONFA_IFINDEX_ALL: i32 = -1;

pub const ROOT: &str = "/run/root";
pub const POLICY: &str = "net.ipv4.ip_forward = 1\n\
                      net.ipv4.conf.*.forwarding = 1\n\
                      net.ipv4.conf.*.rp_filter = 0\n\
                      net.ipv4.conf.new*.rp_filter = 2\n";

/// What is broken.
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

/// A setting, and what a netconf message says when it is wrong.
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
    /// The last interface: changes of `all` come to it last.
    last: (String, i32),
}

/// Does `measure` on a node with so many interfaces, `lo` included, in a thread whose namespaces go with it.
pub fn within<T: Send>(interfaces: usize, measure: impl FnOnce(&Node) -> Result<T> + Send) -> Result<T> {
    let node = move || measure(&Node::enter(interfaces)?);
    std::thread::scope(|scope| scope.spawn(node).join()).unwrap_or_else(|_| bail!("a measurement panicked"))
}

impl Node {
    fn enter(interfaces: usize) -> Result<Node> {
        eprintln!("bench: {interfaces} interfaces");
        unshare(libc::CLONE_NEWNET | libc::CLONE_NEWNS)?;
        run("mount --make-rprivate /")?;
        run("mount -t tmpfs tmpfs /run")?;
        run("ip link set lo up")?;
        let names: Vec<_> = (1..interfaces).map(|number| format!("ifb{number}")).collect();
        batch(names.iter().map(|name| format!("link add {name} type ifb")))?;
        fs::create_dir_all(format!("{ROOT}/etc/fwdguard.d"))?;
        fs::write(format!("{ROOT}/etc/fwdguard.d/10-bench.conf"), POLICY)?;
        fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
        let last = names.last().context("more than one interface")?;
        Ok(Node { interfaces, last: (last.clone(), index_of(last)?) })
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
    let name = std::ffi::CString::new(name)?;
    // SAFETY: `name` ends with a NUL and lives through the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 { bail!("no interface {name:?}") } else { Ok(index as i32) }
}

/// Namespaces of its own for the calling thread.
pub fn unshare(flags: libc::c_int) -> Result<()> {
    // SAFETY: no memory is involved; the thread gets namespaces of its own, or an error.
    if unsafe { libc::unshare(flags) } != 0 {
        bail!("unshare: {}; run this as root", std::io::Error::last_os_error());
    }
    Ok(())
}

/// Runs a command line without quoting, and insists that it succeeds.
pub fn run(line: &str) -> Result<()> {
    let mut words = line.split_whitespace();
    let status = Command::new(words.next().context("a command")?).args(words).status().context(line.to_owned())?;
    if !status.success() {
        bail!("{line}: {status}");
    }
    Ok(())
}

/// Has `ip` do all of this, in one process.
pub fn batch(lines: impl Iterator<Item = String>) -> Result<()> {
    let mut child = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().context("ip")?;
    let mut text = lines.collect::<Vec<_>>().join("\n");
    text.push('\n');
    child.stdin.take().context("piped")?.write_all(text.as_bytes())?;
    let status = child.wait()?;
    if !status.success() {
        bail!("ip -batch: {status}");
    }
    Ok(())
}
