#!/usr/bin/env bash
# Takes out of a freshly built root file system what no worker ever needs: slim.sh ROOT
#
# A worker's container has a read-only root, no capabilities and no new privileges: installing packages, logging in,
# mounting and changing users cannot happen in it, so the programs for that go. Python's byte code stays: without it
# every start would compile the standard library anew.

set -euo pipefail

root=${1:?usage: slim.sh ROOT}
[ -e "$root/usr/bin/python3" ] || {
    echo "slim.sh: $root holds no Python" >&2
    exit 1
}

# Packages whose files go; those of them that a release does not have are passed over.
packages='apt libapt-pkg6.0 libapt-pkg6.0t64 gpgv adduser dpkg debconf perl-base init-system-helpers sysvinit-utils
login login.defs passwd mount e2fsprogs logsave libpam-modules libpam-modules-bin libpam-runtime libpam0g
libdebconfclient0 debian-archive-keyring'

# shellcheck disable=SC2016  # dpkg-query's own variable
installed() { chroot "$root" dpkg-query --show --showformat='${db:Status-Status}\n' "$1" 2>/dev/null | grep -qx installed; }

# Files and links of the package; folders that end up empty go with the rest at the end.
files_of() {
    chroot "$root" dpkg-query --listfiles "$1" | while IFS= read -r path; do
        if [ -L "$root$path" ] || [ -f "$root$path" ]; then printf '%s\n' "$root$path"; fi
    done
}

doomed=$(for package in $packages; do if installed "$package"; then files_of "$package"; fi; done)
# The top-level links of a merged /usr (/bin, /lib, ...) belong to packages too, and must stay.
printf '%s\n' "$doomed" | grep -vE "^$root/(bin|sbin|lib[^/]*)\$" | tr '\n' '\0' | xargs -0 rm -f --

cd "$root"

# dpkg's own record stays (it says which versions are inside, to people and scanners); its working files go.
find var/lib/dpkg -mindepth 1 -maxdepth 1 ! -name status -exec rm -rf {} +
rm -rf var/lib/apt var/cache/apt var/cache/debconf var/cache/ldconfig var/lib/pam var/log/* etc/dpkg etc/pam.d \
    etc/perl usr/lib/*/perl-base usr/share/perl usr/share/perl5 usr/lib/apt usr/lib/dpkg
rm -rf usr/share/doc usr/share/man usr/share/info usr/share/locale usr/share/lintian usr/share/bug usr/share/debconf \
    usr/share/bash-completion usr/share/pixmaps usr/share/applications usr/share/zsh usr/share/common-licenses
# OpenSSL's program has done its work; its settings and the links to the certificates stay.
rm -f usr/bin/openssl usr/bin/c_rehash
rm -rf usr/lib/python3*/test usr/lib/python3*/lib2to3/tests usr/lib/*/gconv
rm -rf tmp/* run/* etc/cron* etc/systemd lib/systemd usr/lib/systemd

# mmdebstrap itself still wants to remove the one file that is spared here.
find etc/apt -type f ! -name 00mmdebstrap -delete

# Nothing may gain rights in a container; no machine's own name or id is baked in.
find . -xdev -type f -perm /6000 -exec chmod a-s {} +
rm -f etc/hostname etc/resolv.conf etc/machine-id
echo "LANG=C.UTF-8" >etc/default/locale
find usr/share usr/lib etc var -xdev -type d -empty -delete
mkdir -p var/tmp var/log tmp run root
chmod 1777 tmp var/tmp
