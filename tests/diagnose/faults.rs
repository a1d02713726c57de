//! Each fault is real: diagnose names it with its key or route, and where one command can repair it, that command does.

use std::process::Stdio;

use crate::common::*;
use crate::node::*;

#[test]
fn ip_forward_off() {
    let node = Node::new();
    sysctl_write("net/ipv4/ip_forward", "0");
    for arguments in [POD.to_string(), format!("{POD} --from {CLIENT}"), format!("{POD} --from {CLIENT} --in eth0")] {
        let object = node.expect(&arguments, &["forwarding-off"], &["net.ipv4.ip_forward is 0", "eth0"]);
        assert_eq!(object["faults"][0]["key"], "net.ipv4.ip_forward");
        assert_eq!(object["mend"], "sysctl -w net.ipv4.ip_forward=1");
    }
    let object = node.diagnose(POD).0;
    node.check_remedy(POD, &object);
}

#[test]
fn one_interface_does_not_forward() {
    let node = Node::new();
    sysctl_write("net/ipv4/conf/eth0/forwarding", "0");
    for arguments in [POD.to_string(), format!("{POD} --in eth0"), format!("{POD} --from {CLIENT}")] {
        let object = node.expect(&arguments, &["forwarding-off"], &["net.ipv4.conf.eth0.forwarding is 0"]);
        assert_eq!(object["faults"][0]["key"], "net.ipv4.conf.eth0.forwarding");
    }
    // The other paths do not have this fault.
    node.expect(&format!("{POD} --in eth1"), &[], &["eth1"]);
    node.expect(&format!("{POD} --from {FAR}"), &[], &["eth1"]);
    let object = node.diagnose(POD).0;
    node.check_remedy(POD, &object);
}

#[test]
fn the_pods_interface_does_not_forward_the_answer() {
    let node = Node::new();
    sysctl_write("net/ipv4/conf/cali1/forwarding", "0");
    let object = node.expect(POD, &["forwarding-off"], &["on the way back", "net.ipv4.conf.cali1.forwarding is 0"]);
    assert_eq!(object["faults"][0]["way"], "back");
    node.check_remedy(POD, &object);
}

#[test]
fn an_interface_with_a_dot_in_its_name() {
    let node = Node::new();
    run("ip link set eth0 name eth0.100");
    sysctl_write("net/ipv4/conf/eth0.100/forwarding", "0");
    let object = node.expect(POD, &["forwarding-off"], &["net.ipv4.conf.eth0/100.forwarding is 0"]);
    node.check_remedy(POD, &object);
}

#[test]
fn strict_rp_filter_on_an_asymmetric_path() {
    let node = Node::new();
    let arguments = format!("{POD} --from {FAR} --in eth0");
    node.expect(&arguments, &[], &[]);
    for (settings, keys) in [
        (&["all"][..], "net.ipv4.conf.all.rp_filter is 1 (strict)"),
        (&["eth0"], "net.ipv4.conf.eth0.rp_filter is 1 (strict)"),
        (&["all", "eth0"], "net.ipv4.conf.all.rp_filter and net.ipv4.conf.eth0.rp_filter are 1 (strict)"),
    ] {
        settings.iter().for_each(|scope| sysctl_write(&format!("net/ipv4/conf/{scope}/rp_filter"), "1"));
        let object =
            node.expect(&arguments, &["rp-filter"], &[keys, "leads to eth1", "172.16.1.1 via 10.8.0.2 dev eth1"]);
        assert_eq!(object["faults"][0]["key"], format!("net.ipv4.conf.{}.rp_filter", settings[0]));
        // The path is right where the packet comes in by the interface that its answer leaves by.
        node.expect(&format!("{POD} --from {FAR}"), &[], &["eth1"]);
        node.expect(POD, &[], &[]);
        node.check_remedy(&arguments, &object);
    }
    // Loose mode is enough, and the kernel uses the higher of the two values.
    sysctl_write("net/ipv4/conf/all/rp_filter", "2");
    sysctl_write("net/ipv4/conf/eth0/rp_filter", "1");
    node.expect(&arguments, &[], &[]);
    // Not on an interface without an address, such as a tunnel's (`__fib_validate_source`).
    run("ip address flush dev eth0");
    let text = "net.ipv4.conf.all.rp_filter is 2 (loose, which is strict on an interface without an address)";
    let object = node.expect(&arguments, &["rp-filter"], &[text, "leads to eth1"]);
    node.check_remedy(&arguments, &object);
}

