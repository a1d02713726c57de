# The node's lines: to the host, to the results, and about what really happened. To be sourced by main.sh.
# shellcheck shell=bash

# say WORD...: a line to the host.
say() { echo "$*" >/dev/virtio-ports/control; }

# pause SECONDS: the host pauses the machine, and sends a line when it goes on.
pause() {
    # What comes while no process has the port open is lost.
    exec {port}<>/dev/virtio-ports/control
    echo "pause $1" >&"$port"
    read -r -u "$port"
    exec {port}>&-
    mark woke
}

# mark NAME: from now on, traffic has to be back within a second. The last one counts, wake-ups included. Where
# what was done took the link down, it is marked when the link is back.
mark() { "/opt/incident/probe" mark "$1" >>"$results/traffic"; }

# truly SETTING CAUSE COMM PID: what the guard should have recorded, as it really was: `-` for what cannot be known, COMM `nobody`
# when it happened before the guard ran, `COMM?` when it may have come before the files of a new interface were watched: then the
# record has to be a write's, and give the reason why its writer is not known.
truly() { printf '%s\t%s\t%s\t%s\n' "$@" >>"$results/truth"; }

# comes_to SETTING VALUE: with the guard, within two seconds, or it is a fault of the run.
comes_to() {
    local tries value
    [[ $variant == guarded ]] || return 0
    for tries in {1..20}; do
        value=$(sysctl -n "$1")
        [[ $value != "$2" ]] || return 0
        sleep 0.1
    done
    echo "$1 is $value, not $2" >>"$results/faults"
}

# the_writer: the PID of the last process that writer.sh became. Programs that others start may run it only after a while.
the_writer() {
    until [[ -s $results/writers ]]; do sleep 0.2; done
    tail -n 1 "$results/writers"
}

# one_sleep SETTING WHO: the guard should log one sleep or pause, noticed by WHO, in one record that names the setting.
one_sleep() { printf '%s\t%s\n' "$@" >>"$results/sleeps"; }
