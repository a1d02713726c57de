# The node, its neighbour, a client and a pod, as in the incident; and the traffic between them. To be sourced by main.sh.
#
#   client ── node1 (NodePort 30007) ══ IPIP over `uplink` ══ node2, this machine ── pod
#   10.0.0.2  10.0.0.1  192.0.2.1                   192.0.2.2  tunl0      cali0      10.244.2.2:8080
#
# node1 has the address of its uplink as the source of what it forwards, as with kube-router: the way back is not the
# tunnel. Strict reverse path filtering on tunl0 drops it therefore.
# shellcheck shell=bash

pod=10.244.2.2

lay_out() {
    local name
    for name in client node1 pod; do
        ip netns add "$name"
        ip -n "$name" link set lo up
    done

    ip link add uplink type veth peer name uplink netns node1
    ip -n node1 addr add 192.0.2.1/24 dev uplink
    ip -n node1 link set uplink up
    bring_uplink_up

    ip -n node1 link add client type veth peer name eth0 netns client
    ip -n node1 addr add 10.0.0.1/24 dev client
    ip -n node1 link set client up
    ip -n client addr add 10.0.0.2/24 dev eth0
    ip -n client link set eth0 up
    ip -n client route add default via 10.0.0.1

    # As Calico has it: no network, but a gateway that answers for every address.
    ip link add cali0 type veth peer name eth0 netns pod
    sysctl -q -w net.ipv4.conf.cali0.proxy_arp=1 net.ipv4.neigh.cali0.proxy_delay=0
    ip link set cali0 up
    ip route add "$pod/32" dev cali0 scope link
    ip -n pod addr add "$pod/32" dev eth0
    ip -n pod link set eth0 up
    ip -n pod route add 169.254.1.1 dev eth0 scope link
    ip -n pod route add default via 169.254.1.1 dev eth0

    modprobe ipip
    set_up_tunnel
    ip netns exec node1 sysctl -q -w net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.uplink.rp_filter=0
    ip netns exec node1 nft -f - <<NFT
table ip kube {
    chain nodeport {
        type nat hook prerouting priority dstnat
        tcp dport 30007 dnat to $pod:8080
    }
    chain source {
        type nat hook postrouting priority srcnat
        ip saddr 10.0.0.0/24 ip daddr $pod snat to 192.0.2.1
    }
}
NFT
    udevadm settle
    routing_settings
    mark set-up
}

# NetworkManager brings it up as soon as it is there. A scenario without NetworkManager overrides this. The node answers the pod's
# ARP requests because it has the default route.
bring_uplink_up() {
    nmcli connection modify uplink ipv4.gateway 192.0.2.1
    until nmcli --wait 20 connection up uplink; do sleep 0.2; done
}

# What Calico does when its tunnel is gone, too.
set_up_tunnel() {
    ip addr add 10.244.2.0/32 dev tunl0
    ip link set tunl0 up
    ip -n node1 link set tunl0 up
    ip -n node1 route replace "$pod/32" via 192.0.2.2 dev tunl0 onlink
}

# What kube-proxy, dockerd and others set once, when they start, and an administrator after the incident. A scenario in which a
# file does so overrides this.
routing_settings() { sysctl -q -w net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.tunl0.rp_filter=0; }

start_traffic() {
    ip netns exec pod /opt/incident/probe serve "$pod:8080" &
    ip netns exec client sysctl -q -w net.ipv4.ping_group_range='0 0'
    ip netns exec client /opt/incident/probe watch --http 10.0.0.1:30007 --ping "$pod" >>"$results/traffic" &
}

install_guard() {
    rpm -i --force-debian /opt/incident/fwdguard.rpm
    systemctl enable --now fwdguard
}

# The documentation of Kubernetes asks for this one, and a hardening guide for the other, which comes later.
kubernetes_file() { echo 'net.ipv4.ip_forward = 1' >/etc/sysctl.d/50-kubernetes.conf; }
hardening_file() { printf '%s\n' '# 3.1.1 Ensure IP forwarding is disabled' 'net.ipv4.ip_forward = 0' >/etc/sysctl.d/99-hardening.conf; }

# An administrator's, so that no interface that comes up opens the machine.
hardening_dispatcher() {
    cat >/etc/NetworkManager/dispatcher.d/50-hardening <<'SCRIPT'
#!/bin/sh
[ "$1/$2" = uplink/up ] && exec /opt/incident/node/writer.sh sysctl -q -w net.ipv4.ip_forward=0
exit 0
SCRIPT
    chmod 755 /etc/NetworkManager/dispatcher.d/50-hardening
}
