#!/bin/sh
# Requests a check of all settings from the running service: open-vm-tools runs this after VMware resumed the machine, of
# which logind is not notified. Without VMware nothing runs it. It never fails, because VMware treats a failure as its own.
systemctl kill --kill-who=main --signal=USR1 fwdguard.service >/dev/null 2>&1 || :
exit 0
