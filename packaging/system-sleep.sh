#!/bin/sh
# Notifies the running service that the node is about to sleep, or has resumed: systemd-sleep(8) runs this around every
# sleep, also where logind is not notified, as of root's `systemctl suspend` on CentOS 7. Neither signal ends a program that does
# not catch it. The sleep waits for this, so it waits no longer than logind does for an inhibitor, and it never fails.
case $1 in
    pre) signal=URG ;;
    post) signal=WINCH ;;
    *) exit 0 ;;
esac
timeout 5 systemctl kill --kill-who=main --signal=$signal fwdguard.service >/dev/null 2>&1 || :
exit 0
