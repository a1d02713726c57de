# What the assertions ask the booted node, and do to it. To be sourced after boot.sh and assert.sh.
# shellcheck shell=bash

# MESSAGE_IDs, as in fwdguard(8).
declare -rA ID=(
    [repaired]=02a3fbd85f774dd6911132d4e66f40b6
    [conflict]=d8941a6296ae4bb4aa76b91645255e01
    [policy-loaded]=79040de9f5c345cb8f524bbda805a2e0
    [still-contested]=91a3ec93c5b941a594846d69d57e768a
    [resumed]=51cf4aab661e45d0960bd38d8c964d14
    [dropped]=ffc217b33086402aa8bfbbda06a4edb6
)


property() { inside systemctl show --property="$1" --value "${2:-fwdguard}"; }
main_pid() { property MainPID; }
active() { inside systemctl is-active --quiet fwdguard; }

# mark: only what happens from here on counts for the functions below.
mark() { mark=@$EPOCHREALTIME; }

# journal ARGUMENT...: journalctl since the mark. Not --after-cursor=, which passes over the first entry that matches.
journal() { inside journalctl --quiet --since="$mark" "$@"; }

# records KIND MATCH...: fwdguard's records of that kind since the mark, one JSON object a line.
records() {
    local kind=$1
    shift
    journal --output=json _SYSTEMD_UNIT=fwdguard.service \
        "MESSAGE_ID=${ID[$kind]}" "$@"
}

# record KIND MATCH...: there is at least one.
record() {
    [[ -n $(records "$@") ]] && return
    echo "no such record: $*; since the mark fwdguard logged:"
    journal --output=cat _SYSTEMD_UNIT=fwdguard.service
    return 1
}

# logged PATTERN UNIT: the unit's log since the mark has a line like that.
logged() {
    local log
    log=$(journal --output=cat --unit="$2")
    grep -qE "$1" <<<"$log" && return
    printf '%s\n' "$log"
    return 1
}

value() { inside sysctl -n "$1"; }
holds() { is "$2" value "$1"; } # holds KEY VALUE

# upset KEY VALUE: writes it as an administrator would.
upset() { inside sysctl -w "$1=$2" >/dev/null; }

# repaired WHAT KEY WRONG RIGHT COMMAND...: the command sets KEY to WRONG; RIGHT holds again, and a record reports it.
repaired() {
    local what=$1 key=$2 wrong=$3 right=$4
    shift 4
    mark
    if ! evidence=$("$@" 2>&1); then
        fail "$what: $*" "$evidence"
        return
    fi
    soon "$what: $key is $right again" holds "$key" "$right"
    soon "$what: the journal has $key" record repaired "SYSCTL=$key" "NEWVALUE=$wrong" "OURVALUE=$right"
}

# The policy's values hold, on every kind of interface.
settings_hold() {
    local setting
    for setting in ip_forward=1 conf.default.forwarding=1 conf.uplink.forwarding=1 conf.wire.forwarding=1 \
        conf.all.rp_filter=0 conf.tunl0.rp_filter=0; do
        holds "net.ipv4.${setting%=*}" "${setting#*=}" || return
    done
}

inhibitor() { prints fwdguard inside systemd-inhibit --list --no-legend; }
