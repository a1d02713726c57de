#!/usr/bin/env bash
# Prints the folder of a Debian 13 that builds for aarch64 on x86_64; builds it where the cache has none.
set -euo pipefail
# shellcheck source=../tests/image.sh
. "$(dirname "${BASH_SOURCE[0]}")/../tests/image.sh"

packages=gcc,gcc-aarch64-linux-gnu,libc6-dev-arm64-cross,gzip,make,rpm,xz-utils
# The programs that the tests run.
packages+=,dbus-daemon,groff-base,iproute2,procps,systemd
# Of the backports, for the suite's own rustc is older than Cargo.toml asks for.
rust=(cargo rustc libstd-rust-dev:arm64)

finish() {
    echo "deb $mirror trixie-backports main" >"$1/etc/apt/sources.list.d/backports.list"
    chroot "$1" sh -euc "dpkg --add-architecture arm64; apt-get update
        DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends -t trixie-backports ${rust[*]}" \
        >>"$1.log" 2>&1 || { tail -n 20 "$1.log" >&2; return 1; }
    # The plain name is that of the host's program, which does not support the other processor.
    ln -s /usr/bin/aarch64-linux-gnu-strip "$1/usr/local/bin/strip"
    mkdir "$1/build" "$1/cargo" "$1/cargo/registry"
    printf '%s\n' '[target.aarch64-unknown-linux-gnu]' 'linker = "aarch64-linux-gnu-gcc"' >"$1/cargo/config.toml"
    rm -rf "$1"/var/cache/apt/*.bin "$1"/var/cache/apt/archives/*.deb "$1"/var/lib/apt/lists/*
}

cached_image trixie cross "$packages" finish "${BASH_SOURCE[0]}"
