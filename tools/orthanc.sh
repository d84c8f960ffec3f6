#!/bin/sh
# orthanc.sh
#
# Prints the path of a program that runs Orthanc. It is unpacked into .cache/orthanc, never installed:
# installing it would start a system service on port 4242.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cache=${PEERPACS_CACHE:-$here/../.cache}
mkdir -p "$cache"
folder=$(cd "$cache" && pwd)/orthanc

# Test processes run side by side: one unpacks, the others wait for it.
exec 9>"$folder.lock"
! command -v flock >/dev/null || flock 9

"$here/unpack.sh" orthanc "$folder"
program=$folder/root/usr/sbin/Orthanc
[ -x "$program" ] || program=$folder/root/usr/bin/Orthanc
"$here/wrapper.sh" "$folder" "$program"
