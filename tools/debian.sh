#!/bin/sh
# debian.sh PACKAGE PROGRAM...
#
# Makes sure that a Debian package's programs are there and prints the folder they are in, to be put on PATH.
# Installs the package as root or with sudo; where neither is possible, or PEERPACS_UNPACK is set, unpacks it
# into .cache/PACKAGE.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cache=${PEERPACS_CACHE:-$here/../.cache}
package=$1
shift

installed() {
    for program in $programs; do
        command -v "$program" >/dev/null || return 1
    done
}
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif [ -t 0 ] && command -v sudo >/dev/null; then sudo "$@"
    elif command -v sudo >/dev/null; then sudo -n "$@"
    else return 1
    fi
}
install() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$package"
}

programs=$*
if ! installed && [ -z "${PEERPACS_UNPACK:-}" ] && command -v apt-get >/dev/null; then
    { install || { as_root apt-get update -q && install; }; } >&2 || true
    hash -r
fi
if installed && [ -z "${PEERPACS_UNPACK:-}" ]; then
    dirname "$(command -v "$1")"
    exit 0
fi

mkdir -p "$cache"
folder=$(cd "$cache" && pwd)/$package
exec 9>"$folder.lock"
! command -v flock >/dev/null || flock 9
"$here/unpack.sh" "$package" "$folder"
for program in "$folder"/root/usr/bin/*; do "$here/wrapper.sh" "$folder" "$program" >/dev/null; done
echo "$folder/bin"
