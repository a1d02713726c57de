# (d) NetworkManager's connection is taken down and up, and a dispatcher script hardens what comes up.
# shellcheck shell=bash disable=SC2034
title="nmcli connection down, up; hardening hook on up"

strike() {
    hardening_dispatcher
    nmcli connection down uplink
    nmcli connection up uplink
    truly net.ipv4.ip_forward write sysctl "$(the_writer)"
}
