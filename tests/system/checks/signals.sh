# Signals: a guard that hangs or dies is started again, and HUP and USR1 work as documented. To be sourced by suite.sh.
# shellcheck shell=bash

# back WHAT PID: a process other than PID guards, and has repaired what was wrong meanwhile.
back() {
    soon "$1: it is back" another "$2"
    soon "$1: net.ipv4.ip_forward is 1 again" holds net.ipv4.ip_forward 1
    soon "$1: net.ipv4.conf.all.rp_filter is 0 again" holds net.ipv4.conf.all.rp_filter 0
}

another() { # another PID
    local pid
    pid=$(main_pid)
    active && [[ -n $pid && $pid != 0 && $pid != "$1" ]] && return
    echo "it is still $pid"
    return 1
}

# A shorter watchdog than the package's, so that the test need not wait for it.
inside sh -c 'mkdir -p /run/systemd/system/fwdguard.service.d
    printf "%s\n" "[Service]" WatchdogSec=3s LimitCORE=0 >/run/systemd/system/fwdguard.service.d/quick.conf'
inside systemctl daemon-reload
check "systemctl restart" inside systemctl restart fwdguard
check "systemctl restart: active" active

mark
pid=$(main_pid)
inside kill -STOP "$pid"
upset net.ipv4.ip_forward 0
upset net.ipv4.conf.all.rp_filter 1
check "a stopped guard repairs nothing" holds net.ipv4.ip_forward 0
back "a guard that hangs" "$pid"
check "a guard that hangs: it was the watchdog" logged 'Watchdog timeout' fwdguard

for signal in KILL TERM INT; do
    pid=$(main_pid)
    inside sh -c "kill -$signal $pid; sysctl -q -w net.ipv4.ip_forward=0; sysctl -q -w net.ipv4.conf.all.rp_filter=1"
    back "kill -$signal" "$pid"
done

# A policy of the administrator's takes effect by itself; HUP has it read again, changed or not.
for reload in "kill -HUP" "systemctl reload"; do
    mark
    pid=$(main_pid)
    case $reload in
        kill*) inside kill -HUP "$pid" ;;
        *) check "$reload" inside systemctl reload fwdguard ;;
    esac
    soon "$reload: the policy is read again" record policy-loaded
    check "$reload: the same process" is "$pid" main_pid
    check "$reload: active" active
done
mark
inside sh -c 'echo net.ipv4.conf.wire.rp_filter = 2 >/etc/fwdguard.d/60-site.conf'
check "systemctl reload after a new file" inside systemctl reload fwdguard
soon "a new policy file holds" holds net.ipv4.conf.wire.rp_filter 2
inside rm /etc/fwdguard.d/60-site.conf

# open-vm-tools runs this after a resume that nothing else announces.
hook=/etc/vmware-tools/scripts/resume-vm-default.d/fwdguard
mark
silent "VMware's resume hook" inside "$hook"
soon "VMware's resume hook: it is logged" record resumed CAUSE=hypervisor "NOTICED_BY=the hypervisor's hook"
inside systemctl stop fwdguard
silent "VMware's resume hook with the service stopped" inside "$hook"
check "systemctl start" inside systemctl start fwdguard

# A mistake in the options is reported, and the service is not started again every second.
inside sh -c 'cp -p /etc/sysconfig/fwdguard /root/; echo OPTIONS=--audit-intervall 5 >/etc/sysconfig/fwdguard'
check "a mistake in OPTIONS=: systemctl restart fails" not inside systemctl --quiet restart fwdguard
check "a mistake in OPTIONS=: failed, and not to be started again" is failed property ActiveState
check "a mistake in OPTIONS=: systemctl status says what is wrong" \
    prints "Status: \"unexpected argument '--audit-intervall' found" inside systemctl status --lines=0 fwdguard
check "a mistake in OPTIONS=: the journal says where they stand" \
    prints "the options of the service are in /etc/sysconfig/fwdguard" inside journalctl --quiet --unit=fwdguard --lines=20
inside mv /root/fwdguard /etc/sysconfig/fwdguard
check "a mistake in OPTIONS= that was corrected: systemctl start" inside systemctl start fwdguard
