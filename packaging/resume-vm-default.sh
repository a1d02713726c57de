#!/bin/sh
# Asks the running guard to look at everything again: open-vm-tools runs this after VMware resumed the machine, of which
# logind hears nothing. Without VMware nothing runs it. It never fails, for VMware takes a failure as its own.
systemctl kill --kill-who=main --signal=USR1 fwdguard.service >/dev/null 2>&1 || :
exit 0
