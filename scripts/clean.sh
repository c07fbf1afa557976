#!/usr/bin/env bash
# Removes what was built. The Python environment, the images and a service's state stay.

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

cd "$root"
if is_running "$state_dir/agent.pid" muster-agent; then
    die "clean: a service is running on what would be removed; 'make down' first"
fi
cargo clean
rm -rf build
