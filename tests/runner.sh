#!/usr/bin/env bash
# Runs what cargo has built: runner.sh PROGRAM ARGUMENT... (`runner` in .cargo/config.toml). As root, tests run as they are.
# Otherwise they run in a user namespace, in which they may make network and mount namespaces, without those that
# tests/needs-root names; where there is none, without all that use namespaces. Each line "left out: ..." names one, and why.
set -euo pipefail
program=$1
shift
# Only the first user namespace's root is root, and only tests run otherwise here.
read -r first outside length </proc/self/uid_map
if [[ $program != */deps/* ]] || ((EUID == 0 && first == 0 && outside == 0 && length == 4294967295)); then
    exec "$program" "$@"
fi
name=${program##*/}
name=${name%-*}
here=$(dirname "${BASH_SOURCE[0]}")

left_out() { echo "left out: $1: needs root: $2; 'sudo make test' runs it" >&2; }
namespace=()
if ((EUID != 0)); then
    namespace=(unshare --map-root-user --net --mount)
    if ! "${namespace[@]}" true 2>/dev/null && grep -qsE 'mod common;|fuzz/properties' "$here/$name.rs" "$here/$name/main.rs"; then
        left_out "$name" "this system gives $(id -un) no user namespace"
        exit 0
    fi
    "${namespace[@]}" true 2>/dev/null || namespace=()
fi
skip=()
while read -r of test why; do
    [[ $of == "$name" ]] || continue
    left_out "$name $test" "$why"
    [[ $test == '*' ]] && exit 0
    skip+=(--skip "$test")
done <"$here/needs-root"
exec "${namespace[@]}" "$program" "$@" ${skip[@]+"${skip[@]}"}
