# (g) A hardening file, and `sysctl --system`.
# shellcheck shell=bash disable=SC2034
title="hardening file with ip_forward = 0; sysctl --system"

prepare() { kubernetes_file; }

strike() {
    hardening_file
    /opt/incident/node/writer.sh sysctl --system >/dev/null
    truly net.ipv4.ip_forward write sysctl "$(the_writer)"
}
