//! Reads `/proc/PID` while the process exists: its command, its parent, and the unit, pod and container it belongs to.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;

use crate::setting::{Key, printable};

/// A longer command line is cut.
const CMDLINE_BYTES: usize = 1024;
/// TASK_COMM_LEN without the NUL (include/linux/sched.h).
const COMM_BYTES: usize = 15;
/// `/proc/PID/cgroup` has one line for each hierarchy, at most 15, and the kernel does not limit their length.
const CGROUP_BYTES: usize = 16 * 1024;
/// A line of `/proc/PID/stat` up to the parent's PID.
const STAT_BYTES: usize = 256;
/// Container runtimes name containers by 64 hexadecimal digits.
const CONTAINER_ID_DIGITS: usize = 64;

/// A process that wrote a setting. Everything but the PID may be unknown: it may have exited before it was examined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    pub comm: Option<String>,
    /// The arguments, with spaces between them.
    pub cmdline: Option<String>,
    /// As far as the kernel lets the guard see it (ptrace(2), "Ptrace access mode checking").
    pub exe: Option<String>,
    /// PID and comm.
    pub parent: Option<(i32, String)>,
    pub place: Place,
}

/// The unit, pod and container of a process, by its control group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The systemd unit, `network.service` or `session-3.scope`.
    pub unit: Option<String>,
    /// The UID of the Kubernetes pod.
    pub pod: Option<String>,
    pub container: Option<String>,
}

/// The bytes of a process's command line; none if it has ended.
///
/// # Errors
/// The kernel's reason; `ENOENT` or `ESRCH` if there is no such process any more.
pub fn command(pid: i32) -> io::Result<Vec<u8>> {
    read(pid, "cmdline", CMDLINE_BYTES)
}

impl Process {
    /// Reads all that there is of the process with this command line, which opened the file of `key`: first what goes first at an
    /// exit.
    pub fn examine(pid: i32, command: &[u8], key: &Key) -> Process {
        let (comm, parent) = read(pid, "stat", STAT_BYTES).ok().and_then(|bytes| stat(&bytes)).unzip();
        let place = read(pid, "cgroup", CGROUP_BYTES).map(|bytes| place(&bytes)).unwrap_or_default();
        let exe = std::fs::read_link(format!("/proc/{pid}/exe")).ok().map(|path| printable(path.as_os_str()));
        let parent = parent.filter(|parent| *parent > 0).and_then(|parent| {
            let bytes = read(parent, "comm", STAT_BYTES).ok()?;
            Some((parent, printable(OsStr::from_bytes(bytes.trim_ascii_end()))))
        });
        let comm = comm.or_else(|| command_name(command));
        Process { pid, comm, cmdline: cmdline(command, key), exe, parent, place }
    }

    /// Whether it is the same command of the same unit or pod, even if it is another process.
    pub fn does_the_same(&self, other: &Process) -> bool {
        (&self.comm, &self.cmdline, &self.place) == (&other.comm, &other.cmdline, &other.place)
    }
}

/// The comm of a process, as far as its command line shows it.
fn command_name(command: &[u8]) -> Option<String> {
    let name = command.split(|b| *b == 0).next()?.rsplit(|b| *b == b'/').next()?;
    (!name.is_empty()).then(|| printable(OsStr::from_bytes(&name[..name.len().min(COMM_BYTES)])))
}

