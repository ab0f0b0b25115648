#!/usr/bin/env bash
# Drives real clients against Cubby: every client through every step of a fixed matrix (clients/matrix.sh), without logging
# in, with logins on a Cubby that has users, and by https as `cubby connect` says.
#   scripts/clients.sh [CLIENT...]     all clients, or only those named
# As root, with Debian's own clients installed; the Go clients are built by scripts/tools.sh. The clients' state, mounts
# and daemons live in one scratch folder and in namespaces of their own, and end with the script.
#   CUBBY_CMD    the registry to drive, instead of one built from this tree
#   CUBBY_CACHE  where the Debian image is kept between runs (default: the user's cache)
#   CUBBY_KEEP   not empty: leave the scratch folder (logs, stores) behind and say where it is
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/.."

die() { echo "clients.sh: $*" >&2; exit 2; }

packages="skopeo podman buildah crun runc containerd docker.io debootstrap iptables uidmap conmon zstd jq fuse-overlayfs iproute2 ca-certificates"
for tool in skopeo podman buildah runc containerd ctr dockerd docker debootstrap iptables zstd jq ip unshare nsenter script; do
  command -v "$tool" >/dev/null || die "$tool is not installed; run: apt-get install --no-install-recommends $packages"
done
[ "$(id -u)" = 0 ] || die "docker, containerd and debootstrap need root"

inner=
scratch=$(mktemp -d "${TMPDIR:-/tmp}/cubby-clients.XXXXXX")
cleanup() {
  # unshare takes everything inside its namespaces along: processes and mounts.
  [ -z "$inner" ] || { kill -KILL "$inner" && wait "$inner"; } 2>/dev/null || true
  if [ -n "${CUBBY_KEEP-}" ]; then echo "clients.sh: left behind: $scratch" >&2; else rm -rf "$scratch"; fi
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

tools=$(scripts/tools.sh crane regctl oras helm)
mkdir "$scratch/bin"
CGO_ENABLED=0 go build -o "$scratch/bin/helper" ./scripts/clients
if [ -z "${CUBBY_CMD-}" ]; then
  CUBBY_CMD=$scratch/bin/cubby
  CGO_ENABLED=0 go build -o "$CUBBY_CMD" .
fi
export CUBBY_CMD CUBBY_CACHE=${CUBBY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/cubby-clients}

# Debian's clients, whatever newer ones /usr/local may hold.
export PATH=$scratch/bin:$tools:/usr/sbin:/usr/bin:/sbin:/bin
unset DOCKER_HOST DOCKER_CONFIG DOCKER_CONTEXT CONTAINER_HOST REGISTRY_AUTH_FILE CONTAINERD_ADDRESS CONTAINERD_NAMESPACE

exec {network}</proc/self/ns/net # for debootstrap, which alone may use it
export network
unshare --mount --net --pid --fork --kill-child --mount-proc "$here/clients/matrix.sh" "$scratch" "$@" &
inner=$!
status=0
wait "$inner" || status=$?
inner=
exit "$status"
