# The steps of the matrix. What a client does differently comes from its own functions:
#   CLIENT_up WHAT REF      pushes a piece of content and leaves the digest it pushed in $S/pushed
#   CLIENT_down REF         pulls into an empty store and leaves the digest it pulled in $S/pulled
#   CLIENT_copy FROM TO     pushes what is FROM to the repository TO
#   CLIENT_remove REF       deletes a tag
#   CLIENT_STEP             takes a whole step in another way
# Sourced by matrix.sh.

repo() { if [ "$client" = helm ]; then echo "helm/$1/chart"; else echo "$client/$1"; fi; }
ref() { echo "${2:-$R}/$(repo "$1"):$TAG"; }

up() { rm -f "$S/pushed"; "${client}_up" "$1" "$(ref "$1" "${2-}")"; }
down() { rm -f "$S/pulled"; "${client}_down" "$1"; }

step_push() {
  up app
  kept app "$(<"$S/pushed")"
  cp "$S/pushed" "$S/app.digest"
  uploaded app
}

step_again() {
  up app
  nothing_uploaded app
  kept app "$(<"$S/app.digest")"
}

step_mount() {
  "${client}_copy" "$(ref app)" "$(ref second)"
  case $client in
    skopeo | podman | buildah) mounted_where_asked second ;;
    *) mounted second ;;
  esac
  kept second "$(<"$S/app.digest")"
}

step_pull() {
  down "$(ref app)"
  same "digest of what was pulled" "$(<"$S/app.digest")" "$(<"$S/pulled")"
  fetched app
}

step_digest() {
  down "$R/$(repo app)@$(<"$S/app.digest")"
  same "digest of what was pulled" "$(<"$S/app.digest")" "$(<"$S/pulled")"
  fetched app
}

step_delete() {
  same "status of the tag before" 200 "$(http HEAD "/v2/$(repo app)/manifests/$TAG")"
  "${client}_remove" "$(ref app)"
  same "status of the tag after" 404 "$(http HEAD "/v2/$(repo app)/manifests/$TAG")"
}

# there_and_back WHAT JQ: pushes, checks what Cubby serves with a jq condition, and pulls.
there_and_back() {
  up "$1"
  kept "$1" "$(<"$S/pushed")"
  crane manifest "$(ref "$1")" | jq -e "$2" >/dev/null || fail "not what was meant to be pushed: $2"
  down "$(ref "$1")"
  same "digest of what was pulled" "$(<"$S/pushed")" "$(<"$S/pulled")"
}

step_index() { there_and_back multi '[.manifests[].platform.architecture] | contains(["amd64", "arm64"])'; }
step_zstd() { there_and_back zstd '.layers | length > 0 and all(.mediaType | endswith("+zstd"))'; }
step_sha512() { there_and_back sha512 '[.config, .layers[]] | all(.digest | startswith("sha512:"))'; }

# carries_on COMMAND...: some clients give up when the connection breaks, and their user runs them again.
carries_on() {
  local status
  attempt "$@"
  [ "$status" = 0 ] || [ -n "${instead[$client/$step]-}" ] || fail "it gave up"
  [ "$status" = 0 ] || "$@"
  grep -q '^cut$' "$S/cutter" || fail "the connection was not cut"
}

step_cut_push() {
  cutter up
  carries_on up single "$P"
  kept single "$(<"$S/pushed")"
  cp "$S/pushed" "$S/single.digest"
}

step_cut_pull() {
  cutter down
  carries_on down "$(ref single "$P")"
  same "digest of what was pulled" "$(<"$S/single.digest")" "$(<"$S/pulled")"
  if [ -z "${instead[$client/$step]-}" ]; then
    requests | grep -P "^GET\t/v2/$(repo single)/blobs/\S*\t\S*\t206$" || fail "no blob was asked for from the middle on"
  fi
}
