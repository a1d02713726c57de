#!/usr/bin/env bash
# Installs the programs that the tests drive, where they are missing: apt-get on Debian, dnf on CentOS, only as root.
# install-programs.sh [package | system | incident | deny] [aarch64]: or what building the package needs, its system test, its
# replay of the incident, or the check of crates; for another processor than this machine's.
set -euo pipefail

# This version reads Cargo.lock and deny.toml as they are; built in a third of the time, and fast enough.
if [[ ${1-} == deny ]]; then
    command -v cargo-deny >/dev/null && exit 0
    CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        exec cargo install cargo-deny --version 0.20.2 --locked --no-default-features
fi

export PATH=$PATH:/usr/sbin:/sbin

missing=()
need() { # need PROGRAM DEBIAN-PACKAGE CENTOS-PACKAGE
    local program=$1
    if [[ $program == /* ]]; then [[ -x $program || -x /lib${program#/usr/lib} ]] && return
    else type -P "$program" >/dev/null && return; fi # kill is also a builtin
    if command -v apt-get >/dev/null; then missing+=("$2"); else missing+=("$3"); fi
}

need unshare util-linux util-linux
case ${1-} in
    package)
        need rpmbuild rpm rpm-build
        need strip binutils binutils
        need gcc gcc gcc
        need xz xz-utils xz
        [[ -e /usr/lib/$(uname -m)-linux-gnu/libc.a || -e /usr/lib64/libc.a ]] || need libc.a libc6-dev glibc-static
        ;;
    system)
        need rpmbuild rpm rpm-build
        need cpio cpio cpio
        need debootstrap debootstrap debootstrap
        need systemd-nspawn systemd-container systemd-container
        ;;
    incident)
        need rpmbuild rpm rpm-build
        need debootstrap debootstrap debootstrap
        need mkfs.ext4 e2fsprogs e2fsprogs
        need qemu-system-x86_64 qemu-system-x86 qemu-kvm
        ;;
    *)
        need ip iproute2 iproute
        need kill procps util-linux
        need sysctl procps procps-ng
        need dbus-daemon dbus-daemon dbus-daemon
        need /usr/lib/systemd/systemd-sysctl systemd systemd
        need journalctl systemd systemd
        need strace strace strace
        need nft nftables nftables
        need iptables-save iptables iptables-nft
        need python3 python3 python3
        need setpriv util-linux util-linux
        need script bsdutils util-linux
        need groff groff-base groff-base
        need prometheus-node-exporter prometheus-node-exporter golang-github-prometheus-node-exporter
        need promtool prometheus golang-github-prometheus
        ;;
esac
if [[ ${2-} ]]; then
    need debootstrap debootstrap debootstrap
    need "qemu-$2-static" qemu-user-static qemu-user-static
    if [[ $1 == system ]]; then
        need "qemu-system-$2" qemu-system-arm qemu-system-aarch64-core
        need mkfs.ext4 e2fsprogs e2fsprogs
    fi
fi

((${#missing[@]} == 0)) && exit 0
if ((EUID != 0)); then
    echo "install-programs: missing ${missing[*]}: install them, or run this as root" >&2
    exit 1
fi
echo "install-programs: installing ${missing[*]}"
if command -v apt-get >/dev/null; then
    apt-get update -qq
    # Programs, and no services: Debian's packages would start theirs, now and at each boot.
    export SYSTEMD_OFFLINE=1
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
    for package in "${missing[@]}"; do
        case $package in prometheus*) systemctl --quiet disable "$package" 2>/dev/null || : ;; esac
    done
else
    dnf install -y -q "${missing[@]}"
fi
