# Builds Debian images once and keeps them: a recipe that has not changed is not built again. To be sourced, as root.
# shellcheck shell=bash

mirror=${FWDGUARD_MIRROR:-http://deb.debian.org/debian}
cache=${FWDGUARD_CACHE:-/var/cache/fwdguard}

# Debian's name of the processor that an image is for, where it is another than this machine's. Its programs have to be executable
# here, which emulate.sh ensures.
architecture=

# cached_image SUITE NAME PACKAGES FINISH FILE...: prints the folder of the image NAME; where the cache has none of this
# recipe (these FILEs and this one), debootstrap installs the packages into a folder, and `FINISH FOLDER` makes it the
# image.
cached_image() {
    local suite=$1 name=$2 packages=$3 finish=$4
    shift 4
    local image
    image=$cache/$name-$(cat "$@" "${BASH_SOURCE[0]}" | sha256sum | cut -c -16)
    if [[ ! -d $image ]]; then
        mkdir -p "$cache"
        exec 9>"$cache/$name.lock"
        flock 9
    fi
    if [[ -d $image ]]; then # also if another process built it meanwhile
        touch "$image"
        echo "$image"
        return
    fi
    echo "image: building $name" >&2
    # What a killed build left, and images that have not been used for a week.
    rm -rf --one-file-system "$cache/$name".new.*
    find "$cache" -mindepth 1 -maxdepth 1 -name "$name-*" -mtime +7 -exec rm -rf --one-file-system {} +

    new=$(mktemp -d "$cache/$name.new.XXXXXX")
    trap 'rm -rf --one-file-system "$new" "$new.log"' EXIT
    chmod 755 "$new"
    # The mounts and processes of debootstrap go with it, however this ends.
    if ! setpriv --pdeathsig KILL -- unshare --mount --pid --fork --kill-child --mount-proc -- \
        timeout --signal=KILL 1800 \
        debootstrap ${architecture:+"--arch=$architecture"} --variant=minbase --include="$packages" "$suite" "$new" "$mirror" >"$new.log" 2>&1; then
        tail -n 20 "$new.log" "$new/debootstrap/debootstrap.log" >&2 || :
        echo "image: debootstrap $suite from $mirror failed" >&2
        return 1
    fi
    rm -rf "$new"/var/cache/apt/archives/*.deb "$new"/var/lib/apt/lists/*
    "$finish" "$new"
    mv "$new" "$image"
    echo "$image"
}

# as_centos FOLDER [NAME]...: what packages of CentOS expect and Debian does otherwise, also under these names.
as_centos() {
    # Debian enables every service that no preset names; CentOS none.
    echo 'disable *' >"$1/usr/lib/systemd/system-preset/99-default-disable.preset"
    # CentOS has rpm's database here, not in root's home, and these folders.
    mkdir -p "$1/etc/rpm" "$1/etc/sysconfig" "$1/usr/share/licenses"
    echo '%_dbpath /var/lib/rpm' >"$1/etc/rpm/macros"
    # rpm's database does not contain what Debian's packages provide.
    cat >"$1/root/debian.spec" <<SPEC
Name: debian
Version: 1
Release: 1
Summary: What Debian's packages provide
License: MIT
BuildArch: noarch
Provides: /bin/sh, systemd ${*:2}
%description
For the packages that ask for it.
%files
SPEC
    rpmbuild -bb --quiet --define "_topdir $1/root/rpmbuild" "$1/root/debian.spec"
    mv "$1/root/rpmbuild/RPMS/noarch/debian-1-1.noarch.rpm" "$1/root/debian.rpm"
    chroot "$1" rpm -i /root/debian.rpm >>"$1.log" 2>&1 || { cat "$1.log" >&2; return 1; }
    rm -rf "$1"/root/{rpmbuild,debian.spec,debian.rpm}
}

# network_stop FOLDER: what VMware's scripts do before the node sleeps, in the second that it does.
network_stop() {
    mkdir -p "$1/usr/lib/systemd/system-sleep"
    cat >"$1/usr/lib/systemd/system-sleep/network-stop" <<'HOOK'
#!/bin/sh
case $1 in
    pre) sysctl -q -w net.ipv4.ip_forward=0 && sleep 1 ;;
esac
HOOK
    chmod 755 "$1/usr/lib/systemd/system-sleep/network-stop"
}

# one_uplink FOLDER: NetworkManager has one interface, and leaves the others alone, as on a node of Calico's.
one_uplink() {
    printf '%s\n' '[keyfile]' 'unmanaged-devices=*,except:interface-name:uplink' \
        >"$1/etc/NetworkManager/conf.d/uplink.conf"
    (umask 077 && cat >"$1/etc/NetworkManager/system-connections/uplink.nmconnection") <<'CONNECTION'
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
}
