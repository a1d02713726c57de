#!/bin/bash
# Shows what `network stop` does to a node's traffic, without the guard and with it, in namespaces of its own.
#
# demo.sh lays out client, node and pod and ends within 60 seconds; it needs no root where users may make namespaces,
# and it changes nothing outside its namespaces. `make demo` builds what it needs. Exit status: 0 the guard kept the
# traffic flowing; 1 it did not, or the demo could not run.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export FWDGUARD=${FWDGUARD:-$here/../target/$(uname -m)-unknown-linux-gnu/release/fwdguard}
export TRAFFIC=${TRAFFIC:-${FWDGUARD%/*}/examples/traffic}

LAYOUT='client 10.0.1.2 ──── 10.0.1.1 node 10.0.2.1 ──── 10.0.2.2 pod'
POD=10.0.2.2:7000
IP_FORWARD=/proc/sys/net/ipv4/ip_forward
TIMES=10
# The demo's private /run: hides the host's journal, and goes with the namespace.
NETNS=/var/run/netns
NO_POLICY=/run/no-policy
GUARD_LOG=/run/guard.log
LINES_SHOWN=3

fail() {
    printf 'demo: %s\n' "$*" >&2
    exit 1
}

# ---- outside: find a way into namespaces of our own

outside() {
    command -v ip >/dev/null || fail "'ip' is missing: install the package iproute2 (Debian, Ubuntu) or iproute (CentOS)"
    command -v unshare >/dev/null || fail "'unshare' is missing: install the package util-linux"
    local program
    for program in "$FWDGUARD" "$TRAFFIC"; do
        [[ -x $program ]] || fail "$program is missing: run 'make demo', which builds it"
    done

    local -a own=(--net --mount)
    if ((EUID != 0)) || ! usable "${own[@]}"; then
        own+=(--map-root-user)
        usable "${own[@]}" ||
            fail "this system gives $(id -un) no network namespace: try 'sudo demo/demo.sh' (in a container: --privileged)"
    fi
    # A demo that hangs is worse than none; --foreground leaves Ctrl-C to the terminal.
    exec timeout --foreground --kill-after=5 50 unshare "${own[@]}" bash "${BASH_SOURCE[0]}" --inside
}

# Some systems make the namespace and then refuse what is done in it, so that is tried too.
usable() { unshare "$@" bash -c "ip link set lo up && echo 1 >$IP_FORWARD" 2>/dev/null; }

# ---- inside: the node's namespace

lay_out() {
    # An old unshare leaves mounts shared with the host.
    mount --make-rprivate /
    mount -t tmpfs tmpfs /run
    [[ -L /var/run ]] || mount -t tmpfs tmpfs /var/run
    mkdir -p "$NO_POLICY"

    ip link set lo up
    local -i side=0
    local name
    for name in client pod; do
        side+=1
        ip netns add "$name"
        ip link add "$name" type veth peer name eth0 netns "$name"
        ip addr add "10.0.$side.1/24" dev "$name"
        ip link set "$name" up
        ip -n "$name" addr add "10.0.$side.2/24" dev eth0
        ip -n "$name" link set lo up
        ip -n "$name" link set eth0 up
        ip -n "$name" route add default via "10.0.$side.1"
    done
    echo 1 >"$IP_FORWARD"
}

# measure ACT ARGUMENTS...: runs the traffic and puts its numbers into result[ACT_name].
declare -A result
measure() {
    local act=$1 numbers name value
    shift
    numbers=$("$TRAFFIC" --client "$NETNS/client" --pod "$NETNS/pod" --address "$POD" --length 4000 "$@") ||
        fail "the traffic could not be measured"
    while IFS='=' read -r name value; do
        result[${act}_$name]=$value
    done <<<"$numbers"
}

guard_pid=
start_guard() {
    : >"$GUARD_LOG"
    # The demo never talks to the host: no bus, no service manager, and its journal lines go to a file. Should this
    # script be killed outright, timeout ends the guard.
    env -u NOTIFY_SOCKET -u WATCHDOG_USEC -u JOURNAL_STREAM -u INVOCATION_ID \
        DBUS_SYSTEM_BUS_ADDRESS=unix:path=/run/no-bus \
        timeout 50 "$FWDGUARD" run --root "$NO_POLICY" 2>>"$GUARD_LOG" &
    guard_pid=$!
    local -i waited
    for ((waited = 0; waited < 100; waited++)); do
        ! grep -q 'Guarding ' "$GUARD_LOG" || return 0
        kill -0 "$guard_pid" 2>/dev/null || break
        sleep 0.1
    done
    cat "$GUARD_LOG" >&2
    fail "the guard did not start"
}

stop_guard() {
    [[ -n $guard_pid ]] || return 0
    kill "$guard_pid" 2>/dev/null || true
    wait "$guard_pid" 2>/dev/null || true
    guard_pid=
}

# ---- what people read

bold='' red='' green='' plain=''
if [[ -t 1 && -z ${NO_COLOR:-} && ${TERM:-dumb} != dumb ]]; then
    bold=$'\e[1m' red=$'\e[31m' green=$'\e[32m' plain=$'\e[0m'
fi

heading() { printf '\n%s%s%s\n' "$bold" "$1" "$plain"; }

# 84 -> 84 µs, 3210 -> 3.2 ms, 2999000 -> 3.0 s
duration() {
    local -i usec=$1 tenths
    if ((usec < 1000)); then
        echo "$usec µs"
    elif ((usec < 999950)); then
        tenths=$(((usec + 50) / 100))
        echo "$((tenths / 10)).$((tenths % 10)) ms"
    else
        tenths=$(((usec + 50000) / 100000))
        echo "$((tenths / 10)).$((tenths % 10)) s"
    fi
}

# Right-aligned in 20 columns; µ is one column, but in the C locale printf would count two.
cell() {
    local ascii=${1//µ/u}
    printf '%*s%s' "$((20 - ${#ascii}))" '' "$1"
}

row() {
    local label=$1 without=$2 with=$3 colour=${4:-} colour_with=${5:-}
    printf '  %-44s%s%s%s%s%s%s\n' "$label" \
        "$colour" "$(cell "$without")" "$plain" "$colour_with" "$(cell "$with")" "$plain"
}

lost() {
    local -i lost=${result[${1}_lost]} sent=${result[${1}_sent]}
    echo "$lost of $sent"
}

repaired() {
    if ((${result[${1}_repaired]} == 0)); then
        echo never
    else
        duration "${result[${1}_$2]}"
    fi
}

# The median of the latencies that the guard itself logs: "latency 84 us".
guards_own_median() {
    local number unit
    local -a usec=()
    # One decimal at most: without its point the number counts tenths.
    while read -r number unit; do
        case $unit in
        us) usec+=("$number") ;;
        ms) usec+=("$((${number/./} * 100))") ;;
        *) usec+=("$((${number/./} * 100000))") ;;
        esac
    done < <(sed -nE 's/.*; latency ([0-9.]+) (us|ms|s)\).*/\1 \2/p' "$GUARD_LOG")
    if ((${#usec[@]} == 0)); then
        echo -
    else
        mapfile -t usec < <(printf '%s\n' "${usec[@]}" | sort -n)
        duration "${usec[${#usec[@]} / 2]}"
    fi
}

table() {
    printf '%s' "$bold"
    row '' 'without fwdguard' 'with fwdguard'
    printf '%s' "$plain"
    row 'ip_forward=0 written' once "$TIMES times"
    row 'packets lost' "$(lost without)" "$(lost with)" "$red" "$green"
    row 'longest outage' "$(duration "${result[without_outage]}"), not over" \
        "$(if ((result[with_lost] == 0)); then echo none; else duration "${result[with_outage]}"; fi)"
    row 'restored' "${result[without_repaired]} of 1" "${result[with_repaired]} of $TIMES"
    row 'the writer reads 1 again after, median' "$(repaired without median)" "$(repaired with median)"
    row 'the writer reads 1 again after, longest' "$(repaired without longest)" "$(repaired with longest)"
    row "repaired, by the guard's own clock, median" - "$(guards_own_median)"
}

journal() {
    local line
    local -i repairs=0
    while IFS= read -r line; do
        if [[ $line == *'Restored '*'cause: write'* ]] && ((++repairs > LINES_SHOWN)); then
            ((repairs < TIMES)) || printf '  ... and %d more such lines\n' "$((repairs - LINES_SHOWN))"
            continue
        fi
        # Only the first line of a wrapped message starts at the margin.
        fold -s -w 92 <<<"$line" | sed -e '1s/^/  /' -e '2,$s/^/      /' -e 's/ *$//'
    done <"$GUARD_LOG"
}

inside() {
    trap stop_guard EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    lay_out
    printf '%s     (1,000 packets a second, client to pod)\n' "$LAYOUT"

    heading "1. Without the guard"
    echo "   After 1 s, what 'network stop' does:  sysctl -w net.ipv4.ip_forward=0"
    measure without --first 1000 --times 1
    echo "   The pod lost $(lost without) packets; no process failed, no interface went down, nothing was logged."

    heading "2. With the guard"
    start_guard
    echo "   It was started on the node as act 1 left it, and put that right. Then the same write, $TIMES times in 3 s."
    measure with --first 500 --every 300 --times "$TIMES"
    stop_guard
    echo "   The pod lost $(lost with) packets."

    heading "Result"
    table
    heading "What the journal would say (journalctl -u fwdguard)"
    journal

    echo
    if ((result[without_lost] * 2 < result[without_sent])); then
        fail "without the guard the traffic went on, so this says nothing about the guard"
    fi
    # A busy machine may delay the guard for some milliseconds each time; 20 of them on average are too many.
    if ((result[with_repaired] < TIMES || result[with_lost] > result[with_sent] / 20)); then
        printf '%sFAILED: the guard did not keep the traffic flowing%s\n' "$red" "$plain"
        exit 1
    fi
    printf '%sOK: the guard kept the traffic flowing%s\n' "$green" "$plain"
}

case ${1:-} in
'') outside ;;
--inside) inside ;;
*) fail "usage: demo/demo.sh (no arguments; FWDGUARD= and TRAFFIC= name other programs)" ;;
esac
