# Upgrade and erase, where systemd runs and the service with it. To be sourced by suite.sh.
# shellcheck shell=bash

gone() { # gone: what the package had, and the image had not before, is not there
    local file left=0
    while read -r file; do
        [[ ! -e $image$file ]] && inside test -e "$file" && { echo "$file is there"; left=1; }
    done < <(rpm -qpl --nosignature "$package")
    return "$left"
}

no_process() { not inside pgrep --list-full --exact fwdguard; }

placeholders() { inside journalctl --quiet --unit=fwdguard --catalog | grep -E -B12 '@[A-Z_]{2}'; }

catalog_without() { not inside sh -c 'journalctl --quiet --list-catalog | grep -i fwdguard'; }

check "journalctl -x leaves no @FIELD@ in any record" not placeholders
inside sh -c 'echo OPTIONS=\"--audit-interval=600 -v\" >/etc/sysconfig/fwdguard'
pid=$(main_pid)
check "rpm -U" inside "${rpm[@]}" -U /root/next.rpm
soon "rpm -U: the service was restarted" another "$pid"
check "rpm -U: the edited configuration is kept" prints --audit-interval=600 inside cat /etc/sysconfig/fwdguard
check "rpm -U: the new default is beside it" inside test -e /etc/sysconfig/fwdguard.rpmnew
check "rpm -U: still enabled" is enabled inside systemctl is-enabled fwdguard
check "rpm -U: it runs with the edited options" prints --audit-interval=600 \
    inside sh -c "tr '\\0' ' ' </proc/$(main_pid)/cmdline"
repaired "rpm -U" net.ipv4.ip_forward 0 1 upset net.ipv4.ip_forward 0
soon "OPTIONS=-v: the decision is logged at priority debug" prints 'net.ipv4.ip_forward 0, wanted 1, written in ' \
    journal --output=cat --priority=debug..debug --unit=fwdguard

inside sh -c 'rm -rf /run/systemd/system/fwdguard.service.d; systemctl daemon-reload'
check "rpm -e" inside "${rpm[@]}" -e fwdguard
check "rpm -e: the service is gone" is not-found property LoadState
check "rpm -e: no process is left" no_process
check "rpm -e: its files are gone" gone
check "rpm -e: the edited configuration is saved" prints --audit-interval=600 \
    inside cat /etc/sysconfig/fwdguard.rpmsave
check "rpm -e: no catalog entry is left" catalog_without
check "rpm -e: nothing refers to it" not inside sh -c 'find /etc/systemd /run/systemd -name "*fwdguard*" | grep .'
