//! A node with an uplink, a second one, and a pod, each behind a veth in a namespace of its own.

use serde_json::Value;
use std::path::Path;
use std::process::Output;

use crate::common::*;

pub const POD: &str = "10.244.1.5";
pub const CLIENT: &str = "10.9.0.2";
/// Behind `eth1`, by a route.
pub const FAR: &str = "172.16.1.1";

/// The test's own namespace is the node.
pub struct Node {
    pub ns: Namespace,
}

impl Node {
    pub fn new() -> Node {
        let ns = Namespace::enter();
        std::fs::create_dir_all("/run/netns").expect("a folder");
        for (interface, namespace, own, other) in [
            ("cali1", "pod", "10.244.1.1/24", "10.244.1.5/24"),
            ("eth0", "client", "10.9.0.1/24", "10.9.0.2/24"),
            ("eth1", "other", "10.8.0.1/24", "10.8.0.2/24"),
        ] {
            run(&format!("ip netns add {namespace}"));
            run(&format!("ip link add {interface} type veth peer name eth0 netns {namespace}"));
            for (command, device, address) in
                [("ip".to_string(), interface, own), (format!("ip -n {namespace}"), "eth0", other)]
            {
                run(&format!("{command} address add {address} dev {device}"));
                run(&format!("{command} link set {device} up"));
            }
            sysctl_write(&format!("net/ipv4/conf/{interface}/rp_filter"), "0");
        }
        run(&format!("ip route add {FAR} via 10.8.0.2"));
        sysctl_write("net/ipv4/conf/all/rp_filter", "0");
        sysctl_write("net/ipv4/ip_forward", "1");
        Node { ns }
    }

    /// `fwdguard diagnose --json`, and its exit status.
    pub fn diagnose(&self, arguments: &str) -> (Value, i32) {
        let arguments: Vec<&str> = ["diagnose", "--json"].into_iter().chain(arguments.split_whitespace()).collect();
        self.ns.json(&arguments)
    }

    /// The table, and its exit status.
    pub fn table(&self, arguments: &str) -> (String, i32) {
        let arguments: Vec<&str> = ["diagnose"].into_iter().chain(arguments.split_whitespace()).collect();
        let Output { stdout, stderr, status } = self.ns.fwdguard(&arguments);
        assert_eq!(String::from_utf8_lossy(&stderr), "", "{arguments:?}");
        (String::from_utf8(stdout).expect("UTF-8"), status.code().expect("no signal"))
    }

    /// Asserts exactly these faults, in this order, and each text of `texts` in the verdict.
    pub fn expect(&self, arguments: &str, faults: &[&str], texts: &[&str]) -> Value {
        let (object, status) = self.diagnose(arguments);
        let found: Vec<&str> = list(&object, "faults").iter().filter_map(|fault| fault["fault"].as_str()).collect();
        assert_eq!(found, faults, "{object:#}");
        let dropped = !faults.is_empty();
        assert_eq!((status, &object["forwarded"]), (i32::from(dropped), &Value::Bool(!dropped)), "{object:#}");
        for part in texts {
            assert!(text(&object, "verdict").contains(part), "no '{part}' in {object:#}");
        }
        object
    }

    /// Whether the pod, and no hop before it, refuses a connection from the client to the pod's closed port.
    pub fn passes(&self) -> bool {
        let connect = format!("echo >/dev/tcp/{POD}/9");
        let mut client = std::process::Command::new("timeout");
        client.args(["1", "nsenter", "--net=/run/netns/client", "bash", "-c", &connect]).env("LC_ALL", "C");
        String::from_utf8_lossy(&client.output().expect("bash runs").stderr).contains("Connection refused")
    }

    /// The node becomes the gateway of the client and the pod.
    pub fn connect(&self) {
        run("ip -n client route add default via 10.9.0.1");
        run("ip -n pod route add default via 10.244.1.1");
    }

    /// The command that diagnose names repairs the fault.
    pub fn check_remedy(&self, arguments: &str, object: &Value) {
        let applied = std::process::Command::new("sh").args(["-c", text(object, "mend")]).output().expect("sh runs");
        assert!(applied.status.success(), "{object:#}");
        self.expect(arguments, &[], &["Forwarded"]);
    }

    /// `vx0`, where the kernel has VXLAN.
    pub fn has_vxlan(&self, bound: &str) -> bool {
        let words = format!("link add vx0 type vxlan id 3 remote 192.0.2.9 dstport 4789 {bound}");
        let made = std::process::Command::new("ip").args(words.split_whitespace()).status();
        if !made.is_ok_and(|status| status.success()) {
            crate::common::left_out::not_in_this_kernel("it has no vxlan");
            return false;
        }
        run("ip address add 10.245.0.1/24 dev vx0");
        run("ip link set vx0 up");
        sysctl_write("net/ipv4/conf/vx0/rp_filter", "0");
        true
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // The names are of the test's own /run, and go with it; the namespaces, with the last name.
        for namespace in ["pod", "client", "other"] {
            if Path::new("/run/netns").join(namespace).exists() {
                run(&format!("ip netns del {namespace}"));
            }
        }
    }
}

pub fn list<'a>(object: &'a Value, name: &str) -> &'a Vec<Value> {
    object[name].as_array().unwrap_or_else(|| panic!("no {name} in {object:#}"))
}

pub fn text<'a>(object: &'a Value, name: &str) -> &'a str {
    object[name].as_str().unwrap_or_else(|| panic!("no {name} in {object:#}"))
}
