#!/usr/bin/env bash
# Installs pinned Go tools, each built from its own module graph, and prints the folder that holds them.
#   PATH="$(scripts/tools.sh staticcheck crane):$PATH"
# One folder per tool and version under $CUBBY_TOOLS (default: the user's cache), so a new pin never runs an old binary.
set -euo pipefail

pin() {
  case "$1" in
    staticcheck) echo honnef.co/go/tools/cmd/staticcheck@v0.8.2 ;;
    govulncheck) echo golang.org/x/vuln/cmd/govulncheck@v1.9.0 ;;
    conformance) echo github.com/opencontainers/distribution-spec/conformance@v0.0.0-20260831232431-97274622c111 ;;
    pebble | pebble-challtestsrv) echo "github.com/letsencrypt/pebble/v2/cmd/$1@v2.10.1" ;;
    crane) echo github.com/google/go-containerregistry/cmd/crane@v0.22.1 ;;
    regctl) echo github.com/regclient/regclient/cmd/regctl@v0.11.7 ;;
    oras) echo oras.land/oras/cmd/oras@v1.3.6 ;;
    helm) echo helm.sh/helm/v3/cmd/helm@v3.22.0 ;;
    *) echo "tools.sh: no pin for '$1'" >&2; exit 2 ;;
  esac
}

dir=${CUBBY_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/cubby-tools}
path=
for name in "$@"; do
  module=$(pin "$name")
  bin=$dir/$name@${module##*@}
  if [ ! -x "$bin/$name" ]; then
    mkdir -p "$bin"
    (cd "$bin" && GOBIN=$bin CGO_ENABLED=0 GOFLAGS=-trimpath go install "$module") >&2
  fi
  path=$path${path:+:}$bin
done
echo "$path"
