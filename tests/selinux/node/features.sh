# Everything that the guard does, in its domain. To be sourced by main.sh.
# shellcheck shell=bash

asked_for_watchdog() { (($(property WatchdogTimestampMonotonic) > $1)); }

silent "no source is lost" journalctl --quiet --output=cat --unit=fwdguard MESSAGE_ID=7537f41c4e6e4855af1a292486f5c100
repaired "ip_forward" net.ipv4.ip_forward 0 1 upset net.ipv4.ip_forward 0
check "its writer is named" prints "sysctl -w net.ipv4.ip_forward=0" records repaired SYSCTL=net.ipv4.ip_forward
repaired "one interface" net.ipv4.conf.wire.forwarding 0 1 upset net.ipv4.conf.wire.forwarding 0
repaired "rp_filter" net.ipv4.conf.tunl0.rp_filter 1 0 upset net.ipv4.conf.tunl0.rp_filter 1
sysctl -q -w net.ipv4.conf.default.forwarding=0 && ip link add late type veth peer name late-peer
soon "a new interface" holds net.ipv4.conf.late.forwarding 1
mark
ip link set late name later && ip link set later up
repaired "an interface that was renamed" net.ipv4.conf.later.forwarding 0 1 upset net.ipv4.conf.later.forwarding 0

# Two settings that the kernel does not announce: inotify reports their writes. The second has a type of its own.
mark
printf '%s\n' 'net.core.somaxconn = 4096' 'net.unix.max_dgram_qlen = 512' >/etc/fwdguard.d/60-site.conf
soon "a new policy file is read" record policy-loaded
soon "an unannounced setting holds" holds net.unix.max_dgram_qlen 512
repaired "an unannounced setting" net.core.somaxconn 100 4096 upset net.core.somaxconn 100
check "its writer is named" prints "sysctl -w net.core.somaxconn=100" records repaired SYSCTL=net.core.somaxconn
repaired "a setting of net.unix" net.unix.max_dgram_qlen 100 512 upset net.unix.max_dgram_qlen 100
mark
echo 'net.ipv4.conf.wire.rp_filter = 2' >/root/moved.conf
chcon -t user_home_t /root/moved.conf
mv /root/moved.conf /etc/fwdguard.d/61-moved.conf
soon "a policy file that was moved there" holds net.ipv4.conf.wire.rp_filter 2
mark
check "systemctl reload" systemctl reload fwdguard
soon "systemctl reload: the policy is read" record policy-loaded

mark
echo 'net.ipv4.ip_forward = 0' >/etc/sysctl.d/99-hardening.conf
soon "a line of sysctl.d is found" record conflict CONFLICT_FILE=/etc/sysctl.d/99-hardening.conf
rm /etc/sysctl.d/99-hardening.conf
mkdir -p /etc/tuned/site
printf '%s\n' '[sysctl]' 'net.ipv4.conf.all.rp_filter = 1' >/etc/tuned/site/tuned.conf
mark
echo site >/etc/tuned/active_profile
soon "a line of TuneD's profile is found" record conflict CONFLICT_FILE=/etc/tuned/site/tuned.conf

soon "logind has its inhibitor" inhibitor
check "systemctl restart systemd-logind" systemctl restart systemd-logind
soon "a new logind has it, too" inhibitor
if [[ -x /usr/lib/systemd/system-sleep/fwdguard ]]; then
    mark
    rtcwake --mode no --seconds 20 >/dev/null
    check "systemctl suspend" systemctl suspend
    soon "awake: the journal says so" record resumed
fi
soon "the watchdog is fed" asked_for_watchdog "$(property WatchdogTimestampMonotonic)"

for signal in HUP USR1; do
    mark
    check "systemctl kill --signal=$signal" systemctl kill --kill-who=main --signal="$signal" fwdguard
    [[ $signal == HUP ]] && kind=policy-loaded || kind=resumed
    soon "systemctl kill --signal=$signal: fwdguard logs it" record "$kind"
done
sed -i 's|^OPTIONS=.*|OPTIONS="--metrics /run/fwdguard/fwdguard.prom"|' /etc/sysconfig/fwdguard
check "systemctl restart with a file of metrics" systemctl restart fwdguard
soon "the file of metrics is there" grep --quiet '^fwdguard_build_info' /run/fwdguard/fwdguard.prom
check "the file of metrics has its label" is fwdguard_var_run_t type_of_file /run/fwdguard/fwdguard.prom

check "fwdguard check by root" fwdguard check
check "fwdguard diagnose by root" prints STEP fwdguard diagnose 127.0.0.1

service_sees() { inside nsenter --target "$(main_pid)" --mount "$@"; }
check "the service sees no setting but those of net" is net service_sees ls /proc/sys
pid=$(main_pid)
check "systemctl restart" systemctl restart fwdguard
check "systemctl restart: another process in the same domain" not is "$pid" main_pid
check "systemctl restart: its domain" is fwdguard_t type_of_service
check "systemctl stop" systemctl stop fwdguard
check "systemctl start" systemctl start fwdguard
