# shellcheck shell=bash disable=SC2034  # the variables are for those who source this
# What every script here shares: where things are, how to talk to the user, and how to become root.
# Sourced, never run. Nothing happens when it is read.

set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
state_dir=${MUSTER_STATE_DIR:-$HOME/.local/state/muster}
setup_dir=${MUSTER_SETUP_DIR:-/run/muster-setup}
venv=$root/.venv
tools=$root/build/tools
release_dir=${CARGO_TARGET_DIR:-$root/target}/release

say() { printf '%s\n' "$*" >&2; }

die() {
    say "$@"
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# A fresh rustup is not on the PATH of the shell that installed it.
use_fresh_rust() {
    if ! have cargo && [ -x "$HOME/.cargo/bin/cargo" ]; then PATH=$HOME/.cargo/bin:$PATH; fi
}
use_fresh_rust

# Root already, sudo without a password, or sudo with somebody there to type it.
may_be_root() {
    [ "$(id -u)" = 0 ] && return
    have sudo && { sudo -n true 2>/dev/null || [ -t 0 ]; }
}

# Runs a command as root. Variables it may need are passed on explicitly: sudo clears the environment.
as_root() {
    local name kept=()
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif have sudo; then
        for name in PATH DOCKER_HOST CI "${!MUSTER_@}"; do
            # A secret has no place on a command line, where everybody on the machine can read it.
            case $name in *_TOKEN) continue ;; esac
            [ -z "${!name-}" ] || kept+=("$name=${!name}")
        done
        sudo env "${kept[@]}" "$@"
    else
        die "this step needs root: run it as root, or install sudo ($*)"
    fi
}

# wait_until SECONDS COMMAND...: asks again every 0.1 s until the command succeeds; fails at the deadline.
wait_until() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.1
    done
}

# The docker client, through sudo where only root may use the engine's socket.
dock() {
    if docker version >/dev/null 2>&1; then
        docker "$@"
    else
        as_root docker "$@"
    fi
}

engine_answers() {
    have docker || return 1
    docker version >/dev/null 2>&1 && return
    [ "$(id -u)" != 0 ] && have sudo && sudo -n env ${DOCKER_HOST:+"DOCKER_HOST=$DOCKER_HOST"} docker version >/dev/null 2>&1
}

# The name of a living process; a dead one that its parent has not collected yet (State: Z) is not living.
process_name() {
    awk '$1 == "Name:" { name = $2 } $1 == "State:" && $2 != "Z" { alive = 1 } END { if (alive) print name }' \
        "/proc/$1/status" 2>/dev/null || true
}

# is_running PIDFILE [NAME]: the process of that file lives, and still is the program of that name.
is_running() {
    local pid name
    pid=$(cat "$1" 2>/dev/null) && [ -n "$pid" ] || return 1
    name=$(process_name "$pid")
    [ -n "$name" ] && [ "${2-$name}" = "$name" ]
}

# cargo_tool NAME VERSION: this version of a command for cargo, in build/tools.
cargo_tool() {
    case $PATH in "$tools/bin:"*) ;; *) PATH=$tools/bin:$PATH ;; esac
    if ! grep -qs "^\"$1 $2 " "$tools/.crates.toml"; then
        say "tools: installing $1 $2 into build/tools (some minutes, once)"
        cargo install "$1" --version "$2" --locked --root "$tools" >&2
    fi
}

# python_tool NAME LOCK: an environment for a program in Python, build/tools/NAME, as the lock file has it.
python_tool() {
    local folder=$tools/$1
    if ! cmp -s "$2" "$folder/.muster"; then
        say "tools: installing $1 into build/tools"
        "$venv/bin/python" -m venv --clear "$folder"
        "$folder/bin/pip" install --quiet --disable-pip-version-check --requirement "$2" >&2
        cp "$2" "$folder/.muster"
    fi
}
