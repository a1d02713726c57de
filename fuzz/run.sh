#!/usr/bin/env bash
# Fuzzes until each target has had RUNS runs in all, each for SECONDS at a time at most; it goes on where it was stopped.
# run.sh RUNS SECONDS [TARGET...]
# run.sh keep [TARGET...]: the least inputs that reach what all found so far reach become fuzz/corpus.
# What was done so far (runs, corpus, crashes) is below target/fuzz.
set -euo pipefail
cd "$(dirname "$0")/.."

state=$PWD/target/fuzz
if [[ $1 == keep ]]; then
    mode=keep
    shift
else
    mode=fuzz runs=$1 seconds=$2
    shift 2
fi
targets=("$@")
((${#targets[@]})) || targets=(netlink pattern policy process records values)

command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz --locked
# Sanitizers take three quarters of the runs, and what they find is not in safe code; watching comparisons takes half of what
# is left, and the words that matter are in the corpus and the dictionaries. What the fuzzer needs of the compiler is for
# nightly ones only, or for those that are told to be one.
export RUSTC_BOOTSTRAP=1
cargo fuzz build --sanitizer none --no-trace-compares --codegen-units 8 --target-dir "$state" >&2
programs=$(echo "$state"/*/release)

for target in "${targets[@]}"; do
    corpus=$state/corpus/$target kept=fuzz/corpus/$target
    mkdir -p "$corpus" "$state/runs" "$state/crashes" "$kept"
    options=(-max_len=512 -timeout=20 -rss_limit_mb=2048 "-artifact_prefix=$state/crashes/$target-")
    found=()
    [[ -e fuzz/found/$target ]] && found=("fuzz/found/$target")
    [[ -e fuzz/dictionaries/$target ]] && options+=("-dict=fuzz/dictionaries/$target")
    if [[ $mode == keep ]]; then
        new=$(mktemp -d "$state/keep.XXXXXX")
        "$programs/$target" -merge=1 -max_len=512 "$new" "$kept" "$corpus" 2>"$state/$target.log"
        rm -r "$kept" && mv "$new" "$kept" && chmod 755 "$kept"
        echo "$target: $(find "$kept" -type f | wc -l) inputs, $(du -sb "$kept" | cut -f1) bytes"
        continue
    fi
    done_so_far=$(cat "$state/runs/$target" 2>/dev/null || echo 0)
    left=$((runs - done_so_far))
    if ((left <= 0)); then
        echo "$target: $done_so_far runs done"
        continue
    fi
    options+=("-max_total_time=$seconds" "-runs=$left" -print_final_stats=1)
    status=0
    "$programs/$target" "${options[@]}" "$corpus" "$kept" "${found[@]}" 2>"$state/$target.log" || status=$?
    now=$(sed -n 's/^stat::number_of_executed_units: *//p' "$state/$target.log")
    echo $((done_so_far + ${now:-0})) >"$state/runs/$target"
    echo "$target: $((done_so_far + ${now:-0})) runs of $runs done, $(find "$corpus" -type f | wc -l) inputs found"
    if ((status)); then
        tail -n 40 "$state/$target.log" >&2
        echo "fuzz: $target fails; the input is in $state/crashes" >&2
        exit 1
    fi
done
