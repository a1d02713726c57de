//! Paths with nothing wrong stay so, and the settings are as they were.

use std::collections::BTreeMap;

use crate::common::*;
use crate::node::*;

#[test]
fn a_healthy_path_is_forwarded_and_no_setting_changes() {
    let node = Node::new();
    let before: BTreeMap<_, _> = all_settings().into_iter().collect();
    for arguments in [POD.to_string(), format!("{POD} --from {CLIENT}"), format!("{POD} --from {FAR} --in eth1")] {
        let object = node.expect(&arguments, &[], &["Forwarded", POD, "leaves by cali1"]);
        assert!(list(&object, "path").iter().all(|step| step["mark"] == "ok"), "{object:#}");
        assert_eq!((&object["mend"], &object["local"]), (&serde_json::Value::Null, &false.into()));
    }
    let object = node.diagnose(POD).0;
    assert_eq!((text(&object, "from"), &object["from_assumed"]), (CLIENT, &true.into()));
    let after: BTreeMap<_, _> = all_settings().into_iter().collect();
    assert!(before == after, "a setting changed");
}

#[test]
fn strict_rp_filter_everywhere_is_healthy_on_a_symmetric_path() {
    let node = Node::new();
    for scope in ["all", "eth0", "eth1", "cali1"] {
        sysctl_write(&format!("net/ipv4/conf/{scope}/rp_filter"), "1");
    }
    for arguments in [POD.to_string(), format!("{POD} --from {CLIENT}"), format!("{POD} --from {FAR}")] {
        node.expect(&arguments, &[], &["Forwarded"]);
    }
}

#[test]
fn a_pod_without_an_address_on_the_nodes_side() {
    let node = Node::new();
    run("ip address flush dev cali1");
    run(&format!("ip route add {POD} dev cali1"));
    // As Calico has it: the node answers for the pod's gateway.
    run("ip -n pod route replace default dev eth0");
    node.expect(POD, &[], &["leaves by cali1"]);
}

#[test]
fn an_unknown_source_is_still_judged() {
    let node = Node::new();
    for interface in ["eth0", "eth1"] {
        run(&format!("ip address flush dev {interface}"));
    }
    node.expect(POD, &[], &["leaves by cali1"]);
    node.expect("2001:db8::1", &["no-route", "forwarding-off"], &["no route leads to 2001:db8::1"]);
}

#[test]
fn a_route_of_a_rule_for_one_ingress_counts_there() {
    let node = Node::new();
    run("ip rule add iif eth0 lookup 100");
    run("ip route add 10.250.0.0/16 via 10.8.0.2 dev eth1 table 100");
    node.expect("10.250.0.1 --in eth0", &[], &["leaves by eth1"]);
    node.expect("10.250.0.1 --in cali1", &["no-route"], &["no route leads to 10.250.0.1"]);
}

#[test]
fn an_unused_interface_is_no_fault() {
    let node = Node::new();
    run("ip link add old0 type bridge");
    run("ip address add 10.250.5.1/24 dev old0");
    run("ip route add default via 10.8.0.2");
    node.expect("10.250.5.7 --in eth0", &[], &["leaves by eth1"]);
    run("ip route replace 10.250.0.0/16 via 10.8.0.2");
    node.expect("10.250.5.7 --in eth0", &[], &["leaves by eth1"]);
}

#[test]
fn the_answer_may_go_by_a_rule() {
    let node = Node::new();
    run("ip rule add from 10.244.0.0/16 lookup 100");
    run("ip route add default via 10.9.0.2 table 100");
    node.expect(&format!("{POD} --from 203.0.113.9 --in eth0"), &[], &["Forwarded"]);
    // The way there is right, too, where the main table has another route.
    run("ip route add 10.250.0.0/16 via 10.8.0.99");
    run("ip rule add iif eth0 lookup 200");
    run(&format!("ip route add 10.250.0.1 via {POD} table 200"));
    node.expect(&format!("10.250.0.1 --from {CLIENT} --in eth0"), &[], &["leaves by cali1"]);
}

