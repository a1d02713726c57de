//! Firewalls that drop what the kernel would forward, and their twins that do not, with packets that show it.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::common::*;
use crate::node::*;

const REJECT: &str = "-A FORWARD -j REJECT --reject-with icmp-host-prohibited";

fn load(program: &str, rules: &str) {
    std::fs::write("/run/rules", rules).expect("a file");
    let file = std::fs::File::open("/run/rules").expect("the file");
    let loaded = Command::new(program).args(if program == "nft" { &["-f", "-"][..] } else { &[] }).stdin(file).output();
    let output = loaded.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program}: {}{rules}", String::from_utf8_lossy(&output.stderr));
}

fn iptables(rules: &str) {
    load("iptables-restore", &format!("*filter\n:FORWARD ACCEPT [0:0]\n{rules}\nCOMMIT\n"));
}

fn suspects(object: &Value) -> Vec<&str> {
    list(object, "suspects").iter().map(|suspect| text(suspect, "rule")).collect()
}

/// The kernel routes the packet, and just this rule of that tool may drop it.
fn expect(node: &Node, tool: &str, rule: &str) -> Value {
    assert!(!node.passes(), "{rule} drops nothing");
    let object = node.expect(POD, &[], &["Routed; the firewall may drop it: ", rule]);
    assert_eq!(suspects(&object), [rule], "{object:#}");
    assert_eq!(object["suspects"][0]["tool"], tool, "{object:#}");
    assert!(node.table(POD).0.contains(&format!("Suspect: {tool}, table ")), "{object:#}");
    object
}

fn expect_none(node: &Node, why: &str) {
    assert!(node.passes(), "{why}: it does not pass");
    let object = node.expect(POD, &[], &["Forwarded"]);
    assert_eq!(suspects(&object), [] as [&str; 0], "{why}: {object:#}");
}

#[test]
fn iptables_that_ends_in_a_reject() {
    let node = Node::new();
    node.connect();
    expect_none(&node, "no rules");
    let related = "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT";
    iptables(&format!("{related}\n{REJECT}"));
    let object = expect(&node, "iptables", REJECT);
    let first = &object["suspects"][0];
    assert_eq!((text(first, "table"), text(first, "chain")), ("filter", "FORWARD"));
    for pods in ["-s 10.9.0.0/24 -d 10.244.0.0/16", "-i eth+ -o cali1", "-p tcp -j LOG\n-A FORWARD"] {
        iptables(&format!("{related}\n-A FORWARD {pods} -j ACCEPT\n{REJECT}"));
        expect_none(&node, pods);
    }
    // A rule for other packets does not count.
    iptables(&format!("-A FORWARD -d 10.244.1.9 -j DROP\n-A FORWARD -i eth1 -j DROP\n{related}"));
    expect_none(&node, "rules for others");
    for one in ["-A FORWARD -d 10.244.1.5/32 -j DROP", "-A FORWARD -i eth0 -o cali1 -j DROP"] {
        iptables(one);
        expect(&node, "iptables", one);
    }
    // The answer, too, has to come through.
    iptables("-A FORWARD -s 10.244.0.0/16 -j DROP");
    let object = expect(&node, "iptables", "-A FORWARD -s 10.244.0.0/16 -j DROP");
    assert_eq!(object["suspects"][0]["way"], "back");
}

