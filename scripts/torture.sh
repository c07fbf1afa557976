#!/usr/bin/env bash
# Breaks things for long, at random moments from a printed seed, and checks what the users get.
#
#   scripts/torture.sh [SUITE]...        all suites without an argument; `scripts/torture.sh list` names them
#
# MUSTER_SEED fixes the moments. MUSTER_SCENARIOS (5000) and MUSTER_ROUNDS (20) say how much. A suite is a function
# `suite_NAME` below. Every suite runs even when one before it failed.

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

cd "$root"

# The real gateway and agents on a simulated network and simulated time.
suite_simulation() {
    MUSTER_SCENARIOS=${MUSTER_SCENARIOS:-5000} \
        cargo test --release --locked -p muster-fleet --test simulation -- --nocapture
}

# Agents, containers, runners and networks that fail, on real Docker.
suite_processes() {
    "$root/scripts/images.sh" 3.11
    "$root/scripts/build.sh"
    as_root env PYTHONDONTWRITEBYTECODE=1 MUSTER_BIN_DIR="${MUSTER_BIN_DIR:-$release_dir}" \
        MUSTER_SEED="${MUSTER_SEED:-}" MUSTER_ROUNDS="${MUSTER_ROUNDS:-20}" \
        "$venv/bin/python" -m pytest -p no:cacheprovider tests/torture
}

suites() { declare -F | sed -n 's/^declare -f suite_//p'; }

if [ "${1-}" = list ]; then
    suites
    exit
fi
"$root/scripts/setup.sh"
use_fresh_rust
"$root/scripts/engine.sh" hold "torture-$$" $$
trap '"$root/scripts/engine.sh" release "torture-$$" || true' EXIT
failed=()
# shellcheck disable=SC2046  # names without spaces
[ $# != 0 ] || set -- $(suites)
for name in "$@"; do
    declare -F "suite_$name" >/dev/null || die "there is no suite $name; there are: $(suites | xargs)"
    say "=== $name"
    # In a shell of its own, which ends at the first command that fails.
    (set -e; "suite_$name") || failed+=("$name")
done
[ ${#failed[@]} = 0 ] || die "failed: ${failed[*]}"
