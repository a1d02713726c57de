# What the policy refused so far to the guard, or to others on its behalf. To be sourced by main.sh.
# shellcheck shell=bash

denials() {
    journalctl --sync
    journalctl --quiet --output=cat _TRANSPORT=audit + _TRANSPORT=kernel | grep 'avc:  *denied' | grep fwdguard
}
not_of_the_tests() { denials | grep -v 'permissive=1' || :; }

silent "no denial of the guard's" not_of_the_tests
