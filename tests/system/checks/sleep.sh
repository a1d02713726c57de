# A sleep by real logind and systemd-sleep, and one past logind, in which a hook does what VMware's scripts do. To be sourced
# by suite.sh.
# shellcheck shell=bash

one_record() { # one_record KIND MATCH...
    local found
    found=$(records "$@")
    [[ -n $found && $found != *$'\n'* ]] && return
    printf '%s\n' "$found"
    return 1
}

check "an inhibitor before the sleep" inhibitor
mark
check "systemctl suspend" inside systemctl suspend
soon "NetworkManager sleeps" logged 'sleep: sleep requested' NetworkManager
soon "systemd-sleep ran" logged 'Finished .*Suspend' systemd-suspend
soon "NetworkManager wakes" logged 'sleep: wake requested' NetworkManager
soon "awake: the journal says so" record resumed "NOTICED_BY=logind and the sleep hook"
check "awake: one record" one_record resumed
check "awake: the record names what had changed" prints net.ipv4.ip_forward records resumed
soon "awake: every setting holds" settings_hold
soon "an inhibitor after the sleep" inhibitor

# As root's `systemctl suspend` does with systemd 219.
mark
check "systemctl start suspend.target" inside systemctl start suspend.target
soon "awake past logind: the journal says so" record resumed CAUSE=resume "NOTICED_BY=the sleep hook"
# What is repaired within 30 s of the first sleep may be logged as that one's, when the next begins.
check "awake past logind: one record" one_record resumed "NOTICED_BY=the sleep hook"
check "awake past logind: the record names what had changed" prints net.ipv4.ip_forward records resumed
soon "awake past logind: every setting holds" settings_hold
hook=/usr/lib/systemd/system-sleep/fwdguard
inside systemctl stop fwdguard
silent "the sleep hook with the service stopped" inside "$hook" pre suspend
silent "the sleep hook with the service stopped, awake" inside "$hook" post suspend
check "systemctl start after it" inside systemctl start fwdguard
