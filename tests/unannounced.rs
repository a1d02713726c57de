//! Settings whose value is not announced: changes are found by watches of writes, messages without a value, links that come up,
//! loaded modules, and audits.

mod common;

use common::*;
use std::time::Duration;

#[test]
fn settings_that_the_kernel_does_not_announce() {
    let ns = Namespace::enter();
    ns.veth("a0", "b0");
    ns.write(
        "etc/fwdguard.d/10.conf",
        "net.ipv4.ip_local_reserved_ports = 5000,4000-4002\nnet.ipv4.conf.a*.accept_local = 01\n-net.ipv4.no_such_setting = 1\nnet.core.no_such = 1\n",
    );
    let guard = ns.guard();
    assert_eq!(sysctl_read("net/ipv4/ip_local_reserved_ports"), "4000-4002,5000");
    assert_eq!(sysctl_read("net/ipv4/conf/a0/accept_local"), "1");
    ns.veth("a9", "b9");
    wait_sysctl("net/ipv4/conf/a9/accept_local", "1");
    sysctl_write("net/ipv4/conf/a0/accept_local", "0");
    guard.signal("USR1");
    wait_sysctl("net/ipv4/conf/a0/accept_local", "1");
    guard.wait_message("Resumed");
    let ports = guard.repairs().iter().filter(|r| r["SYSCTL"].ends_with("reserved_ports")).count();
    assert_eq!(ports, 1, "the kernel's way to write a list is learned, not fought");
}

#[test]
fn a_write_that_the_kernel_does_not_announce_is_found_at_once() {
    let ns = Namespace::enter();
    ns.veth("a0", "b0");
    ns.write(
        "etc/fwdguard.d/10.conf",
        "net.ipv4.conf.a0.accept_local = 1\nnet.ipv4.conf.*.arp_ignore = 1\nnet.core.somaxconn = 5000\n\
         net.ipv6.conf.a0.accept_ra = 2\n",
    );
    let guard = ns.guard();
    let drift = |key: &str, wanted: &str| {
        wait_sysctl(key, wanted);
        for _ in 0..3 {
            sysctl_write(key, "0");
            wait_sysctl(key, wanted);
        }
    };
    drift("net/core/somaxconn", "5000");
    drift("net/ipv4/conf/a0/accept_local", "1");
    for name in ["all", "default", "a0", "b0"] {
        drift(&format!("net/ipv4/conf/{name}/arp_ignore"), "1");
    }
    let record = guard.wait_message("Restored net.core.somaxconn to 5000: it was 0");
    assert_eq!((&*record["CAUSE"], &*record["OLDVALUE"]), ("write", "5000"));
    assert!(record["LATENCY_USEC"].parse::<u64>().is_ok());
    // Renamed, and back: the folder is another each time.
    run("ip link set a0 down");
    run("ip link set a0 name z0");
    drift("net/ipv4/conf/z0/arp_ignore", "1");
    run("ip link set z0 name a0");
    drift("net/ipv4/conf/a0/arp_ignore", "1");
    drift("net/ipv4/conf/a0/accept_local", "1");
    // Made again: IPv6's settings, and the interface.
    run("ip link set a0 mtu 1000");
    run("ip link set a0 mtu 1500");
    drift("net/ipv6/conf/a0/accept_ra", "2");
    run("ip link del a0");
    ns.veth("a0", "b0");
    drift("net/ipv4/conf/a0/arp_ignore", "1");
    drift("net/ipv4/conf/a0/accept_local", "1");
    // Another policy.
    ns.write("etc/fwdguard.d/10.conf", "net.ipv4.conf.b*.arp_notify = 1\n");
    drift("net/ipv4/conf/b0/arp_notify", "1");
    sysctl_write("net/core/somaxconn", "0");
    drift("net/ipv4/conf/b0/arp_notify", "1");
    assert_eq!(sysctl_read("net/core/somaxconn"), "0", "not guarded any more");
}

#[test]
fn more_unannounced_settings_than_can_be_watched() {
    let ns = Namespace::enter();
    ns.write(
        "etc/fwdguard.d/10.conf",
        "net.ipv4.conf.*.arp_ignore = 1\nnet.ipv4.conf.*.arp_notify = 1\nnet.ipv4.conf.late0.accept_local = 1\n",
    );
    let guard = ns.guard();
    let batch: String = (0..125).map(|n| format!("link add p{n} type veth peer name x{n}\n")).collect();
    ns.write("batch", &batch);
    run(&format!("ip -batch {}", ns.path("batch").display()));
    wait_sysctl("net/ipv4/conf/p124/arp_notify", "1");
    // Settings that are written out take precedence over those that patterns name for interfaces.
    ns.veth("late0", "b0");
    wait_sysctl("net/ipv4/conf/late0/accept_local", "1");
    for key in ["all/arp_ignore", "p7/arp_ignore", "late0/accept_local"] {
        let key = format!("net/ipv4/conf/{key}");
        sysctl_write(&key, "0");
        wait_sysctl(&key, "1");
    }
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", guard.pid())).expect("descriptors").count();
    assert!((400..1000).contains(&descriptors), "inotify and fanotify keep within 1,024: {descriptors}");
    let batch: String = (0..125).map(|n| format!("link del p{n}\n")).collect();
    ns.write("batch", &batch);
    run(&format!("ip -batch {}", ns.path("batch").display()));
    // There is room again.
    ns.veth("q0", "r0");
    wait_sysctl("net/ipv4/conf/q0/arp_notify", "1");
    sysctl_write("net/ipv4/conf/q0/arp_notify", "0");
    wait_sysctl("net/ipv4/conf/q0/arp_notify", "1");
}

