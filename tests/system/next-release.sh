#!/usr/bin/env bash
# Makes the package's next release out of the package: same files and scriptlets, another default configuration.
# next-release.sh RPM NEXT-RPM
set -euo pipefail

package=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# tag FORMAT: what rpm reports of the package; a percent sign in it must not be a macro of the new one.
tag() { rpm -qp --nosignature --queryformat "$1" "$package" | sed 's/%/%%/g'; }

mkdir "$work/tree"
(cd "$work/tree" && rpm2cpio "$package" | cpio --quiet -idm)
echo '# The next release says more.' >>"$work/tree/etc/sysconfig/fwdguard"

{
    cat <<SPEC
%global _build_id_links none
%global debug_package %{nil}
%global __os_install_post %{nil}
%global _binary_payload w1.gzdio
AutoReqProv: no
SPEC
    tag 'Name: %{NAME}\nVersion: %{VERSION}\nRelease: %{RELEASE}.1\nSummary: %{SUMMARY}\nLicense: %{LICENSE}\n'
    printf '%s\n' '%description' 'The next release, to upgrade to.' '%install' "cp -a '$work/tree/.' %{buildroot}"
    while read -r section tag; do
        script=$(tag "%{$tag}")
        [[ $script == '(none)' ]] || printf '%s\n' "%$section" "$script"
    done <<<$'pre PREIN\npost POSTIN\npreun PREUN\npostun POSTUN\nposttrans POSTTRANS'
    echo '%files'
    tag '[%{FILEFLAGS:fflags} %{FILEMODES:perms} %{FILENAMES}\n]' | sed -E '
        s/^cn [^ ]+ /%config(noreplace) /
        s/^ d[^ ]+ /%dir /
        s/^[a-z]* [^ ]+ //'
} >"$work/fwdguard.spec"

if ! rpmbuild -bb --define "_topdir $work/top" --target "$(tag '%{ARCH}')" "$work/fwdguard.spec" >"$work/log" 2>&1; then
    cat "$work/log" >&2
    exit 1
fi
cp "$work"/top/RPMS/*/*.rpm "$2"
