# Installing and erasing where no systemd runs, as an image build does. To be sourced by suite.sh.
# shellcheck shell=bash

# Everything in the copy but rpm's database and the catalog's.
files() {
    find "$copy" -xdev -path "$copy/var/lib/rpm" -prune -o -path "$copy/var/lib/systemd/catalog" -prune -o -print | sort
}

files_before=$(files)
silent "in a chroot without systemd: rpm -i" chroot "$copy" "${rpm[@]}" -i /root/fwdguard.rpm
silent "in a chroot without systemd: rpm -V" chroot "$copy" rpm -V fwdguard
silent "in a chroot without systemd: rpm -e" chroot "$copy" "${rpm[@]}" -e fwdguard
silent "in a chroot without systemd: nothing is left" diff <(echo "$files_before") <(files)

# The systemd of CentOS 7 knows few lines of the hardening: another file takes its place, until a package meets one that does.
# A scriptlet's PATH has /usr/sbin first, and the image's systemctl is elsewhere.
answers() { # answers VERSION: so systemctl does, and nothing else
    printf '#!/bin/sh\ncase $1 in --version) echo "systemd %s"; echo "+PAM +AUDIT" ;; *) exit 1 ;; esac\n' "$1" >"$copy/usr/sbin/systemctl"
    chmod 755 "$copy/usr/sbin/systemctl"
}
mask=$copy/etc/systemd/system/fwdguard.service.d/10-hardening.conf
remarks_alone() { [[ -f $mask && ! -L $mask ]] && not grep -v '^#' "$mask"; }

answers 219
silent "with systemd 219: rpm -i" chroot "$copy" "${rpm[@]}" -i /root/fwdguard.rpm
check "with systemd 219: a file without a line takes the hardening's place" remarks_alone
silent "with systemd 219: rpm -V" chroot "$copy" rpm -V fwdguard
silent "with systemd 219: rpm -U" chroot "$copy" "${rpm[@]}" -U /root/next.rpm
check "with systemd 219: the file is still there" remarks_alone
answers 239
silent "after a change to systemd 239: rpm -U" chroot "$copy" "${rpm[@]}" -U --oldpackage /root/fwdguard.rpm
check "after a change to systemd 239: the hardening counts" not test -e "$mask"
for version in 219 239; do
    answers "$version (an administrator's own)"
    mkdir -p "${mask%/*}"
    : >"$mask"
    silent "with systemd $version: rpm -U, beside a file of the administrator's" \
        chroot "$copy" "${rpm[@]}" -U --force /root/fwdguard.rpm
    check "with systemd $version: a file of the administrator's is left alone" test -f "$mask" -a ! -s "$mask"
    rm -r "${mask%/*}"
done
answers 219
silent "with systemd 219 again: rpm -U" chroot "$copy" "${rpm[@]}" -U --force /root/fwdguard.rpm
check "with systemd 219 again: the file is there" remarks_alone
silent "with systemd 219: rpm -e" chroot "$copy" "${rpm[@]}" -e fwdguard
rm "$copy/usr/sbin/systemctl"
silent "with systemd 219: nothing is left" diff <(echo "$files_before") <(files)
