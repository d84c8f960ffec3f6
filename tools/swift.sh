#!/bin/sh
# swift.sh
#
# Makes a Python environment of its own in .cache/swift with OpenStack Swift from PyPI, and prints its folder of
# programs. Only the slow tests need it: Swift is a real S3 server with conditional PUT and versions (s3api).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cache=${PEERPACS_CACHE:-$here/../.cache}
mkdir -p "$cache"
folder=$(cd "$cache" && pwd)/swift

# Test processes run side by side: one installs, the others wait for it.
exec 9>"$folder.lock"
! command -v flock >/dev/null || flock 9

if [ ! -e "$folder/installed" ]; then
    rm -rf "$folder"
    {
        "${PYTHON:-python3}" -m venv "$folder"
        "$folder/bin/pip" install --quiet --disable-pip-version-check 'swift>=2.37,<3' 'setuptools<81'
        touch "$folder/installed"
    } >&2
fi
echo "$folder/bin"
