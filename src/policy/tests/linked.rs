//! Files that administrators link into the policy, of the kinds that guides for Kubernetes, installers and hardening bring; all
//! of them invented. Each has the number of lines in effect, and the lines of notices and errors.

use super::written::read;

/// Its kind, its text, how many of its lines are in effect, and the lines of notices and errors; `""` is the whole file.
type File<'a> = (&'a str, &'a str, usize, &'a [&'a str], &'a [&'a str]);

const FILES: [File; 27] = [
    (
        "kubeadm on CentOS 7",
        "net.bridge.bridge-nf-call-ip6tables = 1\nnet.bridge.bridge-nf-call-iptables = 1\n",
        2,
        &[],
        &[],
    ),
    (
        "the same, with forwarding and swap",
        "net.bridge.bridge-nf-call-iptables=1\nnet.ipv4.ip_forward=1\nvm.swappiness=0\n",
        2,
        &[""],
        &[],
    ),
    (
        "from a page, indented",
        "    net.ipv4.ip_forward = 1\n\t net.bridge.bridge-nf-call-iptables\t=\t1\n",
        2,
        &[],
        &[],
    ),
    ("from a page, with its spaces", "net.ipv4.ip_forward\u{a0}=\u{a0}1\nnet.core.somaxconn = 4096\n", 1, &[], &["1"]),
    (
        "from a page, with its quotes",
        "net.ipv4.ip_forward = ‘1’\nnet.ipv4.conf.all.rp_filter = “0”\n",
        0,
        &[],
        &["1", "2"],
    ),
    (
        "from a shell",
        "sysctl -w net.ipv4.ip_forward=1\nexport net.ipv4.ip_forward=1\n$ net.ipv4.ip_forward=1\n",
        0,
        &[],
        &["1", "2", "3"],
    ),
    ("a here-document left in", "cat <<EOF\nnet.ipv4.ip_forward = 1\nEOF\n", 1, &[], &["1", "3"]),
    ("of another system", "\u{feff}# node\r\nnet.ipv4.ip_forward = 1\r\nkernel.panic = 5\r\n", 1, &[""], &[]),
    (
        "in C's manner",
        "net.ipv4.ip_forward = 1;\nnet.ipv4.conf.all.forwarding = 1 ;\n// done\n",
        1,
        &["2"],
        &["1", "3"],
    ),
    ("YAML", "net.ipv4.ip_forward: 1\nsysctls:\n  - net.core.somaxconn=1\n", 1, &[], &["1", "2"]),
    (
        "TOML",
        "[settings.kernel.sysctl]\n\"net.ipv4.ip_forward\" = \"1\"\n'net.core.somaxconn' = '1'\n",
        0,
        &[],
        &["1", "2", "3"],
    ),
    (
        "an installer's, of many trees",
        "fs.inotify.max_user_instances = 8192\nkernel.pid_max = 4194304\nnet.core.rmem_max = 16777216\nnet.ipv4.tcp_rmem = 4096 12582912 16777216\nvm.overcommit_memory = 1\n",
        2,
        &[""],
        &[],
    ),
    (
        "an installer's, with remarks",
        "net.core.netdev_max_backlog = 16384 # was 1000\nnet.ipv4.tcp_max_syn_backlog = 8192\t# was 128\nnet.ipv4.neigh.default.gc_thresh3 = 90000 ; ARP\n",
        3,
        &["1", "2", "3"],
        &[],
    ),
    (
        "an installer's, for a bastion",
        "net.ipv4.ip_forward = 1\nnet.ipv4.conf.eth0.send_redirects = 0\nnet.ipv4.ip_local_reserved_ports = 30000-32767\n",
        3,
        &[],
        &[],
    ),
    (
        "hardening 1",
        "net.ipv4.conf.all.send_redirects = 0\nnet.ipv4.conf.default.send_redirects = 0\nnet.ipv4.conf.all.accept_source_route = 0\nnet.ipv4.icmp_echo_ignore_broadcasts = 1\nkernel.randomize_va_space = 2\n",
        4,
        &[""],
        &[],
    ),
    (
        "hardening 2",
        "net.ipv4.ip_forward = 0\nnet.ipv6.conf.all.forwarding = 0\nnet.ipv6.conf.all.accept_ra = 0\nnet.ipv4.tcp_syncookies = 1\n",
        4,
        &[],
        &[],
    ),
    (
        "hardening 3",
        "net.core.bpf_jit_harden = 2\nkernel.unprivileged_bpf_disabled = 1\nnet.core.bpf_jit_enable = 0\n",
        0,
        &[""],
        &["1", "3"],
    ),
    (
        "hardening 4, written for people",
        "net.ipv4.conf.all.rp_filter = enabled\nnet.ipv4.conf.default.log_martians = yes\nnet.ipv4.tcp_timestamps = off\n",
        0,
        &[],
        &["1", "2", "3"],
    ),
    ("strict, 3 of 2", "net.ipv4.conf.all.rp_filter = 2\nnet.ipv4.conf.all.rp_filter = 3\n", 1, &[], &["2"]),
    (
        "a minimal system's defaults",
        "-net.ipv4.conf.all.rp_filter\nnet.ipv4.conf.default.rp_filter = 2\nnet.ipv4.conf.*.rp_filter = 2\n-kernel.hung_task_panic = 0\n",
        3,
        &[""],
        &[],
    ),
    (
        "a CNI's",
        "net.ipv4.conf.lxc*.rp_filter = 0\nnet.ipv4.conf.cilium_*.rp_filter = 0\nnet.ipv4.conf.flannel.1.rp_filter = 0\nnet.ipv4.conf.vxlan.calico.rp_filter = 0\n",
        4,
        &["3", "4"],
        &[],
    ),
    (
        "VLANs in dots",
        "net.ipv4.conf.eth0.100.forwarding = 1\nnet.ipv6.conf.bond0.200.accept_ra = 2\nnet.ipv4.neigh.eth0.100.gc_stale_time = 120\n-net.ipv4.conf.eth0.300.forwarding\n",
        4,
        &["1", "2", "3", "4"],
        &[],
    ),
    (
        "names as a firewall has them",
        "net.ipv4.conf.eth+.rp_filter = 2\nnet.ipv4.conf.{eth0,eth1}.forwarding = 1\nnet.ipv4.conf.(eth0|eth1).forwarding = 1\n",
        3,
        &["1", "2", "3"],
        &[],
    ),
    (
        "a key per family",
        "net.{ipv4,ipv6}.conf.all.forwarding = 1\nnet.*.conf.all.forwarding = 1\nnet.ipv4.conf.all.* = 0\n",
        1,
        &["1"],
        &["2", "3"],
    ),
    (
        "conntrack twice",
        "net.nf_conntrack_max = 1048576\nnet.netfilter.nf_conntrack_max = 1048576 # same\nnet.netfilter.nf_conntrack_tcp_timeout_established = 86400\n",
        2,
        &["2"],
        &[],
    ),
    (
        "negative and large",
        "net.ipv4.conf.all.forwarding = -1\nnet.ipv6.conf.all.use_tempaddr = -1\nnet.ipv4.ip_forward = 18446744073709551617\nnet.ipv6.conf.all.router_solicitations = -1\n",
        2,
        &[],
        &["1", "3"],
    ),
    (
        "strings are left alone",
        "net.ipv4.tcp_congestion_control = bbr\nnet.core.default_qdisc = fq\nnet.ipv6.conf.eth0.stable_secret = 2001:db8::1\nnet.ipv4.ping_group_range = 0 2147483647\n",
        4,
        &[],
        &[],
    ),
];

#[test]
fn files_of_every_kind() {
    for (what, text, lines, notices, errors) in FILES {
        let (found, noticed, bad) = read(text.as_bytes());
        assert_eq!(found.len(), lines, "{what}: {found:?}");
        assert!(noticed == notices && bad == errors, "{what}: {noticed:?} {bad:?}");
    }
}
