# What is pushed and pulled, as OCI layouts and files under $C; made once and kept in $CUBBY_CACHE. Sourced by matrix.sh.
#   app         Debian by debootstrap and a layer of random bytes: over 100 MB      rootfs.tar random.bin   its parts
#   zstd        a part of Debian in zstd layers                   multi       an index of three platforms
#   sha512      nothing in it is named by a sha256 digest         single      one layer of 24 MB, to be cut in the middle
#   chart.tgz   a Helm chart of 12 MB                             artifact/ module/   what oras and regctl push

# debian TAR: debootstrap's smallest Debian, from the mirror this machine uses.
debian() {
  local codename mirror root=$W/rootfs
  codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
  mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
    awk -v codename="$codename" '$2 == codename && $3 == "main" { print $1; exit }')
  [ -n "$mirror" ] || die "apt knows no mirror for $codename main"
  eval "$(apt-config shell http_proxy Acquire::http::Proxy)"
  export http_proxy
  if ! debootstrap --variant=minbase "$codename" "$root" "$mirror" >"$W/debootstrap.log" 2>&1; then
    tail -n 20 "$W/debootstrap.log" >&2
    die "debootstrap failed"
  fi
  rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/*
  tar -C "$root" --one-file-system --exclude='./dev/*' -cf "$1" .
  rm -rf "$root"
}

# built IMAGE CONTAINERFILE [OPTION...]: builds in $C/ctx from the lines given, into the build store.
built() {
  local image=$1 lines=$2
  shift 2
  printf '%s\n' "$lines" | build bud -q --layers -f - "$@" -t "$image" "$C/ctx"
}
build() { timeout 300 buildah --root "$W/build/root" --runroot "$W/build/run" --storage-driver "$overlay" "$@"; }

images() {
  local ctx=$C/ctx arch
  mkdir -p "$ctx"
  head -c $((64 << 20)) /dev/urandom >"$C/random.bin"
  ln "$C/rootfs.tar" "$C/random.bin" "$ctx"
  head -c $((24 << 20)) /dev/urandom >"$ctx/single.bin"
  for arch in amd64 arm64 arm; do echo "Hello from $arch." >"$ctx/hello.$arch"; done
  mkdir "$ctx/debian"
  tar -C "$ctx/debian" -xf "$C/rootfs.tar" ./usr/sbin ./etc

  built app "$app_containerfile"
  build push -q app "oci:$C/app:1"
  [ "$(du -sm "$C/app" | cut -f1)" -gt 100 ]
  built zstd $'FROM scratch\nCOPY debian/etc /etc\nCOPY debian/usr/sbin /usr/sbin'
  build push -q --compression-format zstd --format oci zstd "oci:$C/zstd:1"
  built single $'FROM scratch\nCOPY single.bin /'
  build push -q single "oci:$C/single:1"
  for arch in amd64 arm64 arm/v7; do
    built "multi-${arch%/*}" "$multi_containerfile" --platform "linux/$arch" --manifest multi
  done
  build manifest push -q --all multi "oci:$C/multi:1"
  regctl image mod "ocidir://$C/single:1" --digest-algo sha512 --create "ocidir://$C/sha512:1"
  rm -rf "$ctx"
}
app_containerfile=$'FROM scratch\nADD rootfs.tar /\nCOPY random.bin /srv/\nCMD ["/bin/sh"]'
multi_containerfile=$'FROM scratch\nARG TARGETARCH\nCOPY hello.$TARGETARCH /hello\nCMD ["/hello"]'

files() {
  local i chart=$C/chart artifact=$C/artifact
  mkdir -p "$chart/files" "$chart/templates" "$artifact/docs" "$C/module/modules/network"
  printf '%s\n' 'apiVersion: v2' 'name: chart' 'version: 1.0.0' 'description: A chart to push and pull.' >"$chart/Chart.yaml"
  printf '%s\n' 'apiVersion: v1' 'kind: ConfigMap' 'metadata:' '  name: {{ .Release.Name }}' >"$chart/templates/map.yaml"
  for i in 1 2 3; do head -c $((4 << 20)) /dev/urandom >"$chart/files/$i.bin"; done
  helm package -d "$C" "$chart"
  mv "$C/chart-1.0.0.tgz" "$C/chart.tgz"
  rm -rf "$chart"

  head -c 300000 /dev/urandom >"$artifact/model.bin"
  echo '{"layers": 12}' >"$artifact/config.json"
  echo 'How to use it.' >"$artifact/docs/use.md"
  echo '{"spdxVersion": "SPDX-2.3"}' >"$artifact/sbom.json"

  echo 'module "network" { source = "./modules/network" }' >"$C/module/main.tf"
  echo 'output "name" { value = "network" }' >"$C/module/modules/network/main.tf"
  helper zip "$C/module" >"$C/module.zip"
}

make_content() {
  images
  files
}

# content: sets C. Debian is kept by its recipe, the rest by this whole file.
content() {
  local key tarball status
  mkdir -p "$CUBBY_CACHE"
  tarball=$CUBBY_CACHE/debian-$(declare -f debian | cat - /etc/os-release | sha256sum | cut -c1-12).tar
  key=$(sha256sum <"${BASH_SOURCE[0]}" | cut -c1-12)
  C=$CUBBY_CACHE/content-$key
  [ ! -d "$C" ] || return 0
  if [ ! -f "$tarball" ]; then
    say "making Debian with debootstrap (kept in $CUBBY_CACHE)"
    debian "$tarball.new"
    mv "$tarball.new" "$tarball"
  fi
  say "building what is pushed"
  rm -rf "$CUBBY_CACHE"/content-* "$CUBBY_CACHE"/making
  C=$CUBBY_CACHE/making
  mkdir "$C"
  ln "$tarball" "$C/rootfs.tar"
  attempt make_content >"$W/content.log" 2>&1
  if [ "$status" != 0 ]; then
    tail -n 20 "$W/content.log" >&2
    die "building the content failed"
  fi
  rm -rf "$W/build"
  mv "$C" "$CUBBY_CACHE/content-$key"
  C=$CUBBY_CACHE/content-$key
}