#[test]
fn a_tunnels_outer_packets_go_into_the_tunnel() {
    let node = Node::new();
    run("ip link add vx0 type vxlan id 1 remote 192.0.2.7 dstport 4789");
    run("ip link set vx0 up");
    run("ip route add 10.250.0.0/16 dev vx0");
    run("ip route add 192.0.2.0/24 dev vx0");
    let object = node.expect("10.250.0.1", &["tunnel"], &["routed into the tunnel again"]);
    assert_eq!(object["faults"][0]["mend"], "ip route add 192.0.2.7 via GATEWAY", "{object:#}");
}

#[test]
fn strict_rp_filter_is_seen_without_in_where_the_source_is_of_the_interfaces_subnet() {
    let node = Node::new();
    run(&format!("ip route add {CLIENT} via 10.8.0.2"));
    sysctl_write("net/ipv4/conf/all/rp_filter", "1");
    for arguments in [POD.to_string(), format!("{POD} --from {CLIENT}")] {
        node.expect(&arguments, &["rp-filter"], &["net.ipv4.conf.all.rp_filter is 1", "on eth0", "leads to eth1"]);
    }
}

#[test]
fn no_route() {
    let node = Node::new();
    let object = node.expect("10.250.0.1", &["no-route"], &["no route leads to 10.250.0.1"]);
    assert_eq!(object["mend"], "ip route add 10.250.0.1 via GATEWAY");
}

#[test]
fn routes_that_let_nothing_through() {
    let node = Node::new();
    for kind in ["blackhole", "unreachable", "prohibit", "throw"] {
        run(&format!("ip route add {kind} 10.244.1.0/28"));
        let route = format!("{kind} 10.244.1.0/28");
        let object = node.expect(POD, &["refusing-route"], &[&route]);
        assert_eq!(object["faults"][0]["route"], *route);
        node.check_remedy(POD, &object);
    }
}

#[test]
fn a_rule_has_the_node_keep_what_arrives() {
    let node = Node::new();
    run("ip rule add iif eth0 lookup 100");
    for to in ["10.250.0.1", POD] {
        run(&format!("ip route add local {to} dev lo table 100"));
        let route = format!("local {to} dev lo table 100");
        let object =
            node.expect(&format!("{to} --in eth0"), &["refusing-route"], &[&route, "makes this node keep packets"]);
        let kept = serde_json::json!({"verdict": "kept", "kind": "local", "route": route});
        assert_eq!((&object["faults"][0]["route"], &object["arrivals"][0]["there"]), (&route.into(), &kept));
    }
    let object = node.diagnose(&format!("{POD} --in eth0")).0;
    node.check_remedy(&format!("{POD} --in eth0"), &object);
}

#[test]
fn the_egress_is_down() {
    let node = Node::new();
    run("ip link set cali1 down");
    let object = node.expect(POD, &["egress-down"], &["cali1", "is down"]);
    // With another route left, the packet would go astray.
    run("ip route add default via 10.9.0.2");
    node.expect(POD, &["egress-down"], &["cali1", "is down"]);
    node.check_remedy(POD, &object);
    // As Calico has it: no address, and the route goes with the link.
    run("ip route del default");
    run("ip address flush dev cali1");
    run("ip link set cali1 down");
    node.expect(POD, &["no-route"], &["cali1 is down"]);
}

#[test]
fn the_other_end_is_down() {
    let node = Node::new();
    run("ip -n pod link set eth0 down");
    node.expect(POD, &["no-carrier"], &["cali1", "no carrier"]);
}

#[test]
fn the_next_hop_does_not_answer() {
    let node = Node::new();
    node.expect("10.244.1.77", &["next-hop"], &["10.244.1.77", "cali1", "does not answer ARP"]);
    run("ip route add 10.250.0.0/16 via 10.8.0.77");
    node.expect("10.250.0.1", &["next-hop"], &["10.8.0.77", "eth1", "does not answer ARP"]);
}

