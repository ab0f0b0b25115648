#!/usr/bin/env bash
# Gets certificates from pebble, Let's Encrypt's ACME server for tests, by both ways to prove a name. All on loopback.
#   scripts/acme.sh
set -euo pipefail
cd "$(dirname "$0")/.."
PATH="$(scripts/tools.sh pebble pebble-challtestsrv):$PATH"
go test -tags acme -count=1 ./scripts/acme
