# (b) The node sleeps and logind receives no notice of it; the writer comes a second after the wake-up.
# shellcheck shell=bash disable=SC2034
title="rtcwake -m mem, past logind; ip_forward=0 a second after the wake-up"

strike() {
    rtcwake --mode mem --seconds 6
    sleep 1
    /opt/incident/node/writer.sh sysctl -q -w net.ipv4.ip_forward=0
    truly net.ipv4.ip_forward write sysctl "$(the_writer)"
    one_sleep net.ipv4.ip_forward "the clocks"
}
