#!/usr/bin/env bash
# Kills, power cuts, full disks, flipped bits and hostile clients: does every promise hold?
#   scripts/faults.sh          the full form, for releases: up to 90 minutes, figures to scripts/faults/figures.json
#   scripts/faults.sh --quick  the form of the gate, some minutes
# Prints a table of what was done and seen. Rows that mount or trace want root; without it the last line names them. An
# interrupted full run goes on where it was when it is started again at the same commit.
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-}" in
--quick) exec go run ./scripts/faults "$@" ;;
*) exec go run ./scripts/faults --dir "${XDG_CACHE_HOME:-$HOME/.cache}/cubby-faults" --out scripts/faults/figures.json "$@" ;;
esac
