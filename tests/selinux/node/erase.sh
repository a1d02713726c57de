# The package is erased, and all is as without it. To be sourced by main.sh.
# shellcheck shell=bash

pid=$(main_pid)
silent "rpm -e fwdguard-selinux" rpm -e --force-debian fwdguard-selinux
check "rpm -e fwdguard-selinux: the program is as others again" is bin_t type_of_file /usr/sbin/fwdguard
check "rpm -e fwdguard-selinux: the service was restarted" not is "$pid" main_pid
check "rpm -e fwdguard-selinux: out of the domain" not is fwdguard_t type_of_service
check "rpm -e fwdguard-selinux: the service is active" active
check "rpm -e fwdguard-selinux: no module is left" not prints fwdguard semodule --list-modules=full
