# crane, regctl, oras and helm, as pinned in scripts/tools.sh. Sourced by matrix.sh.

crane() { timeout 120 crane "$@"; }

crane_up() {
  crane push "$C/$1" "$2"
  layout_digest "$C/$1" >"$S/pushed"
}
crane_down() {
  rm -rf "$S/layout"
  crane pull --format oci "$1" "$S/layout"
  layout_digest "$S/layout" >"$S/pulled"
}
crane_copy() { crane copy "$1" "$2"; }
crane_remove() {
  crane delete "$1"
  same "status of the manifest, which keeps its digest" 200 "$(http HEAD "/v2/$(repo app)/manifests/$(<"$S/app.digest")")"
}

crane_login() { crane auth login -u "$1" --password-stdin "$R"; }

regctl() { timeout 120 regctl ${R:+${plain:+--host "reg=$R,tls=disabled"}} ${P:+--host "reg=$P,tls=disabled"} "$@"; }

regctl_up() {
  regctl image copy "ocidir://$C/$1:1" "$2"
  layout_digest "$C/$1" >"$S/pushed"
}
regctl_down() {
  rm -rf "$S/layout"
  regctl image copy "$1" "ocidir://$S/layout:1"
  layout_digest "$S/layout" >"$S/pulled"
}
regctl_copy() { regctl image copy "$1" "$2"; }
regctl_remove() { regctl tag rm "$1"; }
regctl_login() { regctl registry login -u "$1" --pass-stdin "$R"; }

regctl_artifact() {
  local ref=$R/regctl/artifact:1 subject
  cd "$C/artifact"
  regctl artifact put --artifact-type application/vnd.example.model --file-title \
    -f model.bin -m application/octet-stream -f config.json -m application/json "$ref"
  regctl artifact put --artifact-type application/spdx+json --subject "$ref" <sbom.json
  rm -rf "$S/out"
  mkdir "$S/out"
  regctl artifact get --output "$S/out" "$ref"
  cmp model.bin "$S/out/model.bin"
  cmp config.json "$S/out/config.json"
  subject=$(regctl artifact list --filter-artifact-type application/spdx+json --format '{{range .Descriptors}}{{println .Digest}}{{end}}' "$ref")
  same "referrers found" 1 "$(grep -c . <<<"$subject")"
  regctl artifact get "$R/regctl/artifact@$subject" | cmp - sbom.json
  no_fallback_tag regctl/artifact
}

# no_fallback_tag REPO: the referrers came from the API, not from a tag that the client keeps instead.
no_fallback_tag() {
  local seen
  seen=$(requests)
  grep -qP "^GET\t/v2/$1/referrers/\S+\t\S*\t200$" <<<"$seen" || fail "referrers were not asked for"
  if grep -P "^PUT\t/v2/$1/manifests/sha256-" <<<"$seen"; then fail "a referrers tag was pushed"; fi
}

# Pieces of 1 MB: the break falls into one of them, and the upload goes on with that one in the same session.
regctl_cut_push() {
  local sessions
  cutter up
  timeout 20 regctl registry set "$P" --tls disabled --blob-max 1000000 --blob-chunk 1000000 --skip-check
  timeout 120 regctl image copy "ocidir://$C/single:1" "$(ref single "$P")"
  grep -q '^cut$' "$S/cutter" || fail "the connection was not cut"
  kept single "$(layout_digest "$C/single")"
  layout_digest "$C/single" >"$S/single.digest"
  sessions=$(requests | awk -F '\t' '$1 == "PATCH" && $4 == 202 { print $2 }' | sort -u | wc -l)
  same "upload sessions written to" 1 "$sessions"
}

oras() { timeout 120 oras "$@"; }

oras_up() {
  oras cp --no-tty --from-oci-layout "$C/$1:1" ${way/#--/--to-} "$2"
  layout_digest "$C/$1" >"$S/pushed"
}
oras_down() {
  rm -rf "$S/layout"
  oras cp --no-tty ${way/#--/--from-} "$1" --to-oci-layout "$S/layout:1"
  layout_digest "$S/layout" >"$S/pulled"
}
oras_copy() { oras cp --no-tty --from-plain-http --to-plain-http "$1" "$2"; }
oras_remove() { oras manifest delete -f --plain-http "$1"; }
oras_login() { oras login --plain-http -u "$1" --password-stdin "$R"; }

# By digest only: a tag, for oras, has to be answered with the digest it knows, and Cubby names what a tag is put to by
# sha256.
oras_sha512() {
  local digest ref
  digest=$(layout_digest "$C/sha512")
  ref=$R/oras/sha512@$digest
  oras cp --no-tty --from-oci-layout "$C/sha512:1" --to-plain-http "$ref"
  oras_down "$ref"
  same "digest of what was pulled" "$digest" "$(<"$S/pulled")"
}

oras_artifact() {
  local ref=$R/oras/artifact:1 found
  cd "$C/artifact"
  oras push --no-tty --plain-http --artifact-type application/vnd.example.model --annotation org.example.trained=yes "$ref" \
    model.bin:application/octet-stream config.json:application/json docs
  oras attach --no-tty --plain-http --artifact-type application/spdx+json "$ref" sbom.json:application/spdx+json
  rm -rf "$S/out"
  oras pull --no-tty --plain-http -o "$S/out" "$ref"
  cmp model.bin "$S/out/model.bin"
  cmp config.json "$S/out/config.json"
  cmp docs/use.md "$S/out/docs/use.md"
  found=$(oras discover --plain-http --format json --artifact-type application/spdx+json "$ref" | jq -er '(.referrers // .manifests)[].digest')
  same "referrers found" 1 "$(grep -c . <<<"$found")"
  oras pull --no-tty --plain-http -o "$S/out" "$R/oras/artifact@$found"
  cmp sbom.json "$S/out/sbom.json"
  no_fallback_tag oras/artifact
}

# As OpenTofu reads it.
oras_module() {
  local ref=$R/oras/module:1.0.0
  cd "$C"
  oras push --no-tty --plain-http --artifact-type application/vnd.opentofu.modulepkg "$ref" module.zip:archive/zip
  rm -rf "$S/out"
  oras pull --no-tty --plain-http -o "$S/out" "$ref"
  cmp module.zip "$S/out/module.zip"
  oras manifest fetch --plain-http "$ref" |
    jq -e '.artifactType == "application/vnd.opentofu.modulepkg" and .layers[0].mediaType == "archive/zip"'
}

helm() { timeout 120 helm "$@"; }

# helm_up WHAT REF: the same chart whatever is asked for; helm adds its name and version to what it is given.
helm_up() {
  helm push $way "$C/chart.tgz" "oci://${2%/chart:*}" 2>&1 | tee "$S/said"
  sed -n 's/^Digest: //p' "$S/said" >"$S/pushed"
}
helm_down() {
  rm -rf "$S/out"
  mkdir "$S/out"
  case $1 in
    *@*) helm pull $way -d "$S/out" "oci://$1" 2>&1 ;;
    *) helm pull $way -d "$S/out" "oci://${1%:*}" --version "${1##*:}" 2>&1 ;;
  esac | tee "$S/said"
  sed -n 's/^Digest: //p' "$S/said" >"$S/pulled"
  cmp "$C/chart.tgz" "$S"/out/*.tgz
}
helm_copy() { oras_copy "$1" "$2"; }
helm_remove() { crane delete "$1"; }
helm_login() { helm registry login --plain-http -u "$1" --password-stdin "$R"; }
