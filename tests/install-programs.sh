#!/usr/bin/env bash
# Installs the programs that the tests drive, where they are missing: apt-get on Debian, dnf on CentOS, only as root.
# install-programs.sh [system], the latter with what the package and its system test need.
set -euo pipefail

export PATH=$PATH:/usr/sbin:/sbin

missing=()
need() { # need PROGRAM DEBIAN-PACKAGE CENTOS-PACKAGE
    local program=$1
    if [[ $program == /* ]]; then [[ -x $program || -x /lib${program#/usr/lib} ]] && return
    else command -v "$program" >/dev/null && return; fi
    if command -v apt-get >/dev/null; then missing+=("$2"); else missing+=("$3"); fi
}

if [[ ${1-} == system ]]; then
    need rpmbuild rpm rpm-build
    need cpio cpio cpio
    need debootstrap debootstrap debootstrap
    need systemd-nspawn systemd-container systemd-container
fi

need ip iproute2 iproute
need unshare util-linux util-linux
need kill procps procps-ng
need dbus-daemon dbus-daemon dbus-daemon
need /usr/lib/systemd/systemd-sysctl systemd systemd
need journalctl systemd systemd

((${#missing[@]} == 0)) && exit 0
if ((EUID != 0)); then
    echo "install-programs: missing ${missing[*]}: install them, or run 'make test' as root" >&2
    exit 1
fi
echo "install-programs: installing ${missing[*]}"
if command -v apt-get >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
else
    dnf install -y -q "${missing[@]}"
fi
