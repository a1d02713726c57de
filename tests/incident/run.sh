#!/usr/bin/env bash
# Replays the incident on machines that really sleep, with the guard and without, two machines at a time, and judges it.
# run.sh FOLDER RPM PROGRAMS [SCENARIO]...: into the folder, with the programs of the release build. As root.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=qemu.sh
. "$here/qemu.sh"

# In the order of the table.
all=(sleep rtcwake suspend-target vmware-networkmanager vmware-network networkmanager-restart connection-up tunnel uplink
    hardening reboot tuned oldest-kernel)

if (($# < 3)) || [[ ! -f $2 ]]; then
    echo "usage: run.sh FOLDER RPM PROGRAMS [SCENARIO]... (of ${all[*]})" >&2
    exit 2
fi
if ((EUID != 0)); then
    echo "incident: debootstrap needs root" >&2
    exit 2
fi
to=$1 package=$(realpath "$2") programs=$(realpath "$3")
shift 3
scenarios=("$@")
(($#)) || scenarios=("${all[@]}")
for scenario in "${scenarios[@]}"; do
    [[ -f $here/node/scenarios/$scenario.sh ]] || { echo "incident: no scenario '$scenario': there are ${all[*]}" >&2; exit 2; }
done

work=$(mktemp -d)
clean_up() {
    local -a children
    trap '' INT TERM HUP
    mapfile -t children < <(jobs -p)
    # Each child's machine ends with it.
    kill -KILL "${children[@]}" 2>/dev/null || :
    wait
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM HUP

# in_background COMMAND...: it ends with this script, also if this is killed outright.
in_background() { setpriv --pdeathsig KILL -- "$@" & }

# Where a scenario names no suite of Debian's, its machine has the one that fwdguard is built on.
declare -A suites images
for scenario in "${scenarios[@]}"; do
    suite=$(sed -n 's/^suite=//p' "$here/node/scenarios/$scenario.sh")
    suites[$scenario]=${suite:-bookworm}
done
for suite in "${suites[@]}"; do
    [[ -z ${images[$suite]:-} ]] || continue
    in_background "$here/image.sh" "$suite" >"$work/image"
    wait -n
    images[$suite]=$(<"$work/image")
    [[ -d ${images[$suite]} ]] || { echo "incident: no image of $suite" >&2; exit 1; }
done

mkdir "$work/payload"
cp -r "$here/node" "$work/payload/node"
cp "$programs/examples/probe" "$work/payload/probe"
cp "$package" "$work/payload/fwdguard.rpm"
tar --create --directory "$work/payload" --file "$work/payload.tar" .
# A disk is a whole number of sectors.
truncate --size=%4096 "$work/payload.tar"

mkdir "$work/try"
pushd "$work/try" >/dev/null
find_accelerator "${images[${suites[${scenarios[0]}]}]}"
popd >/dev/null
echo "incident: ${#scenarios[@]} scenarios, each with the guard and without, on qemu with $accelerator"

failed=()
one_ends() { wait -n || failed+=("a machine"); }
running=0
for scenario in "${scenarios[@]}"; do
    for variant in bare guarded; do
        if ((running == 2)); then
            one_ends
            running=1
        fi
        rm -rf "${to:?}/$scenario-$variant"
        in_background "$here/machine.sh" "$accelerator" "${images[${suites[$scenario]}]}" "$work/payload.tar" \
            "$work/$scenario-$variant" "$scenario" "$variant"
        running=$((running + 1))
    done
done
while ((running-- > 0)); do one_ends; done
mkdir -p "$to"
for scenario in "${scenarios[@]}"; do
    for variant in bare guarded; do
        find "$work/$scenario-$variant" -type p -delete
        rm -f "$work/$scenario-$variant/results.tar"
        cp -r "$work/$scenario-$variant" "$to/"
    done
done
((${#failed[@]} == 0)) || { echo "incident: what the machines left is in $to" >&2; exit 1; }

"$programs/examples/incident-report" "$to" "${scenarios[@]}" || { echo "incident: not as it should be; see $to" >&2; exit 1; }
echo "incident: the document is $to/incident.md, the picture $to/incident.svg"
