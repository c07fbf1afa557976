#!/usr/bin/env bash
# Formats Rust and Python.

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

cd "$root"
cargo fmt --all
"$venv/bin/ruff" format --config sdk/python/pyproject.toml .
