#!/usr/bin/env bash
# Installs what this machine lacks to build, run and test Muster, and nothing else. Quick when all is there.
#
#   scripts/setup.sh
#   scripts/setup.sh attack      the public tools that `scripts/torture.sh attack` turns against the gateway, as well
#   scripts/setup.sh clocks      what `scripts/torture.sh clocks` gives daemons another clock with, as well
#
# In order: distribution packages, Rust, the Python environment (.venv), the Docker engine.
# With MUSTER_SETUP=check nothing is installed: what is missing is named, and the exit code is 1.

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

apt_updated=no
rust_minimum=1.89

# install WHY PACKAGE...: asks the distribution for the packages, or says which ones to install by hand.
install() {
    local why=$1
    shift
    if ! have apt-get; then
        die "$why: please install $* (or what your distribution calls them), then run this again"
    elif ! may_be_root; then
        die "$why: please run 'sudo apt-get install $*', then run this again"
    elif [ "${MUSTER_SETUP-}" = check ]; then
        die "$why: would install $*"
    fi
    say "$why: installing $*"
    apt_update_once
    apt_get install --yes --no-install-recommends "$@"
}

apt_update_once() {
    [ "$apt_updated" = no ] || return 0
    apt_get update
    apt_updated=yes
}

# apt-get that never asks, waits for another apt, and shows its output only when it fails.
apt_get() {
    local log
    log=$(mktemp)
    if ! as_root env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 \
        apt-get -o DPkg::Lock::Timeout=300 "$@" >"$log" 2>&1 </dev/null; then
        tail -n 30 "$log" >&2
        die "packages: 'apt-get $*' failed (see above)"
    fi
    rm -f "$log"
}

