# skopeo, podman and buildah: one library, three ways to hold images. Sourced by matrix.sh.

skopeo() { timeout 120 skopeo "$@"; }

skopeo_up() {
  skopeo copy -q --all --preserve-digests ${way/#--/--dest-} "oci:$C/$1:1" "docker://$2"
  layout_digest "$C/$1" >"$S/pushed"
}
skopeo_down() {
  rm -rf "$S/layout"
  skopeo copy -q --all --preserve-digests ${way/#--/--src-} "docker://$1" "oci:$S/layout:1"
  layout_digest "$S/layout" >"$S/pulled"
}
# From the layout again: skopeo remembers by itself where it pushed these layers.
skopeo_copy() { skopeo copy -q --preserve-digests --dest-tls-verify=false "oci:$C/app:1" "docker://$2"; }
skopeo_remove() { skopeo delete --tls-verify=false "docker://$1"; }
skopeo_login() { skopeo login --tls-verify=false -u "$1" --password-stdin "$R"; }

# store TOOL NAME ...: podman or buildah on a store of its own.
store() {
  local tool=$1 root=$S/$2
  local -a own=()
  [ "$tool" = buildah ] || own=(--cgroup-manager cgroupfs --events-backend none --tmpdir "$root/tmp")
  timeout 120 "$tool" --root "$root" --runroot "$root/run" --storage-driver "$overlay" "${own[@]}" "${@:3}"
}

# store_push TOOL WHAT IMAGE REF
store_push() {
  local -a how=(push -q $way --digestfile "$S/pushed")
  case $2 in
    multi) how=(manifest "${how[@]}" --all) ;;
    zstd)
      # Where the cache knows a layer in gzip, podman would push that.
      rm -rf /var/lib/containers/cache
      how+=(--compression-format zstd --format oci)
      ;;
  esac
  store "$1" here "${how[@]}" "$3" "docker://$4"
}

# build_multi TOOL BUILD-COMMAND...: an index of three platforms, in the tool's store.
build_multi() {
  local arch
  mkdir -p "$S/ctx"
  for arch in amd64 arm64 arm; do echo "Hello from $arch." >"$S/ctx/hello.$arch"; done
  for arch in amd64 arm64 arm/v7; do
    store "$@" -q --platform "linux/$arch" --manifest multi -f - "$S/ctx" <<<"$multi_containerfile"
  done
}

# store_pull TOOL REF: into a store emptied before.
store_pull() {
  store "$1" empty rmi -a -f
  same "images before the pull" 0 "$(store "$1" empty images -q | wc -l)"
  store "$1" empty pull -q $way "$2"
}

podman_up() {
  case $1 in
    multi) build_multi podman here build ;;
    *) store podman here tag "$(store podman here pull -q "oci:$C/$1:1")" "$1" ;;
  esac
  store_push podman "$1" "$1" "$2"
}
podman_down() {
  store_pull podman "$1"
  store podman empty image inspect --format '{{.Digest}}' "$1" >"$S/pulled"
}
podman_copy() { store_push podman app app "$2"; }
podman_remove() { skopeo_remove "$1"; }
podman_login() { store podman here login --tls-verify=false -u "$1" --password-stdin "$R"; }

# buildah builds the Debian image from its parts, as its users do.
buildah_up() {
  case $1 in
    multi) build_multi buildah here bud ;;
    app)
      mkdir -p "$S/app"
      [ -e "$S/app/rootfs.tar" ] || cp "$C/rootfs.tar" "$C/random.bin" "$S/app"
      store buildah here bud -q --layers -t app -f - "$S/app" <<<"$app_containerfile"
      ;;
    *) store buildah here tag "$(store buildah here pull -q "oci:$C/$1:1")" "$1" ;;
  esac
  store_push buildah "$1" "$1" "$2"
}
buildah_down() {
  store_pull buildah "$1"
  store buildah empty images --digests --format '{{.Digest}}' >"$S/pulled"
}
buildah_copy() { store_push buildah app app "$2"; }
buildah_remove() { skopeo_remove "$1"; }
buildah_login() { store buildah here login --tls-verify=false -u "$1" --password-stdin "$R"; }
