#!/usr/bin/env bash
# The Docker engine of this machine: started when none answers, and stopped again only when it was us who started it
# and nobody needs it any more.
#
#   scripts/engine.sh start             start it if none answers, and wait until it does
#   scripts/engine.sh hold NAME PID     NAME needs the engine for as long as process PID lives
#   scripts/engine.sh release NAME      NAME needs it no more; the last one stops the engine, if it is ours
#   scripts/engine.sh diagnose          say what is known about an engine that does not answer
#
# In $setup_dir: dockerd.pid and dockerd.log of an engine that we started, and a file with a PID for every holder.
# Where systemd (or the package itself) starts the engine it is the machine's own: it stays.

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

patience=60

start() {
    engine_answers && return
    # The package may have started one a moment ago (or somebody else is doing so).
    if is_running /var/run/docker.pid dockerd && wait_until "$patience" engine_answers; then return; fi
    may_be_root || die "docker: the engine is installed but not running, and starting it needs root:" \
        "run 'sudo systemctl start docker' (or 'sudo dockerd &'), then run this again"
    if [ -d /run/systemd/system ]; then
        say "docker: no engine answers; starting the docker service"
        as_root systemctl start docker
    else
        start_dockerd
    fi
    if ! wait_until "$patience" has_settled || ! engine_answers; then
        diagnose
        if is_running "$setup_dir/dockerd.pid" dockerd && ! is_held; then stop_dockerd; fi
        die "docker: the engine does not answer (see above)"
    fi
    say "docker: the engine answers"
}

# Without systemd: dockerd itself, in a session of its own and with no file of ours open, so that it outlives this script
# and its terminal, and a pipe that this script writes to ends with it.
start_dockerd() {
    say "docker: no engine answers, and this machine has no systemd; starting dockerd (log: $setup_dir/dockerd.log)"
    as_root mkdir -p -m 0755 "$setup_dir"
    as_root rm -f "$setup_dir/dockerd.pid"
    mount_cgroups
    forget_dead /var/run/docker.pid dockerd
    forget_dead /var/run/docker/containerd/containerd.pid containerd
    # As many open files as the distribution's own start script gives it, where that is allowed.
    # shellcheck disable=SC2016  # the inner shell expands it
    as_root setsid --fork bash -c 'echo "$$" >"$0/dockerd.pid"; exec >"$0/dockerd.log" 2>&1 </dev/null
        ulimit -n 1048576 || true
        PATH=$PATH:/usr/sbin:/sbin exec dockerd' \
        "$setup_dir" 8>&- 9>&-
}

# forget_dead PIDFILE NAME: removes the pid file of an engine that was killed. Its number may be another process's by now,
# and the engine would take that one for itself.
forget_dead() {
    if [ -e "$1" ] && ! is_running "$1" "$2"; then as_root rm -f "$1"; fi
}

# A machine that nobody booted with systemd may have no cgroups mounted: dockerd needs them.
mount_cgroups() {
    [ ! -e /sys/fs/cgroup/cgroup.controllers ] && [ ! -d /sys/fs/cgroup/memory ] || return 0
    if PATH=$PATH:/usr/sbin have cgroupfs-mount; then
        as_root cgroupfs-mount
    else
        as_root mount -t cgroup2 none /sys/fs/cgroup
    fi
}

# It answers, or the one started here has ended.
has_settled() {
    engine_answers && return
    [ -s "$setup_dir/dockerd.pid" ] && ! is_running "$setup_dir/dockerd.pid"
}

hold() {
    # An engine that is not ours needs no holders: we will not stop it.
    is_running "$setup_dir/dockerd.pid" dockerd || return 0
    as_root mkdir -p -m 0755 "$setup_dir/holders"
    printf '%s\n' "$2" | as_root tee "$setup_dir/holders/$1" >/dev/null
}

release() {
    [ ! -e "$setup_dir/holders/$1" ] || as_root rm -f "$setup_dir/holders/$1"
    is_running "$setup_dir/dockerd.pid" dockerd || return 0
    if is_held; then
        say "docker: the engine stays, it is still in use"
        return
    fi
    stop_dockerd
}

# Somebody who holds the engine is alive.
is_held() {
    local holder
    for holder in "$setup_dir"/holders/*; do
        if is_running "$holder"; then return; fi
    done
    return 1
}

has_stopped() { ! is_running "$setup_dir/dockerd.pid" dockerd; }

stop_dockerd() {
    say "docker: stopping the engine that was started here"
    as_root kill -TERM "$(cat "$setup_dir/dockerd.pid")" || true
    if wait_until 30 has_stopped; then
        as_root rm -f "$setup_dir/dockerd.pid"
    else
        say "docker: dockerd is still stopping after 30 s; its log is $setup_dir/dockerd.log"
    fi
}

diagnose() {
    if [ -e "$setup_dir/dockerd.log" ]; then
        say "--- the last lines of $setup_dir/dockerd.log"
        as_root tail -n 20 "$setup_dir/dockerd.log" >&2
        say "---"
    elif [ -d /run/systemd/system ]; then
        as_root journalctl --unit docker --lines 20 --no-pager >&2 || true
    fi
}

case ${1-}:$# in
    start:1 | diagnose:1) "$1" ;;
    hold:3) hold "$2" "$3" ;;
    release:2) release "$2" ;;
    *) die "usage: $0 start | hold NAME PID | release NAME | diagnose" ;;
esac
