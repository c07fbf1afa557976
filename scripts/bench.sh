#!/usr/bin/env bash
# Runs the benchmarks against a gateway and an agent of their own.

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

cd "$root"
"$root/scripts/setup.sh"
use_fresh_rust
"$root/scripts/engine.sh" hold "bench-$$" $$
trap '"$root/scripts/engine.sh" release "bench-$$"' EXIT
"$root/scripts/images.sh" 3.11 3.13
"$root/scripts/build.sh"
as_root env PYTHONDONTWRITEBYTECODE=1 MUSTER_BIN_DIR="$release_dir" PYTHONPATH="$root/tests/bench" \
    "$venv/bin/python" -m muster_bench "$@"
