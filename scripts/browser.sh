#!/usr/bin/env bash
# Looks at the pages with a real Chromium and axe-core: builds Cubby, fetches axe-core at its pinned version, and runs
# web/uitest.
#   scripts/browser.sh [ARGUMENT OF go test...]     for example -run TestBrowser/keyboard -v
#   CUBBY_CMD    the registry to look at, instead of one built from this tree
#   CUBBY_TOOLS  where axe-core is kept between runs, as scripts/tools.sh keeps its tools (default: the user's cache)
#   CUBBY_SHOTS  a folder for PNGs of the main pages, for a person to look at
set -euo pipefail
cd "$(dirname "$0")/.."

axe=4.14.1

die() { echo "browser.sh: $*" >&2; exit 2; }

command -v chromium >/dev/null || die "chromium is not installed; run: apt-get install --no-install-recommends chromium fonts-dejavu-core"
[ -n "$(find /usr/share/fonts -name 'DejaVuSans.ttf' -print -quit 2>/dev/null)" ] || die "the fonts are not installed; run: apt-get install --no-install-recommends fonts-dejavu-core"

tools=${CUBBY_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/cubby-tools}/axe-core@$axe
export CUBBY_AXE=$tools/node_modules/axe-core/axe.min.js
if [ ! -s "$CUBBY_AXE" ]; then
  command -v npm >/dev/null || die "npm is not installed, which fetches axe-core; run: apt-get install --no-install-recommends nodejs npm"
  # Whole or not at all: a broken download must not look like an installed one.
  mkdir -p "$(dirname "$tools")"
  partial=$(mktemp -d "$tools.XXXXXX")
  trap 'rm -rf "$partial"' EXIT
  npm install --prefix "$partial" --no-audit --no-fund --no-package-lock --ignore-scripts --silent "axe-core@$axe" >&2 ||
    die "npm cannot fetch axe-core $axe"
  [ -s "$partial/node_modules/axe-core/axe.min.js" ] || die "axe-core $axe has no axe.min.js"
  rm -rf "$tools"
  mv "$partial" "$tools"
fi

if [ -z "${CUBBY_CMD-}" ]; then
  scratch=$(mktemp -d "${TMPDIR:-/tmp}/cubby-browser.XXXXXX")
  trap 'rm -rf "$scratch"' EXIT
  export CUBBY_CMD=$scratch/cubby
  CGO_ENABLED=0 go build -o "$CUBBY_CMD" .
fi

cd web/uitest
diff=$(go mod tidy -diff) && [ -z "$diff" ] || die "run go mod tidy in web/uitest: $diff"
go vet ./...
[ -z "$(go fix -diff ./...)" ] || die "run go fix ./... in web/uitest"
# Two tests at a time: more than that on two cores makes pages late.
go test -count=1 -parallel 2 -timeout 20m "$@" .
