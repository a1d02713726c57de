//! Rules and rp_filter that depend on a packet's mark, tables that no rule leads to, and other neighbours of the incident.

use crate::common::*;
use crate::node::*;

fn warned(object: &serde_json::Value, of: &str) -> bool {
    list(object, "warnings").iter().any(|warning| warning.as_str().is_some_and(|text| text.contains(of)))
}

/// What comes from [`FAR`] by eth0 is answered by eth1, unless it has the mark 0x80.
fn node_with_marks() -> (Node, String) {
    let node = Node::new();
    run("ip rule add fwmark 0x80/0x80 lookup 100");
    run(&format!("ip route add {FAR} via 10.9.0.2 dev eth0 table 100"));
    sysctl_write("net/ipv4/conf/eth0/rp_filter", "1");
    (node, format!("{POD} --from {FAR} --in eth0"))
}

#[test]
fn rp_filter_that_heeds_marks_is_a_suspect_without_one() {
    let (node, arguments) = node_with_marks();
    sysctl_write("net/ipv4/conf/all/src_valid_mark", "1");
    let object = node.expect(
        &arguments,
        &[],
        &["Routed; the kernel may drop it: ", "net.ipv4.conf.eth0.rp_filter is 1 (strict)"],
    );
    assert_eq!(
        (&object["mend"], text(&object["suspects"][0], "tool")),
        (&serde_json::Value::Null, "the kernel"),
        "{object:#}"
    );
    assert!(warned(&object, "0x80/0x80") && warned(&object, "--mark"), "{object:#}");
    for mark in ["0x80", "128", "0x80/0xff"] {
        let object = node.expect(&format!("{arguments} --mark {mark}"), &[], &["Forwarded"]);
        assert!(list(&object, "suspects").is_empty() && !warned(&object, "--mark"), "{object:#}");
    }
    // Without that bit it is what it was.
    let object =
        node.expect(&format!("{arguments} --mark 0"), &["rp-filter"], &["net.ipv4.conf.eth0.rp_filter is 1 (strict)"]);
    node.check_remedy(&format!("{arguments} --mark 0"), &object);
}

#[test]
fn rp_filter_that_does_not_heed_the_mark_is_a_fault() {
    let (node, arguments) = node_with_marks();
    for mark in ["", " --mark 0x80"] {
        let object = node.expect(&format!("{arguments}{mark}"), &["rp-filter"], &["src_valid_mark is 0", "0x80"]);
        assert_eq!(object["faults"][0]["key"], "net.ipv4.conf.all.src_valid_mark");
        assert_eq!(object["mend"], "sysctl -w net.ipv4.conf.all.src_valid_mark=1");
    }
    let object = node.diagnose(&format!("{arguments} --mark 0x80")).0;
    node.check_remedy(&format!("{arguments} --mark 0x80"), &object);
}

#[test]
fn src_valid_mark_alone_makes_rp_filter_a_suspect() {
    let node = Node::new();
    sysctl_write("net/ipv4/conf/eth0/src_valid_mark", "1");
    let object = node.expect(POD, &[], &["Forwarded"]);
    assert!(warned(&object, "src_valid_mark"), "{object:#}");
    sysctl_write("net/ipv4/conf/all/rp_filter", "1");
    let object = node.expect(&format!("{POD} --from {FAR} --in eth0"), &[], &["Routed; the kernel may drop it: "]);
    assert_eq!(object["mend"], serde_json::Value::Null, "{object:#}");
}

#[test]
fn a_route_that_only_marked_packets_find() {
    let node = Node::new();
    run("ip rule add fwmark 0x100 lookup 100");
    run("ip route add 10.250.0.0/16 via 10.8.0.2 dev eth1 table 100");
    let object = node.expect(
        "10.250.0.1",
        &[],
        &["Routed; the kernel may drop it: no route leads to 10.250.0.1 without a mark"],
    );
    assert_eq!(object["mend"], serde_json::Value::Null, "{object:#}");
    node.expect("10.250.0.1 --mark 0x100", &[], &["Forwarded", "leaves by eth1"]);
    node.expect("10.250.0.1 --mark 0x200", &["no-route"], &["no route leads to 10.250.0.1"]);
}

