#!/usr/bin/env bash
# Runs a command in a Debian 13 that builds for aarch64 and executes what it has built, by emulation. The folder is /build
# there, and the rest can't be written. cross.sh FOLDER COMMAND...: as root.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# enter ROOT FOLDER COMMAND...: in a mount namespace of its own.
enter() {
    local root=$1 folder=$2 place registry
    shift 2
    mount --bind "$root" "$root"
    mount -o remount,bind,ro "$root"
    mount --rbind "$folder" "$root/build"
    for place in proc sys dev; do mount --rbind "/$place" "$root/$place"; done
    for place in tmp run var/tmp var/lib/rpm; do mount -t tmpfs tmpfs "$root/$place"; done
    registry=${CARGO_HOME:-$HOME/.cargo}/registry
    [[ ! -d $registry ]] || mount --bind "$registry" "$root/cargo/registry"
    # shellcheck disable=SC2016 # it is the inner shell that expands
    exec env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp LC_ALL=C TZ=UTC CARGO_HOME=/cargo CARGO_NET_OFFLINE=true \
        ${SOURCE_DATE_EPOCH+"SOURCE_DATE_EPOCH=$SOURCE_DATE_EPOCH"} \
        chroot "$root" sh -c 'cd /build && exec "$@"' sh "$@"
}

if [[ ${1-} == --enter ]]; then
    shift
    enter "$@"
fi
if (($# < 2)) || [[ ! -d $1 ]]; then
    echo "usage: cross.sh FOLDER COMMAND... (a folder that is there)" >&2
    exit 2
fi
if ((EUID != 0)); then
    echo "cross: the chroot that builds for aarch64 needs root" >&2
    exit 1
fi
folder=$(realpath "$1")
shift
root=$("$here/toolchain.sh")
exec "$here/../tests/emulate.sh" "$here/cross.sh" --enter "$root" "$folder" "$@"
