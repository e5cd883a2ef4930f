#!/usr/bin/env bash
# compile and profile the models BASE and HEAD in a temporary folder and hold HEAD to budget.toml: gate.sh BASE HEAD
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for name in base head; do
    model=$1; shift
    hashpress compile "$model" -o "$work/$name.bundle"
    hashpress profile "$work/$name.bundle" --repeats 20 --seconds 1 -o "$work/$name.json" > /dev/null
done
hashpress check "$work/head.json" --budget "$here/budget.toml" --baseline "$work/base.json" --why
