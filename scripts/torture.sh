#!/usr/bin/env bash
# Breaks things for long, at random moments from a printed seed, and checks what the users get.
#
#   scripts/torture.sh [SUITE]...        all suites without an argument; `scripts/torture.sh list` names them
#
# MUSTER_SEED fixes the moments. MUSTER_SCENARIOS (5000), MUSTER_ROUNDS (20), MUSTER_ATTACK_SECONDS (60 for each tool) and
# MUSTER_LOAD_SECONDS (120) and MUSTER_FUZZ_SECONDS (30 for each target) say how much. A suite is a function `suite_NAME` below. Every suite runs even when one before it failed.

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

cd "$root"

# The real gateway and agents on a simulated network and simulated time.
suite_simulation() {
    MUSTER_SCENARIOS=${MUSTER_SCENARIOS:-5000} \
        cargo test --release --locked -p muster-fleet --test simulation -- --nocapture
}

# Gateways, clients, agents, containers, runners and networks that fail, on real Docker.
suite_processes() {
    on_docker tests/torture/test_processes.py tests/torture/test_partitions.py \
        tests/torture/test_gateway_and_clients.py tests/torture/test_networks.py
}

# A container engine that is killed, stopped or restarted, with and without live-restore: one that is started for it.
suite_engine() {
    on_docker -s tests/torture/test_engine.py
}

# Items that are very large.
suite_items() {
    on_docker -s tests/torture/test_large_items.py
}

# Disks that are full, or give back something else than they were given.
suite_disks() {
    on_docker tests/torture/test_full_disks.py tests/torture/test_flipped_bits.py
}

# Clocks that jump by a day.
suite_clocks() {
    "$root/scripts/setup.sh" clocks
    on_docker tests/torture/test_clocks.py
}

# How users and calls share hosts, printed.
suite_share() {
    on_docker -s tests/torture/test_fair_share.py
}

# Public tools against the gateway: malformed and slow requests, and more of them than it can answer.
suite_attack() {
    "$root/scripts/setup.sh" attack
    on_docker tests/torture/test_attack.py
}

# Thousands of streams, idle connections and slow readers: what they cost, printed.
suite_load() {
    "$root/scripts/setup.sh" attack
    on_docker -s tests/torture/test_load.py
}

# What strangers send, changed at random along the ways it takes through the code. What is found is left in build/fuzz.
suite_fuzz() {
    local target
    cargo_tool cargo-fuzz 0.13.2
    for target in $(cargo fuzz list --fuzz-dir tests/fuzz); do
        say "--- $target"
        mkdir -p "build/fuzz/$target"
        # Without a sanitizer the stable compiler will do: there is no unsafe code in what these reach.
        cargo fuzz run --fuzz-dir tests/fuzz --target-dir target/fuzz --features libfuzzer -s none "$target" \
            "build/fuzz/$target" "tests/fuzz/corpus/$target" -- \
            -max_total_time="${MUSTER_FUZZ_SECONDS:-30}" -artifact_prefix="build/fuzz/$target-" -print_final_stats=1
    done
}

# on_docker ARGUMENT...: pytest with the built daemons.
on_docker() {
    "$root/scripts/images.sh" 3.11
    "$root/scripts/build.sh"
    as_root env PYTHONDONTWRITEBYTECODE=1 MUSTER_BIN_DIR="${MUSTER_BIN_DIR:-$release_dir}" \
        MUSTER_SEED="${MUSTER_SEED:-}" MUSTER_ROUNDS="${MUSTER_ROUNDS:-20}" \
        MUSTER_ATTACK_SECONDS="${MUSTER_ATTACK_SECONDS:-}" MUSTER_LOAD_SECONDS="${MUSTER_LOAD_SECONDS:-}" \
        MUSTER_LOAD_SHARE="${MUSTER_LOAD_SHARE:-}" \
        "$venv/bin/python" -m pytest -p no:cacheprovider "$@"
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
