#!/usr/bin/env bash
# The matrix of scripts/clients.sh, which starts this in mount and process namespaces of its own: SCRATCH [CLIENT...]
set -euo pipefail
shopt -s inherit_errexit
here=$(cd "$(dirname "$0")" && pwd)
W=$1 R='' P='' who='' plain='' way=''
shift

clients=${*:-skopeo podman buildah docker containerd crane regctl oras helm}
steps="push again mount pull digest delete index zstd sha512 artifact module cut-push cut-pull"
logins="wrong basic bearer denied public token expired"
secure="distrust connect https printed"

# Steps that a client's own commands cannot take, and what is done instead.
declare -A instead=()
# Steps that make no sense for a client. Every other cell must be executed.
declare -A absent=()
# cells ARRAY REASON CLIENT/STEP...
cells() {
  local -n array=$1
  local reason=$2 key
  for key in "${@:3}"; do array[$key]=$reason; done
}
cells instead "deletes in its own store only; by skopeo delete" podman/delete buildah/delete
cells instead "deletes in its own store only; by crane delete" docker/delete containerd/delete
cells instead "cannot delete in a registry; by crane delete" helm/delete
cells instead "copies nothing between repositories; by oras cp" helm/mount
cells instead "gives up when the connection breaks; run again" \
  {skopeo,podman,buildah,containerd,oras,helm}/cut-push {skopeo,podman,buildah,crane,oras,helm}/cut-pull
cells absent "20.10 unpacks no zstd" docker/zstd
cells absent "a chart is one manifest with one gzip layer" helm/index helm/zstd helm/sha512
cells absent "knows sha256 only" {skopeo,podman,buildah,docker,containerd,crane}/sha512
cells absent "makes no artifacts and asks for no referrers" \
  {skopeo,podman,buildah,docker,containerd,crane,helm}/artifact
cells absent "modules are pushed by oras" {skopeo,podman,buildah,docker,containerd,crane,regctl,helm}/module

cells instead "its login asks nobody; refused when it pushes" crane/{wrong,token,expired}
cells instead "has no login; told who it is at each push and pull" containerd/{wrong,basic,bearer,denied,public,token,expired}

cells instead "logs in by podman, as is printed for both" buildah/connect
cells instead "nothing restarts it here, nor does Kubernetes use it: by ctr, which is told where the files are" containerd/connect
cells instead "without helm install, which needs a cluster" helm/printed
cells absent "what is printed is podman's" buildah/printed
cells absent "what is printed is a pull, see connect" containerd/printed
cells absent "what is printed copies from another registry" {crane,regctl}/printed

for part in lib content steps logins tls containers docker containerd gotools; do . "$here/$part.sh"; done

# How clients are told that Cubby speaks plain HTTP, where they do not assume it of 127.0.0.1.
declare -A plain_flags=([skopeo]=--tls-verify=false [podman]=--tls-verify=false [buildah]=--tls-verify=false
  [containerd]=--plain-http [oras]=--plain-http [helm]=--plain-http)

# start_cubby NAME [FLAG...]: one for this client alone, because regctl asks for a mount from anywhere. Sets R, L and D.
start_cubby() {
  L=$S/$1.log D=$S/$1.data
  "$CUBBY_CMD" serve "${@:2}" --data "$D" >"$S/$1.out" 2>"$L" &
  daemons+=($!)
  until_true 20 grep -qs '"msg":"serving"' "$L" || { cat "$L" >&2; die "Cubby does not serve"; }
  R=$(jq -Rr 'fromjson? | select(.msg == "serving") | .addr' "$L" | head -n 1)
}

daemons=()
stop_daemons() {
  local pid
  for pid in "${daemons[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${daemons[@]}"; do until_true 10 ended "$pid" || kill -KILL "$pid" 2>/dev/null || true; done
  daemons=()
}
ended() { ! kill -0 "$1" 2>/dev/null; }
trap stop_daemons EXIT

declare -A result=()
take() { if declare -F "$1_$2" >/dev/null; then "$1_$2"; else "step_$2"; fi; }

# explain LOG: what is worth reading of a cell that failed.
explain() {
  tail -n 25 "$1"
  say "Cubby was asked:"
  (requests) | tail -n 25 || true
}

