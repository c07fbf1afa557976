#!/usr/bin/env bash
# Runs the tests, and leaves the machine as it found it. Without an argument all of them, after all set-up.
#
#   scripts/test.sh [rust|python|e2e|e2e-smoke]...
#
# Every suite runs even when one before it failed; each runner's own closing lines are repeated at the end, and the
# exit code says whether all passed. Logs stay in build/test-logs.

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

cd "$root"
logs=$root/build/test-logs
failed=()
ran=()

# suite NAME COMMAND...: runs it, keeps what it prints, and remembers how it ended.
suite() {
    local name=$1 started=$SECONDS
    shift
    say ""
    say "=== $name"
    ran+=("$name")
    "$@" 2>&1 </dev/null | tee "$logs/$name.log" || failed+=("$name")
    say "=== $name: $((SECONDS - started)) s"
}

was_failed() { [[ " ${failed[*]-} " == *" $1 "* ]]; }

# A runner that stops making progress must not hold up the rest: the limit is far above what a suite takes.
limited() { timeout --kill-after=30 "${MUSTER_SUITE_SECONDS:-1500}" "$@"; }

# Some of these tests use the engine and cgroups: they need what containers need, and to be root.
rust_tests() {
    prepare_containers
    if [ "$(id -u)" != 0 ]; then
        local triple
        triple=$(rustc -vV | sed -n 's/^host: //p' | tr a-z- A-Z_)
        export "CARGO_TARGET_${triple}_RUNNER=sudo --preserve-env"
    fi
    # Without optimisation: the many test programs, and the libraries as these want them, take longer to compile than
    # to run.
    local chosen=(--workspace --locked --no-fail-fast)
    if cargo nextest --version >/dev/null 2>&1; then
        suite rust limited cargo nextest run "${chosen[@]}"
    else
        suite rust limited cargo test "${chosen[@]}"
    fi
}

python_tests() {
    suite python limited "$venv/bin/python" -m pytest sdk/python
    suite bench-harness limited "$venv/bin/python" -m pytest tests/bench/tests
}

# The tests start agents, so they are root. Root leaves no caches in a user's tree.
e2e_tests() {
    local name=$1
    shift
    prepare_containers
    if was_failed build; then
        say "=== $name: cannot run, since the build failed"
        failed+=("$name")
        return
    fi
    suite "$name" as_root env PYTHONDONTWRITEBYTECODE=1 MUSTER_BIN_DIR="$release_dir" \
        timeout --kill-after=60 "${MUSTER_SUITE_SECONDS:-1500}" \
        "$venv/bin/python" -m pytest -p no:cacheprovider "$@"
}

prepare() {
    "$root/scripts/setup.sh"
    use_fresh_rust
    "$root/scripts/engine.sh" hold "test-$$" $$
    trap finish EXIT
}

# What real containers need; once. The images before the build: the build prepares the runner's Python for the images
# that are there.
prepare_containers() {
    [ -z "$prepared" ] || return 0
    prepared=yes
    suite build make_ready
}

make_ready() { "$root/scripts/images.sh" 3.11 3.13 && "$root/scripts/build.sh"; }

# Whatever happened, what was started here is stopped, and the exit code is the tests'.
finish() {
    local status=$?
    trap - EXIT
    "$root/scripts/engine.sh" release "test-$$" || true
    exit "$status"
}

# The closing lines of a runner: nextest's Summary, cargo's and pytest's results.
closing_lines() {
    grep -E '^ *Summary \[|^test result:|^=+ .*(passed|failed|error|no tests ran).* =+$|^[0-9]+ (passed|failed)' "$1" ||
        echo "no closing line: it did not get that far (see $1)"
}

summarise() {
    local name
    echo
    echo "=== what the test runners said"
    for name in "${ran[@]}"; do
        [ "$name" != build ] || continue
        echo "--- $name"
        closing_lines "$logs/$name.log"
    done
    echo
    [ ${#failed[@]} = 0 ] || die "failed: ${failed[*]} (logs in build/test-logs)"
}

prepared=
mkdir -p "$logs"
prepare
[ $# != 0 ] || set -- rust python e2e
for chosen in "$@"; do
    case $chosen in
        rust) rust_tests ;;
        python) python_tests ;;
        e2e)
            e2e_tests e2e tests/e2e
            # Each fault once; those that take minutes are for `make torture`.
            e2e_tests torture-sample tests/torture -m "not long"
            ;;
        e2e-smoke) e2e_tests e2e-smoke tests/e2e -m smoke ;;
        *) die "usage: $0 [rust|python|e2e|e2e-smoke]..." ;;
    esac
done
summarise
