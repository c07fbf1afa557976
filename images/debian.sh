#!/usr/bin/env bash
# Builds the root file system of one default image from Debian packages and writes it to stdout as a tar.
#
#   images/debian.sh 3.11 | docker import - muster/python:3.11
#
# The Python version picks the Debian release that ships it. No image registry is involved, and no Debian host is
# needed: any machine with mmdebstrap (or debootstrap) and Debian's archive keyring will do. Packages come from where
# the host's own apt gets them when the host is Debian, so that a mirror or proxy set up there is used here too.
# Run as root. `scripts/images.sh` is what decides when this has to run.

set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# What is wanted beside Debian's essential packages. media-types and usr-is-merged keep a whole Perl out (Debian 12
# would take mailcap and usrmerge instead); Debian 12 packs two parts of the standard library separately. Wheels with
# compiled parts count on the C++ library, as manylinux lets them.
packages=python3,python3-gdbm,ca-certificates,media-types,tzdata,mawk,libstdc++6
case ${1-} in
    3.11) suite=bookworm packages=$packages,usr-is-merged,python3-distutils,python3-lib2to3 ;;
    3.13) suite=trixie ;;
    *)
        echo "usage: $0 3.11|3.13" >&2
        exit 64
        ;;
esac

# Where the host's apt finds Debian's main archive (label "Debian") or its security archive ("Debian-Security").
host_archive() {
    # shellcheck disable=SC2016  # apt's own variables
    apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
        awk -v label="$1" '$1 == label { print $2; exit }'
}

# The apt source lines of the suite; none where the host is not Debian: then the tool's own default is right.
sources() {
    local main security
    main=$(host_archive Debian)
    security=$(host_archive Debian-Security)
    [ -n "$main" ] && [ -n "$security" ] || return 0
    echo "deb [signed-by=$keyring] $main $suite main"
    echo "deb [signed-by=$keyring] $main $suite-updates main"
    echo "deb [signed-by=$keyring] $security $suite-security main"
}

apt_proxy() { apt-config shell proxy "Acquire::$1::Proxy" | sed -n "s/^proxy='\(.*\)'$/\1/p"; }

# mmdebstrap takes the essential packages first, and Debian 12's would bring usrmerge, a Perl program: /bin, /lib, ...
# are made links into /usr before anything is unpacked, so that there is nothing to merge.
# shellcheck disable=SC2016  # mmdebstrap's shell expands it
lean_usr='cd "$1"
for folder in bin sbin lib lib64; do mkdir -p "usr/$folder"; [ -e "$folder" ] || ln -s "usr/$folder" "$folder"; done
printf "Package: usrmerge\nPin: release *\nPin-Priority: -1\n" >etc/apt/preferences.d/usrmerge'

with_mmdebstrap() {
    local lines=() options=() scheme proxy
    mapfile -t lines < <(sources)
    for scheme in http https; do
        proxy=$(apt_proxy "$scheme")
        [ -z "$proxy" ] || options+=("--aptopt=Acquire::$scheme::Proxy \"$proxy\";")
    done
    # /usr/share/{doc,man,locale} would be removed by slim.sh anyhow; not unpacking them is quicker.
    mmdebstrap --quiet --variant=essential --include="$packages" --keyring="$keyring" --format=tar \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' --skip=cleanup/apt,cleanup/reproducible \
        --setup-hook="$lean_usr" \
        "${options[@]}" --customize-hook="'$here/slim.sh' \"\$1\"" "$suite" - "${lines[@]}"
}

with_debootstrap() {
    local work archive
    work=$(mktemp -d)
    # shellcheck disable=SC2064  # expand now: the variable is gone when the trap runs
    trap "rm -rf '$work'" EXIT
    archive=$(host_archive Debian)
    debootstrap --variant=minbase --include="$packages" --keyring="$keyring" \
        "$suite" "$work/root" ${archive:+"$archive"} >&2
    "$here/slim.sh" "$work/root"
    tar --create --numeric-owner --directory "$work/root" .
}

# Python must write its byte code now (the image is read-only when it runs), whatever this shell says.
unset PYTHONDONTWRITEBYTECODE PYTHONPATH PYTHONHOME
export LC_ALL=C DEBIAN_FRONTEND=noninteractive

if command -v mmdebstrap >/dev/null; then
    with_mmdebstrap
elif command -v debootstrap >/dev/null; then
    with_debootstrap
else
    echo "neither mmdebstrap nor debootstrap is installed; 'make setup' installs mmdebstrap" >&2
    exit 1
fi
