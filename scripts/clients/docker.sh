# Debian's docker 20.10: one engine to push from, one to pull into. Sourced by matrix.sh. Sockets are in /run, which is
# the matrix's own, because their paths must be short.

docker() { timeout 180 docker -H "unix:///run/docker-$1.sock" "${@:2}"; }

docker_start() {
  local name
  for name in here empty; do
    dockerd --data-root "$S/$name" --exec-root "/run/docker-$name" -H "unix:///run/docker-$name.sock" -p "/run/docker-$name.pid" \
      --iptables=false --ip6tables=false --bridge=none --storage-driver "${overlay/overlay/overlay2}" >"$S/$name.log" 2>&1 &
    daemons+=($!)
  done
  for name in here empty; do
    until_true 30 docker "$name" version >/dev/null 2>&1 || { tail -n 20 "$S/$name.log"; return 1; }
  done
}

# docker_send REF: the digest is only in what it says.
docker_send() {
  docker here push "$1" | tee "$S/said"
  sed -n 's/^.*: digest: \(sha[0-9]*:[0-9a-f]*\) size: .*/\1/p' "$S/said" >"$S/pushed"
}

docker_up() {
  case $1 in
    multi) docker_up_multi "$2" ;;
    *)
      skopeo copy -q --dest-daemon-host "unix:///run/docker-here.sock" "oci:$C/$1:1" "docker-daemon:$2"
      docker_send "$2"
      ;;
  esac
}

# docker_up_multi REF: the images of an index that regctl pushed, pushed one by one, and an index of docker's own.
docker_up_multi() {
  local seed=$R/docker/seed:1 arch
  regctl image copy "ocidir://$C/multi:1" "$seed"
  for arch in amd64 arm64; do
    docker here pull -q --platform "linux/$arch" "$seed"
    docker here tag "$seed" "${1%:*}:$arch"
    docker_send "${1%:*}:$arch"
  done
  docker here manifest create --insecure "$1" "${1%:*}:amd64" "${1%:*}:arm64"
  docker here manifest push --insecure "$1" >"$S/pushed"
}

docker_down() {
  docker empty image prune -af >/dev/null
  same "images before the pull" 0 "$(docker empty image ls -q | wc -l)"
  docker empty pull -q "$1"
  docker empty image inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$1" | sed -n 's/.*@//p' >"$S/pulled"
}

docker_copy() {
  docker here tag "$1" "$2"
  docker_send "$2"
}
docker_remove() { crane delete "$1"; }
docker_login() { docker here login -u "$1" --password-stdin "$R"; }
