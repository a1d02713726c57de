//! Values that the kernel refuses or reads otherwise.

use super::*;

#[test]
fn a_refused_value_has_one_record_per_policy() {
    let ns = Namespace::enter();
    ns.write("etc/fwdguard.d/10.conf", "net.ipv4.ip_forward = 1\nnet.ipv4.ip_local_reserved_ports = many\nnet.ipv4.conf.all.accept_local = 4294967295\n-net.ipv4.tcp_fastopen_key = x\n");
    let guard = ns.guard();
    let failures = |guard: &Running| -> Vec<String> {
        let refused = |record: &Record| record["MESSAGE"].contains("refuses the value");
        guard.records().iter().filter(|record| refused(record)).map(|record| record["SYSCTL"].clone()).collect()
    };
    guard.wait_message("Guarding");
    let refused = ["net.ipv4.conf.all.accept_local", "net.ipv4.ip_local_reserved_ports"];
    assert_eq!(failures(&guard), refused);
    guard.signal("USR1");
    guard.wait_message("Resumed");
    assert_eq!(failures(&guard), refused, "not once per audit");
    sysctl_write("net/ipv4/ip_forward", "0");
    wait_sysctl("net/ipv4/ip_forward", "1");
    let record = guard.wait_message("net.ipv4.ip_local_reserved_ports");
    assert_eq!((&*record["PRIORITY"], &*record["OURVALUE"]), ("3", "many"));
}

#[test]
fn a_value_that_names_what_is_not_there_is_no_absent_setting() {
    let ns = Namespace::enter();
    ns.write(
        "etc/fwdguard.d/10.conf",
        "net.ipv4.tcp_congestion_control = nosuch\nnet.ipv4.conf.nosuch0.rp_filter = 0\n",
    );
    let output = ns.fwdguard(&["apply"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("Failed to set net.ipv4.tcp_congestion_control to nosuch (it is "), "{stderr}");
    assert!(!stderr.contains("nosuch0"), "{stderr}");
}

#[test]
fn a_remark_behind_a_number_is_passed_over_as_the_kernel_does() {
    let ns = Namespace::enter();
    ns.veth("a0", "b0");
    ns.write("etc/fwdguard.d/10.conf", "net.ipv4.conf.a0.rp_filter = 2 # loose\n");
    let guard = ns.guard();
    assert_eq!(sysctl_read("net/ipv4/conf/a0/rp_filter"), "2");
    sysctl_write("net/ipv4/conf/a0/rp_filter", "1");
    wait_sysctl("net/ipv4/conf/a0/rp_filter", "2");
    guard.wait_message("Restored net.ipv4.conf.a0.rp_filter to 2: it was 1");
    assert_eq!(ns.fwdguard(&["check"]).status.code(), Some(0));
}