# Programs and the packages that bring them.
packages() {
    local missing=()
    have cc || missing+=(gcc libc6-dev)
    have make || missing+=(make)
    have curl || missing+=(curl)
    have ip || missing+=(iproute2)
    have_sbin iptables || missing+=(iptables)
    have flock || missing+=(util-linux)
    [ -e /etc/ssl/certs/ca-certificates.crt ] || have update-ca-trust || missing+=(ca-certificates)
    have mmdebstrap || have_sbin debootstrap || missing+=(mmdebstrap)
    [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || missing+=(debian-archive-keyring)
    [ ${#missing[@]} = 0 ] || install "packages" "${missing[@]}"
}

# Programs for root are often not on a user's PATH.
have_sbin() { have "$1" || [ -x "/usr/sbin/$1" ] || [ -x "/sbin/$1" ]; }

rust_is_new_enough() {
    have cargo || return 1
    local found
    found=$(cd "$root" && cargo --version | cut -d' ' -f2)
    [ "$(printf '%s\n' "$rust_minimum" "$found" | sort -V | head -n 1)" = "$rust_minimum" ]
}

rust_from_distribution() {
    have apt-cache && may_be_root || return 1
    local version
    apt_update_once
    version=$(apt-cache policy cargo | awk '$1 == "Candidate:" { print $2 }')
    [ -n "$version" ] && dpkg --compare-versions "$version" ge "$rust_minimum" && install "rust" cargo rustc rustfmt rust-clippy
}

rust_by_rustup() {
    if [ "${MUSTER_SETUP-}" = check ]; then die "rust: would run the official installer, rustup"; fi
    say "rust: installing the toolchain for this user with the official installer, rustup"
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal -c clippy -c rustfmt >&2
}

rust() {
    rust_is_new_enough && return
    if have rustup; then
        say "rust: bringing the toolchain to $rust_minimum or newer with rustup"
        rustup update stable >&2 || true
        rust_is_new_enough && return
    fi
    rust_from_distribution || rust_by_rustup || true
    use_fresh_rust
    rust_is_new_enough || die "rust: cargo $rust_minimum or newer is needed and could not be installed." \
        "Install it from https://rustup.rs (or your distribution's rustup: 'rustup toolchain install stable')," \
        "make sure that 'cargo --version' answers, then run this again"
}

# A Python that the SDK supports, newest of those first that the default images are built for.
python_for_venv() {
    local python
    for python in python3 python3.11 python3.13 python3.12 python3.10 python3.9; do
        have "$python" || continue
        "$python" -c 'import sys; sys.exit(not (3, 9) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || continue
        command -v "$python"
        return
    done
    return 1
}

make_venv() {
    local python
    if ! python=$(python_for_venv); then
        install "python" python3 python3-venv
        python=$(python_for_venv) || die "python: the SDK runs on Python 3.9 to 3.13, and this machine has" \
            "$(python3 --version); please install one of those (with its venv module), then run this again"
    fi
    # Debian and Ubuntu pack venv's inner parts separately, under the name of the version.
    if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
        install "python" "$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
    fi
    say "python: making .venv with $("$python" --version)"
    "$python" -m venv --clear "$venv"
}

venv_is_current() {
    "$venv/bin/python" -c '' 2>/dev/null && [ "$(cat "$venv/.muster" 2>/dev/null)" = "$1" ]
}

python_environment() {
    local wanted lock=()
    wanted=$(cat "$root/sdk/python/pyproject.toml" "$root/sdk/python/dev-lock.txt" | sha256sum)
    mkdir -p "$root/build"
    exec 8>"$root/build/venv.lock"
    flock 8
    if ! venv_is_current "$wanted"; then
        if [ "${MUSTER_SETUP-}" = check ]; then die "python: would make .venv and install the SDK in it"; fi
        "$venv/bin/python" -m pip --version >/dev/null 2>&1 || make_venv
        # Older Pythons cannot run all versions that the lock names.
        if "$venv/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then lock=(--constraint sdk/python/dev-lock.txt); fi
        say "python: installing the SDK and its tools into .venv"
        (cd "$root" && "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "${lock[@]}" -e 'sdk/python[dev]' >&2)
        printf '%s\n' "$wanted" >"$venv/.muster"
    fi
    exec 8>&-
}

docker_engine() {
    engine_answers && return
    [ -z "${DOCKER_HOST-}" ] || die "docker: DOCKER_HOST is $DOCKER_HOST, and no engine answers there." \
        "Start that engine, or unset DOCKER_HOST to use this machine's own, then run this again"
    # Without its parser, an engine on a kernel with AppArmor cannot start a container.
    if [ "$(cat /sys/module/apparmor/parameters/enabled 2>/dev/null)" = Y ] && ! have_sbin apparmor_parser; then
        install "docker: this kernel uses AppArmor" apparmor
    fi
    if ! have_sbin dockerd; then install "docker: no engine answers" docker.io; fi
    # Debian 13 packs the client separately; an engine from elsewhere may come without one.
    if ! have docker; then install "docker: there is no client" docker-cli; fi
    if [ "${MUSTER_SETUP-}" = check ]; then die "docker: would start the engine"; fi
    "$root/scripts/engine.sh" start
}

# What tests/torture/test_attack.py runs.
attack_tools() {
    local missing=() pinned=$root/tests/torture/schemathesis.txt
    have slowhttptest || missing+=(slowhttptest)
    have h2load || missing+=(nghttp2-client)
    have wrk || missing+=(wrk)
    [ ${#missing[@]} = 0 ] || install "attack" "${missing[@]}"
    if [ "${MUSTER_SETUP-}" = check ] && ! cmp -s "$pinned" "$tools/schemathesis/.muster"; then
        die "attack: would install schemathesis into build/tools"
    fi
    python_tool schemathesis "$pinned"
}

# What tests/torture/test_clocks.py runs daemons with.
clock_tools() {
    compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' >/dev/null || install "clocks" libfaketime
}

case ${1-} in
    '' | attack | clocks) ;;
    *) die "usage: $0 [attack|clocks]" ;;
esac
packages
rust
python_environment
docker_engine
if [ "${1-}" = attack ]; then attack_tools; fi
if [ "${1-}" = clocks ]; then clock_tools; fi
