# (f) One interface stops forwarding, and ip_forward stays 1. Seen by what comes in there without a tunnel, as with
# Calico's CrossSubnet between nodes of one subnet.
# shellcheck shell=bash disable=SC2034
title="sysctl -w net.ipv4.conf.uplink.forwarding=0; nodes of one subnet, no tunnel"

prepare() {
    set_up_tunnel() { ip -n node1 route replace "$pod/32" via 192.0.2.2 dev uplink; }
    routing_settings() { sysctl -q -w net.ipv4.ip_forward=1; }
}

strike() {
    /opt/incident/node/writer.sh sysctl -q -w net.ipv4.conf.uplink.forwarding=0
    truly net.ipv4.conf.uplink.forwarding write sysctl "$(the_writer)"
}
