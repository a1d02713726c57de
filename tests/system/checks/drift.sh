# Every drift of the incident, and its records in the journal. To be sourced by suite.sh.
# shellcheck shell=bash

# named WHAT FIELD COMMAND...: a record about ip_forward has that field. The kernel does not wait until the guard has examined the
# writer, so it may take more than one try.
named() {
    local what=$1 field=$2 try
    shift 2
    for try in {1..20}; do
        mark
        "$@"
        until_true record repaired SYSCTL=net.ipv4.ip_forward >/dev/null || break
        record repaired SYSCTL=net.ipv4.ip_forward "$field" >/dev/null && break
    done
    check "its record: $what (try $try)" record repaired SYSCTL=net.ipv4.ip_forward "$field"
}

# The interface that NetworkManager manages, one that is not managed, and the tunnel, or one with its name: the kernel of the
# machine may have no ipip.
inside ip link add uplink type veth peer name wire
inside modprobe --quiet ipip || inside ip link add tunl0 type veth peer name tunl0-peer
for link in uplink wire tunl0; do inside ip link set "$link" up; done
soon "NetworkManager manages an interface" prints 'inet 192.0.2.2/24' inside ip -4 address show dev uplink

repaired "sysctl -w" net.ipv4.ip_forward 0 1 upset net.ipv4.ip_forward 0
check "its record: what stood there before" record repaired SYSCTL=net.ipv4.ip_forward OLDVALUE=1 NEWVALUE=0
check "its record: the cause" record repaired SYSCTL=net.ipv4.ip_forward CAUSE=write
check "its record: the line of the policy" record repaired SYSCTL=net.ipv4.ip_forward \
    POLICY_FILE=/usr/lib/fwdguard.d/50-kubernetes.conf
check "its record in JSON" prints '"SYSCTL":"net.ipv4.ip_forward"' records repaired
explained=$(journal --unit=fwdguard --catalog)
check "journalctl -x explains it, about this setting" grep -E '^(░░|--) .*net\.ipv4\.ip_forward' <<<"$explained"
named "who wrote" "WRITER_CMDLINE=sysctl -w net.ipv4.ip_forward=0" upset net.ipv4.ip_forward 0
named "the unit that wrote" WRITER_UNIT=hardening.service \
    inside systemd-run --quiet --wait --collect --unit=hardening sysctl -w net.ipv4.ip_forward=0
repaired "one interface" net.ipv4.conf.uplink.forwarding 0 1 upset net.ipv4.conf.uplink.forwarding 0
repaired "rp_filter of all" net.ipv4.conf.all.rp_filter 1 0 upset net.ipv4.conf.all.rp_filter 1
repaired "rp_filter of the tunnel" net.ipv4.conf.tunl0.rp_filter 1 0 upset net.ipv4.conf.tunl0.rp_filter 1
repaired "the default for new interfaces" net.ipv4.conf.default.forwarding 0 1 upset net.ipv4.conf.default.forwarding 0

# With the default at 0 a new interface is closed from its first moment on.
inside sh -c 'sysctl -q -w net.ipv4.conf.default.forwarding=0; ip link add late type veth peer name late-peer'
soon "a new interface: net.ipv4.conf.late.forwarding is 1" holds net.ipv4.conf.late.forwarding 1
repaired "a new interface" net.ipv4.conf.later.forwarding 0 1 \
    inside sh -c 'ip link add later type veth peer name later-peer; sysctl -q -w net.ipv4.conf.later.forwarding=0'

mark
inside sh -c 'printf "%s\n" "net.ipv4.ip_forward = 0" "net.ipv4.conf.all.rp_filter = 1" >/etc/sysctl.d/99-hardening.conf'
soon "a hardening file in sysctl.d: the journal names its line" record conflict \
    CONFLICT_FILE=/etc/sysctl.d/99-hardening.conf CONFLICT_LINE=1
repaired "sysctl --system" net.ipv4.ip_forward 0 1 inside sh -c 'sysctl --quiet --system 2>/dev/null || :'
soon "sysctl --system: net.ipv4.conf.all.rp_filter is 0 again" holds net.ipv4.conf.all.rp_filter 0
repaired "systemd-sysctl again" net.ipv4.ip_forward 0 1 inside systemctl restart systemd-sysctl
soon "systemd-sysctl again: net.ipv4.conf.all.rp_filter is 0 again" holds net.ipv4.conf.all.rp_filter 0
inside rm /etc/sysctl.d/99-hardening.conf
