#!/usr/bin/env bash
# Builds the container image for linux amd64, arm64 and armv7 with buildah, and proves it: serves with the binary that
# is inside, pushes the image there, pulls it back, and runs what came back as a container would be run.
#   scripts/image.sh        # writes dist/cubby-image-linux-*.tar, for docker load or podman load
#   scripts/image.sh DIR    # writes there
# Nothing is fetched: certificates come from this machine's ca-certificates. Storage is thrown away. VERSION as in
# package.sh. Works as root, and otherwise in buildah's user namespace, which needs subordinate ids.
set -euo pipefail

out=${1:-}
if [ -n "$out" ]; then mkdir -p "$out" && out=$(cd "$out" && pwd); fi
cd "$(dirname "$0")/.."
[ -n "$out" ] || out=$PWD/dist
mkdir -p "$out"
[ "$(id -u)" = 0 ] || exec buildah unshare scripts/image.sh "$out"

tmp=$(mktemp -d)
pid=
trap 'cleanup || true' EXIT
trap 'exit 130' INT TERM
cleanup() {
  stop
  buildah_ rm --all >/dev/null 2>&1
  chmod -R u+w "$tmp" # the root of a container is not writable to its owner, who may not be root
  rm -rf "$tmp"
}

fail() {
  echo "image: $*" >&2
  [ ! -s "$tmp/log" ] || tail -n 20 "$tmp/log" >&2
  exit 1
}

# buildah_ keeps all it stores in $tmp/$store; vfs works wherever files do.
store=built
buildah_() {
  command buildah --root "$tmp/$store" --runroot "$tmp/$store.run" --storage-driver vfs "$@"
}

# quietly runs a command whose words matter only if it fails.
quietly() {
  "$@" >"$tmp/log" 2>&1 || fail "$* failed"
  rm "$tmp/log"
}

# started waits for the log to name the address and sets addr.
started() {
  local i
  : >>"$1" # the server, still being forked, may not have opened it
  for ((i = 0; i < 300; i++)); do
    addr=$(sed -n '/"msg":"serving"/s/.*"addr":"\([^"]*\)".*/\1/p' "$1" | head -n 1)
    [ -z "$addr" ] || return 0
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
  done
  tail -n 20 "$1" >&2
  fail "cubby serve did not come up"
}

# stop ends the server this script started, if any, and answers how it went.
stop() {
  local p=$pid
  [ -n "$p" ] || return 0
  pid=
  kill "$p" 2>/dev/null || true
  wait "$p"
}

