# Debian's containerd 1.6 with ctr. Sourced by matrix.sh.

ctr() { timeout 120 ctr -a /run/containerd-matrix.sock -n "$1" "${@:2}"; }

containerd_start() {
  # Its socket is not the usual one, which docker would take for its own. Isolated: what one namespace holds is not
  # there for another, so a new namespace is an empty store.
  cat >"$S/config.toml" <<END
version = 2
root = "$S/root"
state = "/run/containerd-matrix"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
  address = "/run/containerd-matrix.sock"
[plugins."io.containerd.metadata.v1.bolt"]
  content_sharing_policy = "isolated"
END
  containerd -c "$S/config.toml" >"$S/containerd.log" 2>&1 &
  daemons+=($!)
  until_true 30 ctr here version >/dev/null 2>&1 || { tail -n 20 "$S/containerd.log"; return 1; }
}

# ctr_digest NAMESPACE REF
ctr_digest() { ctr "$1" images ls "name==$2" | awk 'NR == 2 { print $3 }'; }

containerd_up() {
  [ -n "$(ctr_digest here "$2")" ] || tar -C "$C/$1" -cf - . | ctr here images import --all-platforms --no-unpack --base-name "${2%:*}" -
  ctr here images push $way ${who:+--user "$who"} "$2"
  ctr_digest here "$2" >"$S/pushed"
  same "digest of what was imported" "$(layout_digest "$C/$1")" "$(<"$S/pushed")"
}
containerd_down() {
  local namespace=$step snapshotter=${overlay/overlay/overlayfs}
  ctr "$namespace" images pull $way ${who:+--user "$who"} --all-platforms --snapshotter "${snapshotter/vfs/native}" "$1" >/dev/null
  ctr_digest "$namespace" "$1" >"$S/pulled"
}
# It mounts from where an image was pulled.
containerd_copy() {
  ctr here images pull --plain-http "$1" >/dev/null
  ctr here images push --plain-http "$2" "$1"
}
containerd_remove() { crane delete "$1"; }
# It has no login: who is what it is told each time.
containerd_login() { who=$1:$(cat); }
