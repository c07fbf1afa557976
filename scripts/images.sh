#!/usr/bin/env bash
# Builds the default images muster/python:VERSION that are missing or whose recipe has changed.
#
#   scripts/images.sh [--rebuild] [VERSION...]      default: 3.11 3.13
#
# 3.11 and 3.13 are built from Debian packages (images/debian.sh); any other version needs an image registry
# (images/Dockerfile). An image is checked from the inside before it gets its name.

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

recipe_of() {
    case $1 in
        3.11 | 3.13)
            cat "$root"/images/{debian.sh,slim.sh,check.py}
            declare -f from_debian
            ;;
        *) cat "$root/images/Dockerfile" ;;
    esac | sha256sum | cut -c1-16
}

label_of() { dock image inspect --format "{{index .Config.Labels \"$2\"}}" "$1" 2>/dev/null || true; }

size_of() { dock image inspect --format '{{.Size}}' "$1" | awk '{ printf "%.0f MB", $1 / 1e6 }'; }

# Prints the id of the new image, which has no name yet.
from_debian() {
    as_root "$root/images/debian.sh" "$1" | dock import \
        --change 'ENV LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
        --change 'CMD ["python3"]' --change "LABEL muster.python=$1 muster.recipe=$2" -
}

from_registry() {
    dock build --quiet --build-arg "VERSION=$1" --label "muster.recipe=$2" "$root/images" && return
    say "images: python:$1-slim could not be had. Without an image registry, use a Python this machine can build an" \
        "image for: install Python 3.11 or 3.13, remove .venv, and run the same command again" \
        "(or build muster/python:$1 elsewhere, and 'docker save' and 'docker load' it)."
    return 1
}

build() {
    local version=$1 recipe=$2 id old tag=muster/python:$1 started=$SECONDS
    case $version in
        3.11 | 3.13)
            say "images: building $tag from Debian packages (about a minute)"
            # What is imported before the recipe fails has an id all the same, and is of no use.
            id=$(from_debian "$version" "$recipe") || {
                [ -z "$id" ] || dock image rm "$id" >/dev/null 2>&1
                die "images: the recipe of $tag failed (see above)"
            }
            ;;
        *)
            say "images: building $tag from python:$version-slim"
            id=$(from_registry "$version" "$recipe")
            ;;
    esac
    if ! dock run --rm --interactive --network none --read-only "$id" python3 - "$version" <"$root/images/check.py"; then
        dock image rm "$id" >/dev/null 2>&1 || true
        die "images: the new $tag is not fit for use (see above); the one before stays"
    fi
    old=$(dock image inspect --format '{{.Id}}' "$tag" 2>/dev/null || true)
    dock tag "$id" "$tag"
    # What held the name before goes when no container uses it any more.
    [ -z "$old" ] || [ "$old" = "$id" ] || dock image rm "$old" >/dev/null 2>&1 || true
    say "images: $tag is ready ($(size_of "$tag"), $((SECONDS - started)) s)"
}

ensure() {
    local recipe
    recipe=$(recipe_of "$1")
    if [ "$rebuild" = no ] && [ "$(label_of "muster/python:$1" muster.recipe)" = "$recipe" ]; then
        say "images: muster/python:$1 is up to date ($(size_of "muster/python:$1"))"
    else
        build "$1" "$recipe"
    fi
}

rebuild=no
if [ "${1-}" = --rebuild ]; then
    rebuild=yes
    shift
fi
[ $# -gt 0 ] || set -- 3.11 3.13
engine_answers || die "images: no Docker engine answers; run 'make setup' first"
# One at a time: two builds of one image at once would only be slower.
mkdir -p "$root/build"
exec 9>"$root/build/images.lock"
flock 9
for version in "$@"; do ensure "$version"; done
