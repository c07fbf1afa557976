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

# Folders of Python that exist; not all do at all times.
python_folders() { find sdk/python/src sdk/python/tests tests examples scripts images -maxdepth 0 2>/dev/null || true; }

"$root/scripts/setup.sh"
use_fresh_rust
mapfile -t folders < <(python_folders)
ruff=("$venv/bin/ruff")

if [ "${1-}" = --fix ]; then
    cargo fmt --all
    cargo clippy --workspace --all-targets --locked --fix --allow-dirty --allow-staged
    "${ruff[@]}" check --config sdk/python/pyproject.toml --fix "${folders[@]}"
    "${ruff[@]}" format --config sdk/python/pyproject.toml "${folders[@]}"
    exit
fi

check cargo fmt --all --check
check cargo clippy --workspace --all-targets --locked -- -D warnings
check "${ruff[@]}" check --config sdk/python/pyproject.toml "${folders[@]}"
check "${ruff[@]}" format --config sdk/python/pyproject.toml --check "${folders[@]}"
check env --chdir=sdk/python "$venv/bin/mypy"
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
