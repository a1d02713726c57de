# The services beside it are restarted, one after the other. To be sourced by suite.sh.
# shellcheck shell=bash

for neighbour in dbus systemd-logind NetworkManager systemd-journald; do
    pid=$(main_pid)
    # systemd 257's services stay off a bus that was restarted until they are restarted, too. NetworkManager would wait
    # for this one, and fwdguard has to wait for logind.
    [[ $neighbour == dbus ]] && inside systemctl --quiet stop systemd-hostnamed 2>/dev/null
    check "systemctl restart $neighbour" inside systemctl restart "$neighbour"
    soon "after a restart of $neighbour: every setting holds" settings_hold
    repaired "after a restart of $neighbour" net.ipv4.ip_forward 0 1 upset net.ipv4.ip_forward 0
    check "after a restart of $neighbour: the same process" is "$pid" main_pid
    check "after a restart of $neighbour: active" active
    if [[ $neighbour == dbus ]] && inside systemctl is-active --quiet dbus-broker; then
        check "after a restart of dbus: systemctl restart systemd-logind" inside systemctl restart systemd-logind
    fi
    soon "after a restart of $neighbour: an inhibitor" inhibitor
done
