# https with a CA that clients do not know: the steps on a Cubby with --tls-self-signed, by a name. Clients are set up by
# what `cubby connect` prints, taken literally. Sourced by matrix.sh.
# By its name they reach Cubby from an address that is not loopback, for which it refuses plain HTTP: what works is https.

secure_name=registry.cubby.test

# start_secure: the client is as it was before its first login, and works in a folder of its own.
start_secure() {
  nobody
  plain='' way='' H=$S/secure
  mkdir "$H"
  start_cubby secure --addr 0.0.0.0:0 --tls-self-signed --tls-name "$secure_name"
  R=$secure_name:${R##*:}
  users user add alice --password-stdin --grant '**=pull,push' <<<"$alice" >"$S/secure.add" 2>&1 ||
    { cat "$S/secure.add" >&2; die "Cubby takes no user"; }
}

step_distrust() {
  refused 'x509: certificate signed by unknown authority' push alice/distrust
  not_there alice/distrust
}

# set_up CLIENT: writes the files that `cubby connect CLIENT` prints, and its commands to $H/commands. A file is from the
# line that names it to the next one that begins with #.
set_up() {
  local line file=''
  cd "$H"
  users connect "$1" --user alice --host "$R" >printed
  cat printed
  : >commands
  while IFS= read -r line; do
    if [[ $line =~ ^'# '(/[^ ]+|[a-z-]+\.crt)(' (add it to what is there'.*)?$ ]]; then
      file=${BASH_REMATCH[1]}
      mkdir -p "$(dirname "$file")"
      [ -n "${BASH_REMATCH[2]}" ] || : >"$file"
    elif [[ $line == '#'* ]]; then
      file=''
    elif [ -n "$file" ]; then
      printf '%s\n' "$line" >>"$file"
    elif [ -n "$line" ]; then
      printf '%s\n' "$line" >>commands
    fi
  done <printed
}

# typed PASSWORD COMMAND: runs it on a terminal of its own, and types the password when it is asked for.
typed() {
  local keys
  rm -f "$S/screen" "$S/keys"
  mkfifo "$S/keys"
  SHELL=/bin/bash timeout 60 script -qefc "$2" "$S/screen" <"$S/keys" >/dev/null 2>&1 &
  exec {keys}>"$S/keys"
  until_true 20 grep -qsi 'password: *$' "$S/screen" || { cat "$S/screen"; fail "no password is asked for: $2"; }
  printf '%s\n' "$1" >&"$keys"
  wait $! || { cat "$S/screen"; fail "$2"; }
  exec {keys}>&-
}

# connected CLIENT: set up by the text for that client, as far as a login goes.
connected() {
  local line
  set_up "$1"
  while IFS= read -r line <&3; do
    case $line in
      *' login '*) typed "$alice" "$line"; return ;;
      *) eval "$line" ;;
    esac
  done 3<commands
  fail "no login is printed"
}

step_connect() { connected "$client"; }
buildah_connect() { connected podman; }
docker_connect() { DOCKER_HOST=unix:///run/docker-here.sock connected docker; }

# What is printed is a pull, which needs something to be there.
containerd_connect() {
  set_up containerd
  containerd --config /etc/containerd/config.toml config dump | grep 'config_path = "/etc/containerd/certs.d"'
  secured
  who=alice:$alice
  C=/run/small/alpine
  small_image
  containerd_up small "$R/alpine:1"
  ctr here images tag "$R/alpine:1" "$R/alpine:latest"
  containerd_up small "$R/alpine:latest"
  CONTAINERD_ADDRESS=/run/containerd-matrix.sock CONTAINERD_NAMESPACE=printed \
    typed "$alice" "$(grep '^ctr images pull ' commands)"
  same "digest of what was pulled" "$(<"$S/pushed")" "$(ctr_digest printed "$R/alpine:latest")"
}

# secured: as the text says, from now on.
secured() {
  cd "$H"
  way=$(grep -oEm 1 -- '--(ca-file|hosts-dir) [^ ]+' commands) || true
  eval "$(grep '^export ' commands)"
}

step_https() {
  secured
  pushes alice/https
  pulls alice/https "$(<"$S/pushed")"
  same "status by plain HTTP, for this machine" 200 "$(plainly)"
  same "status by plain HTTP, for others" 400 "$(address=$secure_name plainly)"
}
plainly() { http HEAD "/v2/$(path alice/https)/manifests/$TAG" "Authorization: Basic $(printf %s "alice:$alice" | base64)"; }
containerd_https() {
  who=alice:$alice
  step_https
}

# The commands that are printed after the login, on what they expect to be there.
after_login() { sed '0,/ login /d' commands; }

# arrived REPO TAG
arrived() { same "tags of $1" "$2" "$(users ls --json "$1" | jq -r .name)"; }

docker_printed() {
  secured
  C=/run/small/printed
  small_image
  skopeo copy -q --dest-daemon-host unix:///run/docker-here.sock "oci:$C/small:1" docker-daemon:alpine:latest
  DOCKER_HOST=unix:///run/docker-here.sock bash -ec "$(after_login)"
  arrived alpine latest
}

# skopeo and podman, with a store where they look for one by themselves.
step_printed() {
  secured
  C=/run/small/printed
  small_image
  printf '[storage]\ndriver = "%s"\ngraphroot = "%s"\nrunroot = "%s"\n' "$overlay" "$S/printed" "$S/printed/run" >storage.conf
  export CONTAINERS_STORAGE_CONF=$H/storage.conf
  skopeo copy -q "oci:$C/small:1" containers-storage:docker.io/library/alpine:latest
  bash -ec "$(after_login)"
  arrived alpine latest
}

oras_printed() {
  secured
  echo 'What was found.' >report.pdf
  cp report.pdf report
  eval "$(grep '^oras push ' commands)"
  rm report.pdf
  eval "$(grep '^oras pull ' commands)"
  cmp report report.pdf
}

helm_printed() {
  secured
  mkdir mychart
  printf '%s\n' 'apiVersion: v2' 'name: mychart' 'version: 0.1.0' >mychart/Chart.yaml
  helm package mychart
  eval "$(grep '^helm push ' commands)"
  arrived charts/mychart 0.1.0
}
