#!/usr/bin/env bash
# Prints the path of a Debian suite's image, as CentOS would have it for fwdguard; builds it where the cache has none.
# image.sh SUITE
set -euo pipefail
# shellcheck source=../image.sh
. "$(dirname "${BASH_SOURCE[0]}")/../image.sh"

suite=$1

packages=systemd,systemd-sysv,udev,network-manager,rpm,procps,iproute2,kmod
# CentOS 7 and 8 have dbus-daemon, 9 and 10 have dbus-broker.
case $suite in
    bullseye | bookworm) packages+=,libpam-systemd,dbus ;;
    *) packages+=,libpam-systemd,dbus-broker ;;
esac

finish() {
    as_centos "$1"
    one_uplink "$1"
    network_stop "$1"
    # Nothing but what the tests do: no apt-daily in the middle of them.
    rm -f "$1"/etc/systemd/system/timers.target.wants/*
    # Each boot has a journal of its own, in memory.
    rm -rf "$1/var/log/journal"

    # The power states that logind and systemd-sleep look for, in files that put nothing to sleep. Before logind, which
    # gets a view of /sys of its own, and before the units that check whether /sys can be written: else udevd starts, and
    # NetworkManager waits for it.
    cat >"$1/usr/lib/systemd/system/power-states.service" <<'UNIT'
[Unit]
Description=Files for logind and systemd-sleep to sleep by
DefaultDependencies=no
Before=systemd-logind.service systemd-udevd.service systemd-udev-trigger.service
Before=systemd-udevd-control.socket systemd-udevd-kernel.socket

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -euc 'mount -o remount,rw /sys; mkdir /sys/power; mount -o remount,ro /sys; \
    mount -t tmpfs tmpfs /sys/power; \
    echo freeze mem disk >/sys/power/state; echo "s2idle [deep]" >/sys/power/mem_sleep'
UNIT
    mkdir -p "$1/etc/systemd/system/sysinit.target.wants"
    ln -s /usr/lib/systemd/system/power-states.service "$1/etc/systemd/system/sysinit.target.wants/"
}

cached_image "$suite" "$suite" "$packages" finish "${BASH_SOURCE[0]}"
