#!/bin/sh
# Takes the sites beta and gamma of compose.yaml into alpha's grid, and has every site grant the others what it holds.
# What two administrators would do, each at home: invite, join, compare words, approve, grant.
set -eu
file=$(dirname "$0")/compose.yaml
compose=${COMPOSE:-docker compose}
at() {
  site=$1
  shift
  $compose -f "$file" exec -T "$site" peerpacs "$@"
}
word() {
  python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"
}
for site in beta gamma; do
  ticket=$(at alpha invite --site "HOSP-$(echo "$site" | tr "[:lower:]" "[:upper:]")" --template peer --json | word ticket)
  request=$(at "$site" join "$ticket" --no-wait --json | word request) || true
  at alpha approve "$request"
  at "$site" join
done
for site in alpha beta gamma; do
  for other in alpha beta gamma; do
    [ "$site" = "$other" ] || at "$site" grants add "$other" everything catalog find_live retrieve
  done
done
at alpha peers
