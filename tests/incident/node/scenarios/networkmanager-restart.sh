# (d) NetworkManager is restarted, as by its update, and a dispatcher script hardens what comes up.
# shellcheck shell=bash disable=SC2034
title="NetworkManager restarted; hardening hook on up"

strike() {
    hardening_dispatcher
    systemctl restart NetworkManager
    truly net.ipv4.ip_forward write sysctl "$(the_writer)"
}
