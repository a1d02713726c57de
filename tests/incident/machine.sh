#!/usr/bin/env bash
# Boots the machine once, runs one scenario in it and leaves its results in a folder.
# machine.sh ACCELERATOR IMAGE PAYLOAD FOLDER SCENARIO VARIANT; run.sh calls it.
set -euo pipefail
# shellcheck source=qemu.sh
. "$(dirname "${BASH_SOURCE[0]}")/qemu.sh"
accelerator=$1 image=$2 payload=$3 folder=$4 scenario=$5 variant=$6

# As long as one machine may take, in seconds.
readonly limit=480

mkdir -p "$folder"
cd "$folder"
mkfifo control.in control.out qmp.in qmp.out
# Both ends, so that neither side waits for the other to open it.
exec {to_node}<>control.in {from_node}<>control.out {to_qemu}<>qmp.in

qemu "$accelerator" "$image" "incident=$scenario,$variant" \
    -drive "file=$payload,format=raw,if=virtio,readonly=on" \
    -device virtio-serial \
    -chardev pipe,id=control,path=control -device virtserialport,chardev=control,name=control \
    -chardev file,id=results,path=results.tar -device virtserialport,chardev=results,name=results \
    -chardev pipe,id=qmp,path=qmp -mon chardev=qmp,mode=control &
machine=$!
command_qemu() { printf '{"execute":"%s"}\n' "$@" >&"$to_qemu"; }
cat qmp.out >qmp.log &
command_qemu qmp_capabilities

SECONDS=0
while kill -0 "$machine" 2>/dev/null; do
    if ((SECONDS > limit)); then
        echo "incident: $scenario, $variant: the machine did not come to its end within $limit s" >&2
        exit 1
    fi
    read -r -t 1 -u "$from_node" word argument || continue
    if [[ $word == pause ]]; then
        command_qemu stop
        sleep "$argument"
        command_qemu cont
        echo go >&"$to_node"
    fi
done
wait "$machine" || { echo "incident: $scenario, $variant: qemu failed" >&2; exit 1; }
tar --extract --file results.tar && [[ -s traffic ]] || { tail -n 20 console >&2; echo "incident: $scenario, $variant: no results" >&2; exit 1; }