# build OS/ARCH makes the image of one platform, puts it into the list, and saves it.
build() {
  local name=${1/\//-} platform=${1/armv/arm/v}
  quietly buildah_ build --format docker --platform "$platform" --timestamp "$epoch" --iidfile "$tmp/$name.id" \
    --build-arg VERSION="$version" --build-arg REVISION="$revision" --build-arg CREATED="$created" \
    --file scripts/Containerfile "$tmp/context"
  quietly buildah_ manifest add "$list" "$(cat "$tmp/$name.id")"
  rm -f "$out/cubby-image-$name.tar" # skopeo's code behind push does not overwrite an archive
  quietly buildah_ push "$(cat "$tmp/$name.id")" "docker-archive:$out/cubby-image-$name.tar:cubby:latest"
  printf 'image: %-28s %s\n' "cubby-image-$name.tar" "$(cat "$tmp/$name.id")"
}

# config prints a part of the image's configuration, one value to a line.
config() {
  buildah_ inspect --type image --format "{{range .Docker.Config.$1}}{{println .}}{{end}}" "$image" | sed '/^$/d'
}

# run starts the image as a container would be: its own command and environment, a read-only root with only /proc in
# it and a fresh volume on /data, and a uid that nobody has heard of. Only the address differs, to stay on loopback.
run() {
  root=$(buildah_ mount "$(buildah_ from --pull-never "$image")")
  mkdir -p "$root/proc"
  cp -a "$root/data" "$tmp/volume"
  mapfile -t env < <(config Env)
  mapfile -t command < <(config Entrypoint && config Cmd)
  # shellcheck disable=SC2016 # for the inner shell to expand
  unshare --mount "$BASH" -euc '
    root=$1 volume=$2
    shift 2
    mount --bind "$root" "$root"
    mount --rbind /proc "$root/proc"
    mount --bind "$volume" "$root/data"
    mount -o remount,bind,ro "$root"
    exec env -i "$@"' run "$root" "$tmp/volume" \
    "${env[@]}" CUBBY_ADDR=127.0.0.1:0 TZ=Asia/Kathmandu \
    "$(command -v chroot)" --userspec=12345:12345 --groups=12345 "$root" "${command[@]}" 2>"$tmp/run.log" &
  pid=$!
  started "$tmp/run.log"
}

# inside runs a command in the container, as docker exec would.
inside() {
  env -i "${env[@]}" CUBBY_ADDR="$addr" "$(command -v nsenter)" --target "$pid" --mount --root --wd \
    --setuid 12345 --setgid 12345 "$@"
}

targets='linux/amd64 linux/arm64 linux/armv7'
version=${VERSION:-$(git describe --tags --always --dirty 2>/dev/null || echo devel)}
revision=$(git rev-parse --verify --quiet HEAD 2>/dev/null || true)
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
created=$(date -u -d "@$epoch" +%Y-%m-%dT%H:%M:%SZ)
certificates=/etc/ssl/certs/ca-certificates.crt
[ -s "$certificates" ] || fail "no $certificates: install ca-certificates"

# shellcheck disable=SC2086 # a list
VERSION=$version scripts/package.sh "$tmp/context" $targets
mkdir -p "$tmp/context/volume/data"
chmod 0777 "$tmp/context/volume/data"
cp "$certificates" "$tmp/context/"
tag=${version//[^[:alnum:]._-]/-}
list=cubby:$tag
quietly buildah_ manifest create "$list"
for target in $targets; do build "$target"; done

native=linux-$(go env GOHOSTARCH)
native=${native/%-arm/-armv7}
env -i "$tmp/context/cubby-$native" serve --addr 127.0.0.1:0 --data "$tmp/data" 2>"$tmp/serve.log" & # no CUBBY_… of the caller's
pid=$!
started "$tmp/serve.log"
registry=docker://$addr/cubby
quietly buildah_ manifest push --all --tls-verify=false --digestfile "$tmp/digest" "$list" "$registry:$tag"

# By digest and by tag, every platform: buildah checks what it is sent against the digest, and an image's id is the
# digest of its configuration, which names the layers.
store=pulled
for target in $targets; do
  platform=${target/armv/arm/v}
  for reference in "$registry@$(cat "$tmp/digest")" "$registry:$tag"; do
    quietly buildah_ pull --tls-verify=false --platform "$platform" "$reference"
    image=$(buildah_ inspect --type image --format '{{.FromImageID}}' "${reference#docker://}")
    [ "sha256:$image" = "$(cat "$tmp/${target/\//-}.id")" ] || fail "pulled $reference for $platform, got $image"
  done
done
image=$(sed 's/^sha256://' "$tmp/$native.id")
stop || fail "the registry that was pushed to ended with status $?"
echo "image: pushed to itself and pulled back, $(cat "$tmp/digest")"

run
mapfile -t health < <(config Healthcheck.Test)
[ "${health[0]:-}" = CMD ] || fail "no HEALTHCHECK in the image"
quietly inside "${health[@]:1}"
quietly inside cubby check # as "docker exec cubby cubby check"
grep -q '"time":"[^"]*+05:45"' "$tmp/run.log" || fail "no time zones: the log does not show Kathmandu's"
cmp "$certificates" "$root$certificates" || fail "no certificates"
[ "$(find "$tmp/volume" ! -uid 12345 ! -path "$tmp/volume" | wc -l)" = 0 ] || fail "files of another uid in /data"
stop || fail "the container ended with status $?"
echo "image: healthy on a read-only root without /tmp, as uid 12345"