# run CLIENT STEP: one cell, in a subshell of its own, and its line.
run() {
  local client=$1 step=$2 key=$1/$2 began=${EPOCHREALTIME/./} status=0 log
  cell=$client.$step log=$S/$step.log
  if [ -n "${absent[$key]-}" ]; then
    result[$key]=n/a
    printf '%-4s  %-10s  %-8s          %s\n' n/a "$client" "$step" "${absent[$key]}"
    return
  fi
  fence "$cell" || say "Cubby does not answer"
  attempt take "$client" "${step//-/_}" >"$log" 2>&1
  if [ "$status" = 0 ]; then result[$key]=ok; else result[$key]=FAIL; fi
  printf '%-4s  %-10s  %-8s  %5.1f s  %s\n' "${result[$key]}" "$client" "$step" "$(((${EPOCHREALTIME/./} - began) / 100000))e-1" "${instead[$key]-}"
  [ "$status" = 0 ] || explain "$log" 2>&1 | cut -c1-300 | sed 's/^/      | /'
}

# isolate: what clients keep outside their own folders, and read there, goes to the scratch folder as well. The content
# moves to a path that podman can make an image's name of. There is no network but a loopback interface, with an address
# that clients do not know to be this machine: of 127.0.0.1, docker believes any certificate.
isolate() {
  local dir
  mount -t tmpfs tmpfs /run
  mkdir "$W/etc"
  mkdir /run/content
  mount --bind -o ro "$C" /run/content
  C=/run/content
  mkdir -p /etc/docker /etc/containerd
  cp -a /etc/containers /etc/containerd "$W/etc"
  for dir in /etc/docker /etc/containers /etc/containerd /var/lib/containers /var/lib/docker /var/lib/containerd; do
    [ -d "$dir" ] || continue
    mkdir -p "$W$dir"
    mount --bind "$W$dir" "$dir"
  done
  { cat /etc/hosts && echo "192.0.2.1 $secure_name"; } >"$W/etc/hosts"
  mount --bind "$W/etc/hosts" /etc/hosts
  ip link set lo up
  ip address add 192.0.2.1/32 dev lo
}

# Overlay mounts do not work on top of every file system, for one not on another overlay.
mkdir "$W/probe" "$W/probe/lower" "$W/probe/upper" "$W/probe/work" "$W/probe/merged"
if mount -t overlay overlay -o "lowerdir=$W/probe/lower,upperdir=$W/probe/upper,workdir=$W/probe/work" "$W/probe/merged" 2>/dev/null; then
  umount "$W/probe/merged"
  overlay=overlay
else
  overlay=vfs
fi

# Debian is fetched through the machine's own network.
debootstrap() { nsenter --net="/proc/self/fd/$network" debootstrap "$@"; }
content
isolate
say "skopeo $(skopeo --version | cut -d' ' -f3), podman $(podman --version | cut -d' ' -f3), buildah $(buildah --version | cut -d' ' -f3)," \
  "docker $(dockerd --version | cut -d' ' -f3 | tr -d ,), containerd $(containerd --version | cut -d' ' -f3)"

for client in $clients; do
  S=$W/$client TAG=1
  [ "$client" != helm ] || TAG=1.0.0
  mkdir -p "$S/home/.docker" "$S/xdg"
  echo '{}' >"$S/home/.docker/config.json"
  export HOME=$S/home XDG_RUNTIME_DIR=$S/xdg DOCKER_CONFIG=$S/home/.docker
  rm -rf /var/lib/containers/cache
  plain=yes way=${plain_flags[$client]-}
  start_cubby open --addr 127.0.0.1:0
  if declare -F "${client}_start" >/dev/null; then "${client}_start" || say "$client's daemons did not start"; fi
  for step in $steps; do run "$client" "$step"; done
  start_users
  for step in $logins; do run "$client" "$step"; done
  start_secure
  for step in $secure; do run "$client" "$step"; done
  stop_daemons
  [ -n "${CUBBY_KEEP-}" ] || rm -rf "$S"/*.data
done

passed=0 failed=0
# table STEP...: of each client, and counts.
table() {
  local client step got
  printf '\n%-11s' ''
  printf '%-9s' "$@"
  for client in $clients; do
    printf '\n%-11s' "$client"
    for step in "$@"; do
      got=${result[$client/$step]:-missing}
      case $got in
        ok) passed=$((passed + 1)); [ -z "${instead[$client/$step]-}" ] || got="ok*" ;;
        n/a) ;;
        *) failed=$((failed + 1)) ;;
      esac
      printf '%-9s' "$got"
    done
  done
  echo
}
table $steps
table $logins
table $secure
printf '\n* not by the client itself, or in another way, as said above\n'
say "$passed passed, $failed failed"
[ "$failed" = 0 ]
