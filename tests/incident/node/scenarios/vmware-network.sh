# (c) The same with initscripts' `network` in NetworkManager's place.
# shellcheck shell=bash disable=SC2034
title="paused by its host for 60 s, with open-vm-tools' scripts; 'network stop' of initscripts"

prepare() {
    systemctl disable --now NetworkManager
    # Where it is, the scripts take systemd-networkd for the service to stop.
    rm /usr/lib/systemd/system/{systemd-networkd.service,NetworkManager.service}
    # They search for "not-found" in what systemctl prints, as systemd 219 of CentOS 7 does, and 252 no more.
    cat >/usr/local/bin/systemctl <<'SYSTEMCTL'
#!/bin/sh
if [ "$1" = status ] && ! /usr/bin/systemctl cat "$2" >/dev/null 2>&1; then
    echo '   Loaded: not-found (Reason: No such file or directory)'
    exit 3
fi
exec /usr/bin/systemctl "$@"
SYSTEMCTL
    chmod 755 /usr/local/bin/systemctl
    export PATH=/usr/local/bin:$PATH
    mkdir -p /etc/init.d
    cat >/etc/init.d/network <<'NETWORK'
#!/bin/sh
case $1 in
    start)
        ip addr add 192.0.2.2/24 dev uplink
        ip link set uplink up
        ip route add default via 192.0.2.1
        /opt/incident/probe mark link-up >>/run/results/traffic
        # initscripts, ifup-eth. A neighbour that asked while the link was down else asks again up to a second later.
        arping -q -A -c 1 -I uplink 192.0.2.2
        ;;
    stop)
        ip addr flush dev uplink
        ip link set uplink down
        # initscripts, /etc/init.d/network:
        /opt/incident/node/writer.sh sysctl -w net.ipv4.ip_forward=0 >/dev/null 2>&1
        ;;
esac
NETWORK
    chmod 755 /etc/init.d/network
    cat >/etc/systemd/system/network.service <<'UNIT'
[Unit]
Description=LSB: Bring up/down networking

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/etc/init.d/network start
ExecStop=/etc/init.d/network stop
UNIT
    systemctl daemon-reload
}

bring_uplink_up() { systemctl start network; }

strike() {
    /etc/vmware-tools/suspend-vm-default
    pause 60
    /etc/vmware-tools/resume-vm-default
    date --set='+60 seconds'
    truly net.ipv4.ip_forward write sysctl "$(the_writer)"
    one_sleep net.ipv4.ip_forward "the clocks and the hypervisor's hook"
}
