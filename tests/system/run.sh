#!/usr/bin/env bash
# Proves the package on real systems: for each suite a container with systemd, logind, journald, D-Bus and
# NetworkManager, in which it is installed, used, upgraded and erased. As root.
# run.sh [--suite SUITE]... RPM
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=boot.sh
. "$here/boot.sh"

# As long as the assertions of one suite may take, in seconds.
readonly suite_limit=600

suites=()
while [[ ${1-} == --suite ]]; do
    suites+=("${2:?--suite takes a name}")
    shift 2
done
((${#suites[@]})) || suites=(bookworm trixie)
if (($# != 1)) || [[ ! -f $1 ]]; then
    echo "usage: run.sh [--suite SUITE]... RPM (one that is there)" >&2
    exit 2
fi
if ((EUID != 0)); then
    echo "run.sh: systemd-nspawn and debootstrap need root" >&2
    exit 2
fi
package=$(realpath "$1")

work=$(mktemp -d)
group=fwdguard-system-test.$$
container=
clean_up() {
    local hierarchy
    if [[ -n $container ]]; then kill -KILL "$container" 2>/dev/null || :; wait "$container" 2>/dev/null || :; fi
    # Processes that were killed may need a moment to leave their groups.
    while read -r hierarchy; do
        for _ in {1..50}; do
            find "$hierarchy/$group" -depth -type d -exec rmdir {} + 2>/dev/null || :
            [[ -d $hierarchy/$group ]] || break
            sleep 0.1
        done
    done < <(cgroup_hierarchies)
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM HUP

"$here/next-release.sh" "$package" "$work/next.rpm"

failed=()
for suite in "${suites[@]}"; do
    started=$SECONDS
    image=$("$here/image.sh" "$suite")
    while read -r hierarchy; do mkdir -p "$hierarchy/$group"; done < <(cgroup_hierarchies)
    # However this ends, also by SIGKILL: with the first process of a PID namespace everything in it goes.
    setpriv --pdeathsig KILL -- unshare --mount --net --pid --fork --kill-child --mount-proc -- \
        timeout --signal=KILL "$suite_limit" \
        "$here/suite.sh" "$suite" "$image" "$group" "$package" "$work/next.rpm" </dev/null &
    container=$!
    status=0
    wait "$container" || status=$?
    container=
    # 137: the status that timeout and the kernel give for what was killed.
    ((status == 137)) && echo "FAIL $suite: it did not come to its end within $suite_limit s"
    ((status == 0)) || failed+=("$suite")
    echo "     $suite: $((SECONDS - started)) s"
done
((${#failed[@]} == 0)) || { echo "system-test: failed on ${failed[*]}" >&2; exit 1; }
