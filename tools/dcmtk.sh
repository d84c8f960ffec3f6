#!/bin/sh
# dcmtk.sh
#
# Makes sure that DCMTK's programs are there and prints the folder they are in, to be put on PATH.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
exec "$here/debian.sh" dcmtk echoscu storescu findscu movescu getscu storescp dcmqrscp dcmdump
