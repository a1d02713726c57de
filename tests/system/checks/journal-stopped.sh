# journald reads nothing while settings are flipped 2,000 times, or $flips times if the caller sets it. To be sourced by suite.sh.
# shellcheck shell=bash

[[ ${flips-} ]] || readonly flips=2000

for link in {1..5}; do inside ip link add "veth$link" type veth peer name "peer$link"; done
soon "new interfaces forward" holds net.ipv4.conf.peer5.forwarding 1

# flip TIMES: writes one setting after the other, and waits each time until all are right again: the kernel opens one
# interface after the other when the guard puts ip_forward back, and would itself undo a flip in the middle of that.
flip() {
    # shellcheck disable=SC2016 # it is the inner bash that expands
    inside bash -c '
        cd /proc/sys/net/ipv4 && files=(ip_forward conf/{veth,peer}[1-5]/forwarding)
        for ((flip = 0; flip < $1; flip++)); do
            echo 0 >"${files[flip % ${#files[@]}]}"
            for file in "${files[@]}"; do
                until read -r value <"$file" && ((value == 1)); do
                    if ((SECONDS > 100)); then echo "$file was left at 0 after flip $flip"; exit 1; fi
                done
            done
        done' flip "$1"
}

# repairs: how many there were since the guard started, from its status.
repairs() { property StatusText | sed -nE 's/.*; ([0-9]+) repairs? since start.*/\1/p'; }

repairs_since() { # repairs_since COUNT: as many as there were flips, and one
    local now
    now=$(repairs)
    echo "$((now - $1)) repairs"
    ((now - $1 == flips + 1))
}

pings() { # pings SINCE: the watchdog was fed after that
    local at
    at=$(property WatchdogTimestampMonotonic)
    echo "last at $at"
    ((at > $1))
}

# count_repairs: repairs with a record of their own, in summaries, and among the records that were dropped.
count_repairs() {
    repaired=$(records repaired | wc -l)
    summed=$(sum journal --output=cat --output-fields=COUNT \
        _SYSTEMD_UNIT=fwdguard.service "MESSAGE_ID=${ID[still-contested]}")
    dropped=$(sum journal --output=cat --output-fields=COUNT \
        _SYSTEMD_UNIT=fwdguard.service "MESSAGE_ID=${ID[dropped]}")
    echo "$repaired records, $summed in summaries, $dropped dropped"
    ((repaired + summed + dropped >= flips))
}

sum() { "$@" | grep -oE '^[0-9]+' | { sum=0; while read -r n; do sum=$((sum + n)); done; echo "$sum"; }; }

mark
pid=$(main_pid)
restarts=$(property NRestarts)
before=$(repairs)
inside systemctl kill --kill-who=main --signal=STOP systemd-journald
check "journald stopped: each of $flips flips is put right" flip "$flips"
for round in 1 2; do
    soon "journald stopped: the watchdog is fed ($round)" pings "$(property WatchdogTimestampMonotonic)"
done
check "journald stopped: the guard is active" active
check "journald stopped: the same process" is "$pid" main_pid
inside systemctl kill --kill-who=main --signal=CONT systemd-journald
inside journalctl --sync
# The next record brings the count of those that were lost.
upset net.ipv4.conf.all.rp_filter 1
soon "journald back: the status counts every repair" repairs_since "${before:-0}"
soon "journald back: every repair is logged, or counted as dropped" count_repairs
echo "     $suite: $(count_repairs)"
count_repairs >/dev/null
if ((repaired < flips)); then
    check "journald back: a record says how many were dropped" record dropped
fi
check "journald back: not restarted" is "$restarts" property NRestarts
