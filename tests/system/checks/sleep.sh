# A sleep by real logind and systemd-sleep, in which a hook does what VMware's scripts do. To be sourced by suite.sh.
# shellcheck shell=bash

settings_hold() {
    local setting
    for setting in ip_forward=1 conf.default.forwarding=1 conf.uplink.forwarding=1 conf.wire.forwarding=1 \
        conf.all.rp_filter=0 conf.tunl0.rp_filter=0; do
        holds "net.ipv4.${setting%=*}" "${setting#*=}" || return
    done
}

check "an inhibitor before the sleep" inhibitor
mark
check "systemctl suspend" inside systemctl suspend
soon "NetworkManager sleeps" logged 'sleep: sleep requested' NetworkManager
soon "systemd-sleep ran" logged 'Finished systemd-suspend|System Suspend' systemd-suspend
soon "NetworkManager wakes" logged 'sleep: wake requested' NetworkManager
soon "awake: the journal says so" record resumed NOTICED_BY=logind
check "awake: the record names what had changed" prints net.ipv4.ip_forward records resumed
soon "awake: every setting holds" settings_hold
soon "an inhibitor after the sleep" inhibitor
