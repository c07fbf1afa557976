#!/usr/bin/env bash
# Stops the service that `make demo` or `make up` started, and the Docker engine if it was started for that.
#
#   scripts/down.sh

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

patience=45

is_gone() { ! is_running "$1" "$2"; }

# stop NAME PROGRAM RUN: asks it to stop, waits, and only then insists. RUN is what may signal it.
stop() {
    local pid_file=$state_dir/$1.pid
    if is_running "$pid_file" "$2"; then
        say "service: stopping the $1"
        "${@:3}" kill -TERM "$(cat "$pid_file")" || true
        if ! wait_until "$patience" is_gone "$pid_file" "$2"; then
            say "service: the $1 did not stop within $patience s and is killed (log: $state_dir/$1.log)"
            "${@:3}" kill -KILL "$(cat "$pid_file")" || true
        fi
        stopped=yes
    fi
    rm -f "$pid_file"
}

stopped=no
if [ -d "$state_dir" ]; then
    # The agent first: it tells the gateway, ends its workers and removes their containers.
    stop agent muster-agent as_root
    stop gateway muster-gateway env
    rm -f "$state_dir/not-ready"
fi
[ "$stopped" = yes ] || say "service: it was not running"
"$root/scripts/engine.sh" release "service-$(id -u)"
