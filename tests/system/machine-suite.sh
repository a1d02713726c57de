#!/usr/bin/env bash
# Every assertion that needs no container, on a machine of its own, whose results go to the host. machine.sh boots it.
set -u
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/root TERM=dumb SYSTEMD_PAGER='' SYSTEMD_COLORS=0
here=/opt/incident/tests/system
results=/run/results
suite=$(uname -m)
# This machine may take ten seconds for what takes another a second.
export time_limit=180 flips=200
mkdir -p "$results"
exec > >(tee "$results/assertions") 2>&1

inside() { timeout --kill-after=5 300 "$@"; }
for part in assert node; do
    # shellcheck source=/dev/null
    . "$here/$part.sh"
done

# shellcheck disable=SC2034 # the checks use it
rpm=(rpm --force-debian)
# The machine really sleeps, so a clock has to wake it. Before the watchdog's time is over: as this machine sleeps (s2idle
# without a cpuidle driver), CLOCK_MONOTONIC goes on, and the service manager counts by it.
cat >/usr/lib/systemd/system-sleep/wake <<'HOOK'
#!/bin/sh
[ "$1" != pre ] || rtcwake --mode no --seconds 15
HOOK
chmod 755 /usr/lib/systemd/system-sleep/wake
# NetworkManager would leave a veth alone where udev runs, which it does in no container.
mkdir -p /run/udev/rules.d
ln -s /dev/null /run/udev/rules.d/85-nm-unmanaged.rules
udevadm control --reload
cp /opt/incident/{fwdguard,next}.rpm /root/
# What upgrade.sh asks about: the package, and which of its files were there before.
package=/root/fwdguard.rpm image=/run/image
while read -r file; do
    [[ ! -e $file ]] || mkdir -p "$image$file"
done < <(rpm -qpl --nosignature "$package")

for topic in install drift diagnose sleep restarts signals metrics journal-stopped upgrade; do
    # shellcheck source=/dev/null
    . "$here/checks/$topic.sh"
    echo "     $suite: $topic came to its end $SECONDS s after the start"
done

# Tests of the sources, whose folder was /build.
ln -s /opt/incident /build
for program in /build/programs/*; do
    name=${program##*/}
    check "the test ${name%-*}" timeout 900 "$program" --test-threads=2
done
echo "     $suite: the tests came to their end $SECONDS s after the start"
echo "     $suite: $passed assertions hold, $failed do not"

journalctl --sync
journalctl --quiet --output=short-monotonic >"$results/journal"
tar -c -C "$results" . >/dev/virtio-ports/results
systemctl poweroff --force
