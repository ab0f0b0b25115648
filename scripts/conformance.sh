#!/usr/bin/env bash
# Runs the official OCI conformance suite, every switch on, against a freshly built cubby: once as it starts by
# default, once with --sparse all and the suite's sparse data, each as distribution-spec 1.1 and as dev; and once more
# as the latter with a user, whose password the suite is given. By Basic: the tokens that the suite gets for Bearer are
# for one repository each, so that it would skip mounts.
#   scripts/conformance.sh               # results are thrown away
#   CUBBY_OUT=/tmp/out scripts/conformance.sh   # and kept in /tmp/out/conformance
#
# The suite's exit status alone is no proof: it is 0 after a bad configuration and when tests were skipped. So a run
# counts only when results.yaml shows the switches we asked for, no others, and every API and data set passed; the
# report says "OCI Conformance Result: Pass" with nothing failed, skipped or disabled; and no fewer tests passed than
# the floor below.
set -euo pipefail
cd "$(dirname "$0")/.."

# version, --sparse, how the suite logs in, tests passed when this was last looked at. Raise a floor, never lower it.
runs='
1.1 default open    986
dev default open    986
1.1 all     open   1032
dev all     open   1032
dev all     basic  1032'
user=conformance password=conformance-password

# The suite's switches: OCI_<first> turns it on, results.yaml tells it back as the second.
switches='
API_PING                   apis.ping
API_PULL                   apis.pull
API_PUSH                   apis.push
API_BLOBS_ATOMIC           apis.blobs.atomic
API_BLOBS_DELETE           apis.blobs.delete
API_BLOBS_DIGEST_HEADER    apis.blobs.digestHeader
API_BLOBS_MOUNT_ANONYMOUS  apis.blobs.mountAnonymous
API_BLOBS_UPLOAD_CANCEL    apis.blobs.uploadCancel
API_MANIFESTS_ATOMIC       apis.manifests.atomic
API_MANIFESTS_DELETE       apis.manifests.delete
API_MANIFESTS_DIGEST_HEADER apis.manifests.digestHeader
API_MANIFESTS_TAG_PARAM    apis.manifests.tagParam
API_TAGS_ATOMIC            apis.tags.atomic
API_TAGS_DELETE            apis.tags.delete
API_TAGS_LIST              apis.tags.list
API_REFERRER               apis.referrer
DATA_IMAGE                 data.image
DATA_INDEX                 data.index
DATA_INDEX_LIST            data.indexList
DATA_SPARSE                data.sparse
DATA_ARTIFACT              data.artifact
DATA_SUBJECT               data.subject
DATA_SUBJECT_MISSING       data.subjectMissing
DATA_ARTIFACT_LIST         data.artifactList
DATA_SUBJECT_LIST          data.subjectList
DATA_DATA_FIELD            data.dataField
DATA_NONDISTRIBUTABLE      data.nondistributable
DATA_CUSTOM_FIELDS         data.customFields
DATA_NO_LAYERS             data.noLayers
DATA_EMPTY_BLOB            data.emptyBlob
DATA_SHA512                data.sha512'

tmp=$(mktemp -d)
out=${CUBBY_OUT:-$tmp}/conformance
mkdir -p "$out"
out=$(cd "$out" && pwd)
pid=
trap 'stop || true; rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM

fail() {
  echo "conformance: $*" >&2
  exit 1
}

# serve LOG ARG… starts cubby and sets pid and addr; it returns once readyz answers 200.
serve() {
  local log=$1 i
  shift
  : >"$log"
  env -i HOME="$HOME" "$tmp/cubby" serve --addr 127.0.0.1:0 "$@" 2>"$log" & # no CUBBY_… variable of the caller's
  pid=$!
  for ((i = 0; i < 300; i++)); do
    addr=$(sed -n '/"msg":"serving"/s/.*"addr":"\([^"]*\)".*/\1/p' "$log" | head -n 1)
    if [ -n "$addr" ] && ready "$addr"; then return; fi
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
  done
  tail -n 20 "$log" >&2
  fail "cubby serve $* was not ready within 30 seconds"
}

# ready HOST:PORT asks readyz without curl, which a plain machine may lack.
ready() (
  exec 2>/dev/null 3<>"/dev/tcp/${1%:*}/${1##*:}" || exit 1
  printf 'GET /-/readyz HTTP/1.0\r\nHost: %s\r\n\r\n' "$1" >&3
  read -r -t 2 _ status _ <&3 && [ "$status" = 200 ]
)

# stop ends the server this script started, if any, and answers with its status.
stop() {
  local p=$pid i
  [ -n "$p" ] || return 0
  pid=
  kill "$p" 2>/dev/null || true
  for ((i = 0; i < 150; i++)); do
    kill -0 "$p" 2>/dev/null || break
    sleep 0.1
  done
  ((i < 150)) || kill -KILL "$p" 2>/dev/null || true
  wait "$p"
}