fn read(pid: i32, file: &str, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(format!("/proc/{pid}/{file}"))?;
    file.take(limit as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The arguments of `/proc/PID/cmdline`, which is empty if the process has ended.
///
/// procps's sysctl cuts its own argument in two at the `=` before it opens the file (sysctl.c, `WriteSetting`): the `=` is
/// restored.
pub fn cmdline(bytes: &[u8], key: &Key) -> Option<String> {
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    let words: Vec<String> = bytes.split(|b| *b == 0).map(|word| printable(OsStr::from_bytes(word))).collect();
    let key = key.clone().canonical();
    let is_sysctl = words[0].rsplit('/').next() == Some("sysctl");
    let mut line = String::new();
    for word in &words {
        line += word;
        line += if is_sysctl && Key::parse(word).is_ok_and(|named| named.canonical() == key) { "=" } else { " " };
    }
    line.pop();
    (!bytes.is_empty()).then_some(line)
}

/// The comm and the parent's PID of `/proc/PID/stat`; a comm may hold spaces and parentheses (proc_pid_stat(5)).
pub fn stat(bytes: &[u8]) -> Option<(String, i32)> {
    let open = bytes.iter().position(|b| *b == b'(')?;
    let close = bytes.iter().rposition(|b| *b == b')')?;
    let comm = bytes.get(open + 1..close)?;
    let parent = std::str::from_utf8(&bytes[close + 1..]).ok()?.split_ascii_whitespace().nth(1)?;
    Some((printable(OsStr::from_bytes(comm)), parent.parse().ok()?))
}

/// Unit, pod and container of `/proc/PID/cgroup`: from systemd's own hierarchy (cgroups(7)), or else from the first that has them.
pub fn place(bytes: &[u8]) -> Place {
    let mut lines: Vec<(&[u8], &[u8])> = bytes
        .split(|b| *b == b'\n')
        .filter_map(|line| {
            let mut parts = line.splitn(3, |b| *b == b':').skip(1);
            Some((parts.next()?, parts.next()?))
        })
        .collect();
    lines.sort_by_key(|(controllers, _)| !matches!(*controllers, b"" | b"name=systemd"));
    let mut found = Place::default();
    for (_, path) in lines {
        let path = printable(OsStr::from_bytes(path.strip_suffix(b" (deleted)").unwrap_or(path)));
        let parts: Vec<&str> = path.split('/').collect();
        found.unit = found.unit.or_else(|| parts.iter().find_map(|part| unit(part)));
        // With the systemd driver a path may end in `kubepods-...-podUID.slice:cri-containerd:ID`.
        let mut names = parts.iter().flat_map(|part| part.split(':'));
        if found.pod.is_none() {
            found.pod = names.by_ref().find_map(pod);
            found.container = names.find_map(container).or(found.container);
        }
        if found.container.is_none() {
            found.container = parts.iter().rev().find_map(|part| container(part));
        }
    }
    found
}

/// The first part that is no slice is the unit, as in systemd's `cg_path_get_unit`; what a unit delegates is below it.
fn unit(part: &str) -> Option<String> {
    // systemd puts `_` before a name that could be one of the kernel's own files (cg_escape).
    let part = part.strip_prefix('_').unwrap_or(part);
    let is_unit =
        [".service", ".scope"].iter().any(|suffix| part.strip_suffix(suffix).is_some_and(|name| !name.is_empty()));
    is_unit.then(|| part.to_string())
}

/// `pod` and a UID (36 characters, `-` or, in slices, `_` between; 32 for a static pod), at the end of a name.
fn pod(part: &str) -> Option<String> {
    let name = part.strip_suffix(".slice").unwrap_or(part);
    let uid = &name[name.rfind("pod")? + 3..];
    let digits = uid.bytes().filter(u8::is_ascii_hexdigit).count();
    let between = uid.bytes().filter(|b| matches!(b, b'-' | b'_')).count();
    (digits == 32 && matches!(between, 0 | 4) && uid.len() == digits + between).then(|| uid.replace('_', "-"))
}

/// `cri-containerd-ID.scope`, `crio-ID`, `docker-ID.scope` or `ID`.
fn container(part: &str) -> Option<String> {
    let name = part.strip_suffix(".scope").unwrap_or(part);
    let id = name.rsplit('-').next()?;
    (id.len() == CONTAINER_ID_DIGITS && id.bytes().all(|b| b.is_ascii_hexdigit())).then(|| id.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const UID: &str = "6bb2bd2c-6d5c-4a3c-9d1a-0f2f8a9f1e77";

    fn found(text: &str) -> (Option<String>, Option<String>, Option<String>) {
        let Place { unit, pod, container } = place(text.replace("ID", ID).as_bytes());
        (unit, pod, container)
    }

    #[test]
    fn units() {
        for (text, unit) in [
            ("0::/system.slice/network.service\n", Some("network.service")),
            ("0::/user.slice/user-1000.slice/session-3.scope\n", Some("session-3.scope")),
            ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/a.service\n", Some("user@1000.service")),
            ("0::/system.slice/system-getty.slice/getty@tty1.service/x\n", Some("getty@tty1.service")),
            ("0::/system.slice/tuned.service (deleted)\n", Some("tuned.service")),
            ("0::/init.scope\n", Some("init.scope")),
            // CentOS 7 and 8: systemd's hierarchy is one of many.
            ("4:cpu,cpuacct:/other.service\n1:name=systemd:/system.slice/network.service\n", Some("network.service")),
            // systemd 219 has ExecStop's processes in a folder of the unit's own, as 257 has those of ExecCondition.
            ("1:name=systemd:/system.slice/network.service/control\n", Some("network.service")),
            ("0::/system.slice/network.service/.control\n", Some("network.service")),
            (
                "11:cpuset:/\n2:devices:/system.slice\n1:name=systemd:/user.slice/user-0.slice/session-1.scope\n",
                Some("session-1.scope"),
            ),
            ("11:cpuset:/\n1:name=systemd:/\n", None),
            ("0::/\n", None),
            ("0::/.service\n", None),
            ("", None),
            ("garbage\n::\n0:\n", None),
        ] {
            assert_eq!(found(text), (unit.map(String::from), None, None), "{text}");
        }
    }

    #[test]
    fn pods_and_containers() {
        let (pod, id) = (Some(UID.to_string()), Some(ID.to_string()));
        let slice = "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod6bb2bd2c_6d5c_4a3c_9d1a_0f2f8a9f1e77.slice";
        for (text, expected) in [
            (format!("{slice}/cri-containerd-ID.scope"), (Some(format!("cri-containerd-{ID}.scope")), pod.clone(), id.clone())),
            (format!("{slice}/crio-ID.scope/sub"), (Some(format!("crio-{ID}.scope")), pod.clone(), id.clone())),
            (format!("0::/kubepods/burstable/pod{UID}/ID"), (None, pod.clone(), id.clone())),
            (format!("0::/kubepods/besteffort/pod{UID}"), (None, pod.clone(), None)),
            (
                "0::/system.slice/containerd.service/kubepods-pod6bb2bd2c_6d5c_4a3c_9d1a_0f2f8a9f1e77.slice:cri-containerd:ID".into(),
                (Some("containerd.service".into()), pod.clone(), id.clone()),
            ),
            // A static pod's UID is a hash.
            ("0::/kubepods/pod0123456789abcdef0123456789abcdef/ID".into(), (None, Some(ID[..32].into()), id.clone())),
            (format!("11:pids:/kubepods/pod{UID}/ID\n1:name=systemd:/\n"), (None, pod.clone(), id.clone())),
            ("0::/system.slice/docker-ID.scope".into(), (Some(format!("docker-{ID}.scope")), None, id.clone())),
            // CentOS 7 and 8: docker's cgroupfs driver, and its systemd driver.
            ("11:pids:/docker/ID\n1:name=systemd:/docker/ID\n".into(), (None, None, id.clone())),
            (
                "11:pids:/system.slice/docker-ID.scope\n1:name=systemd:/system.slice/docker-ID.scope\n".into(),
                (Some(format!("docker-{ID}.scope")), None, id.clone()),
            ),
            (
                format!("11:memory:/kubepods/burstable/pod{UID}/ID\n1:name=systemd:/kubepods/burstable/pod{UID}/ID\n"),
                (None, pod.clone(), id.clone()),
            ),
            (
                format!("9:cpuset:/\n1:name=systemd:{}/docker-ID.scope\n", slice.trim_start_matches("0::")),
                (Some(format!("docker-{ID}.scope")), pod.clone(), id.clone()),
            ),
            // A hierarchy that the runtime does not use stays where the runtime is.
            (
                format!("8:memory:/kubepods/pod{UID}/ID\n1:name=systemd:/system.slice/kubelet.service\n"),
                (Some("kubelet.service".into()), pod.clone(), id.clone()),
            ),
            // docker in docker
            (format!("1:name=systemd:/docker/{}/docker/ID\n", "a".repeat(64)), (None, None, id.clone())),
            ("0::/podman.slice/tripod".into(), (None, None, None)),
        ] {
            assert_eq!(found(&text), expected, "{text}");
        }
    }

    #[test]
    fn commands() {
        let key = Key::ip_forward();
        for (bytes, line) in [
            (&b"sysctl\0-w\0net.ipv4.ip_forward=0\0"[..], Some("sysctl -w net.ipv4.ip_forward=0")),
            (
                b"/sbin/sysctl\0net/ipv4/ip_forward\x000\0net.core.x=1\0",
                Some("/sbin/sysctl net/ipv4/ip_forward=0 net.core.x=1"),
            ),
            (b"cat\0net.ipv4.ip_forward\x000\0", Some("cat net.ipv4.ip_forward 0")),
            (b"sysctl\0net.ipv4.ip_forward", Some("sysctl net.ipv4.ip_forward")),
            (b"a\nMESSAGE=b\x1b[2J\0\xff\0", Some("a\\nMESSAGE=b\\u{1b}[2J \\xff")),
            (b"", None),
            (b"\0", None),
        ] {
            assert_eq!(cmdline(bytes, &key).as_deref(), line, "{bytes:?}");
        }
        assert_eq!(stat(b"42 (a) b (c) S 17 42 42 0 -1 4194304"), Some(("a) b (c".into(), 17)));
        for bytes in [&b""[..], b"42 (a", b"42 )a( S 1", b"42 (a)", b"42 (a) S x"] {
            assert_eq!(stat(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn this_process_is_examined_and_one_that_is_gone_is_a_pid() {
        let pid = std::process::id() as i32;
        let key = Key::ip_forward();
        let process = Process::examine(pid, &command(pid).unwrap(), &key);
        assert!(process.cmdline.is_some() && process.comm.is_some() && process.parent.is_some(), "{process:?}");
        assert_eq!(command(i32::MAX).unwrap_err().raw_os_error(), Some(libc::ENOENT));
        let gone = Process { pid: i32::MAX, ..Process::default() };
        assert_eq!(Process::examine(i32::MAX, b"", &key), gone);
        let gone_since = Process::examine(i32::MAX, b"/usr/bin/cat-with-a-long-name\0x\0", &key);
        assert_eq!(gone_since.comm.as_deref(), Some("cat-with-a-long"));
    }
}