#[test]
fn routes_in_a_table_that_no_rule_leads_to() {
    let node = Node::new();
    run("ip route add 10.250.0.0/16 via 10.8.0.2 dev eth1 table 100");
    let route = "10.250.0.0/16 via 10.8.0.2 dev eth1 table 100";
    let object = node.expect("10.250.0.1", &["no-route"], &[route, "no rule leads to that table"]);
    assert_eq!(
        (text(&object["faults"][0], "route"), text(&object, "mend")),
        (route, "ip rule add to 10.250.0.1 lookup 100")
    );
    // The kernel uses a wider route instead.
    run("ip route add default via 10.9.0.2");
    let object = node.expect("10.250.0.1", &[], &["leaves by eth0"]);
    assert!(warned(&object, route), "{object:#}");
    run("ip rule add lookup 100 priority 100");
    let object = node.expect("10.250.0.1", &[], &["leaves by eth1"]);
    assert!(!warned(&object, "no rule"), "{object:#}");
}

#[test]
fn a_pod_that_cant_resolve_its_gateway() {
    let node = Node::new();
    run("ip address flush dev cali1");
    run(&format!("ip route add {POD} dev cali1"));
    run("ip -n pod route add 169.254.1.1 dev eth0");
    run("ip -n pod route add default via 169.254.1.1 dev eth0");
    run("ip -n pod address change 10.244.1.5/32 dev eth0");
    run("ip -n pod address del 10.244.1.5/24 dev eth0");
    run("ip -n client route add default via 10.9.0.1");
    run("ip -n pod neighbour flush all");
    assert!(!node.passes());
    let object =
        node.expect(POD, &["proxy-arp"], &["on the way back", "net.ipv4.conf.cali1.proxy_arp is 0", "gateway"]);
    assert_eq!(
        (&object["faults"][0]["key"], &object["faults"][0]["way"]),
        (&"net.ipv4.conf.cali1.proxy_arp".into(), &"back".into())
    );
    run("ip route add 169.254.1.1 dev eth1");
    node.check_remedy(POD, &object);
    assert!(node.passes());
    // A pod that has its gateway's link address sends no ARP request (as with Amazon's CNI).
    sysctl_write("net/ipv4/conf/cali1/proxy_arp", "0");
    let shown = run("ip -o link show cali1");
    let mac = shown.split("link/ether ").nth(1).and_then(|rest| rest.split(' ').next()).expect("a link address");
    run(&format!("ip -n pod neighbour replace 169.254.1.1 lladdr {mac} dev eth0"));
    assert!(node.passes());
    node.expect(POD, &[], &["Forwarded"]);
}

#[test]
fn a_loopback_source() {
    let node = Node::new();
    let arguments = format!("{POD} --from 127.0.0.5 --in eth0");
    let object = node.expect(&arguments, &["source"], &["loopback", "net.ipv4.conf.eth0.route_localnet is 0"]);
    assert_eq!(object["mend"], serde_json::Value::Null);
    sysctl_write("net/ipv4/conf/eth0/route_localnet", "1");
    node.expect(&arguments, &[], &["Forwarded"]);
}

#[test]
fn another_name_of_an_interface() {
    let node = Node::new();
    run("ip link property add dev eth0 altname enp0s1f3np0");
    let object = node.expect(&format!("{POD} --in enp0s1f3np0"), &[], &["arrives on eth0"]);
    assert_eq!(object["arrivals"][0]["interface"], "eth0");
    // Below /proc/sys it has the one name only, so a line of the policy by the other does nothing.
    let policy =
        "net.ipv4.conf.enp0s1f3np0.rp_filter = 0\nnet.ipv4.conf.eth1.rp_filter = 0\nnet.ipv4.conf.no9.rp_filter = 0\n";
    node.ns.write("etc/fwdguard.d/10.conf", policy);
    let (object, _) = node.ns.json(&["check", "--json"]);
    let notices = list(&object, "notices");
    assert_eq!((notices.len(), &notices[0]["line"]), (1, &1.into()), "{object:#}");
    assert!(text(&notices[0], "message").contains("altname of eth0"), "{object:#}");
    let guard = node.ns.guard();
    guard.wait_message("enp0s1f3np0 is an altname of eth0");
}

#[test]
fn wrong_marks_are_one_line() {
    let node = Node::new();
    for mark in ["x", "0x1ffffffff", "1/", "-1", ""] {
        let output = node.ns.fwdguard(&["diagnose", POD, &format!("--mark={mark}")]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), error.lines().count()), (Some(2), 1), "{mark}: {error}");
        assert!(error.contains("--mark"), "{error}");
    }
}
