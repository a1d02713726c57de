#!/usr/bin/env bash
# Proves the aarch64 package on an emulated machine: Debian's kernel and a real systemd, on which it is installed, used,
# upgraded and erased; and the programs of those tests that ask most of a kernel. machine.sh FOLDER BUILD RPM: BUILD has the
# tests' programs, and the one that they start; leaves the machine's journal in the folder. As root.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=../incident/qemu.sh
. "$here/../incident/qemu.sh"

# As long as the machine may take, in seconds.
readonly limit=1800

if (($# != 3)) || [[ ! -d $2/programs || ! -f $3 ]]; then
    echo "usage: machine.sh FOLDER BUILD RPM (a build and a package that are there)" >&2
    exit 2
fi
if ((EUID != 0)); then
    echo "system-test: debootstrap needs root" >&2
    exit 2
fi
mkdir -p "$1"
to=$(realpath "$1") build=$(realpath "$2") package=$(realpath "$3")

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

image=$("$here/../emulate.sh" "$here/../incident/image.sh" bookworm aarch64)
# What the assertions and the tests read has its place in the sources, and the program the one that cross.sh built it in.
program=target/cross/aarch64-unknown-linux-gnu/debug/fwdguard
mkdir -p "$work"/payload/{node,tests,src/report} "$work/payload/${program%/*}"
cp "$here/machine-suite.sh" "$work/payload/node/main.sh"
cp -r "$here" "$work/payload/tests/system"
cp "$here/../../src/report/record.rs" "$work/payload/src/report/"
cp -r "$here"/../../{docs,systemd} "$work/payload/"
cp -r "$build/programs" "$work/payload/"
cp "$build/fwdguard" "$work/payload/$program"
cp "$package" "$work/payload/fwdguard.rpm"
"$here/next-release.sh" "$package" "$work/payload/next.rpm"
tar --create --directory "$work/payload" --file "$work/payload.tar" .
# A disk is a whole number of sectors.
truncate --size=%4096 "$work/payload.tar"

cd "$work"
started=$SECONDS
qemu aarch64 "$image" "" -drive "file=$work/payload.tar,format=raw,if=virtio,readonly=on" \
    -device virtio-serial -chardev file,id=results,path=results.tar -device virtserialport,chardev=results,name=results &
machine=$!
if ! ended_within "$limit" "$machine"; then
    tail -n 40 console >&2
    echo "system-test: the machine did not come to its end within $limit s" >&2
    exit 1
fi
machine=
cp console "$to/"
tar --extract --directory "$to" --file results.tar 2>/dev/null && [[ -s $to/assertions ]] ||
    { tail -n 40 console >&2; echo "system-test: no results" >&2; exit 1; }
cat "$to/assertions"
echo "     aarch64: $((SECONDS - started)) s"
grep -q '^     .* assertions hold, 0 do not$' "$to/assertions" || { echo "system-test: failed; see $to" >&2; exit 1; }
