#!/usr/bin/env bash
# The whole of Muster on this machine: set up what is missing, build, start the service, run a real job, leave the
# service running. Run it again and only the job runs again.
#
#   scripts/demo.sh [--no-job]

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

"$root/scripts/setup.sh"
use_fresh_rust
# Until the service itself needs the engine, this script does.
"$root/scripts/engine.sh" hold "demo-$$" $$
trap '"$root/scripts/engine.sh" release "demo-$$"' EXIT

# The image before the build: the build prepares the runner's Python for the images that are there.
"$root/scripts/images.sh" "$("$venv/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
"$root/scripts/build.sh"
"$root/scripts/up.sh"
[ "${1-}" = --no-job ] || "$venv/bin/python" "$root/examples/demo.py"
"$venv/bin/python" "$root/scripts/service.py" show
