#!/bin/bash
# Copies the program's licences to a folder, and into one file those of the crates that it is built from, each text once.
# licences.sh FOLDER PROCESSOR
set -euo pipefail

to=$1 processor=$2
install -D -m 644 -t "$to" LICENSE-MIT LICENSE-APACHE
texts=$(mktemp -d)
trap 'rm -rf "$texts"' EXIT

cargo tree --locked --offline --edges normal --target "$processor-unknown-linux-gnu" --prefix none --format '{p} {l}' |
    sed 's/ (\*)$//' | grep -v '^fwdguard ' | sort -u >"$texts/crates"
while read -r name version licence; do
    crate=$name-${version#v} found=
    while IFS= read -r -d '' file; do
        found=1
        sum=$(sha256sum <"$file")
        cp "$file" "$texts/${sum%% *}.text"
        echo "$crate (${file##*/})" >>"$texts/${sum%% *}.of"
    done < <(find "vendor/$crate" -maxdepth 1 -type f -iregex '.*/\(un\)?\(licen[cs]e\|copying\|copyright\|notice\).*' -print0 | sort -z)
    [[ $found ]] || { echo "licences: $crate ($licence) brings no licence file" >&2; exit 1; }
done <"$texts/crates"

{
    printf 'Crates that fwdguard is built from:\n\n'
    sed 's/^/  /' "$texts/crates"
    for text in "$texts"/*.text; do
        printf '\n%s\n\n' "-------- of $(paste -s -d, "${text%.text}.of" | sed 's/,/, /g')" | fold -s -w 118
        cat "$text"
    done
} >"$to/CRATES"
chmod 644 "$to/CRATES"
