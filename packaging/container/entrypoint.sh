#!/bin/sh
# Makes the node in its volume the first time, then becomes it, so that signals reach it.
# NODE_NAME and NODE_AE say how it is called; everything else is peerpacs.toml or PEERPACS__SECTION__KEY.
set -eu
home=${PEERPACS_HOME:-/var/lib/peerpacs}
if [ "${1:-run}" = run ] && [ ! -e "$home/peerpacs.toml" ]; then
  peerpacs init --home "$home" --name "${NODE_NAME:?Say with NODE_NAME how this hospital is called}" \
    --ae "${NODE_AE:?Say with NODE_AE which AE title it answers to}" --yes
fi
exec peerpacs --home "$home" "$@"
