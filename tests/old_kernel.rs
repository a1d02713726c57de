//! The guard on a kernel as old as Linux 3.10 (CentOS 7): system calls that came later answer ENOSYS, and flags of fanotify
//! that came later EINVAL, as they do there. And where the ioctls of interfaces are refused, as by 3.10 on a netlink socket and
//! by SELinux on any.

mod common;

use common::*;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// The first that Linux 3.10 has not, on x86_64 and aarch64 alike.
const FIRST_LATER_CALL: u32 = libc::SYS_sched_setattr as u32;
/// `struct seccomp_data`, on a machine that has the low half of an argument first.
const CALL: u32 = 0;
const ARGUMENTS: u32 = 16;
/// What include/uapi/linux/fanotify.h of 3.10 has: FAN_ALL_INIT_FLAGS, FAN_ALL_MARK_FLAGS, and the events.
const FANOTIFY_INIT_FLAGS: u32 = 0x3f;
const FANOTIFY_MARK_FLAGS: u32 = 0xff;
const FANOTIFY_EVENTS: u32 = 0x4803_403b;
const SOURCE_LOST: &str = "7537f41c4e6e4855af1a292486f5c100";

fn step(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

fn load(at: u32) -> libc::sock_filter {
    step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, at)
}

/// The end: an errno, or 0 for the call itself.
fn end(errno: i32) -> libc::sock_filter {
    let what = if errno == 0 { libc::SECCOMP_RET_ALLOW } else { libc::SECCOMP_RET_ERRNO | errno as u32 };
    step(libc::BPF_RET | libc::BPF_K, 0, 0, what)
}

/// `steps` for this call alone.
fn of_call(number: libc::c_long, steps: Vec<libc::sock_filter>) -> Vec<libc::sock_filter> {
    let is_it = step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, steps.len() as u8, number as u32);
    [vec![load(CALL), is_it], steps].concat()
}

/// An errno where the argument has other bits than these, of its low and its high half.
fn no_bits_but(argument: u32, [low, high]: [u32; 2]) -> Vec<libc::sock_filter> {
    let at = ARGUMENTS + 8 * argument;
    let half = |at, known: u32| {
        [load(at), step(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, 0, 1, !known), end(libc::EINVAL)]
    };
    [half(at, low), half(at + 4, high)].concat()
}

/// The filter that refuses all that, and the ioctls that ask for an interface's name and state with `errno`, unless it is 0.
fn old_kernel(errno: i32) -> Vec<libc::sock_filter> {
    let is = |k, jt, jf| step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, jt, jf, k);
    let (name, flags) = (libc::SIOCGIFNAME as u32, libc::SIOCGIFFLAGS as u32);
    let ioctl = vec![load(ARGUMENTS + 8), is(name, 1, 0), is(flags, 0, 1), end(errno), end(0)];
    [
        vec![load(CALL), step(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 1, FIRST_LATER_CALL), end(libc::ENOSYS)],
        of_call(libc::SYS_ioctl, ioctl),
        of_call(libc::SYS_fanotify_init, no_bits_but(0, [FANOTIFY_INIT_FLAGS, u32::MAX])),
        of_call(
            libc::SYS_fanotify_mark,
            [no_bits_but(1, [FANOTIFY_MARK_FLAGS, u32::MAX]), no_bits_but(2, [FANOTIFY_EVENTS, 0])].concat(),
        ),
        vec![end(0)],
    ]
    .concat()
}

/// Runs the program, and every program that it executes, as on such a kernel.
fn on_an_old_kernel(command: &mut Command, errno: i32) -> &mut Command {
    let mut filter = old_kernel(errno);
    let refuse = move || {
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
        let (mode, program) = (libc::SECCOMP_MODE_FILTER, &raw const program);
        // SAFETY: prctl(2) reads the program and its filter, which live until it returns, and keeps copies.
        if unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, program) } < 0 {
            return Err(std::io::Error::last_os_error());
        }
        Ok(())
    };
    // SAFETY: between fork and exec it makes one system call, and allocates nothing.
    unsafe { command.pre_exec(refuse) }
}

fn exit_status(ns: &Namespace, errno: i32, arguments: &[&str]) -> Option<i32> {
    let mut command = ns.command();
    let output = on_an_old_kernel(&mut command, errno).args(arguments).arg("--root").arg(ns.root()).output();
    output.expect("fwdguard runs").status.code()
}

