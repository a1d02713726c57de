# A node that boots with the service enabled, and a hardening file and a kubelet beside it. To be sourced by suite.sh.
# shellcheck shell=bash

site_preset 'enable fwdguard.service'
silent "rpm -i, where a preset enables it" inside "${rpm[@]}" -i /root/fwdguard.rpm
check "rpm -i, where a preset enables it: enabled" is enabled inside systemctl is-enabled fwdguard
pull_the_plug

printf '%s\n' 'net.ipv4.ip_forward = 0' 'net.ipv4.conf.all.rp_filter = 1' >"$copy/etc/sysctl.d/99-hardening.conf"
cat >"$copy/etc/systemd/system/kubelet.service" <<'UNIT'
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'cat /proc/sys/net/ipv4/ip_forward >/run/kubelet-found'
UNIT
ln -s ../kubelet.service "$copy/etc/systemd/system/multi-user.target.wants/"

mark
if boot "$group"; then
    silent "booted: no unit has failed" inside systemctl list-units --failed --no-legend
    check "booted: active" active
    check "booted: it came after sysctl.d" record repaired SYSCTL=net.ipv4.conf.all.rp_filter CAUSE=start NEWVALUE=1
    check "booted: the kubelet found a node that forwards" is 1 inside cat /run/kubelet-found
    check "booted: no ordering cycle" not journal --output=cat --grep='ordering cycle' _PID=1
else
    fail "boots with the service enabled" "$(tail -n 20 /run/console)"
fi
