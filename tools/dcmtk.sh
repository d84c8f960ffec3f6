#!/bin/sh
# dcmtk.sh
#
# Makes sure that DCMTK's programs are there and prints the folder they are in, to be put on PATH. Installs
# the package as root or with sudo; where neither is possible, unpacks it into .cache/dcmtk.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cache=${PEERPACS_CACHE:-$here/../.cache}

installed() {
    for program in echoscu storescu findscu movescu getscu storescp dcmqrscp dcmdump; do
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
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q dcmtk
}

if ! installed && [ -z "${PEERPACS_UNPACK_DCMTK:-}" ] && command -v apt-get >/dev/null; then
    { install || { as_root apt-get update -q && install; }; } >&2 || true
    hash -r
fi
if installed && [ -z "${PEERPACS_UNPACK_DCMTK:-}" ]; then
    dirname "$(command -v storescu)"
    exit 0
fi

mkdir -p "$cache"
folder=$(cd "$cache" && pwd)/dcmtk
exec 9>"$folder.lock"
! command -v flock >/dev/null || flock 9
"$here/unpack.sh" dcmtk "$folder"
for program in "$folder"/root/usr/bin/*; do "$here/wrapper.sh" "$folder" "$program" >/dev/null; done
echo "$folder/bin"
