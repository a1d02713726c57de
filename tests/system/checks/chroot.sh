# Installing and erasing where no systemd runs, as an image build does. To be sourced by suite.sh.
# shellcheck shell=bash

# Everything in the copy but what keeps rpm's and the catalog's books.
files() {
    find "$copy" -xdev -path "$copy/var/lib/rpm" -prune -o -path "$copy/var/lib/systemd/catalog" -prune -o -print | sort
}

files_before=$(files)
silent "in a chroot without systemd: rpm -i" chroot "$copy" "${rpm[@]}" -i /root/fwdguard.rpm
silent "in a chroot without systemd: rpm -V" chroot "$copy" rpm -V fwdguard
silent "in a chroot without systemd: rpm -e" chroot "$copy" "${rpm[@]}" -e fwdguard
silent "in a chroot without systemd: nothing is left" diff <(echo "$files_before") <(files)
