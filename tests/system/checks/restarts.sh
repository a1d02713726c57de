# The services beside it are restarted, one after the other. To be sourced by suite.sh.
# shellcheck shell=bash

for neighbour in dbus systemd-logind NetworkManager systemd-journald; do
    pid=$(main_pid)
    check "systemctl restart $neighbour" inside systemctl restart "$neighbour"
    repaired "after a restart of $neighbour" net.ipv4.ip_forward 0 1 upset net.ipv4.ip_forward 0
    check "after a restart of $neighbour: the same process, active" is "$pid" main_pid
    check "after a restart of $neighbour: active" active
    soon "after a restart of $neighbour: an inhibitor" inhibitor
done
