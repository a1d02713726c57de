# (c) The host pauses the machine, and open-vm-tools' scripts put NetworkManager to sleep before and wake it after.
# shellcheck shell=bash disable=SC2034
title="paused by its host for 60 s, with open-vm-tools' scripts; hardening hook of NetworkManager's on up"

strike() {
    hardening_dispatcher
    # As vmtoolsd does when its host is about to pause the machine, and when it goes on.
    /etc/vmware-tools/suspend-vm-default
    pause 60
    /etc/vmware-tools/resume-vm-default
    date --set='+60 seconds'
    truly net.ipv4.ip_forward write sysctl "$(the_writer)"
}
