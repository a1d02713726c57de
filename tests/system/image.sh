#!/usr/bin/env bash
# Prints the path of a Debian suite's image, as CentOS would have it for fwdguard; builds it where the cache has none.
# image.sh SUITE
set -euo pipefail

suite=$1
mirror=${FWDGUARD_MIRROR:-http://deb.debian.org/debian}
cache=${FWDGUARD_CACHE:-/var/cache/fwdguard}

packages=systemd,systemd-sysv,udev,network-manager,rpm,procps,iproute2,kmod
# CentOS 7 and 8 have dbus-daemon, 9 and 10 have dbus-broker.
case $suite in
    bullseye | bookworm) packages+=,libpam-systemd,dbus ;;
    *) packages+=,libpam-systemd,dbus-broker ;;
esac

# This file is the recipe: another recipe, another image.
key=$(sha256sum "${BASH_SOURCE[0]}" | cut -c -16)
image=$cache/$suite-$key

if [[ -d $image ]]; then
    touch "$image"
    echo "$image"
    exit 0
fi

mkdir -p "$cache"
exec 9>"$cache/$suite.lock"
flock 9
if [[ -d $image ]]; then # somebody else built it meanwhile
    echo "$image"
    exit 0
fi
echo "image: building $suite" >&2
# What a build that was killed left, and what nobody has used for a week.
rm -rf --one-file-system "$cache/$suite".new.*
find "$cache" -mindepth 1 -maxdepth 1 -name "$suite-*" -mtime +7 -exec rm -rf --one-file-system {} +

new=$(mktemp -d "$cache/$suite.new.XXXXXX")
trap 'rm -rf --one-file-system "$new" "$new.log"' EXIT
chmod 755 "$new"
if ! timeout --signal=KILL 900 unshare --mount --pid --fork --kill-child --mount-proc -- \
    debootstrap --variant=minbase --include="$packages" "$suite" "$new" "$mirror" >"$new.log" 2>&1; then
    tail -n 20 "$new.log" "$new/debootstrap/debootstrap.log" >&2 || :
    echo "image: debootstrap $suite from $mirror failed" >&2
    exit 1
fi
rm -rf "$new"/var/cache/apt/archives/*.deb "$new"/var/lib/apt/lists/*

# Debian enables every service that no preset speaks of; CentOS none.
echo 'disable *' >"$new/usr/lib/systemd/system-preset/99-default-disable.preset"
# Nothing but what the tests do: no apt-daily in the middle of them.
rm -f "$new"/etc/systemd/system/timers.target.wants/*
# Each boot has a journal of its own, in memory.
rm -rf "$new/var/log/journal"
# CentOS has rpm's books here, not in root's home, and these folders.
mkdir -p "$new/etc/rpm" "$new/etc/sysconfig" "$new/usr/share/licenses"
echo '%_dbpath /var/lib/rpm' >"$new/etc/rpm/macros"
# rpm's books know nothing of what Debian's packages provide.
cat >"$new/root/debian.spec" <<'SPEC'
Name: debian
Version: 1
Release: 1
Summary: What Debian's packages provide
License: MIT
BuildArch: noarch
Provides: /bin/sh, systemd
%description
For the packages that ask for it.
%files
SPEC
rpmbuild -bb --quiet --define "_topdir $new/root/rpmbuild" "$new/root/debian.spec"
mv "$new/root/rpmbuild/RPMS/noarch/debian-1-1.noarch.rpm" "$new/root/debian.rpm"
chroot "$new" rpm -i /root/debian.rpm >>"$new.log" 2>&1 || { cat "$new.log" >&2; exit 1; }
rm -rf "$new"/root/{rpmbuild,debian.spec,debian.rpm}

# The power states that logind and systemd-sleep look for, in files that put nothing to sleep. Before logind, which gets a
# view of /sys of its own, and before what looks whether /sys can be written: else udevd starts, and NetworkManager waits
# for it.
cat >"$new/usr/lib/systemd/system/power-states.service" <<'UNIT'
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
mkdir -p "$new/etc/systemd/system/sysinit.target.wants"
ln -s /usr/lib/systemd/system/power-states.service "$new/etc/systemd/system/sysinit.target.wants/"

# What VMware's scripts do before the node sleeps, in the second that it does.
mkdir -p "$new/usr/lib/systemd/system-sleep"
cat >"$new/usr/lib/systemd/system-sleep/network-stop" <<'HOOK'
#!/bin/sh
case $1 in
    pre) sysctl -q -w net.ipv4.ip_forward=0 && sleep 1 ;;
esac
HOOK
chmod 755 "$new/usr/lib/systemd/system-sleep/network-stop"

# One interface is NetworkManager's, and the others are left to the tests.
printf '%s\n' '[keyfile]' 'unmanaged-devices=*,except:interface-name:uplink' \
    >"$new/etc/NetworkManager/conf.d/uplink.conf"
(umask 077 && cat >"$new/etc/NetworkManager/system-connections/uplink.nmconnection") <<'CONNECTION'
[connection]
id=uplink
type=ethernet
interface-name=uplink

[ipv4]
method=manual
address1=192.0.2.2/24

[ipv6]
method=link-local
CONNECTION

mv "$new" "$image"
echo "$image"
