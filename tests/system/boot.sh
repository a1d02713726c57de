# Boots a throw-away copy of an image with systemd-nspawn, and runs commands inside it. To be sourced, in mount, network
# and PID namespaces of its own: what it mounts and starts goes with them.
# shellcheck shell=bash

# Where the copy is: on a tmpfs that hides the host's /run, in which systemd-nspawn keeps its locks.
readonly copy=/run/copy/root
# As long as one command inside may take, in seconds.
[[ ${command_limit-} ]] || readonly command_limit=120

# The control groups that systemd uses, of either version: one line for each mounted hierarchy.
cgroup_hierarchies() {
    findmnt --noheadings --list --output TARGET --types cgroup2
    findmnt --noheadings --list --output TARGET --types cgroup --options name=systemd
}

# throw_away IMAGE: a writable copy of the image, in memory.
throw_away() {
    mount --make-rprivate /
    mount -t tmpfs -o mode=755 tmpfs /run
    mkdir -p "$copy" /run/copy/upper /run/copy/work
    mount -t overlay -o "lowerdir=$1,upperdir=/run/copy/upper,workdir=/run/copy/work" overlay "$copy"
}

# boot CGROUP: boots the copy, below a control group of that name.
boot() {
    local hierarchy
    payloads=()
    while read -r hierarchy; do
        echo $$ >"$hierarchy/$1/cgroup.procs"
        payloads+=("$hierarchy/$1/payload/init.scope/cgroup.procs")
    done < <(cgroup_hierarchies)

    # systemd 256 and later ask for the variable where the host still has version 1 control groups.
    SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1 systemd-nspawn --quiet --directory="$copy" --boot --private-network \
        --machine=node --register=no --keep-unit --resolv-conf=off --timezone=off --link-journal=no \
        --system-call-filter="fanotify_init fanotify_mark" --console=read-only \
        ${nspawn_options[@]+"${nspawn_options[@]}"} </dev/null >/run/console 2>&1 &
    supervisor=$!
    leader=
    local tries
    for ((tries = 0; tries < 100; tries++)); do
        # Before the exec of systemd the process has another name, and is not in its namespaces yet.
        leader=$(pgrep --parent "$supervisor" --exact systemd) && break
        kill -0 "$supervisor" 2>/dev/null || break
        sleep 0.1
    done
    if [[ -z $leader ]]; then
        cat /run/console >&2
        echo "boot: systemd-nspawn did not boot" >&2
        return 1
    fi
    # It prints "degraded" and returns 1 when a unit failed; the test goes on, and asserts that elsewhere.
    for ((tries = 0; tries < 100; tries++)); do
        inside systemctl is-system-running --wait >/run/state 2>&1
        grep -qxE 'running|degraded' /run/state && return 0
        sleep 0.1
    done
    cat /run/state /run/console >&2
    echo "boot: systemd did not come up" >&2
    return 1
}

# inside COMMAND...: runs it as a process of the booted copy would, in all its namespaces and its control group.
inside() {
    (
        for payload in "${payloads[@]}"; do echo 0 >"$payload"; done
        exec timeout --kill-after=5 "$command_limit" nsenter --target "$leader" --all \
            env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 TERM=dumb SYSTEMD_PAGER= SYSTEMD_COLORS=0 \
            "$@"
    )
}

# Ends it and all in it at once; its files are not needed any more.
pull_the_plug() {
    kill -KILL "$supervisor" 2>/dev/null
    wait "$supervisor" 2>/dev/null
    return 0
}
