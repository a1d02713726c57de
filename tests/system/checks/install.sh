# After rpm -i: what systemd makes of the unit, before and after it is enabled. To be sourced by suite.sh.
# shellcheck shell=bash

every_record_in_catalog() {
    local known ids id missing=0
    known=$(inside journalctl --quiet --list-catalog)
    ids=$(grep -oE '"[0-9a-f]{32}"' "$here/../../src/report/record.rs" | tr -d '"')
    [[ -n $ids ]] || return
    for id in $ids; do
        [[ $known == *"$id"* ]] || { echo "no entry for $id"; missing=1; }
    done
    return "$missing"
}

was_ready() {
    local took=$(($(property ActiveEnterTimestampMonotonic) - $(property InactiveExitTimestampMonotonic)))
    echo "it took $took µs"
    ((took >= 0))
}

exposed_at_most() { # exposed_at_most TENTHS, by the overall level of systemd-analyze security
    local level
    level=$(inside systemd-analyze security --no-pager fwdguard | sed -nE 's/.*Overall exposure level.*: ([0-9]+)\.([0-9]).*/\1\2/p')
    echo "the level is ${level:-not to be had}, in tenths"
    [[ -n $level ]] && ((10#$level <= $1))
}

session_is_nice() { # or the kernel does not group processes by session, or not now
    local group
    inside test -e /proc/1/autogroup || return 0
    group=$(inside cat "/proc/$(main_pid)/autogroup") || return
    echo "its session: $group"
    [[ -z $group || $group == *" nice -15" ]]
}

service_sees() { inside nsenter --target "$(main_pid)" --mount "$@"; } # service_sees COMMAND...: in its mount namespace

complaints_of_unit() { inside journalctl --quiet --output=cat _PID=1 | grep -E 'fwdguard.*(Unknown|gnoring|Failed|deprecated)'; }

site_preset() { # site_preset LINE
    inside mkdir -p /etc/systemd/system-preset
    inside sh -c "echo '$1' >/etc/systemd/system-preset/50-site.preset"
}

silent "no unit has failed" inside systemctl list-units --failed --no-legend
silent "rpm -i" inside "${rpm[@]}" -i /root/fwdguard.rpm
check "installed: the unit is known" is loaded property LoadState
check "installed: the unit needs no daemon-reload" is no property NeedDaemonReload
check "installed: disabled, as the default preset says" is disabled inside systemctl is-enabled fwdguard
check "installed: not running" is inactive inside systemctl is-active fwdguard
check "installed: every kind of record has a catalog entry" every_record_in_catalog
silent "rpm -V" inside rpm -V fwdguard

site_preset 'enable fwdguard.service'
inside systemctl --quiet preset fwdguard 2>/dev/null
check "systemctl preset, where a preset enables it: enabled" is enabled inside systemctl is-enabled fwdguard
site_preset 'disable fwdguard.service'
inside systemctl --quiet preset fwdguard 2>/dev/null
check "systemctl preset, where a preset disables it: disabled" is disabled inside systemctl is-enabled fwdguard

check "systemctl enable --now" inside systemctl --quiet enable --now fwdguard
check "active" active
check "READY after it was started" was_ready
check "a watchdog" not is 0 property WatchdogUSec
check "its session has its niceness, where the kernel has niceness of sessions" session_is_nice
check "systemctl status says what is guarded" prints 'Status: "Guarding ' inside systemctl status --lines=0 fwdguard
check "systemd-analyze security: at most 2.0" exposed_at_most 20
check "the service sees no setting but those of net" is net service_sees ls /proc/sys
check "the service can write those of net" service_sees sh -c 'cat /proc/sys/net/core/somaxconn >/proc/sys/net/core/somaxconn'
check "the service can make nothing beside them" not service_sees mkdir /proc/sys/kernel
silent "systemd-analyze verify" inside systemd-analyze verify --man=no fwdguard.service
check "systemd accepts each line of the unit" not complaints_of_unit
