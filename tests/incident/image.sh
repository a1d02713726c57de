#!/usr/bin/env bash
# Prints the folder with disk.img, vmlinuz and initrd of the machine; builds them where the cache has none.
# image.sh SUITE [selinux | aarch64]: bookworm, or bullseye for the oldest kernel and systemd that Debian's archive has; with
# Debian's policy of SELinux, and everything labelled for it; or for the other processor and tests/system, by emulate.sh.
set -euo pipefail
# shellcheck source=../image.sh
. "$(dirname "${BASH_SOURCE[0]}")/../image.sh"

suite=$1

packages=systemd,systemd-sysv,udev,libpam-systemd,dbus,network-manager,rpm,procps,iproute2,kmod,nftables,initramfs-tools,zstd
kind=incident
provided=()
case ${2-} in
    '') packages+=,linux-image-amd64,iputils-arping,open-vm-tools,tuned ;;
    selinux)
        kind=selinux
        packages+=,linux-image-amd64,iputils-arping,open-vm-tools,tuned,selinux-policy-default,policycoreutils,selinux-utils,busybox
        provided=('policycoreutils = 3.4' libselinux-utils selinux-policy-targeted)
        ;;
    aarch64)
        kind=aarch64 architecture=arm64
        packages+=,linux-image-arm64,strace
        ;;
esac

# Files that a virtual machine without screen and disks does not use; a small disk is made and booted sooner.
unused=(sound drivers/{gpu,media,infiniband,scsi,staging,iio,usb,input,hid,mtd,bluetooth,mmc,md,ata,net/{wireless,ethernet}}
    fs/{xfs,btrfs,ocfs2,nfs,nfsd,ceph,smb,f2fs,jfs})

# finish makes the initrd, and not the kernel's package, which adds every module. An emulated processor takes minutes for it.
export INITRD=No

finish() {
    local modules
    as_centos "$1" "${provided[@]}"
    one_uplink "$1"
    modules=$(echo "$1"/lib/modules/*)
    rm -rf "${unused[@]/#/$modules/kernel/}" "$1"/usr/share/{doc,locale,man} "$1"/usr/lib/firmware
    chroot "$1" depmod "${modules##*/}"
    printf '%s\n' virtio_pci virtio_blk ext4 >"$1/etc/initramfs-tools/modules"
    sed -i 's/^MODULES=.*/MODULES=list/' "$1/etc/initramfs-tools/initramfs.conf"
    setpriv --pdeathsig KILL -- unshare --mount --pid --fork --kill-child --mount-proc -- \
        chroot "$1" update-initramfs -c -k "${modules##*/}" >>"$1.log" 2>&1 || { cat "$1.log" >&2; return 1; }

    # Nothing but what the scenarios do, and a quick start.
    rm -f "$1"/etc/systemd/system/timers.target.wants/*
    chroot "$1" systemctl --quiet disable tuned NetworkManager-wait-online e2scrub_reap open-vm-tools systemd-timesyncd \
        getty@tty1 apparmor 2>/dev/null || :
    chroot "$1" systemctl --quiet mask serial-getty@ttyS0 serial-getty@ttyAMA0 modprobe@drm systemd-update-utmp apt-daily.timer
    chroot "$1" systemctl --quiet set-default multi-user.target
    rm -rf "$1/var/log/journal"
    echo node2 >"$1/etc/hostname"
    echo '127.0.0.1 localhost node2' >"$1/etc/hosts"
    : >"$1/etc/fstab"
    # The programs under test come on the second disk, as a tar archive, unpacked at every start. Not in /run: that is noexec.
    cat >"$1/etc/systemd/system/incident.service" <<'UNIT'
[Unit]
Description=The node's set-up, its traffic, and what is done to it
After=multi-user.target NetworkManager.service

[Service]
ExecStart=/bin/sh -c 'mkdir -p /opt/incident && tar -x -C /opt/incident -f /dev/vdb && exec /opt/incident/node/main.sh'
StandardOutput=journal+console
StandardError=journal+console
UNIT
    ln -s /etc/systemd/system/incident.service "$1/etc/systemd/system/multi-user.target.wants/"
    case $kind in
        selinux) label "$1" ;;
        aarch64) network_stop "$1" ;;
    esac

    mkdir "$1.parts"
    mv "$1"/boot/vmlinuz-* "$1.parts/vmlinuz"
    mv "$1"/boot/initrd.img-* "$1.parts/initrd"
    mkfs.ext4 -q -L node -d "$1" "$1.parts/disk.img" 1200M >>"$1.log"
    rm -rf --one-file-system "$1"
    mv "$1.parts" "$1"
}

# label FOLDER: Debian calls its policy "default", CentOS "targeted". The domain that runs the tests may do anything; it may also
# enter the guard's domain, once there is one, and read what programs print there.
label() {
    ln -s default "$1/etc/selinux/targeted"
    ln -s default "$1/var/lib/selinux/targeted"
    printf '%s\n' SELINUX=enforcing SELINUXTYPE=default >"$1/etc/selinux/config"
    cat >"$1/root/tests.cil" <<'CIL'
(typepermissive initrc_t)
(optional tests_in_domain
    (allow fwdguard_t initrc_t (fd (use)))
    (allow fwdguard_t initrc_t (fifo_file (write getattr)))
    (allow fwdguard_t initrc_t (process (sigchld))))
CIL
    chroot "$1" semodule -n -s default -i /root/tests.cil >>"$1.log" 2>&1 &&
        setpriv --pdeathsig KILL -- unshare --mount --pid --fork --kill-child --mount-proc="$1/proc" -- \
            chroot "$1" setfiles -F -e /proc /etc/selinux/default/contexts/files/file_contexts / >>"$1.log" 2>&1 ||
        { tail -n 20 "$1.log" >&2; return 1; }
}

cached_image "$suite" "$kind-$suite" "$packages" finish "${BASH_SOURCE[0]}"
