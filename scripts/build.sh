#!/usr/bin/env bash
# Builds everything in release, and assembles build/runner: the folder an agent mounts read-only into every container.
#
#   build/runner/bin/muster-runner      fully static, so that it runs in any image
#   build/runner/python/muster/         the SDK, for the runner's Python half
#   build/runner/python/cloudpickle/    the same version as the SDK's own; and packaging
#
# build/runner is a link to a folder named after its contents. A new build turns the link in one step and leaves the
# folders before it in place, for the agents and containers that still have them mounted.

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

cd "$root"

host_triple() { rustc -vV | sed -n 's/^host: //p'; }

is_static() { ldd "$1" 2>&1 | grep -qE 'statically linked|not a dynamic executable|Not a valid dynamic program'; }

build_daemons() { cargo build --release --locked -p muster-gateway -p muster-agent; }

# --target keeps the flag away from build scripts, and this build away from the one above.
build_runner() {
    RUSTFLAGS="${RUSTFLAGS-} -C target-feature=+crt-static" \
        cargo build --release --locked -p muster-runner --target "$1"
}

# Byte code beside the sources, since containers cannot write it; by content, since a mount's times mean nothing.
byte_code='import compileall, py_compile, sys
mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
sys.exit(not compileall.compile_dir(sys.argv[1], ddir="/python", quiet=1, force=True, invalidation_mode=mode))'

# For the Python here and for the ones in the default images that are there (no engine: the others start slower).
compile_python() {
    local image
    "$venv/bin/python" -c "$byte_code" "$1"
    engine_answers || return 0
    for image in $(dock image ls --format '{{.Repository}}:{{.Tag}}' muster/python); do
        dock run --rm --network none --user "$(id -u):$(id -g)" --volume "$1:/python" "$image" \
            python3 -c "$byte_code" /python
    done
}

assemble() {
    local new=$1 runner=$2 needed
    # What the SDK needs, folder by folder.
    mapfile -t needed < <("$venv/bin/python" -c \
        'import cloudpickle, packaging; print(cloudpickle.__path__[0], packaging.__path__[0], sep="\n")')
    [ "${#needed[@]}" = 2 ] || die "build: the Python environment lacks what the SDK needs: run 'make setup'"
    mkdir -p "$new/bin" "$new/python"
    cp "$runner" "$new/bin/muster-runner"
    cp -R "$root/sdk/python/src/muster" "${needed[@]}" "$new/python/"
    find "$new/python" -name __pycache__ -prune -exec rm -rf {} +
    compile_python "$new/python"
    # Containers run as users of their own.
    chmod -R u=rwX,go=rX "$new"
}

contents_of() { (cd "$1" && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -c1-12); }

# Turns build/runner to the new folder.
publish() {
    local new=$1 name
    name=runner-$(contents_of "$new")
    if [ "$(readlink "$root/build/runner")" = "$name" ] && [ -d "$root/build/$name" ]; then
        say "build: build/runner is up to date"
        return
    fi
    [ -d "$root/build/$name" ] || mv "$new" "$root/build/$name"
    touch "$root/build/$name"
    ln -sfn "$name" "$root/build/runner.new"
    mv -T "$root/build/runner.new" "$root/build/runner"
    remove_old_folders
    say "build: build/runner is new"
}

# Those of the last builds stay: a few megabytes each.
remove_old_folders() {
    # shellcheck disable=SC2012  # the names are ours and plain
    ls -dt "$root"/build/runner-* | tail -n +9 | xargs -r rm -rf
}

mkdir -p "$root/build"
exec 9>"$root/build/build.lock"
flock 9

triple=$(host_triple)
say "build: gateway and agent"
build_daemons
say "build: the static runner"
build_runner "$triple"
runner=${release_dir%/release}/$triple/release/muster-runner
is_static "$runner" || die "build: $runner is not static; it would not run in every image." \
    "On $triple the C library's static half is needed (libc6-dev on Debian, glibc-static on Fedora)"

work=$(mktemp -d "$root/build/new.XXXXXX")
trap 'rm -rf "$work"' EXIT
assemble "$work/runner" "$runner"
publish "$work/runner"
