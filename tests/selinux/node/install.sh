# Both packages, and what runs in which domain after them. To be sourced by main.sh.
# shellcheck shell=bash

type_of_file() { stat --format=%C "$1" | cut -d: -f3; }
type_of_service() { tr -d '\0' <"/proc/$(main_pid)/attr/current" | cut -d: -f3; }

check "SELinux is enforcing" is Enforcing getenforce
silent "rpm -i fwdguard" rpm -i --force-debian /opt/incident/fwdguard.rpm
# CentOS's rpm labels what it writes; Debian's has been built without.
rpm -ql fwdguard | xargs restorecon
check "without fwdguard-selinux the program is as others" is bin_t type_of_file /usr/sbin/fwdguard
ip link add uplink type veth peer name wire
modprobe ipip
for link in uplink wire tunl0; do ip link set "$link" up; done
check "systemctl enable --now" systemctl --quiet enable --now fwdguard

silent "rpm -i fwdguard-selinux" rpm -i --force-debian /opt/incident/fwdguard-selinux.rpm
check "the module is in its store, with its priority" prints 200 semodule --list-modules=full
check "the program has its label" is fwdguard_exec_t type_of_file /usr/sbin/fwdguard
check "the service was restarted into its domain" is fwdguard_t type_of_service
check "ps -Z shows it" prints system_u:system_r:fwdguard_t:s0 ps -Z -p "$(main_pid)"
check "READY" active
check "systemctl status says what is guarded" prints 'Status: "Guarding ' systemctl status --lines=0 fwdguard
soon "every setting holds" settings_hold
