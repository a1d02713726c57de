# (b) The same past logind, as `systemctl suspend` of root's does with systemd 219; what `network stop` does comes when the
# node wakes, half a second after the clocks.
# shellcheck shell=bash disable=SC2034
title="suspend.target started past logind; a sleep hook does what 'network stop' does on waking"

prepare() {
    cat >/usr/lib/systemd/system-sleep/network-stop <<'HOOK'
#!/bin/sh
[ "$1" != post ] || { sleep 0.5; exec /opt/incident/node/writer.sh sysctl -q -w net.ipv4.ip_forward=0; }
HOOK
    chmod 755 /usr/lib/systemd/system-sleep/network-stop
}

strike() {
    rtcwake --mode no --seconds 20
    systemctl start suspend.target
    until grep -q woke "$results/traffic"; do sleep 0.2; done
    truly net.ipv4.ip_forward write sysctl "$(the_writer)"
    one_sleep net.ipv4.ip_forward "the sleep hook and the clocks"
}
