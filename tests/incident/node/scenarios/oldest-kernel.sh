# (k) Everything at once, and then a sleep, on the oldest kernel and systemd that Debian's archive has.
# shellcheck shell=bash disable=SC2034
title="on Linux 5.10 and systemd 247: settings, a new interface and the tunnel struck, then systemctl suspend"
suite=bullseye

prepare() {
    mkdir -p /etc/fwdguard.d
    echo '-net.ipv4.conf.closed.forwarding' >/etc/fwdguard.d/60-closed.conf
    echo 'net.bridge.bridge-nf-call-iptables = 0' >/etc/fwdguard.d/60-bridge.conf
    ip link add closed type dummy
    sysctl -q -w net.ipv4.conf.closed.forwarding=0
    cat >/usr/lib/systemd/system-sleep/network-stop <<'HOOK'
#!/bin/sh
[ "$1" != pre ] || exec /opt/incident/node/writer.sh sysctl -q -w net.ipv4.ip_forward=0
HOOK
    chmod 755 /usr/lib/systemd/system-sleep/network-stop
}

# strike_setting SETTING WRONG RIGHT: by sysctl, and waits for its repair.
strike_setting() {
    sysctl -q -w "$1=$2"
    comes_to "$1" "$3"
    truly "$1" - sysctl -
}

strike() {
    for _ in 1 2 3; do
        strike_setting net.ipv4.conf.cali0.forwarding 0 1
        strike_setting net.ipv4.conf.all.rp_filter 1 0
    done

    ip link add fresh type dummy
    strike_setting net.ipv4.conf.fresh.forwarding 0 1

    modprobe -r ipip
    modprobe ipip
    set_up_tunnel
    strike_setting net.ipv4.conf.tunl0.rp_filter 1 0

    # Linux before 5.12 announces a module before its settings are there, which are 1.
    for _ in 1 2; do
        modprobe br_netfilter
        comes_to net.bridge.bridge-nf-call-iptables 0
        truly net.bridge.bridge-nf-call-iptables module - -
        modprobe -r br_netfilter
    done

    rtcwake --mode no --seconds 20
    systemctl suspend
    until grep -q woke "$results/traffic"; do sleep 0.2; done
    truly net.ipv4.ip_forward write sysctl "$(the_writer)"
    one_sleep net.ipv4.ip_forward "logind, the sleep hook and the clocks"
    comes_to net.ipv4.ip_forward 1
    # What the kernel opened with it.
    comes_to net.ipv4.conf.closed.forwarding 0
}
