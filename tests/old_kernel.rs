//! The guard on the system calls of Linux 3.10 (CentOS 7): all later ones answer ENOSYS, as they do there.

mod common;

use common::*;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// `sched_setattr(2)`, the first that Linux 3.10 has not on x86_64.
const FIRST_LATER_CALL: u32 = 314;

/// Refuses them to this process, and to what it executes.
fn refuse_later_calls() -> std::io::Result<()> {
    const fn step(code: u32, when_false: u8, value: u32) -> libc::sock_filter {
        libc::sock_filter { code: code as u16, jt: 0, jf: when_false, k: value }
    }
    let mut filter = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0), // seccomp_data.nr
        step(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 1, FIRST_LATER_CALL),
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    let (mode, program) = (libc::SECCOMP_MODE_FILTER, &raw const program);
    // SAFETY: prctl(2) reads the program and its filter, which live until it returns, and keeps copies.
    if unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, program) } < 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(())
}

/// The same, for what `command` becomes.
fn on_an_old_kernel(command: &mut Command) -> &mut Command {
    // SAFETY: between fork and exec it makes one system call, and allocates nothing.
    unsafe { command.pre_exec(refuse_later_calls) }
}

#[test]
fn everything_works_with_the_system_calls_of_linux_3_10() {
    let ns = Namespace::enter();
    ns.veth("a0", "b0");
    ns.write("etc/fwdguard.d/10.conf", "net.ipv4.ip_forward = 1\nnet.ipv4.conf.*.forwarding = 1\n");
    sysctl_write("net/ipv4/ip_forward", "0");
    let exit_status = |arguments: &[&str]| {
        let mut command = ns.command();
        let output = on_an_old_kernel(&mut command).args(arguments).arg("--root").arg(ns.root()).output();
        output.expect("fwdguard runs").status.code()
    };
    assert_eq!(exit_status(&["check"]), Some(1));
    assert_eq!(exit_status(&["apply"]), Some(0));
    assert_eq!(exit_status(&["policy", "--json"]), Some(0));

    let mut guard = Running::start(&ns, on_an_old_kernel);
    let process = std::fs::read_to_string(format!("/proc/{}/status", guard.pid())).expect("its status");
    assert!(process.contains("Seccomp:\t2\n"), "{process}");
    sysctl_write("net/ipv4/conf/a0/forwarding", "0");
    wait_sysctl("net/ipv4/conf/a0/forwarding", "1");
    let record =
        guard.wait_record("a0", |record| record.get("SYSCTL").is_some_and(|key| key.ends_with("a0.forwarding")));
    if fwdguard::kernel::writers::open().is_ok() {
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
