#!/usr/bin/env bash
# Boots the machine with SELinux enforcing, and proves fwdguard-selinux on it: every feature, no denial, and what the domain
# may not do. run.sh FOLDER RPM SELINUX-RPM: leaves the machine's journal in the folder. As root.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=../incident/qemu.sh
. "$here/../incident/qemu.sh"

# As long as the machine may take, in seconds.
readonly limit=900

if (($# != 3)) || [[ ! -f $2 || ! -f $3 ]]; then
    echo "usage: run.sh FOLDER RPM SELINUX-RPM (packages that are there)" >&2
    exit 2
fi
if ((EUID != 0)); then
    echo "selinux-test: debootstrap needs root" >&2
    exit 2
fi
mkdir -p "$1"
to=$(realpath "$1") package=$(realpath "$2") domain=$(realpath "$3")

work=$(mktemp -d)
machine=
clean_up() {
    trap '' INT TERM HUP
    [[ ! $machine ]] || kill -KILL "$machine" 2>/dev/null || :
    wait
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM HUP

image=$("$here/../incident/image.sh" bookworm selinux)
mkdir "$work/payload"
cp -r "$here/node" "$work/payload/node"
cp "$here"/../system/{assert,node}.sh "$work/payload/node/"
cp "$package" "$work/payload/fwdguard.rpm"
cp "$domain" "$work/payload/fwdguard-selinux.rpm"
tar --create --directory "$work/payload" --file "$work/payload.tar" .
# A disk is a whole number of sectors.
truncate --size=%4096 "$work/payload.tar"

cd "$work"
find_accelerator "$image"
echo "selinux-test: on qemu with $accelerator"
qemu "$accelerator" "$image" "security=selinux enforcing=1" -drive "file=$work/payload.tar,format=raw,if=virtio,readonly=on" \
    -device virtio-serial -chardev file,id=results,path=results.tar -device virtserialport,chardev=results,name=results &
machine=$!
if ! ended_within "$limit" "$machine"; then
    tail -n 40 console >&2
    echo "selinux-test: the machine did not come to its end within $limit s" >&2
    exit 1
fi
machine=
cp console "$to/"
tar --extract --directory "$to" --file results.tar 2>/dev/null && [[ -s $to/assertions ]] ||
    { tail -n 40 console >&2; echo "selinux-test: no results" >&2; exit 1; }
cat "$to/assertions"
grep -q '^     .* assertions hold, 0 do not$' "$to/assertions" || { echo "selinux-test: failed; see $to" >&2; exit 1; }