#[test]
fn without_inotify_one_record_and_guarding_continues() {
    let ns = Namespace::enter();
    ns.write("etc/fwdguard.d/10.conf", "net.core.somaxconn = 5000\n");
    // The limit is the user namespace's, so the guard gets one of its own in which there are no instances.
    let without = "echo 0 >/proc/sys/user/max_inotify_instances; exec \"$@\"";
    let guard = Running::start(&ns, |command| {
        reworded(command, |words| {
            let unshare = ["unshare", "--user", "--map-root-user", "sh", "-c", without, "sh"];
            unshare.map(Into::into).into_iter().chain(words).collect()
        })
    });
    guard.wait_message("Lost inotify on settings: Too many open files; raise fs.inotify.max_user_instances");
    guard.signal("USR1");
    guard.wait_message("Resumed");
    let lost = guard.records().iter().filter(|record| record["MESSAGE"].contains("inotify on settings")).count();
    assert_eq!(lost, 1);
}

#[test]
fn an_unseen_write_after_a_link_came_up_is_found_by_the_next_check() {
    let ns = Namespace::enter();
    ns.veth("a0", "b0");
    ns.write("etc/fwdguard.d/10.conf", "net.ipv4.conf.*.accept_local = 1\nnet.core.somaxconn = 5000\n");
    let guard = ns.guard();
    run("ip link set a0 down");
    run("ip link set a0 up");
    std::thread::sleep(Duration::from_millis(100));
    for (key, wanted) in [("net/ipv4/conf/a0/accept_local", "1"), ("net/core/somaxconn", "5000")] {
        sysctl_write_unseen(key, "0");
        wait_sysctl(key, wanted);
    }
    let record = guard.wait_message("Restored net.ipv4.conf.a0.accept_local to 1: it was 0");
    assert_eq!(record["CAUSE"], "link");
    // An interface that comes and goes takes its pending checks with it.
    ns.veth("c0", "d0");
    run("ip link del c0");
    ns.veth("c0", "d0");
    std::thread::sleep(Duration::from_millis(100));
    sysctl_write_unseen("net/ipv4/conf/c0/accept_local", "0");
    wait_sysctl("net/ipv4/conf/c0/accept_local", "1");
}

#[test]
fn a_flapping_link_delays_no_repair_and_is_checked_after_its_last_flap() {
    let ns = Namespace::enter();
    ns.veth("a0", "b0");
    ns.veth("x0", "y0");
    ns.write(
        "etc/fwdguard.d/10.conf",
        "net.ipv4.conf.*.forwarding = 1\nnet.ipv4.conf.*.rp_filter = 0\nnet.ipv4.conf.*.accept_local = 1\n",
    );
    let guard = ns.guard();
    ns.write("flaps", &"link set x0 down\nlink set x0 up\n".repeat(400));
    let flaps = format!("ip -batch {}", ns.path("flaps").display());
    let flapper = std::thread::spawn(move || run(&flaps));
    let mut drifts = 0;
    while !flapper.is_finished() || drifts < 10 {
        for (name, wrong, right) in [("forwarding", "0", "1"), ("rp_filter", "1", "0"), ("accept_local", "0", "1")] {
            let key = format!("net/ipv4/conf/a0/{name}");
            sysctl_write(&key, wrong);
            wait_sysctl(&key, right);
        }
        drifts += 1;
    }
    flapper.join().expect("the flaps");
    std::thread::sleep(Duration::from_millis(100));
    sysctl_write_unseen("net/ipv4/conf/x0/accept_local", "0");
    wait_sysctl("net/ipv4/conf/x0/accept_local", "1");
    let record = guard.wait_message("Restored net.ipv4.conf.x0.accept_local to 1: it was 0");
    assert_eq!(record["CAUSE"], "link");
    assert!(!guard.records().iter().any(|record| record["MESSAGE"].contains("all settings were read again")));
}

