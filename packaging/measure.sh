#!/bin/bash
# Prints the size of a fwdguard program, and what stays in memory when it guards, measured in namespaces of its own.
set -euo pipefail

program=$1
size=$(stat -c %s "$program")
stripped=$(mktemp)
trap 'rm -f "$stripped"' EXIT
strip -o "$stripped" "$program"
printf '%s: %d KiB, %d KiB stripped' "${program##*/}" $((size / 1024)) $(($(stat -c %s "$stripped") / 1024))

# As the service has it.
export "$(sed -n 's/^Environment=//p' "$(dirname "$0")/../systemd/fwdguard.service")"

# A private /run hides the system's bus and journal; an empty root has no policy, so the program's own holds.
measure() {
    mount -t tmpfs none /run
    [[ -L /var/run ]] || mount -t tmpfs none /var/run
    mkdir /run/root
    "$1" run --root /run/root 2>/dev/null &
    sleep 1
    sed -n 's/^VmRSS:\s*//p' "/proc/$!/status"
    kill $!
}
export -f measure
own=(--net --mount)
((EUID == 0)) || own+=(--map-root-user)
if resident=$(unshare "${own[@]}" bash -c "measure $(printf %q "$(readlink -f "$stripped")")" 2>/dev/null) && [[ $resident ]]; then
    echo ", $resident resident with one interface"
else
    echo "; resident memory not measured: namespaces are not available here"
fi
