#!/usr/bin/env bash
# Every assertion on the machine, whose results go to the host. Its own domain is permissive; all others are enforcing.
set -u
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/root SYSTEMD_PAGER= SYSTEMD_COLORS=0
here=/opt/incident/node
results=/run/results
suite=selinux
mkdir -p "$results"
exec > >(tee "$results/assertions") 2>&1

inside() { timeout --kill-after=5 120 "$@"; }
for part in assert node; do
    # shellcheck source=/dev/null
    . "$here/$part.sh"
done

for topic in install features denials confined erase; do
    # shellcheck source=/dev/null
    . "$here/$topic.sh"
done
echo "     $suite: $passed assertions hold, $failed do not"

journalctl --sync
journalctl --quiet --output=short-monotonic >"$results/journal"
tar -c -C "$results" . >/dev/virtio-ports/results
systemctl poweroff --force
