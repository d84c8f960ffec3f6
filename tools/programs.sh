#!/bin/sh
# programs.sh
#
# Makes sure that everything the tests run is there, Orthanc included, and prints what to put before PATH.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
"$here/orthanc.sh" >/dev/null
dcmtk=$("$here/dcmtk.sh")
checker=$("$here/debian.sh" dicom3tools dciodvfy)
reader=$("$here/debian.sh" tesseract-ocr tesseract)
tracer=$("$here/debian.sh" strace strace)
clock=$("$here/debian.sh" faketime faketime)
services=$("$here/debian.sh" systemd systemd-analyze)
browser=$("$here/chromium.sh")
tls=$("$here/debian.sh" openssl openssl)
rules=$("$here/debian.sh" prometheus promtool)
echo "$dcmtk:$checker:$reader:$tracer:$clock:$services:$tls:$browser:$rules"
