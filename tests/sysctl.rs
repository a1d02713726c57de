//! The files below /proc/sys, those that the guard keeps open among them, against the real kernel.

mod common;

use common::*;
use fwdguard::kernel::sysctl::Sysctl;
use fwdguard::setting::Key;

/// The guard keeps files open that it has repaired; the file of an interface that is gone or renamed gives ENOENT.
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
    // The record has the current name, whether the write or the check of a renamed link came first.
    let named = guard.wait_message("Restored net.ipv4.conf.c0.forwarding to 1: it was 0");
    assert!(["write", "link"].contains(&&*named["CAUSE"]), "{named:?}");
}

/// Short values are read at once, and longer ones again.
#[test]
fn a_value_is_read_whole_however_long_it_is() {
    const PORTS: &str = "net/ipv4/ip_local_reserved_ports";
    let _ns = Namespace::enter();
    let mut sysctl = Sysctl::new(std::sync::Arc::default());
    let key = Key::parse(PORTS).unwrap();
    let even: Vec<String> = (1..2000).map(|number| (2 * number).to_string()).collect();
    let even = even.join(",");
    for length in [0, 1, 29, 30, 31, 32, 33, 62, 63, 64, 255, 256, 257, even.len()] {
        sysctl_write(PORTS, even[..length].trim_end_matches(','));
        let found = sysctl_read(PORTS);
        assert_eq!(sysctl.read(&key), Ok(found.clone()), "{length} characters");
        let outcome = sysctl.repair(&key, "7", |value| value == "7");
        assert_eq!((outcome.found, outcome.write), (Ok(found), Some(Ok(()))));
        assert_eq!(sysctl.read(&key), Ok("7".into()));
    }
}

#[test]
fn a_setting_is_repaired_as_soon_as_it_is_writable() {
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

/// Other processes still have it writable, as a container's runtime has.
#[test]
fn while_read_only_each_setting_has_one_record() {
    const KEYS: [(&str, &str, &str); 2] =
        [("net/core/somaxconn", "100", "4000"), ("net/ipv4/conf/b0/arp_ignore", "0", "1")];
    let ns = Namespace::enter();
    ns.veth("a0", "b0");
    ns.write("etc/fwdguard.d/10.conf", "net.core.somaxconn = 4000\nnet.ipv4.conf.*.arp_ignore = 1\n");
    KEYS.iter().for_each(|(key, _, right)| sysctl_write(key, right));
    let mut guard = ns.guard();
    let writable = KEYS.map(|(key, wrong, right)| {
        let file = std::fs::OpenOptions::new().write(true).open(std::path::Path::new("/proc/sys").join(key));
        (file.expect("writable"), key, wrong, right)
    });
    run("mount --bind /proc/sys /proc/sys");
    run("mount -o remount,bind,ro /proc/sys");
    for round in 0..5 {
        for (file, key, wrong, _) in &writable {
            std::os::unix::fs::FileExt::write_at(file, wrong.as_bytes(), 0).expect("a write");
            let name = key.replace('/', ".");
            guard.wait_record(&name, |record| record.get("SYSCTL") == Some(&name) && record.contains_key("ERRNO"));
            assert_eq!(sysctl_read(key), *wrong, "in round {round}");
        }
        guard.signal("USR1");
    }
    guard.wait_notified("2 settings cannot be restored");
    let logged = guard.records().into_iter().filter(|record| record.get("ERRNO").is_some_and(|errno| errno == "30"));
    let mut logged: Vec<String> = logged.map(|record| record["SYSCTL"].clone()).collect();
    logged.sort();
    assert_eq!(logged, ["net.core.somaxconn", "net.ipv4.conf.b0.arp_ignore"]);
    run("umount --lazy /proc/sys");
    guard.signal("USR1");
    writable.iter().for_each(|(_, key, _, right)| wait_sysctl(key, right));
}
