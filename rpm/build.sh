#!/bin/bash
# Builds the RPM and the SRPM of the last commit, the same bytes each time, into the folder that it is given.
set -euo pipefail
umask 022

to=$1
command -v rpmbuild >/dev/null || { echo "rpm: 'rpmbuild' is missing: install the package rpm (Debian) or rpm-build (CentOS)" >&2; exit 1; }
git diff --quiet HEAD || echo "rpm: what is not committed is left out"
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
grep -q "^Version: *$version$" rpm/fwdguard.spec || { echo "rpm: rpm/fwdguard.spec:Version: is not $version, as Cargo.toml has it" >&2; exit 1; }
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH TZ=UTC LC_ALL=C

rm -rf "$to"
mkdir -p "$to/build/SOURCES"
to=$(cd "$to" && pwd)
sources=$to/build/SOURCES name=fwdguard-$version
git archive --format=tar --prefix="$name/" HEAD | gzip --no-name --best >"$sources/$name.tar.gz"
tar --extract --directory "$to/build" --file "$sources/$name.tar.gz"

# The crates go with it, so that the SRPM builds without a network.
(cd "$to/build/$name" && cargo vendor --quiet --locked --versioned-dirs vendor >/dev/null)
tar --create --directory "$to/build/$name" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner \
    --mode=u=rwX,go=rX vendor | xz --threads=2 -6 >"$sources/$name-vendor.tar.xz"
cp "$to/build/$name/rpm/fwdguard.spec" "$to/build"
touch --date="@$SOURCE_DATE_EPOCH" "$sources"/* "$to/build/fwdguard.spec"

rpmbuild -ba --define "_topdir $to/build" --define "_rpmdir $to" --define "_srcrpmdir $to" \
    --define '_rpmfilename %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm' "$to/build/fwdguard.spec"
rm -rf "$to/build"
sha256sum "$to"/*.rpm
