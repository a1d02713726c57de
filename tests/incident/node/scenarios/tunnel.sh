# (e) The tunnel is removed and made again, and udev applies to it what an update has put into sysctl.d.
# shellcheck shell=bash disable=SC2034
title="the tunnel made anew; net.ipv4.conf.*.rp_filter = 1 in sysctl.d"

strike() {
    # The lines of RHEL 9.
    printf '%s\n' 'net.ipv4.conf.default.rp_filter = 2' 'net.ipv4.conf.*.rp_filter = 1' '-net.ipv4.conf.all.rp_filter' \
        >/etc/sysctl.d/50-redhat.conf
    modprobe -r ipip
    modprobe ipip
    set_up_tunnel
    mark set-up
    udevadm settle
    truly net.ipv4.conf.tunl0.rp_filter - systemd-sysctl? -
}
