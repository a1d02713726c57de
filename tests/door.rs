//! The files below /proc/sys that the guard keeps open, against the real kernel.

mod common;

use common::*;

/// The guard keeps files open that it has repaired; an interface that goes or gets another name takes its file along.
#[test]
fn a_file_kept_open_is_never_another_interfaces() {
    let ns = Namespace::enter();
    ns.veth("a0", "b0");
    ns.write("etc/fwdguard.d/10.conf", "net.ipv4.conf.*.forwarding = 1\n");
    let guard = ns.guard();
    let flip = |name: &str| {
        let key = format!("net/ipv4/conf/{name}/forwarding");
        sysctl_write(&key, "0");
        wait_sysctl(&key, "1");
    };
    flip("a0");
    run("ip link set a0 name c0");
    ns.veth("a0", "d0");
    for name in ["c0", "a0", "b0", "a0", "c0"] {
        flip(name);
    }
    run("ip link del a0");
    ns.veth("a0", "d0");
    flip("a0");
    let named = guard.wait_message("net.ipv4.conf.c0.forwarding was 0");
    assert_eq!(named["CAUSE"], "write");
}

#[test]
fn a_setting_is_mended_as_soon_as_it_can_be_written() {
    let ns = Namespace::enter();
    run("mount --bind /proc/sys /proc/sys");
    run("mount -o remount,bind,ro /proc/sys");
    ns.write("etc/fwdguard.d/10.conf", "net.ipv4.ip_forward = 1\n");
    let guard = ns.guard();
    guard.wait_record("a failed repair", |record| record.get("SYSCTL").is_some_and(|key| key == "net.ipv4.ip_forward"));
    assert_eq!(sysctl_read("net/ipv4/ip_forward"), "0");
    run("umount --lazy /proc/sys");
    guard.signal("USR1");
    wait_sysctl("net/ipv4/ip_forward", "1");
}
