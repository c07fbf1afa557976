#!/usr/bin/env bash
# Everything a change must pass: formats, lints, types, then all tests. Every check runs even when one before it failed.
#
#   scripts/check.sh [--fix]      --fix repairs formats and lints instead, and tests nothing

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

cd "$root"
failed=()

check() {
    say "check: $*"
    "$@" || failed+=("$*")
}

# The SDK by its own settings, and all other Python by the same ones (whose patterns are relative to the SDK).
ruff() {
    "$venv/bin/ruff" "$@" sdk/python && "$venv/bin/ruff" "$@" --config sdk/python/pyproject.toml tests examples scripts images
}

"$root/scripts/setup.sh"
use_fresh_rust

if [ "${1-}" = --fix ]; then
    cargo fmt --all
    cargo clippy --workspace --all-targets --locked --fix --allow-dirty --allow-staged
    ruff check --fix
    ruff format
    exit
fi

check cargo fmt --all --check
check cargo clippy --workspace --all-targets --locked -- -D warnings
check ruff check
check ruff format --check
check env --chdir=sdk/python "$venv/bin/mypy"
check "$venv/bin/mypy" --config-file tests/bench/mypy.ini
if have shellcheck; then
    check shellcheck --external-sources scripts/*.sh images/*.sh .ci/run
else
    say "check: shellcheck is not installed; the scripts are not checked"
fi
check "$root/scripts/test.sh"

if [ ${#failed[@]} != 0 ]; then
    say "check: failed:"
    printf '  %s\n' "${failed[@]}" >&2
    exit 1
fi
say "check: all is well"
