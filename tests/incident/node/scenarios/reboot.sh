# (h) A reboot with the hardening file in place.
# shellcheck shell=bash disable=SC2034
title="reboot with the hardening file in place"

prepare() { kubernetes_file; }
# Files do it, so after the reboot nothing else does.
routing_settings() { [[ -e $kept/struck ]] || sysctl -q -p /etc/sysctl.d/50-kubernetes.conf; }

strike() {
    hardening_file
    sleep 1
    cp "$results/traffic" "$kept/traffic"
    touch "$kept/struck"
    sync
    systemctl reboot
    sleep infinity
}

after_reboot() { truly net.ipv4.ip_forward start nobody -; }