/// Whichever process wrote them, and through whichever procfs.
#[test]
fn announced_changes_are_repaired_at_once() {
    let ns = Namespace::enter();
    ns.veth("a0", "b0");
    let families = [
        ("ipv4", "proxy_arp"),
        ("ipv6", "proxy_ndp"),
        ("ipv4", "ignore_routes_with_linkdown"),
        ("ipv6", "ignore_routes_with_linkdown"),
        ("ipv6", "force_forwarding"),
    ];
    // Linux before 6.17 has no force_forwarding.
    let is_there = |(family, name): &(&str, &str)| {
        std::path::Path::new(&format!("/proc/sys/net/{family}/conf/a0/{name}")).exists()
    };
    let families: Vec<_> = families.into_iter().filter(is_there).collect();
    let lines: String = families.iter().map(|(family, name)| format!("net.{family}.conf.*.{name} = 1\n")).collect();
    ns.write("etc/fwdguard.d/10.conf", &lines);
    let guard = ns.guard();
    for (family, name) in families {
        for place in ["all", "default", "a0"] {
            for _ in 0..3 {
                let key = format!("net/{family}/conf/{place}/{name}");
                sysctl_write_unseen(&key, "0");
                wait_sysctl(&key, "1");
            }
        }
        let key = format!("net.{family}.conf.a0.{name}");
        let record = guard.wait_record(&key, |record| record.get("SYSCTL") == Some(&key) && record["CAUSE"] == "write");
        assert!(record["LATENCY_USEC"].parse::<u64>().is_ok(), "{record:?}");
    }
}

/// The kernel's own message, which it accepts from root of the namespace as well (uevent_net_rcv_skb, lib/kobject_uevent.c).
fn send_uevent(text: &[u8]) {
    use rustix::net::{AddressFamily, SendFlags, SocketType, netlink, sendto, socket};
    let socket = socket(AddressFamily::NETLINK, SocketType::RAW, Some(netlink::KOBJECT_UEVENT)).expect("a socket");
    let length = 16 + text.len() as u32;
    let message = [&length.to_ne_bytes()[..], &[0x10, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0], text].concat();
    sendto(socket, &message, SendFlags::empty(), &netlink::SocketAddrNetlink::new(0, 1)).expect("sent");
}

#[test]
fn settings_of_a_loaded_module_are_checked() {
    let ns = Namespace::enter();
    ns.write("etc/fwdguard.d/10.conf", "net.core.somaxconn = 5000\n");
    let guard = ns.guard();
    sysctl_write_unseen("net/core/somaxconn", "100");
    send_uevent(b"add@/devices/virtual/net/a0\0ACTION=add\0");
    send_uevent(b"remove@/module/br_netfilter\0ACTION=remove\0");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(sysctl_read("net/core/somaxconn"), "100", "no other event causes a check");
    send_uevent(b"add@/module/br_netfilter\0ACTION=add\0DEVPATH=/module/br_netfilter\0SUBSYSTEM=module\0");
    wait_sysctl("net/core/somaxconn", "5000");
    let record = guard.wait_message("Restored net.core.somaxconn to 5000: it was 100");
    assert_eq!(record["CAUSE"], "module");
    assert!(record["MESSAGE"].contains("it was last seen correct "), "{record:?}");
    assert!(record["WRONG_USEC"].parse::<u64>().is_ok_and(|usec| usec > 300_000), "{record:?}");
    // Before Linux 5.12 a module is announced before its settings are there.
    send_uevent(b"add@/module/br_netfilter\0ACTION=add\0");
    std::thread::sleep(Duration::from_millis(5));
    sysctl_write_unseen("net/core/somaxconn", "100");
    wait_sysctl("net/core/somaxconn", "5000");
}

#[test]
fn a_write_to_a_settings_other_name_is_found_at_once() {
    let ns = Namespace::enter();
    ns.veth("a0", "b0");
    ns.write(
        "etc/fwdguard.d/10.conf",
        "net.ipv4.neigh.a0.base_reachable_time = 40\nnet.ipv4.neigh.b0.retrans_time_ms = 2000\n\
         net.ipv6.neigh.b*.retrans_time_ms = 3000\n",
    );
    let guard = ns.guard();
    for (ours, wanted, theirs) in [
        ("ipv4/neigh/a0/base_reachable_time", "40", "base_reachable_time_ms"),
        ("ipv4/neigh/b0/retrans_time_ms", "2000", "retrans_time"),
        ("ipv6/neigh/b0/retrans_time_ms", "3000", "retrans_time"),
    ] {
        let ours = format!("net/{ours}");
        let theirs = format!("{}/{theirs}", ours.rsplit_once('/').expect("a path").0);
        wait_sysctl(&ours, wanted);
        for _ in 0..3 {
            sysctl_write(&theirs, "12");
            wait_sysctl(&ours, wanted);
        }
        let record = guard.wait_message(&format!("Restored {} to {wanted}: it was ", ours.replace('/', ".")));
        assert_eq!(record["CAUSE"], if record["OLDVALUE"] == "unknown" { "start" } else { "write" });
    }
}
