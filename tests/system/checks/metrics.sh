# With OPTIONS= the service keeps a file of metrics, and systemd takes its folder away. To be sourced by suite.sh.
# shellcheck shell=bash

file=/run/fwdguard/fwdguard.prom
metric() { prints "$1" inside cat "$file"; } # metric LINE

check "without OPTIONS= there is no file of metrics" not inside test -e "$file"
inside sh -c "cp -p /etc/sysconfig/fwdguard /root/; echo 'OPTIONS=\"--metrics $file\"' >/etc/sysconfig/fwdguard"
mark
check "systemctl restart with a file of metrics" inside systemctl restart fwdguard
soon "the file of metrics is there" metric 'fwdguard_build_info{version="'
check "anybody may read it" inside setpriv --reuid 65534 --regid 65534 --clear-groups cat "$file"
check "the folder is root's" is "root 755" inside stat --format='%U %a' /run/fwdguard
repaired "metrics: sysctl -w" net.ipv4.conf.tunl0.rp_filter 1 0 upset net.ipv4.conf.tunl0.rp_filter 1
soon "a repair is counted" metric 'fwdguard_repairs_total{setting="net.ipv4.conf.tunl0.rp_filter",cause="write"} 1'
upset net.ipv4.conf.wire.forwarding 0
upset net.ipv4.conf.uplink.forwarding 0
soon "repairs of a pattern are counted together" metric 'fwdguard_repairs_total{setting="net.ipv4.conf.*.forwarding",cause="write"} 2'
check "systemctl reload with a file of metrics" inside systemctl reload fwdguard
check "the service sees no source lost" not metric 'fwdguard_source_lost{'
inside systemctl stop fwdguard
check "stopped, it leaves no file of metrics" not inside test -e /run/fwdguard
inside mv /root/fwdguard /etc/sysconfig/fwdguard
check "systemctl start without a file of metrics" inside systemctl start fwdguard
check "there is none" not inside test -e "$file"