# suite VERSION SPARSE LOGIN FLOOR runs the suite against $addr and prints its line.
suite() {
  local version=$1 sparse=$2 login=$3 floor=$4
  local dir=$out/$version-sparse-$sparse-$login env=() want='' var key on
  [ "$login" = open ] || env=("OCI_USERNAME=$user" "OCI_PASSWORD=$password")
  while read -r var key; do
    [ -n "$var" ] || continue
    on=true
    if [ "$var" = DATA_SPARSE ] && [ "$sparse" = default ]; then on=false; fi
    env+=("OCI_$var=$on")
    want+="$key=$on"$'\n'
  done <<<"$switches"

  rm -rf "$dir"
  mkdir -p "$dir"
  local status=0
  env -i PATH="$PATH" HOME="$HOME" "${env[@]}" OCI_CONFIGURATION= OCI_VERSION="$version" OCI_LOG=error \
    OCI_REGISTRY="$addr" OCI_TLS=disabled OCI_REPO1="conformance/v$version/one" OCI_REPO2="conformance/v$version/two" \
    OCI_RESULTS_DIR="$dir" timeout 300 conformance >"$dir/report.txt" 2>"$dir/stderr.txt" || status=$?

  local passed failed skipped problems=()
  passed=$(count "$dir/report.txt" Pass)
  failed=$(($(count "$dir/report.txt" FAIL) + $(count "$dir/report.txt" Error)))
  skipped=$(($(count "$dir/report.txt" Skip) + $(count "$dir/report.txt" Disabled)))
  printf 'conformance: version %s, sparse %s, %s: %d passed, %d failed, %d skipped\n' \
    "$version" "$sparse" "$login" "$passed" "$failed" "$skipped"

  ((status == 0)) || problems+=("the suite ended with status $status")
  grep -qx 'OCI Conformance Result: Pass' "$dir/report.txt" || problems+=("no line 'OCI Conformance Result: Pass'")
  ((failed == 0)) || problems+=("$failed failed")
  ((skipped == 0)) || problems+=("$skipped skipped")
  ((passed >= floor)) || problems+=("$passed passed, want at least $floor")
  if [ -s "$dir/results.yaml" ]; then
    local got
    got=$(enabled "$dir/results.yaml")
    [ "$(sort <<<"${want%$'\n'}")" = "$(sort <<<"$got")" ] ||
      problems+=("switches differ: $(diff <(sort <<<"${want%$'\n'}") <(sort <<<"$got") | grep '^[<>]' | tr '\n' ' ')")
    got=$(unpassed "$sparse" "$dir/report.txt" "$dir/results.yaml")
    [ -z "$got" ] || problems+=("not passed:$got")
  else
    problems+=("no results.yaml")
  fi
  ((${#problems[@]} > 0)) || return 0

  failures "$dir/report.txt" >&2
  head -n 20 "$dir/stderr.txt" >&2
  printf 'conformance: %s\n' "${problems[@]}" >&2
  return 1
}

# count REPORT STATUS is the number after STATUS in the summary of counts.
count() {
  awk -v want="$2" '/^OCI Conformance Result:/ { on = 1; next } /^$/ { on = 0 }
    on { name = $1; sub(/\.*:$/, "", name); if (name == want) n = $NF } END { print n + 0 }' "$1"
}

# failures REPORT prints one failed test for each kind of failure, with how many there were.
failures() {
  awk '/^ +- / { sub(/^ +- /, ""); kind = $0; gsub(/sha(256|512):[0-9a-f]+|[0-9]+ bytes/, "", kind); kind = substr(kind, 1, 80)
      if (!n[kind]++) first[kind] = name substr($0, 1, 400); next }
    /^Configuration:/ { exit }
    { name = $0; sub(/^ +OCI Conformance Test\//, "", name); sub(/: [A-Za-z]+$/, ": ", name) }
    END { for (kind in n) printf "%6d  %s\n", n[kind], first[kind] }' "$1" | sort -k1,1nr | head -n 30
}

# enabled RESULTS prints the switches as the suite understood them, one apis.blobs.atomic=true to a line.
enabled() {
  awk '/^[a-z]/ { on = $1 == "config:"; next }
    on { match($0, /^ */); depth = RLENGTH / 2; key = $1; sub(/:$/, "", key); path[depth] = key
         if (NF == 2 && (path[1] == "apis" || path[1] == "data")) {
           line = path[1]; for (i = 2; i <= depth; i++) line = line "." path[i]; print line "=" $2 } }' "$1"
}

# unpassed SPARSE REPORT RESULTS prints the APIs and data sets that did not pass, " name (status)" each. The report
# lists also those no test touched.
unpassed() {
  awk -v sparse="$1" '/^(apis|data|API conformance|Data conformance):$/ { on = 1; sections++; next }
    !/^  / { on = 0 }
    on && $NF != "Pass" && !(sparse == "default" && /Sparse Manifests/ && $NF == "Disabled") {
      status = $NF; sub(/^ +/, ""); sub(/\.*: .*/, ""); print " " $0 " (" status ")" }
    END { if (sections != 4) print " lists missing" }' "$2" "$3" | sort -u | tr -d '\n'
}

PATH="$(scripts/tools.sh conformance):$PATH"
CGO_ENABLED=0 go build -o "$tmp/cubby" .

bad=0
for server in 'default open' 'all open' 'all basic'; do
  read -r sparse login <<<"$server"
  data=$tmp/data-$sparse-$login log=$out/serve-sparse-$sparse-$login.log
  args=(--data "$data")
  [ "$sparse" = default ] || args+=(--sparse "$sparse")
  serve "$log" "${args[@]}"
  if [ "$login" = basic ]; then
    env -i HOME="$HOME" "$tmp/cubby" user add "$user" --password-stdin --grant 'conformance/**=pull,push,overwrite,delete' \
      --data "$data" <<<"$password" >"$log.user" 2>&1 || fail "no user: $(<"$log.user")"
  fi
  while read -r version which how floor; do
    [ "$which $how" = "$server" ] || continue
    suite "$version" "$sparse" "$login" "$floor" || bad=1
  done <<<"$runs"
  [ "$login" = open ] || grep -q '"path":"/v2/conformance/.*"status":401' "$log" || fail "the suite was not asked to log in"
  stop || fail "cubby serve ended with status $?"
done
((bad == 0)) || fail "failed${CUBBY_OUT:+, see $out}"
