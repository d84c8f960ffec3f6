#!/bin/sh
# unpack.sh PACKAGE FOLDER
#
# Unpacks a Debian package, and every package it needs that this machine lacks, into FOLDER/root, without
# installing anything: no service is started, no file outside FOLDER is touched. FOLDER/complete says that
# it is done; a run that was cut off starts again from nothing.
set -eu
package=$1
folder=$2
[ -e "$folder/complete" ] && exit 0

say() { echo "$package: $*" >&2; }
for tool in apt-get dpkg; do
    command -v "$tool" >/dev/null || {
        say "cannot be fetched: this machine has no $tool (Debian or Ubuntu is needed)."
        say "Install $package yourself and put its programs on PATH."
        exit 1
    }
done

list_of_packages() {
    apt-get install -s --no-install-recommends "$package" | awk '$1 == "Inst" { print $2 }'
}
refresh() {
    if [ "$(id -u)" = 0 ]; then apt-get update -q
    elif command -v sudo >/dev/null; then sudo apt-get update -q
    else return 1
    fi
}
download() {
    rm -rf "$folder" && mkdir -p "$folder/debs" "$folder/root"
    packages=$(list_of_packages 2>"$folder/errors") || return 1
    # The package itself is wanted even where a broken install already counts it as present.
    packages=$(printf '%s\n%s\n' "$package" "$packages" | sort -u)
    # shellcheck disable=SC2086
    (cd "$folder/debs" && apt-get download -q -o APT::Sandbox::User=root $packages) \
        >>"$folder/errors" 2>&1
}

mkdir -p "$(dirname "$folder")"
if ! download; then
    say "apt-get could not deliver it; reading the package lists anew."
    if ! refresh >&2 || ! download; then
        cat "$folder/errors" >&2
        say "could not be downloaded. Check the network and the package sources (Ubuntu: universe)."
        exit 1
    fi
fi
for deb in "$folder"/debs/*.deb; do dpkg -x "$deb" "$folder/root"; done
rm -rf "$folder/debs" "$folder/errors"
touch "$folder/complete"
