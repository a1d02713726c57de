# What check and diagnose report of a node that forwards, and of one that does not. To be sourced by suite.sh.
# shellcheck shell=bash

check "fwdguard check, while every setting holds" inside fwdguard check
check "fwdguard policy names the vendor's file" prints /usr/lib/fwdguard.d/50-kubernetes.conf inside fwdguard policy
inside systemctl stop fwdguard
upset net.ipv4.ip_forward 0
check "fwdguard check, where forwarding is off: it fails" not inside fwdguard check
check "fwdguard diagnose names the setting" prints 'Dropped here: net.ipv4.ip_forward is 0' inside fwdguard diagnose 192.0.2.7
check "systemctl start after it" inside systemctl start fwdguard
soon "after the start: net.ipv4.ip_forward is 1" holds net.ipv4.ip_forward 1
