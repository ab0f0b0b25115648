#!/usr/bin/env bash
# Builds the release binaries: static, stripped, reproducible, each with its own copy of the time zone database.
#   scripts/package.sh                       # every target, into dist/
#   scripts/package.sh DIR linux/amd64 …     # only these, into DIR
# VERSION names the version instead of git. Fails when a binary is not what its name says, not static, or over the limit.
set -euo pipefail
out=${1:-}
if [ -n "$out" ]; then mkdir -p "$out" && out=$(cd "$out" && pwd); fi
cd "$(dirname "$0")/.."

limit=$((24 * 1000 * 1000))
targets='linux/amd64 linux/arm64 linux/armv7 darwin/amd64 darwin/arm64'

fail() {
  echo "package: $*" >&2
  exit 1
}

# build FILE OS/ARCH compiles one target.
build() {
  local os=${2%/*} arch=${2#*/} arm=
  case $arch in armv*) arm=${arch#armv} arch=arm ;; esac
  CGO_ENABLED=0 GOOS=$os GOARCH=$arch GOARM=$arm GOAMD64=v1 GOARM64=v8.0 GOFLAGS='' \
    go build -trimpath -buildvcs=false -tags timetzdata -ldflags "-s -w -X main.version=$version" -o "$1" .
}

# check FILE OS/ARCH fails unless FILE is a static, stripped program for that machine and no larger than the limit.
# The runner cannot execute most of them, so what is asked is the file itself.
check() {
  local file=$1 size info machine program sections
  size=$(wc -c <"$file")
  printf 'package: %-20s %5d.%02d MB of %d\n' \
    "${file##*/}" $((size / 1000000)) $((size % 1000000 / 10000)) $((limit / 1000000))
  ((size <= limit)) || fail "${file##*/} has $size bytes, the limit is $limit"

  info=$(go version -m "$file")
  grep -q 'build[[:space:]]CGO_ENABLED=0$' <<<"$info" || fail "${file##*/} was not built with CGO_ENABLED=0"
  grep -q "build[[:space:]]GOOS=${2%/*}\$" <<<"$info" || fail "${file##*/} is not for $2"
  case $2 in
    linux/amd64) machine=X86-64 ;;
    linux/arm64) machine=AArch64 ;;
    linux/armv*)
      machine=ARM
      grep -q "build[[:space:]]GOARM=${2#linux/armv}\$" <<<"$info" || fail "${file##*/} is not for $2"
      ;;
    *) return 0 ;; # readelf reads no Mach-O, and every macOS program loads the system's libraries
  esac
  LC_ALL=C readelf -hW "$file" | grep -q "Machine:.* $machine\$" || fail "${file##*/} is not for $2"
  program=$(LC_ALL=C readelf -lW "$file")
  ! grep -qE 'INTERP|DYNAMIC' <<<"$program" || fail "${file##*/} is not static"
  sections=$(LC_ALL=C readelf -SW "$file")
  ! grep -qE '\.(symtab|z?debug_)' <<<"$sections" || fail "${file##*/} is not stripped"
}

[ -n "$out" ] || out=dist
[ $# -lt 2 ] || targets=${*:2}
mkdir -p "$out"
version=${VERSION:-$(git describe --tags --always --dirty 2>/dev/null || echo devel)}
echo "package: cubby $version, $(go version | cut -d' ' -f3)"

files=()
for target in $targets; do
  file=cubby-${target/\//-}
  build "$out/$file" "$target"
  check "$out/$file" "$target"
  files+=("$file")
done
(cd "$out" && sha256sum "${files[@]}" >SHA256SUMS)
