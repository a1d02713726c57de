# What CAP_NET_ADMIN reaches in the guard's domain, by the programs that change networks, labelled as the guard's. To be
# sourced by main.sh.
# shellcheck shell=bash

mkdir /opt/confined
for program in ip nft sysctl busybox; do
    cp "$(type -P "$program")" /opt/confined/ && chcon -t fwdguard_exec_t "/opt/confined/$program"
done
confined() { # confined PROGRAM ARGUMENT...: runs it in the domain; |& makes a pipe of its output
    local program=$1
    shift
    runcon -r system_r -t fwdguard_t "/opt/confined/$program" "$@" |& cat
    return "${PIPESTATUS[0]}"
}
# refused WHAT UNDO PROGRAM ARGUMENT...: the domain may not do what the same program may outside of it.
refused() {
    local what=$1 undo=$2 evidence
    shift 2
    if evidence=$(confined "$@"); then fail "in the domain: $what" "it was done"; return; fi
    if [[ $evidence =~ denied|permitted ]]; then ok "in the domain: $what"; else fail "in the domain: $what" "$evidence"; fi
    check "outside of it: the same is done" "$@"
    eval "$undo"
}

check "in the domain: CAP_NET_ADMIN is held and writes settings" confined sysctl -w net.ipv4.conf.wire.accept_local=1
check "in the domain: routes are shown" prints 127.0.0.0 confined ip route show table local
refused "no route is added" "ip route delete blackhole 203.0.113.0/24" ip route add blackhole 203.0.113.0/24
refused "no address is added" "ip address delete 203.0.113.1/24 dev wire" ip address add 203.0.113.1/24 dev wire
refused "no link is set down" "ip link set wire up" ip link set wire down
refused "no link is set down by ioctl" "ip link set wire up" busybox ifconfig wire down
refused "no firewall rule is made" "nft delete table ip confined" nft add table ip confined
refused "no other setting is written" : sysctl -w kernel.sysrq=0
