# A sleep by real logind and systemd-sleep, in which a hook does what VMware's scripts do. To be sourced by suite.sh.
# shellcheck shell=bash

check "an inhibitor before the sleep" inhibitor
mark
check "systemctl suspend" inside systemctl suspend
soon "NetworkManager sleeps" logged 'sleep: sleep requested' NetworkManager
soon "systemd-sleep ran" logged 'Finished .*Suspend' systemd-suspend
soon "NetworkManager wakes" logged 'sleep: wake requested' NetworkManager
soon "awake: the journal says so" record resumed NOTICED_BY=logind
check "awake: the record names what had changed" prints net.ipv4.ip_forward records resumed
soon "awake: every setting holds" settings_hold
soon "an inhibitor after the sleep" inhibitor
