# (i) TuneD, which applies sysctl.d again whenever it starts (reapply_sysctl, on by default).
# shellcheck shell=bash disable=SC2034
title="TuneD restarted, with the hardening file in place"

prepare() {
    kubernetes_file
    echo virtual-guest >/etc/tuned/active_profile
    echo manual >/etc/tuned/profile_mode
    systemctl start tuned
}

strike() {
    hardening_file
    mark restart
    systemctl restart tuned
    sleep 5
    truly net.ipv4.ip_forward write tuned "$(systemctl show --property=MainPID --value tuned)"
}
