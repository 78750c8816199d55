#!/bin/sh
# fuzz.sh PROGRAM SECONDS TARGET [FLAG...] - run one fuzz target, or every one when TARGET is empty,
# each for so many seconds, beginning with its seeds, the checked-in corpus, and what earlier runs
# kept.  Prints executions and coverage of each; fails when one of them found something.
set -eu

program=$1
seconds=$2
target=$3
shift 3
work=$(dirname "$program")
failed=

fuzz() {
    name=$1
    shift
    corpus=$work/corpus/$name
    found=$work/found/$name
    log=$work/$name.log
    rm -rf "$work/seeds/$name"
    mkdir -p "$corpus" "$found" "$work/seeds/$name"
    checked_in=csrc/tests/fuzz/corpus/$name
    [ -d "$checked_in" ] || checked_in=
    if "$program" --target="$name" --seeds="$work/seeds/$name" 2>"$log" &&
        "$program" --target="$name" -max_total_time="$seconds" -print_final_stats=1 -timeout=20 \
        -rss_limit_mb=4096 -max_len=65536 -artifact_prefix="$found/" "$@" \
        "$corpus" "$work/seeds/$name" $checked_in 2>"$log"; then
        outcome=fine
    else
        outcome="FAILED, see $log and $found"
        failed="$failed $name"
    fi
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    coverage=$(sed -n 's/.* cov: \([0-9]*\) ft: \([0-9]*\) .*/\1 places, \2 features/p' "$log" | tail -1)
    echo "$name: ${executions:-?} executions, ${coverage:-no coverage}: $outcome"
}

for name in ${target:-$("$program" --targets)}; do
    fuzz "$name" "$@"
done
[ -z "$failed" ]
