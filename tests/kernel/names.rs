//! Interfaces that come, go and are renamed, and their odd names.

use super::*;

#[test]
fn born_remade_and_renamed() {
    let ns = Namespace::enter();
    let guard = ns.guard();
    // Created while the guard is stopped, already closed and strict.
    guard.signal("STOP");
    ns.veth("tunl0", "t1");
    sysctl_write("net/ipv4/conf/tunl0/rp_filter", "1");
    sysctl_write("net/ipv4/conf/tunl0/forwarding", "0");
    guard.signal("CONT");
    wait_sysctl("net/ipv4/conf/tunl0/rp_filter", "0");
    wait_sysctl("net/ipv4/conf/tunl0/forwarding", "1");
    // Created again: the new one has default's values, here strict.
    run("ip link del tunl0");
    sysctl_write("net/ipv4/conf/default/rp_filter", "1");
    ns.veth("tunl0", "t1");
    wait_sysctl("net/ipv4/conf/tunl0/rp_filter", "0");
    // Another interface takes the name.
    ns.veth("x0", "y0");
    assert_eq!(sysctl_read("net/ipv4/conf/x0/rp_filter"), "1");
    run("ip link del tunl0");
    run("ip link set x0 down");
    run("ip link set x0 name tunl0");
    wait_sysctl("net/ipv4/conf/tunl0/rp_filter", "0");
    // The interface that lost the name is left alone.
    run("ip link set tunl0 name z0");
    sysctl_write("net/ipv4/conf/z0/rp_filter", "2");
    sysctl_write("net/ipv4/ip_forward", "0");
    wait_sysctl("net/ipv4/ip_forward", "1");
    assert_eq!(sysctl_read("net/ipv4/conf/z0/rp_filter"), "2");
}

#[test]
fn a_write_before_the_first_check_of_a_new_interface_is_logged_as_a_write() {
    let ns = Namespace::enter();
    sysctl_write("net/ipv4/conf/default/rp_filter", "2");
    let guard = ns.guard();
    guard.signal("STOP");
    ns.veth("tunl0", "t1");
    sysctl_write("net/ipv4/conf/tunl0/rp_filter", "1");
    guard.signal("CONT");
    let record = guard.wait_record("a repair of tunl0", |record| {
        record.get("SYSCTL").is_some_and(|key| key == "net.ipv4.conf.tunl0.rp_filter")
    });
    assert_eq!((&*record["CAUSE"], &*record["NEWVALUE"]), ("write", "1"), "{record:?}");
    assert!(!record["MESSAGE"].contains("no writer: "), "{record:?}");
    run("ip link del tunl0");
    // The same interface, as the kernel makes it from default.
    guard.take_records();
    ns.veth("tunl0", "t1");
    let record = guard.wait_record("a repair of tunl0", |record| {
        record.get("SYSCTL").is_some_and(|key| key == "net.ipv4.conf.tunl0.rp_filter")
    });
    assert_eq!((&*record["CAUSE"], &*record["NEWVALUE"]), ("link", "2"), "{record:?}");
}

#[test]
fn odd_names() {
    let ns = Namespace::enter();
    let names = ["eth0.100", "a@b", "x{y}*[z]", "fifteen-chars-x", "\u{e9}t\u{e9}0", "-v1"];
    let guard = ns.guard();
    for (n, name) in names.iter().enumerate() {
        let peer = format!("p{n}");
        let status = std::process::Command::new("ip")
            .args(["link", "add", "name", name, "type", "veth", "peer", "name", &peer])
            .status()
            .expect("ip runs");
        assert!(status.success(), "{name}");
        let key = format!("net/ipv4/conf/{name}/forwarding");
        wait_sysctl(&key, "1");
        sysctl_write(&key, "0");
        wait_sysctl(&key, "1");
    }
    guard.wait_message("Restored net.ipv4.conf.eth0/100.forwarding to 1: it was 0");
}

#[test]
fn a_name_that_is_not_utf8() {
    use std::os::unix::ffi::OsStrExt;
    let ns = Namespace::enter();
    let guard = ns.guard();
    let name = std::ffi::OsStr::from_bytes(b"b\xff0");
    let status =
        std::process::Command::new("ip").args(["link", "add", "name"]).arg(name).args(["type", "veth"]).status();
    assert!(status.expect("ip runs").success());
    let path = std::path::Path::new("/proc/sys/net/ipv4/conf").join(name).join("forwarding");
    for _ in 0..2 {
        std::fs::write(&path, "0").expect("write");
        for _ in 0..1000 {
            if std::fs::read(&path).expect("read") == b"1\n" {
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(std::fs::read(&path).expect("read"), b"1\n");
    }
    guard.wait_message("Restored net.ipv4.conf.b\\xff0.forwarding to 1: it was 0");
}

#[test]
fn settings_made_anew_from_default_are_put_right() {
    let ns = Namespace::enter();
    ns.veth("a0", "b0");
    ns.write("etc/fwdguard.d/10.conf", "net.ipv6.conf.a0.forwarding = 1\nnet.ipv6.conf.a0.accept_ra = 2\n");
    let _guard = ns.guard();
    assert_eq!(sysctl_read("net/ipv6/conf/a0/accept_ra"), "2");
    run("ip link set a0 mtu 1000");
    run("ip link set a0 mtu 1500");
    wait_sysctl("net/ipv6/conf/a0/forwarding", "1");
    wait_sysctl("net/ipv6/conf/a0/accept_ra", "2");
}