#[test]
fn iptables_in_the_chain_that_it_goes_to() {
    let node = Node::new();
    node.connect();
    // As firewalld of CentOS 7 has it.
    let zones = |zone: &str| {
        format!(
            ":IN_ZONES - [0:0]\n:FWDI_public - [0:0]\n:FWDI_trusted - [0:0]\n\
             -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n-A FORWARD -i lo -j ACCEPT\n\
             -A FORWARD -j IN_ZONES\n-A FORWARD -m conntrack --ctstate INVALID -j DROP\n{REJECT}\n\
             -A IN_ZONES -i eth0 -g FWDI_{zone}\n-A IN_ZONES -g FWDI_public\n\
             -A FWDI_public -p icmp -j ACCEPT\n-A FWDI_trusted -j ACCEPT"
        )
    };
    iptables(&zones("public"));
    expect(&node, "iptables", REJECT);
    iptables(&zones("trusted"));
    expect_none(&node, "a trusted zone");
    // In other tables of the hook, and by the policy.
    iptables("");
    load("iptables-restore", "*mangle\n:FORWARD ACCEPT [0:0]\n-A FORWARD -j DROP\nCOMMIT\n");
    assert_eq!(expect(&node, "iptables", "-A FORWARD -j DROP")["suspects"][0]["table"], "mangle");
    load("iptables-restore", "*mangle\n:FORWARD ACCEPT [0:0]\nCOMMIT\n*filter\n:FORWARD DROP [0:0]\nCOMMIT\n");
    expect(&node, "iptables", "-P FORWARD DROP");
    load("iptables-restore", "*filter\n:FORWARD DROP [0:0]\n-A FORWARD -j ACCEPT\nCOMMIT\n");
    expect_none(&node, "a policy that nothing comes to");
}

#[test]
fn iptables_of_before_nf_tables() {
    let node = Node::new();
    node.connect();
    let made = Command::new("iptables-legacy").args(["-A", "FORWARD", "-j", "DROP"]).output();
    let Ok(made) = made else { return left_out::because("iptables-legacy is missing") };
    if !made.status.success() {
        return left_out::not_in_this_kernel("it has no iptables of before nf_tables");
    }
    expect(&node, "iptables", "-A FORWARD -j DROP");
    iptables("-A FORWARD -j ACCEPT");
    expect(&node, "iptables", "-A FORWARD -j DROP");
    run("iptables-legacy -F FORWARD");
    expect_none(&node, "both accept");
}

#[test]
fn nft_and_firewalld() {
    let node = Node::new();
    node.connect();
    // As firewalld of CentOS 8 and later has it.
    let firewalld = |zone: &str| {
        format!(
            "flush ruleset\ntable inet firewalld {{\nchain filter_FORWARD {{\n\
             type filter hook forward priority filter + 10; policy accept;\nct state {{ established, related }} accept\n\
             ct status dnat accept\niifname \"lo\" accept\nip6 daddr {{ ::/96, 2002::/24 }} reject with icmpv6 addr-unreachable\n\
             jump filter_FORWARD_ZONES\nct state {{ invalid }} drop\ncounter reject with icmpx admin-prohibited\n}}\n\
             chain filter_FORWARD_ZONES {{\niifname \"eth0\" goto filter_FWDI_{zone}\ngoto filter_FWDI_public\n}}\n\
             chain filter_FWDI_public {{\nmeta l4proto {{ icmp, ipv6-icmp }} accept\n}}\n\
             chain filter_FWDI_trusted {{\naccept\n}}\n}}\n"
        )
    };
    load("nft", &firewalld("public"));
    assert!(!node.passes());
    let object =
        node.expect(POD, &[], &["Routed; the firewall may drop it: nft, table inet firewalld, chain filter_FORWARD: "]);
    let found = suspects(&object);
    assert!(
        found.len() == 1 && found[0].starts_with("counter packets ") && found[0].ends_with("admin-prohibited"),
        "{object:#}"
    );
    assert!(object["suspects"][0]["packets"].as_u64() > Some(0), "{object:#}");
    load("nft", &firewalld("trusted"));
    expect_none(&node, "a trusted zone");
    let one = |rules: &str, policy: &str| {
        format!(
            "flush ruleset\ntable inet guest {{\nchain forwards {{\ntype filter hook forward priority 0; policy {policy};\n{rules}\n}}\n}}\n"
        )
    };
    for (rules, policy, rule) in [
        ("", "drop", "policy drop"),
        ("ip daddr 10.244.1.5 drop", "accept", "ip daddr 10.244.1.5 drop"),
        (
            "ct state vmap { established : accept, new : drop }",
            "accept",
            "ct state vmap { new : drop, established : accept }",
        ),
        ("iifname { \"eth0\", \"eth9\" } reject", "accept", "iifname { \"eth0\", \"eth9\" } reject"),
    ] {
        load("nft", &one(rules, policy));
        assert!(!node.passes());
        let object =
            node.expect(POD, &[], &["Routed; the firewall may drop it: nft, table inet guest, chain forwards: "]);
        assert!(suspects(&object)[0].starts_with(rule.split(" {").next().expect("a word")), "{object:#}");
    }
    for (rules, policy) in [
        ("ip saddr 10.9.0.0/24 accept\nip daddr 10.9.0.0/24 accept", "drop"),
        ("ip daddr 10.244.1.6 drop\niifname eth1 drop\nip6 daddr ::/0 drop\ntcp dport 22 drop", "accept"),
        ("ct state vmap { established : accept, related : accept, invalid : drop }", "accept"),
    ] {
        load("nft", &one(rules, policy));
        expect_none(&node, rules);
    }
}

