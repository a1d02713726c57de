#!/bin/bash
# Builds the RPM and the SRPM of the last commit, the same bytes each time. build.sh FOLDER PROCESSOR: into the folder; for
# another processor than this machine's by rpm/cross.sh. Unpacked sources that are no repository are built as they are.
set -euo pipefail
umask 022

to=$1 processor=$2
if [[ $processor != "$(uname -m)" && $processor != aarch64 ]]; then
    echo "rpm: nothing here builds for '$processor': run this on such a machine" >&2
    exit 1
fi
command -v rpmbuild >/dev/null || { echo "rpm: 'rpmbuild' is missing: install the package rpm (Debian) or rpm-build (CentOS)" >&2; exit 1; }
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
grep -q "^Version: *$version$" rpm/fwdguard.spec || { echo "rpm: rpm/fwdguard.spec:Version: is not $version, as Cargo.toml has it" >&2; exit 1; }
export TZ=UTC LC_ALL=C
if committed=$(git log -1 --format=%ct 2>/dev/null); then
    SOURCE_DATE_EPOCH=$committed
    git diff --quiet HEAD || echo "rpm: what is not committed is left out"
else
    SOURCE_DATE_EPOCH=$(date --date="$(sed -n 's/^\* \(... ... .. ....\) .*/\1/p' rpm/fwdguard.spec | head -n 1)" +%s)
fi
export SOURCE_DATE_EPOCH

rm -rf "$to"
mkdir -p "$to/build/SOURCES"
to=$(cd "$to" && pwd)
sources=$to/build/SOURCES name=fwdguard-$version
# pack FOLDER WHAT...: a tar archive in which nothing depends on this machine.
pack() {
    tar --create --directory "$1" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX "${@:2}"
}
if [[ $committed ]]; then
    git archive --format=tar --prefix="$name/" HEAD
else
    pack . --exclude=./target --transform="s,^\\.,$name," .
fi | gzip --no-name --best >"$sources/$name.tar.gz"
tar --extract --directory "$to/build" --file "$sources/$name.tar.gz"

# The crates go with it, so that the SRPM builds without a network.
(cd "$to/build/$name" && cargo vendor --quiet --locked --versioned-dirs vendor >/dev/null)
pack "$to/build/$name" vendor | xz --threads=2 -6 >"$sources/$name-vendor.tar.xz"
cp "$to/build/$name/rpm/fwdguard.spec" "$to/build"
touch --date="@$SOURCE_DATE_EPOCH" "$sources"/* "$to/build/fwdguard.spec"

# What runs rpmbuild, where $to/build is for it, and what is built: all but what has no processor, which is the native
# build's.
if [[ $processor == "$(uname -m)" ]]; then
    run=() top=$to/build what=(-ba) built='*'
else
    run=(rpm/cross.sh "$to/build") top=/build what=(-bb --target "$processor") built="*.$processor"
fi
${run[@]+"${run[@]}"} rpmbuild "${what[@]}" --define "_topdir $top" --define "_rpmdir $top" --define "_srcrpmdir $top" \
    --define '_rpmfilename %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm' "$top/fwdguard.spec"
# shellcheck disable=SC2086 # a pattern
mv "$to"/build/$built.rpm "$to"
rm -rf "$to/build"
if [[ $committed ]]; then git rev-parse HEAD >"$to/commit"; fi
sha256sum "$to"/*.rpm
