#!/bin/sh
# wrapper.sh FOLDER PROGRAM
#
# Writes FOLDER/bin/NAME, which runs an unpacked PROGRAM with the libraries unpacked beside it and with the
# DICOM dictionary of an unpacked DCMTK, and prints the path of what it wrote.
set -eu
folder=$1
program=$2
libraries=$(find "$folder/root" -name '*.so*' -exec dirname {} \; | sort -u | paste -s -d : -)
dictionary=$(find "$folder/root" -name dicom.dic | head -n 1)
wrapper=$folder/bin/$(basename "$program")
mkdir -p "$folder/bin"
{
    echo '#!/bin/sh'
    [ -z "$libraries" ] ||
        echo "export LD_LIBRARY_PATH='$libraries'\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}"
    [ -z "$dictionary" ] || echo "export DCMDICTPATH='$dictionary'"
    echo "exec '$program' \"\$@\""
} >"$wrapper.new"
chmod +x "$wrapper.new"
mv "$wrapper.new" "$wrapper"
echo "$wrapper"
