# What the clients' steps are written in. Sourced by matrix.sh, which sets:
#   W scratch   C content   S this client's folder   client, step and cell, both joined by a dot
#   R host:port of Cubby   L its log   D its data
#   plain not empty while Cubby speaks plain HTTP   way the client's flags for that, or to trust Cubby's CA

say() { printf '%s\n' "$*"; }
die() { echo "clients.sh: $*" >&2; exit 2; }
fail() { echo "FAILED: $*" >&2; exit 1; }

# attempt COMMAND...: runs it in a subshell that ends at the first error, and leaves its status in $status. Left of ||
# or in an if, the shell would carry on after errors.
attempt() {
  set +e
  (set -e; "$@")
  status=$?
  set -e
}

# same WHAT WANT GOT
same() { [ -n "$2" ] && [ "$2" = "$3" ] || fail "$1: got '$3', want '$2'"; }

# http METHOD PATH [HEADER]: prints the status of one request in plain HTTP, as a client that knows manifests asks, to
# 127.0.0.1 or $address.
http() (
  exec 2>/dev/null
  exec {socket}<>"/dev/tcp/${address:-127.0.0.1}/${R##*:}"
  printf '%s %s HTTP/1.1\r\nHost: %s\r\nAccept: %s\r\nUser-Agent: clients.sh\r\nConnection: close\r\n%s\r\n' \
    "$1" "$2" "$R" "$manifest_types" "${3:+$3$'\r\n'}" >&"$socket"
  read -r -t 30 _ status _ <&"$socket"
  echo "$status"
)
manifest_types=$(printf 'application/%s, ' vnd.oci.image.{manifest,index}.v1+json vnd.docker.distribution.manifest.{,list.}v2+json)'*/*'

# until_true SECONDS COMMAND...: waits for a condition, at most so long.
until_true() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.1
  done
}

# layout_digest DIR: the digest of what is tagged 1 in an OCI layout, or of all there is.
layout_digest() {
  jq -er '[.manifests[] | select(.annotations["org.opencontainers.image.ref.name"] == "1")] as $tagged |
    if ($tagged | length) == 1 then $tagged[0].digest elif (.manifests | length) == 1 then .manifests[0].digest
    else error("not one image") end' "$1/index.json"
}

# kept WHAT WANT: what Cubby serves as that tag has that digest.
kept() { same "digest of $(ref "$1")" "$2" "$(crane digest "$(ref "$1")")"; }

# What Cubby was asked, from its own log. A fence is a request known by its path: once Cubby has logged it, so it has
# everything that was answered before.
fence() { http GET "/v2/fence/$1/tags/list" >/dev/null; }
fenced() { grep -q "/v2/fence/$1/" "$L"; }

# requests: METHOD PATH QUERY STATUS of every request since the fence $cell, one a line, by tabs.
requests() {
  local end
  end=$cell.$(date +%s%N)
  fence "$end" || fail "Cubby does not answer"
  until_true 15 fenced "$end" || fail "Cubby did not log a request"
  sed -n "\|/v2/fence/$cell/|,\$p" "$L" |
    jq -Rr 'fromjson? | select(.msg == "request" and (.path | startswith("/v2/fence/") | not)) |
      [.method, .path, (.query // "" | gsub("%3[Aa]"; ":") | gsub("%2[Ff]"; "/")), .status] | @tsv'
}

# nothing_uploaded WHAT: no upload session was opened there, nor a blob sent.
nothing_uploaded() {
  local seen
  seen=$(requests)
  [ -n "$seen" ] || fail "no request was logged"
  if grep -P "^(POST|PATCH|PUT)\t/v2/$(repo "$1")/blobs/" <<<"$seen"; then fail "blobs were uploaded to $1 again"; fi
}

# every_layer WHAT REQUEST: for each of its layers, in place of LAYER, such a request was made. Leaves all in $seen.
every_layer() {
  local layer layers
  seen=$(requests)
  layers=$(crane manifest "$(ref "$1")" | jq -er '.layers[].digest' | sort -u)
  for layer in $layers; do
    grep -qP "${2//LAYER/$layer}" <<<"$seen" || fail "$layer of $1: no request like $2"
  done
}

uploaded() { every_layer "$1" "^(POST|PUT)\t/v2/$(repo "$1")/blobs/uploads/\S*\t\S*\bdigest=LAYER\b\S*\t201$"; }
fetched() { every_layer "$1" "^GET\t/v2/$(repo "$1")/blobs/LAYER\t\S*\t20[06]$"; }

# mounted WHAT: every layer came from another repository. The config, which no client mounts always, may be sent.
mounted() {
  local upload
  every_layer "$1" "^POST\t/v2/$(repo "$1")/blobs/uploads/\t\S*\bmount=LAYER\b\S*\t201$"
  upload=$(grep -cP "^PUT\t/v2/$(repo "$1")/blobs/" <<<"$seen") || true
  [ "$upload" -le 1 ] || fail "$upload blobs were uploaded to $1"
}

# mounted_where_asked WHAT: for clients that go by a cache of where a layer was pushed, and now and then miss an entry of
# it: every mount they ask for is granted, there is one at least, and what they do not ask for they upload.
mounted_where_asked() {
  local asked
  every_layer "$1" "^(POST|PUT)\t/v2/$(repo "$1")/blobs/uploads/\S*\t\S*\b(mount|digest)=LAYER\b\S*\t201$"
  asked=$(grep -P "^POST\t/v2/$(repo "$1")/blobs/uploads/\t\S*\bmount=" <<<"$seen") || fail "no mount into $1 was asked for"
  if grep -vP "\t201$" <<<"$asked"; then fail "a mount into $1 was refused"; fi
}

# cutter up|down: sets P to the address of a proxy that breaks one connection to Cubby after 10 MB.
cutter() {
  rm -f "$S/cutter"
  helper cut "$1" 10000000 "$R" >"$S/cutter" &
  trap "kill $!" EXIT
  until_true 10 test -s "$S/cutter"
  P=$(head -n 1 "$S/cutter")
}
