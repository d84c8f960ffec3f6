#!/bin/sh
# orthanc.sh [PACKAGE]
#
# Prints the path of a program that runs Orthanc. It is unpacked into .cache/PACKAGE, never installed:
# installing it would start a system service on port 4242. PACKAGE is orthanc if it is not said, or that of a
# plugin, which brings its own Orthanc along; the plugin is then in root/usr/share/orthanc/plugins there.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cache=${PEERPACS_CACHE:-$here/../.cache}
package=${1:-orthanc}
mkdir -p "$cache"
folder=$(cd "$cache" && pwd)/$package

# Test processes run side by side: one unpacks, the others wait for it.
exec 9>"$folder.lock"
! command -v flock >/dev/null || flock 9

"$here/unpack.sh" "$package" "$folder"
program=$folder/root/usr/sbin/Orthanc
[ -x "$program" ] || program=$folder/root/usr/bin/Orthanc
"$here/wrapper.sh" "$folder" "$program"