#[test]
fn drops_of_invalid_packets_are_suspects_while_they_count() {
    let node = Node::new();
    node.connect();
    let invalid = "-A FORWARD -m conntrack --ctstate INVALID -j DROP";
    iptables(invalid);
    expect_none(&node, "nothing is dropped");
    // Segments of a connection that was never opened are invalid, unless nf_conntrack picks such up.
    sysctl_write("net/netfilter/nf_conntrack_tcp_loose", "0");
    let send = "import socket,struct,time\n\
        s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)\n\
        for n in range(400):\n    s.sendto(struct.pack('!HHIIBBHHH', 4000 + n, 80, 1, 1, 80, 16, 99, 0, 0), ('10.244.1.5', 0))\n    time.sleep(0.025)\n";
    let mut sender = Command::new("nsenter");
    sender.args(["--net=/run/netns/client", "python3", "-c", send]).stdin(Stdio::null());
    let Ok(mut sender) = sender.spawn() else { return left_out::because("python3 is missing") };
    let deadline = std::time::Instant::now() + TIMEOUT;
    while run("iptables-save -c").contains(&format!("[0:0] {invalid}")) {
        assert!(std::time::Instant::now() < deadline, "none of them is invalid");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let object = node.expect(POD, &[], &["Routed; the firewall may drop it: ", invalid]);
    assert!(object["suspects"][0]["moved"].as_u64() > Some(0), "{object:#}");
    sender.kill().and_then(|()| sender.wait()).expect("its end");
    expect_none(&node, "no more");
}

#[test]
fn ip6tables_is_asked_for_ipv6() {
    let node = Node::new();
    for (device, namespace, subnet) in [("cali1", "pod", "2001:db8:1"), ("eth0", "client", "2001:db8:9")] {
        run(&format!("ip address add {subnet}::1/64 dev {device} nodad"));
        run(&format!("ip -n {namespace} address add {subnet}::5/64 dev eth0 nodad"));
    }
    sysctl_write("net/ipv6/conf/all/forwarding", "1");
    iptables(REJECT);
    let pod = "2001:db8:1::5";
    let object = node.expect(pod, &[], &["Forwarded"]);
    assert_eq!(suspects(&object), [] as [&str; 0], "{object:#}");
    let drop = "-A FORWARD -d 2001:db8:1::/64 -j DROP";
    load("ip6tables-restore", &format!("*filter\n:FORWARD ACCEPT [0:0]\n{drop}\nCOMMIT\n"));
    let object = node.expect(pod, &[], &["Routed; the firewall may drop it: ip6tables, ", drop]);
    assert_eq!(object["suspects"][0]["tool"], "ip6tables");
}

#[test]
fn thousands_of_rules_are_read_in_time() {
    let node = Node::new();
    let rules = |rule: &str| {
        (0..5000).map(|n| rule.replace("NET", &format!("172.{}.{}.0/24", 16 + n / 250, n % 250))).collect::<String>()
    };
    let ours = "-A FORWARD -d 10.244.1.5/32 -j DROP";
    iptables(&format!("{}{ours}", rules("-A FORWARD -s NET -p tcp -m tcp --dport 80 -j DROP\n")));
    let chain = "type filter hook forward priority 10; policy accept;";
    load(
        "nft",
        &format!(
            "table inet big {{\nchain big {{\n{chain}\n{}\n}}\n}}\n",
            rules("ip saddr NET tcp dport 80 counter drop\n")
        ),
    );
    let object = node.expect(POD, &[], &["Routed; the firewall may drop it: ", ours]);
    assert_eq!((suspects(&object), list(&object, "not_looked_at").len()), (vec![ours], 0), "{object:#}");
}

#[test]
fn an_unreadable_firewall_is_not_taken_for_none() {
    let node = Node::new();
    std::fs::create_dir_all("/run/bin").expect("a folder");
    for program in ["nft", "iptables-save"] {
        std::fs::write(format!("/run/bin/{program}"), "#!/bin/sh\nexit 3\n").expect("a file");
        run(&format!("chmod 755 /run/bin/{program}"));
    }
    let path = format!("/run/bin:{}", std::env::var("PATH").unwrap_or_default());
    let output = node.ns.command().args(["diagnose", POD]).env("PATH", path).output().expect("fwdguard runs");
    let table = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{table}");
    assert!(table.contains("Routed: ") && table.contains("the firewall was not checked"), "{table}");
    assert!(!table.contains("Forwarded"), "{table}");
}

#[test]
fn bridged_packets_meet_it_where_br_netfilter_has_them_do_so() {
    let node = Node::new();
    run("ip link add cni0 type bridge");
    run("ip address flush dev cali1");
    run("ip link set cali1 master cni0");
    run("ip address add 10.244.1.1/24 dev cni0");
    run("ip link set cni0 up");
    run("ip netns add twin");
    run("ip link add cali2 type veth peer name eth0 netns twin");
    run("ip -n twin address add 10.244.1.6/24 dev eth0");
    run("ip -n twin link set eth0 up");
    run("ip link set cali2 up master cni0");
    sysctl_write("net/ipv4/ip_forward", "0");
    let arguments = format!("{POD} --from 10.244.1.6");
    for (port, verdict) in
        [("", "Bridged: "), (" --in cali2", "Bridged: "), (" --in eth0", "Dropped here: net.ipv4.ip_forward")]
    {
        let (object, _) = node.diagnose(&format!("{arguments}{port}"));
        assert!(text(&object, "verdict").starts_with(verdict), "{object:#}");
    }
    let bridge = |object: &Value| {
        let steps = list(object, "path").clone();
        text(steps.iter().find(|step| step["step"] == "bridge").expect("a bridge"), "found").to_string()
    };
    iptables(REJECT);
    let loaded = std::path::Path::new("/proc/sys/net/bridge").exists();
    if loaded {
        sysctl_write("net/bridge/bridge-nf-call-iptables", "0");
    }
    let object = node.expect(&arguments, &[], &["Bridged: ", "does not traverse FORWARD"]);
    assert!(bridge(&object).ends_with("does not traverse FORWARD") && suspects(&object).is_empty(), "{object:#}");
    if loaded {
        sysctl_write("net/bridge/bridge-nf-call-iptables", "1");
        let object = node.expect(&arguments, &[], &["Bridged; the firewall may drop it: ", REJECT]);
        assert!(bridge(&object).ends_with("cni0 traverses FORWARD"), "{object:#}");
        iptables("-A FORWARD -s 10.244.0.0/16 -d 10.244.0.0/16 -j ACCEPT");
        node.expect(&arguments, &[], &["Bridged: ", "and traverses FORWARD"]);
    }
    run("ip netns del twin");
}
