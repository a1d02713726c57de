#!/usr/bin/env bash
# Runs one scenario on the node: lays the node out, starts the traffic, strikes, watches, and hands the results to the
# host. The kernel's command line names it, and whether it runs with the guard: incident=NAME,guarded or incident=NAME,bare.
set -u
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/root
here=/opt/incident/node
results=/run/results
# Survives a reboot.
kept=/var/lib/incident
# How long traffic gets no answer before it counts as broken for good, in seconds.
watched=20

for part in layout says; do
    # shellcheck source=/dev/null
    . "$here/$part.sh"
done

read -r scenario variant < <(sed -nE 's/.*\bincident=([a-z-]+),([a-z]+).*/\1 \2/p' /proc/cmdline)
mkdir -p "$results" "$kept"
# Functions that a scenario need not have.
prepare() { :; }
after_reboot() { :; }
# shellcheck source=/dev/null
. "$here/scenarios/$scenario.sh"
echo "$title" >"$results/title"

finish() {
    mark end
    # Time for the last answers.
    sleep 1
    ip netns pids client | xargs --no-run-if-empty kill
    journalctl --sync
    journalctl --quiet --output=json --unit=fwdguard >"$results/guard.json"
    journalctl --quiet --output=short-monotonic >"$results/journal"
    systemctl status fwdguard >"$results/status" 2>&1
    sysctl -a 2>/dev/null | grep -E '^net\.ipv4\.(ip_forward|conf\..*\.(forwarding|rp_filter)) ' >"$results/settings"
    tar -c -C "$results" . >/dev/virtio-ports/results
    say "done"
    systemctl poweroff --force
    exit
}

if [[ ! -e $kept/struck ]]; then
    [[ $variant != guarded ]] || install_guard
    prepare
    lay_out
    start_traffic
    sleep 4
    mark strike
    strike
else
    cp "$kept"/traffic "$results/traffic.before"
    lay_out
    start_traffic
    after_reboot
fi
sleep "$watched"
finish
