#!/usr/bin/env bash
# Runs the examples against the service that `make demo` left running, and says at the end how each went.
#
#   scripts/examples.sh [--small] [NAME]...      all of them without a name
#
# Every example runs even when one before it failed.

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

cd "$root"

[ -x "$venv/bin/python" ] || die "there is no Python environment yet: run 'make demo' first"
"$venv/bin/python" scripts/service.py ready || die "run 'make demo' first: the examples run on the service it leaves"

requirements_are_met() {
    "$venv/bin/python" - <<'EOF'
import sys
from importlib import metadata

try:
    for line in open("examples/requirements.txt"):
        name, _, version = line.partition("#")[0].strip().partition("==")
        if name and metadata.version(name) != version:
            sys.exit(1)
except metadata.PackageNotFoundError:
    sys.exit(1)
EOF
}

if ! requirements_are_met; then
    say "examples: installing what they import into .venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r examples/requirements.txt
fi

small=()
if [ "${1-}" = --small ]; then
    small=(--small)
    shift
fi
# What `make demo` runs, and what the others share, are none.
# shellcheck disable=SC2046  # names without spaces
[ $# != 0 ] || set -- $(cd examples && printf '%s\n' *.py | sed 's/\.py$//' | grep -vx -e demo -e beside_serial)

log=$(mktemp)
trap 'rm -f "$log"' EXIT
summary=()
code=0
for name in "$@"; do
    [ -f "examples/$name.py" ] || die "there is no example $name; there are: $(cd examples && echo *.py)"
    printf '\n=== %s\n' "$name"
    if "$venv/bin/python" "examples/$name.py" ${small[@]+"${small[@]}"} | tee "$log"; then
        summary+=("$(printf '%-20s %s' "$name" "$(tail -n 1 "$log")")")
    else
        summary+=("$(printf '%-20s FAILED, see above' "$name")")
        code=1
    fi
done
printf '\n=== summary\n'
printf '%s\n' "${summary[@]}"
exit "$code"
