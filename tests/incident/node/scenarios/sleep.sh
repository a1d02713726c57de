# (a) The node sleeps by `systemctl suspend`, and a hook does what `network stop` does.
# shellcheck shell=bash disable=SC2034
title="systemctl suspend; a sleep hook does what 'network stop' does"

prepare() {
    cat >/usr/lib/systemd/system-sleep/network-stop <<'HOOK'
#!/bin/sh
[ "$1" != pre ] || exec /opt/incident/node/writer.sh sysctl -q -w net.ipv4.ip_forward=0
HOOK
    chmod 755 /usr/lib/systemd/system-sleep/network-stop
}

strike() {
    rtcwake --mode no --seconds 20
    systemctl suspend
    until grep -q woke "$results/traffic"; do sleep 0.2; done
    truly net.ipv4.ip_forward write sysctl "$(the_writer)"
    one_sleep net.ipv4.ip_forward "logind, the sleep hook and the clocks"
}
