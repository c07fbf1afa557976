#!/usr/bin/env bash
# Starts a gateway and an agent on this machine, in the background, and waits until the service is ready.
# A service that runs already is left as it is. Everything must be built (make demo and make up see to that).
#
#   scripts/up.sh
#
# In the state folder (MUSTER_STATE_DIR, else ~/.local/state/muster): service.json (where clients find the service),
# the agent's credential, and a pid file and a log for each of the two. Settings reach both by their variables
# (MUSTER_GATEWAY_..., MUSTER_AGENT_...). Without MUSTER_GATEWAY_LISTEN the usual port is used, or any where it is taken.

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

usual_port=8470
patience=60
# The machine's name, made to fit.
host_name=$(tr '[:upper:]' '[:lower:]' </proc/sys/kernel/hostname | tr -c 'a-z0-9\n' - | cut -c 1-63 | sed 's/^-*//; s/-*$//')
host_name=${MUSTER_AGENT_HOST_NAME:-${host_name:-host}}

port_is_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

listen_address() {
    if [ -n "${MUSTER_GATEWAY_LISTEN-}" ]; then
        echo "$MUSTER_GATEWAY_LISTEN"
    elif port_is_free "$usual_port"; then
        echo "127.0.0.1:$usual_port"
    else
        echo "127.0.0.1:0"
    fi
}

# daemon NAME RUN PROGRAM ARGUMENT...: in a session of its own, so that it outlives make and the terminal.
# RUN is who starts it: env for this user, as_root for root.
daemon() {
    local name=$1 run=$2
    shift 2
    rm -f "$state_dir/$name.pid"
    : >"$state_dir/$name.log"
    # shellcheck disable=SC2016  # the inner shell expands it
    "$run" setsid --fork bash -c 'echo "$$" >"$0.pid"; exec "$@" >>"$0.log" 2>&1 </dev/null' \
        "$state_dir/$name" "$@" 9>&-
}

start_gateway() {
    if is_running "$state_dir/gateway.pid" muster-gateway; then return; fi
    say "service: starting the gateway"
    daemon gateway env "$release_dir/muster-gateway" --listen "$(listen_address)" --state-dir "$state_dir"
    wait_until "$patience" has_settled gateway is_listening || give_up gateway
    is_listening || give_up gateway
}

start_agent() {
    if is_running "$state_dir/agent.pid" muster-agent; then return; fi
    say "service: starting the agent (as root: it works with cgroups, iptables and the engine)"
    # Good once, and for minutes; it replaces the credential where a gateway made the folder's tokens anew.
    (umask 077 && "$release_dir/muster-gateway" join-string create --state-dir "$state_dir" \
        --host "$host_name" >"$state_dir/join")
    daemon agent as_root "$release_dir/muster-agent" --join-file "$state_dir/join" --host-name "$host_name" \
        --identity-dir "$state_dir/agent" --uv "$venv/bin/uv" --runner-dir "$root/build/runner"
    wait_until "$patience" has_settled agent is_ready || give_up agent gateway
}

# The gateway keeps its file (and so its token) when it stops; when it listens it writes it anew.
is_listening() { [ "$state_dir/service.json" -nt "$state_dir/gateway.pid" ]; }

# has_settled NAME CONDITION: the condition holds, or the daemon has ended, which is an answer too.
has_settled() {
    "$2" && return
    [ -s "$state_dir/$1.pid" ] && ! is_running "$state_dir/$1.pid"
}

is_ready() { "$venv/bin/python" "$root/scripts/service.py" ready 2>"$state_dir/not-ready"; }

# give_up NAME...: shows what the daemons said last, and what to do. The first one is to blame.
give_up() {
    local name
    for name in "$@"; do
        say "--- the last lines of $state_dir/$name.log"
        tail -n 20 "$state_dir/$name.log" >&2
    done
    say "---"
    [ ! -s "$state_dir/not-ready" ] || cat "$state_dir/not-ready" >&2
    die "service: the $1 did not become ready (its log is above)." \
        "'make down' stops what is left of it, 'make up' tries again"
}

mkdir -p "$state_dir"
chmod 0700 "$state_dir"
exec 9>"$state_dir/up.lock"
flock 9

if is_running "$state_dir/gateway.pid" muster-gateway && is_ready; then
    say "service: it is running already"
    case $(readlink "/proc/$(cat "$state_dir/gateway.pid")/exe") in
        *' (deleted)') say "service: it is an older build; 'make down' and then 'make up' starts the new one" ;;
    esac
    exit
fi
start_gateway
start_agent
is_ready || give_up agent gateway
rm -f "$state_dir/not-ready"
"$root/scripts/engine.sh" hold "service-$(id -u)" "$(cat "$state_dir/gateway.pid")"
say "service: ready"
