# Logins and rights: the steps on a Cubby with users. What a client does differently comes from its own functions:
#   CLIENT_login USER    logs in, with the password on standard input
#   CLIENT_up, CLIENT_down as for the other steps
# Sourced by matrix.sh. Every step sets anew how Cubby asks for credentials: by Basic while nothing is open without them,
# by Bearer, which sends clients to the token service, as soon as something is.

# users COMMAND...: administers the Cubby with users.
users() { "$CUBBY_CMD" "$@" --data "$D"; }

alice=alices-password bob=bobs-password

# start_users: of alice's repositories bob may pull only. The token is over when its step comes.
start_users() {
  start_cubby users --addr 127.0.0.1:0
  {
    users user add alice --password-stdin --grant 'alice/**=pull,push' --grant 'public/**=pull,push' <<<"$alice" &&
      users user add bob --password-stdin --grant 'alice/**=pull' <<<"$bob" &&
      expired=$(users token create --user alice --actions pull,push --expires 1s --description expired)
  } >"$S/users.add" 2>&1 || { cat "$S/users.add" >&2; die "Cubby takes no users"; }
}

# challenge Basic|Bearer
challenge() {
  case $1 in
    Basic) users anonymous none 'public/**' ;;
    Bearer) users anonymous pull 'public/**' ;;
  esac
}

# nobody: the client as it is before its first login.
nobody() {
  HOME=$(mktemp -d "$S/login.XXXXXX")
  XDG_RUNTIME_DIR=$HOME/run DOCKER_CONFIG=$HOME/.docker who=
  mkdir "$XDG_RUNTIME_DIR" "$DOCKER_CONFIG"
  echo '{}' >"$DOCKER_CONFIG/config.json"
}

# as USER PASSWORD
as() {
  nobody
  "${client}_login" "$1" <<<"$2"
}

# enter USER PASSWORD REPO: logs in; a client whose login asks nobody learns when it pushes what it is worth.
enter() {
  as "$1" "$2"
  case $client in crane | containerd) push "$3" ;; esac
}

# path REPO, at REPO: where it is for this client, and its reference. helm adds the chart's name.
path() { if [ "$client" = helm ]; then echo "$1/chart"; else echo "$1"; fi; }
at() { echo "$R/$(path "$1"):$TAG"; }

# push REPO: pushes something new, so that there is nothing to mount or to leave out.
push() {
  C=/run/small/$(date +%s%N)
  mkdir -p "$C/chart"
  if [ "$client" = helm ]; then
    printf '%s\n' 'apiVersion: v2' 'name: chart' "version: $TAG" "description: $C" >"$C/chart/Chart.yaml"
    helm package -d "$C" "$C/chart"
    mv "$C/chart-$TAG.tgz" "$C/chart.tgz"
  else
    small_image
  fi
  rm -f "$S/pushed"
  "${client}_up" small "$(at "$1")"
}

# small_image: makes it, as $C/small.
small_image() {
  mkdir -p "$C"
  head -c 1000 /dev/urandom >"$C/random.bin"
  tar -C "$C" -cf "$C/layer.tar" random.bin
  regctl image create --platform "linux/$(dpkg --print-architecture)" "ocidir://$C/small:1"
  regctl image mod --replace --layer-add "tar=$C/layer.tar" "ocidir://$C/small:1"
}

pull() { rm -f "$S/pulled"; "${client}_down" "$(at "$1")"; }

# tag_of REPO: the digest of its tag, nothing without one. Cubby's exit status is 3 for a repository that is not there.
tag_of() {
  { users ls --json "$(path "$1")" || [ $? = 3 ]; } | jq -r --arg tag "$TAG" 'select(.name == $tag) | .digest'
}

# pushes REPO, pulls REPO DIGEST: and it is right.
pushes() {
  push "$1"
  same "digest of $1" "$(<"$S/pushed")" "$(tag_of "$1")"
}
pulls() {
  pull "$1"
  same "digest of what was pulled" "$2" "$(<"$S/pulled")"
}

# refused WORDS COMMAND...: it fails and says why, in words that the regular expression matches.
refused() {
  local words=$1 status
  shift
  attempt "$@" >"$S/refusal" 2>&1
  cat "$S/refusal"
  [ "$status" != 0 ] || fail "not refused: $*"
  grep -qiE "$words" "$S/refusal" || fail "the refusal does not say: $words"
}
unauthorized='unauthorized|\b401\b|invalid username/password' # which is how containers/image puts a 401 at a login
denied='denied|\b403\b'

not_there() { [ -z "$(tag_of "$1")" ] || fail "$1 was pushed"; }

step_wrong() {
  local how
  for how in Basic Bearer; do
    challenge "$how"
    refused "$unauthorized" enter alice not-her-password "alice/wrong-${how,,}"
    not_there "alice/wrong-${how,,}"
  done
}

own_repository() {
  as alice "$alice"
  pushes "alice/$1"
  pulls "alice/$1" "$(<"$S/pushed")"
}
asked_for_tokens() { requests | grep -qP '^(GET|POST)\t/-/token\t\t200$'; }

step_basic() {
  challenge Basic
  own_repository basic
  if asked_for_tokens; then fail "the token service was asked"; fi
}

step_bearer() {
  challenge Bearer
  own_repository bearer
  asked_for_tokens || fail "no token was asked for"
}

step_denied() {
  local how digest
  for how in Basic Bearer; do
    challenge "$how"
    as alice "$alice"
    pushes "alice/denied-${how,,}"
    digest=$(<"$S/pushed")
    as bob "$bob"
    pulls "alice/denied-${how,,}" "$digest"
    refused "$denied" push "alice/bobs-${how,,}"
    requests | grep -P "^POST\t/v2/$(path "alice/bobs-${how,,}")/blobs/uploads/\t\S*\t403$" || fail "no upload was refused"
    not_there "alice/bobs-${how,,}"
  done
}

step_public() {
  local digest
  challenge Bearer
  as alice "$alice"
  pushes alice/private
  pushes public/image
  digest=$(<"$S/pushed")
  nobody
  pulls public/image "$digest"
  refused "$unauthorized|$denied" pull alice/private
}

step_token() {
  local how token
  for how in Basic Bearer; do
    challenge "$how"
    token=$(users token create --user alice --actions pull,push --repo 'alice/**')
    as alice "$token"
    pushes "alice/token-${how,,}"
    users token revoke "$token"
    refused "$unauthorized" push "alice/revoked-${how,,}"
    refused "$unauthorized" enter alice "$token" "alice/revoked-${how,,}"
    not_there "alice/revoked-${how,,}"
  done
}

over() { users token ls --json | jq -es 'any(.description == "expired" and (.expires_at | fromdateiso8601) < now)' >/dev/null; }

step_expired() {
  local how
  until_true 5 over || fail "the token does not expire"
  for how in Basic Bearer; do
    challenge "$how"
    refused "$unauthorized" enter alice "$expired" "alice/expired-${how,,}"
    not_there "alice/expired-${how,,}"
  done
  users audit --json | grep 'access token [a-z0-9]* expired' || fail "it was refused for another reason"
}