#[test]
fn the_remote_of_a_vxlan_has_no_route() {
    let node = Node::new();
    if !node.has_vxlan("") {
        return;
    }
    let texts = ["vx0", "192.0.2.9", "no route leads to it"];
    node.expect("10.245.0.7", &["tunnel"], &texts);
    run("ip neighbour replace 10.245.0.7 lladdr 02:00:00:00:00:07 dev vx0");
    node.expect("10.245.0.7", &["tunnel"], &texts);
    run("ip route add blackhole 192.0.2.0/24");
    node.expect("10.245.0.7", &["tunnel"], &["blackhole 192.0.2.0/24"]);
    // The outer route is there; now its next hop is not.
    run("ip route del blackhole 192.0.2.0/24");
    run("ip route add 192.0.2.9 via 10.8.0.66");
    node.expect(
        "10.245.0.7",
        &["next-hop"],
        &["10.8.0.66", "eth1", "the tunnel vx0 does not reach its remote 192.0.2.9"],
    );
    // Bound to an interface, the kernel takes a remote without a route for a neighbour there.
    run("ip route del 192.0.2.9");
    run("ip link del vx0");
    assert!(node.has_vxlan("dev eth1"));
    node.expect("10.245.0.7", &["next-hop"], &["192.0.2.9", "vx0", "which no route leads to"]);
    run("ip route replace 192.0.2.9 via 10.8.0.2");
    run("ip neighbour replace 10.245.0.7 lladdr 02:00:00:00:00:07 dev vx0");
    let object = node.expect("10.245.0.7", &[], &["leaves by vx0"]);
    assert_eq!(object["warnings"], serde_json::json!([]));
    run("ip link del vx0");
    assert!(node.has_vxlan(""));
    run("ip neighbour replace 10.245.0.7 lladdr 02:00:00:00:00:07 dev vx0");
    let object = node.expect("10.245.0.7", &[], &["leaves by vx0"]);
    assert!(object["warnings"][0].as_str().is_some_and(|text| text.contains("ip link set vx0 mtu 1450")), "{object:#}");
}

#[test]
fn a_source_that_cant_be_answered() {
    let node = Node::new();
    node.expect(&format!("{POD} --from 198.51.100.1 --in eth0"), &["source"], &["cannot be answered", "198.51.100.1"]);
    node.expect(&format!("{POD} --from 10.8.0.1 --in eth0"), &["source"], &["an address of this node"]);
    node.expect(&format!("{POD} --from 127.0.0.5 --in eth0"), &["source"], &["loopback"]);
    node.expect(&format!("{POD} --from 10.9.0.255 --in eth0"), &["source"], &["a broadcast address of this node"]);
}

#[test]
fn the_ingress_is_down() {
    let node = Node::new();
    run("ip link set eth0 down");
    for arguments in [format!("{POD} --from {CLIENT}"), format!("{POD} --in eth0")] {
        node.expect(&arguments, &["ingress-down"], &["eth0", "is down"]);
    }
}

#[test]
fn two_faults_are_both_named_the_one_that_drops_first_first() {
    let node = Node::new();
    let arguments = format!("{POD} --from {FAR} --in eth0");
    sysctl_write("net/ipv4/conf/all/rp_filter", "1");
    sysctl_write("net/ipv4/ip_forward", "0");
    let texts = ["net.ipv4.ip_forward is 0", "net.ipv4.conf.all.rp_filter is 1"];
    let object = node.expect(&arguments, &["forwarding-off", "rp-filter"], &texts);
    node.check_remedy(&arguments, &object);
    // InAddrErrors counts it although no route is there either (ip_error).
    sysctl_write("net/ipv4/ip_forward", "0");
    node.expect("10.250.0.1", &["forwarding-off", "no-route"], &["net.ipv4.ip_forward is 0", "no route leads"]);
    node.expect("10.244.1.77", &["forwarding-off", "next-hop"], &["net.ipv4.ip_forward is 0", "10.244.1.77"]);
    run("ip link set cali1 down");
    node.expect(POD, &["forwarding-off", "egress-down"], &["net.ipv4.ip_forward is 0", "cali1"]);
}

#[test]
fn what_rp_filter_drops_meanwhile_shows_where_it_arrives() {
    let node = Node::new();
    sysctl_write("net/ipv4/conf/all/rp_filter", "1");
    run(&format!("ip -n client address add {FAR} dev eth0"));
    run(&format!("ip -n client route add 10.244.1.0/24 via 10.9.0.1 src {FAR}"));
    // The node would not answer ARP from there, either.
    let shown = run("ip -o link show eth0");
    let mac = shown.split("link/ether ").nth(1).and_then(|rest| rest.split(' ').next()).expect("a link address");
    run(&format!("ip -n client neighbour replace 10.9.0.1 lladdr {mac} dev eth0"));
    // The sender ends by itself, too, since a test that fails does not stop it.
    let send = format!("for i in $(seq 200); do echo >/dev/udp/{POD}/9; sleep 0.05; done");
    let mut sender = std::process::Command::new("nsenter");
    sender.args(["--net=/run/netns/client", "bash", "-c", &send]);
    let silent = sender.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut sender = silent.spawn().expect("nsenter runs");
    let texts = ["net.ipv4.conf.all.rp_filter is 1", "on eth0", "leads to eth1"];
    node.expect(&format!("{POD} --from {FAR}"), &["rp-filter"], &texts);
    let object = node.expect(POD, &[], &["Forwarded"]);
    assert!(object["warnings"][0].as_str().is_some_and(|text| text.contains("rp_filter is dropping")), "{object:#}");
    sender.kill().and_then(|()| sender.wait()).expect("its end");
}
