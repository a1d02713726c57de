#!/usr/bin/env bash
# The nodes of docs/troubleshooting.md, in namespaces of their own, with the fault of the incident on node1, where you are then:
# lab.sh opens a shell, lab.sh COMMAND... runs that. As root; needs nginx, and changes nothing outside of its namespaces.
#
#   node2 192.168.50.12 ── eth0, and tunl0 ── node1 192.168.50.11 ── cali1a2b3c pod 10.244.1.5, cali4d5e6f pod 10.244.1.6
#   its ingress, on port 30080, has both pods behind it; its packets for pods leave by tunl0, answers come back by eth0
set -euo pipefail

if [[ ${1-} != --inside ]]; then
    exec unshare --net --mount --pid --fork --kill-child --mount-proc bash "${BASH_SOURCE[0]}" --inside "$@"
fi
shift
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir -p /run/nginx
ip link set lo up
for name in node2 pod1 pod2; do
    ip netns add "$name"
    ip -n "$name" link set lo up
done

ip link add eth0 type veth peer name eth0 netns node2
# Where the kernel has the module ipip, each namespace has a tunl0; otherwise a veth pair of that name does as well.
ip link show tunl0 &>/dev/null || ip link add tunl0 type veth peer name tunl0 netns node2
ip addr add 192.168.50.11/24 dev eth0
ip -n node2 addr add 192.168.50.12/24 dev eth0
for link in eth0 tunl0; do
    ip link set "$link" up
    ip -n node2 link set "$link" up
done
ip route add default via 192.168.50.1 # the kernel answers a pod's ARP for its gateway only where it has a route to that
ip -n node2 route add 10.244.1.0/24 via 192.168.50.11 dev tunl0 onlink src 192.168.50.12

pod() { # pod NAMESPACE INTERFACE ADDRESS, as Calico has it: a route on the node, and a gateway that the node answers for
    ip link add "$2" type veth peer name eth0 netns "$1"
    ip link set "$2" up
    echo 1 >"/proc/sys/net/ipv4/conf/$2/proxy_arp"
    ip route add "$3" dev "$2"
    ip -n "$1" addr add "$3/32" dev eth0
    ip -n "$1" link set eth0 up
    ip -n "$1" route add 169.254.1.1 dev eth0 scope link
    ip -n "$1" route add default via 169.254.1.1
    cat >"/run/nginx/$1.conf" <<END
pid /run/nginx/$1.pid; error_log /dev/null; events {}
http { access_log off; server { listen 8080; return 200 "from $1\n"; } }
END
    ip netns exec "$1" nginx -c "/run/nginx/$1.conf"
}
for key in ip_forward=1 conf.all.rp_filter=0 conf.tunl0.rp_filter=0 conf.default.rp_filter=0; do
    sysctl -q -w "net.ipv4.$key"
done
pod pod1 cali1a2b3c 10.244.1.5
pod pod2 cali4d5e6f 10.244.1.6
cat >/run/nginx/node2.conf <<END
pid /run/nginx/node2.pid; error_log /dev/null; events {}
http { access_log off; proxy_connect_timeout 1s;
       upstream pods { server 10.244.1.5:8080 fail_timeout=5s; server 10.244.1.6:8080 fail_timeout=5s; }
       server { listen 30080; location / { proxy_pass http://pods; } } }
END
ip netns exec node2 nginx -c /run/nginx/node2.conf

until ip netns exec node2 curl --silent --fail --max-time 5 http://127.0.0.1:30080/; do sleep 0.5; done
# What `network stop` and a hardening file do.
sysctl -q -w net.ipv4.ip_forward=0 net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.tunl0.rp_filter=1
if (($#)); then "$@"; else
    echo "This shell is on node1; 'ip netns exec node2 ...' is node2. 'exit' ends both."
    bash --norc -i || :
fi
