#!/usr/bin/env bash
# Measures Muster beside its peers, against a gateway and an agent of the benchmark's own.
#
#   scripts/bench.sh [--quick] [--rounds N] [--systems A,B] [--workloads A,B] [--no-page] [--add FILE] [--render FILE]
#
# The results are in build/bench/; a full run also writes the tables and plots of docs/performance.md.
# Nothing here fails because something is slow.

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

cd "$root"
bench=(env PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="$root/tests/bench" MUSTER_BIN_DIR="$release_dir"
    "$venv/bin/python" -m muster_bench "$@")

"$root/scripts/setup.sh"
case " $* " in
    *" --render "* | *" --help "*)
        "${bench[@]}"
        exit
        ;;
esac
use_fresh_rust
"$root/scripts/engine.sh" hold "bench-$$" $$
trap '"$root/scripts/engine.sh" release "bench-$$"' EXIT
# The image of the Python that runs the client, before the build: the build prepares the runner for the images there are.
"$root/scripts/images.sh" "$("$venv/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
"$root/scripts/build.sh"
# Simulated hosts, for the workloads that need many.
cargo build --release --locked -p muster-fleet
# An agent is root, and so is who starts it.
as_root "${bench[@]}"
