#!/usr/bin/env bash
# Every assertion on one suite, in the order of an administrator's life with the package.
# suite.sh SUITE IMAGE CGROUP RPM NEXT-RPM, in namespaces of its own; run.sh calls it.
set -u
here=$(dirname "${BASH_SOURCE[0]}")
suite=$1 image=$2 group=$3 package=$4 next=$5
for part in boot assert node; do
    # shellcheck source=/dev/null
    . "$here/$part.sh"
done

throw_away "$image" || exit 1
cp "$package" "$copy/root/fwdguard.rpm"
cp "$next" "$copy/root/next.rpm"
# Debian 12's rpm has something to say to those who install with it.
rpm=(rpm)
chroot "$copy" rpm --force-debian --version &>/dev/null && rpm+=(--force-debian)

# shellcheck source=checks/chroot.sh
. "$here/checks/chroot.sh"

boot "$group" || exit 1
trap pull_the_plug EXIT
for topic in install drift diagnose sleep restarts signals metrics journal-stopped upgrade boot; do
    # shellcheck source=/dev/null
    . "$here/checks/$topic.sh"
done

if ((failed)); then
    echo "     $suite: fwdguard's journal ends:"
    inside journalctl --quiet --no-hostname --unit=fwdguard --lines=30 | sed 's/^/       | /'
fi
echo "     $suite: $passed assertions hold, $failed do not"
((failed == 0))