#[test]
fn a_bridge_in_the_path_is_checked() {
    let node = Node::new();
    run("ip link add cni0 type bridge");
    run("ip address flush dev cali1");
    run("ip link set cali1 master cni0");
    run("ip address add 10.244.1.1/24 dev cni0");
    run("ip link set cni0 up");
    let object = node.expect(POD, &[], &["leaves by cni0"]);
    let steps = list(&object, "path");
    let bridge = steps.iter().find(|step| step["step"] == "bridge").expect("a bridge");
    assert_eq!(bridge["where"], "cni0");
    let loaded = std::path::Path::new("/proc/sys/net/bridge").exists();
    assert!(text(bridge, "found").contains(if loaded { "br_netfilter is loaded" } else { "not loaded" }), "{bridge}");
    // The ports take nothing in for themselves.
    assert!(list(&object, "arrivals").iter().all(|arrival| arrival["interface"] != "cali1"), "{object:#}");
}

/// The same node for IPv6.
fn node_v6() -> (Node, &'static str, &'static str) {
    let node = Node::new();
    for (device, namespace, subnet) in [("cali1", "pod", "2001:db8:1"), ("eth0", "client", "2001:db8:9")] {
        run(&format!("ip address add {subnet}::1/64 dev {device} nodad"));
        run(&format!("ip -n {namespace} address add {subnet}::5/64 dev eth0 nodad"));
    }
    sysctl_write("net/ipv6/conf/all/forwarding", "1");
    (node, "2001:db8:1::5", "2001:db8:9::5")
}

#[test]
fn ipv6() {
    let (node, pod, client) = node_v6();
    node.expect(pod, &[], &["Forwarded", "leaves by cali1"]);
    node.expect(&format!("{pod} --from {client} --in eth0"), &[], &["Forwarded"]);
    let texts = ["source 2001:db8:77::1 cannot be answered"];
    node.expect(&format!("{pod} --from 2001:db8:77::1 --in eth0"), &["source"], &texts);
    node.expect("2001:db8:77::1", &["no-route"], &["no route leads to 2001:db8:77::1"]);
    run("ip -6 route add unreachable 2001:db8:1::/80");
    let object = node.expect(pod, &["refusing-route"], &["unreachable 2001:db8:1::/80"]);
    node.check_remedy(pod, &object);
    node.expect("2001:db8:1::77", &["next-hop"], &["2001:db8:1::77", "neighbour discovery"]);
    sysctl_write("net/ipv6/conf/all/forwarding", "0");
    let object = node.expect(pod, &["forwarding-off"], &["net.ipv6.conf.all.forwarding is 0"]);
    node.check_remedy(pod, &object);
    if std::path::Path::new("/proc/sys/net/ipv6/conf/eth0/force_forwarding").exists() {
        sysctl_write("net/ipv6/conf/all/forwarding", "0");
        sysctl_write("net/ipv6/conf/eth0/force_forwarding", "1");
        sysctl_write("net/ipv6/conf/cali1/force_forwarding", "1");
        node.expect(&format!("{pod} --in eth0"), &[], &["Forwarded"]);
    }
}

#[test]
fn routes_from_router_advertisements() {
    let (node, pod, _) = node_v6();
    sysctl_write("net/ipv6/conf/all/forwarding", "0");
    run("ip -6 route add default via 2001:db8:9::5 dev eth0 proto ra");
    let object = node.expect(pod, &["forwarding-off"], &["net.ipv6.conf.eth0.accept_ra first"]);
    assert_eq!(object["mend"], "sysctl -w net.ipv6.conf.eth0.accept_ra=2 net.ipv6.conf.all.forwarding=1");
    node.check_remedy(pod, &object);
    // Without the route, a destination may be unreachable for that reason.
    sysctl_write("net/ipv6/conf/eth0/accept_ra", "1");
    let (object, _) = node.diagnose(pod);
    assert!(object["warnings"][0].as_str().is_some_and(|text| text.contains("eth0 has from router")), "{object:#}");
    run("ip -6 route del default");
    let object = node.expect("2001:db8:77::1", &["no-route"], &["no route leads"]);
    let warning = object["warnings"][0].as_str().unwrap_or_default();
    assert!(warning.contains("no default route") && warning.contains(".accept_ra is 1"), "{object:#}");
}
