#!/usr/bin/env bash
# What Muster is made of: licences, sources, duplicates and known holes of every crate and Python package.
#
#   scripts/deny.sh
#
# Its tools are installed into build/tools when they are missing. The databases of known holes are on the internet; where
# they cannot be reached the step says so and does not count as passed, nor as failed: `MUSTER_DENY=strict` makes it fail.

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

cd "$root"
failed=()
unknown=()

cargo_deny() {
    cargo_tool cargo-deny 0.20.2
    # Those who only check need no database, and no network.
    cargo deny --locked check bans licenses sources || failed+=("bans, licences or sources of crates")
    if ! cargo deny --locked fetch db >/dev/null 2>&1; then
        unknown+=("advisories about crates: the database (github.com/RustSec/advisory-db) cannot be reached from here")
    elif ! cargo deny --locked check --disable-fetch advisories; then
        failed+=("advisories about crates")
    fi
}

# The lock files are whole, so nothing is resolved, and nothing of what they name is installed.
pip_audit() {
    local lock said bad
    python_tool pip-audit scripts/pip-audit.txt
    for lock in scripts/pip-audit.txt sdk/python/dev-lock.txt tests/bench/requirements/*.txt tests/torture/schemathesis.txt; do
        bad=no
        said=$("$tools/pip-audit/bin/pip-audit" --requirement "$lock" --no-deps --disable-pip --progress-spinner off \
            --format json 2>"$tools/pip-audit.log") || bad=yes
        # Whether it ended well says nothing where the database gave no answer about any package.
        if ! grep -q '"vulns"' <<<"$said"; then
            unknown+=("advisories about $lock: the database (pypi.org) cannot be reached from here")
        elif [ $bad = yes ]; then
            say "$said"
            failed+=("advisories about $lock")
        fi
    done
}

"$root/scripts/setup.sh"
use_fresh_rust
cargo_deny
pip_audit

for what in "${unknown[@]}"; do say "deny: NOT CHECKED: $what"; done
[ "${MUSTER_DENY-}" != strict ] || failed+=("${unknown[@]}")
[ ${#failed[@]} = 0 ] || die "deny: refused:" "$(printf '\n  %s' "${failed[@]}")"
say "deny: all that could be checked is well"
