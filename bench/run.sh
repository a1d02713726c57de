#!/usr/bin/env bash
# Measures the package's service as it is shipped: in each run a fresh container with a real systemd, in which the package is
# installed and the harness measures it beside others; then writes the document. As root.
# run.sh RPM HARNESS DOCUMENT RUNS [OPTION-OF-MEASURE]...
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
system=$here/../tests/system
# As long as one run may take, in seconds.
readonly command_limit=900
# shellcheck source=../tests/system/boot.sh
. "$system/boot.sh"

# The processor's control groups of version 1, which systemd in a container can't write.
cpu_hierarchy() { findmnt --noheadings --list --first-only --output TARGET --types cgroup --options cpu || :; }

# once IMAGE CGROUP RPM HARNESS LINES OPTION...: one run, in namespaces of its own.
once() {
    local image=$1 group=$2 package=$3 harness=$4 lines=$5
    local cpu nspawn_options=()
    shift 5
    cpu=$(cpu_hierarchy)
    [[ -z $cpu ]] || nspawn_options=("--bind=$cpu/$group:/run/bench-cpu")
    throw_away "$image" && cp "$package" "$copy/root/fwdguard.rpm" && cp "$harness" "$copy/root/bench" || return
    boot "$group" || return
    trap pull_the_plug EXIT
    # Debian 12's rpm has something to say to those who install with it.
    inside rpm --force-debian -i /root/fwdguard.rpm || return
    # The same unit with a program that does nothing.
    inside sh -euc '
        cd /run/systemd/system
        sed "s,^ExecStart=.*,ExecStart=/bin/sh -c \"systemd-notify --ready; exec sleep infinity\"," \
            /usr/lib/systemd/system/fwdguard.service >bench-nothing.service
        cp -r /usr/lib/systemd/system/fwdguard.service.d bench-nothing.service.d
        printf "[Service]\nNotifyAccess=all\nWatchdogSec=0\nSystemCallFilter=\n" >bench-nothing.service.d/20-shell.conf
        systemctl daemon-reload' || return
    inside /root/bench measure "$@" >"$lines"
}

if [[ ${1-} == --once ]]; then
    set +e # as boot.sh is written
    once "${@:2}"
    exit
fi

if (($# < 4)) || [[ ! -f $1 || ! -x $2 ]]; then
    echo "usage: run.sh RPM HARNESS DOCUMENT RUNS [OPTION-OF-MEASURE]..." >&2
    exit 2
fi
package=$(realpath "$1") harness=$(realpath "$2") document=$3 runs=$4
shift 4
image=$("$system/image.sh" bookworm)
work=$(mktemp -d)
group=fwdguard-bench.$$
groups() { cgroup_hierarchies; cpu_hierarchy; }
container=
remove_groups() {
    local hierarchy
    while read -r hierarchy; do
        for _ in {1..50}; do
            find "$hierarchy/$group" -depth -type d -exec rmdir {} + 2>/dev/null || :
            [[ -d $hierarchy/$group ]] || break
            sleep 0.1
        done
    done < <(groups)
}
clean_up() {
    if [[ -n $container ]]; then kill -KILL "$container" 2>/dev/null || :; wait "$container" 2>/dev/null || :; fi
    remove_groups
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM HUP

for ((run = 1; run <= runs; run++)); do
    started=$SECONDS
    while read -r hierarchy; do mkdir -p "$hierarchy/$group"; done < <(groups)
    setpriv --pdeathsig KILL -- unshare --mount --net --pid --fork --kill-child --mount-proc -- \
        "$here/run.sh" --once "$image" "$group" "$package" "$harness" "$work/$run" "$@" </dev/null &
    container=$!
    wait "$container"
    container=
    remove_groups
    echo "bench: run $run of $runs took $((SECONDS - started)) s"
done
"$harness" write "$document" "$work"/*
