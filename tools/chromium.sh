#!/bin/sh
# chromium.sh
#
# Makes sure that Debian's Chromium is there, for the tests of the web pages, and prints the folder it is in.
# Unpacked rather than installed, it must be begun by its own program: the script around it looks in /usr/lib.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=$("$here/debian.sh" chromium chromium)
inner=$folder/../root/usr/lib/chromium/chromium
if [ -x "$inner" ]; then
    "$here/wrapper.sh" "$(cd "$folder/.." && pwd)" "$(cd "$(dirname "$inner")" && pwd)/chromium" >/dev/null
fi
echo "$folder"