#[test]
fn everything_works_with_the_system_calls_of_linux_3_10() {
    let ns = Namespace::enter();
    ns.veth("a0", "b0");
    ns.write("etc/fwdguard.d/10.conf", "net.ipv4.ip_forward = 1\nnet.ipv4.conf.*.forwarding = 1\n");
    sysctl_write("net/ipv4/ip_forward", "0");
    assert_eq!(exit_status(&ns, 0, &["check"]), Some(1));
    assert_eq!(exit_status(&ns, 0, &["apply"]), Some(0));
    assert_eq!(exit_status(&ns, 0, &["policy", "--json"]), Some(0));

    let mut guard = Running::start(&ns, |command| on_an_old_kernel(command, 0));
    let process = std::fs::read_to_string(format!("/proc/{}/status", guard.pid())).expect("its status");
    assert!(process.contains("Seccomp:\t2\n"), "{process}");
    sysctl_write("net/ipv4/conf/a0/forwarding", "0");
    wait_sysctl("net/ipv4/conf/a0/forwarding", "1");
    let record =
        guard.wait_record("a0", |record| record.get("SYSCTL").is_some_and(|key| key.ends_with("a0.forwarding")));
    if fwdguard::kernel::fanotify::open().is_ok() {
        assert_eq!(record["WRITER_PID"], std::process::id().to_string(), "{record:?}");
    }
    ns.write("etc/fwdguard.d/20.conf", "net.ipv4.tcp_fin_timeout = 1234\n");
    wait_sysctl("net/ipv4/tcp_fin_timeout", "1234");
    guard.signal("HUP");
    guard.wait_notified("RELOADING=1");
    guard.wait_notified("READY=1");
    let (status, _) = guard.stop();
    assert!(status.success(), "{status:?}");
}

/// The text of an errno, as it is in records.
fn text_of(errno: i32) -> String {
    let text = std::io::Error::from_raw_os_error(errno).to_string();
    text.split(" (os error").next().unwrap_or_default().to_string()
}

#[test]
fn interfaces_are_guarded_where_their_ioctls_are_refused() {
    let ns = Namespace::enter();
    ns.veth("a0", "closed0");
    let policy = "net.ipv4.ip_forward = 1\nnet.ipv4.conf.*.forwarding = 1\n-net.ipv4.conf.closed0.forwarding\n\
                  net.ipv4.conf.*.rp_filter = 0\n";
    ns.write("etc/fwdguard.d/10.conf", policy);
    for errno in [libc::EOPNOTSUPP, libc::EACCES, libc::EPERM] {
        sysctl_write("net/ipv4/ip_forward", "0");
        sysctl_write("net/ipv4/conf/a0/rp_filter", "1");
        assert_eq!(exit_status(&ns, errno, &["check"]), Some(1), "{errno}");
        assert_eq!(exit_status(&ns, errno, &["apply"]), Some(0), "{errno}");
        assert_eq!(exit_status(&ns, errno, &["check"]), Some(0), "{errno}");
        // What was closed before stays closed, although the kernel opened it with ip_forward.
        assert_eq!(sysctl_read("net/ipv4/conf/closed0/forwarding"), "0", "{errno}");

        sysctl_write("net/ipv4/conf/a0/rp_filter", "1");
        let guard = Running::start(&ns, |command| on_an_old_kernel(command, errno));
        wait_sysctl("net/ipv4/conf/a0/rp_filter", "0");
        let is_lost = |record: &Record| {
            record.get("MESSAGE_ID").is_some_and(|id| id == SOURCE_LOST) && record["MESSAGE"].contains(&text_of(errno))
        };
        guard.wait_record("the lost ioctls", is_lost);
        for setting in ["net/ipv4/conf/a0/forwarding", "net/ipv4/ip_forward"] {
            sysctl_write(setting, "0");
            wait_sysctl(setting, "1");
            wait_sysctl("net/ipv4/conf/a0/forwarding", "1");
            wait_sysctl("net/ipv4/conf/closed0/forwarding", "0");
        }
        // An interface that comes, is renamed, goes and comes again.
        for _ in 0..2 {
            run("ip link add n0 type veth peer name n2");
            sysctl_write("net/ipv4/conf/n0/rp_filter", "1");
            wait_sysctl("net/ipv4/conf/n0/rp_filter", "0");
            run("ip link set n0 name n1");
            sysctl_write("net/ipv4/conf/n1/rp_filter", "1");
            wait_sysctl("net/ipv4/conf/n1/rp_filter", "0");
            guard.wait_record("n1", |record| {
                record.get("SYSCTL").is_some_and(|key| key == "net.ipv4.conf.n1.rp_filter")
            });
            run("ip link delete n1");
        }
        let (status, _) = guard.stop();
        assert!(status.success(), "{errno}: {status:?}");
    }
}
