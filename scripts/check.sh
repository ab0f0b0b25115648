#!/usr/bin/env bash
# The one gate: what must hold before a change is merged, here as in CI. Stops at the first step that fails.
#   scripts/check.sh
# The steps after the tests start real servers and real clients; the last ones want root and what .ci/run installs.
set -euo pipefail
cd "$(dirname "$0")/.."

passed=0
step=

heading() { printf '\n=== %s (%ds)\n' "$1" "$SECONDS"; }

# step NAME COMMAND… runs one step under a heading that says when, in seconds from the start, it began.
step() {
  step=$1
  shift
  heading "$step"
  "$@"
  passed=$((passed + 1))
  step=
}

finish() {
  local status=$?
  heading end
  if ((status == 0)); then
    echo "$passed passed, 0 failed"
    return
  fi
  echo "check: failed at: ${step:-setup}" >&2
  echo "$passed passed, 1 failed"
}
trap finish EXIT

# empty WHAT COMMAND… fails when the command fails or prints anything, and shows it.
empty() {
  local what=$1 out
  shift
  out=$("$@") && [ -z "$out" ] && return
  printf '%s\n' "$out"
  echo "check: $what" >&2
  return 1
}

PATH="$(scripts/tools.sh staticcheck govulncheck conformance):$PATH"

step 'gofmt' empty 'run gofmt -w on these files' gofmt -l .
step 'go vet' go vet -tags acme,faults ./...
step 'staticcheck' staticcheck ./...
step 'staticcheck, with tests that want tags' staticcheck -tags acme,faults ./scripts/... ./store/durable
step 'go mod tidy' empty 'run go mod tidy' go mod tidy -diff
step 'go fix' empty 'run go fix ./...' go fix -diff -tags acme,faults ./...
step 'tests, with the race detector' env CUBBY_GATE=1 go test -race -shuffle=on -timeout 20m ./...
# The figures of a run that is to be shown go to a file.
step 'faults' scripts/faults.sh --quick --out "${CUBBY_FAULTS_OUT:-/dev/null}"
step 'certificates by ACME' scripts/acme.sh
step 'conformance' scripts/conformance.sh
step 'clients' scripts/clients.sh
step 'browser' scripts/browser.sh
step 'release binaries' scripts/package.sh
step 'container image' scripts/image.sh

# Reported, never a failure: it needs the vulnerability database, and what it finds is news rather than a regression.
heading 'govulncheck, report only'
timeout 180 govulncheck ./... || echo "govulncheck ended with status $?: findings, or no way to its database"
