#!/usr/bin/env bash
# Runs a command where the kernel executes aarch64 programs, too, by qemu's user emulation, in mount and PID namespaces of its
# own. Where the host executes none, in a user namespace, so that this does not change. emulate.sh COMMAND...: as root.
set -euo pipefail

# As Debian's package describes it. The kernel opens the emulator when it is registered, so it works in every chroot.
format=/usr/lib/binfmt.d/qemu-aarch64.conf

if [[ ${1-} == --registered ]]; then
    shift
    if ! mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc ||
        ! cat "$format" >/proc/sys/fs/binfmt_misc/register; then
        echo "emulate: before Linux 6.7 only the host can execute aarch64 programs: systemctl restart systemd-binfmt" >&2
        exit 1
    fi
    # debootstrap makes no device nodes then, which the kernel refuses in a user namespace, but takes the host's.
    container=lxc exec "$@"
fi
own=(unshare --mount --pid --fork --kill-child --mount-proc --)
if [[ $(uname -m) == aarch64 || -e /proc/sys/fs/binfmt_misc/qemu-aarch64 ]]; then
    exec setpriv --pdeathsig KILL -- "${own[@]}" "$@"
fi
[[ -f $format ]] || { echo "emulate: '$format' is missing: install the package qemu-user-static" >&2; exit 1; }

# Each id in it is the host's; unshare(1) maps one alone.
unshare --user sleep 60 &
holder=$!
for map in uid_map gid_map; do
    until echo 0 0 4294967295 2>/dev/null >"/proc/$holder/$map"; do
        kill -0 "$holder" 2>/dev/null || { echo "emulate: the kernel makes no user namespace here" >&2; exit 1; }
    done
done
exec {namespace}<"/proc/$holder/ns/user"
kill "$holder"
exec setpriv --pdeathsig KILL -- nsenter --user="/proc/self/fd/$namespace" -- "${own[@]}" "${BASH_SOURCE[0]}" --registered "$@"
