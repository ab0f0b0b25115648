package server

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"text/template"

	"cubby/store"
)

// A ConnectItem is how clients reach the registry.
type ConnectItem struct {
	Host  string `json:"host"`  // HOST:PORT as clients write it
	HTTPS bool   `json:"https"` // else plain HTTP
	// CA is the certificate, in PEM, of the authority that clients must be told to trust; "" when they know it.
	CA string `json:"ca,omitempty"`
	// Users is whether anybody can log in.
	Users bool `json:"users"`
}

// Local reports whether the registry is on a loopback address, which clients treat in their own ways.
func (c ConnectItem) Local() bool {
	host, _, err := net.SplitHostPort(c.Host)
	if err != nil {
		host = c.Host
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Settings of the store that say how clients reach it; serve writes them.
const (
	SettingHTTPS = "https" // "true" or ""
	SettingCA    = "ca"    // PEM of an authority of our own, or ""
)

func adminConnect(ctx context.Context, st *store.Store, _ *http.Request, send func(Event)) error {
	c := ConnectItem{Users: len(st.Access().Users) > 0}
	for name, to := range map[string]*string{SettingHost: &c.Host, SettingCA: &c.CA} {
		var err error
		if *to, err = st.Setting(ctx, name); err != nil {
			return err
		}
	}
	https, err := st.Setting(ctx, SettingHTTPS)
	if err != nil {
		return err
	}
	c.HTTPS = https == "true"
	if c.Host == "" {
		c.Host = "localhost:5000"
	}
	send(Event{Connect: &c})
	return nil
}

// connectFacts are what the texts are made of.
type connectFacts struct {
	ConnectItem
	User string // who logs in, or ""
}

func (f connectFacts) Scheme() string {
	if f.HTTPS {
		return "https"
	}
	return "http"
}

// connectTexts tell, by client, what it needs to know about the registry: each file with its exact content, and what to
// run then. Lines that begin with # are for people; one of them ends each file.
var connectTexts = map[string]string{
	"docker": `
{{- if .CA}}# /etc/docker/certs.d/{{.Host}}/ca.crt
{{.CA}}
# Docker reads it at the next pull; nothing has to be restarted. Docker Desktop: import it into the system's trust store.
{{else if or .HTTPS .Local}}# Docker needs no file for {{.Host}}{{if not .HTTPS}}: it takes plain HTTP from loopback addresses{{end}}.
{{else}}# /etc/docker/daemon.json (add it to what is there)
{
  "insecure-registries": ["{{.Host}}"]
}
# then
systemctl restart docker
{{end}}{{if .User}}
# log in
docker login {{.Host}} --username {{.User}}
{{end}}
docker tag alpine {{.Host}}/alpine
docker push {{.Host}}/alpine
`,
	"podman": `
{{- template "containers" .}}{{if .User}}
# log in
podman login {{.Host}} --username {{.User}}
{{end}}
# push
podman tag alpine {{.Host}}/alpine
podman push {{.Host}}/alpine
`,
	"skopeo": `
{{- template "containers" .}}{{if .User}}
# log in
skopeo login {{.Host}} --username {{.User}}
{{end}}
# push
skopeo copy containers-storage:alpine docker://{{.Host}}/alpine
`,
	"k3s": `
{{- if .CA}}# /etc/rancher/k3s/cubby-ca.crt
{{.CA}}
{{end}}# /etc/rancher/k3s/registries.yaml on every node (add it to what is there)
mirrors:
  "{{.Host}}":
    endpoint:
      - "{{.Scheme}}://{{.Host}}"
{{- if or .User .CA}}
configs:
  "{{.Host}}":
{{- if .User}}
    auth:
      username: {{.User}}
      password: # of {{.User}}, or an access token from cubby token create --user {{.User}}
{{- end}}
{{- if .CA}}
    tls:
      ca_file: /etc/rancher/k3s/cubby-ca.crt
{{- end}}
{{- end}}
# then, and k3s-agent on agents
systemctl restart k3s
`,
	"containerd": `
{{- template "hosts" .}}
# /etc/containerd/config.toml (add it to what is there; containerd 1.6 and 1.7)
[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = "/etc/containerd/certs.d"
# then
systemctl restart containerd
# with ctr
ctr images pull --hosts-dir /etc/containerd/certs.d{{if .User}} --user {{.User}}{{end}} {{.Host}}/alpine:latest
`,
	"kind": `
{{- if .Local}}# {{.Host}} is each node itself as seen from inside. Give an address of this machine that nodes reach: cubby connect kind --host HOST:PORT
{{end}}# kind.yaml
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
containerdConfigPatches:
  - |-
    [plugins."io.containerd.grpc.v1.cri".registry]
      config_path = "/etc/containerd/certs.d"
# then
kind create cluster --config kind.yaml
# and in every node (docker exec -i NODE sh)
{{template "hosts" .}}{{if .User}}# log in: for pods of a namespace that name it in imagePullSecrets
kubectl create secret docker-registry cubby --docker-server={{.Host}} --docker-username={{.User}} --docker-password=PASSWORD
{{end}}`,
	"buildkit": `
{{- if .CA}}# /etc/buildkit/cubby-ca.crt
{{.CA}}
{{end}}# /etc/buildkit/buildkitd.toml (add it to what is there)
[registry."{{.Host}}"]
{{- if .CA}}
  ca = ["/etc/buildkit/cubby-ca.crt"]
{{- else if not .HTTPS}}
  http = true
{{- end}}
# then
systemctl restart buildkit
# with docker buildx instead
docker buildx create --use --buildkitd-config /etc/buildkit/buildkitd.toml
{{if .User}}# log in: buildctl and buildx take what docker knows
docker login {{.Host}} --username {{.User}}
{{end}}`,
	"helm": `
{{- template "ca" .}}{{if .User}}# log in
helm registry login {{.Host}} --username {{.User}}{{template "flag" .}}
{{end}}# push and install
helm push mychart-0.1.0.tgz oci://{{.Host}}/charts{{template "flag" .}}
helm install my oci://{{.Host}}/charts/mychart --version 0.1.0{{template "flag" .}}
`,
	"crane": `
{{- if .CA}}# cubby-ca.crt
{{.CA}}
# then, for crane to trust it beside what it knows
export SSL_CERT_FILE=$PWD/cubby-ca.crt
{{else if and (not .HTTPS) (not .Local)}}# crane takes plain HTTP with --insecure only
{{end}}{{if .User}}# log in: crane itself asks for no password
printf 'Password: '; read -rs password; crane auth login {{.Host}} -u {{.User}} --password-stdin <<<"$password"
{{end}}crane copy {{if and (not .HTTPS) (not .Local)}}--insecure {{end}}alpine:latest {{.Host}}/alpine
`,
	"regctl": `
{{- template "ca" .}}{{if .CA}}# then
{{end}}regctl registry set {{.Host}}{{if .User}} --skip-check{{end}}{{if .CA}} --cacert "$(cat cubby-ca.crt)"{{else if not .HTTPS}} --tls disabled # insecure: plain HTTP{{end}}
{{if .User}}# log in
regctl registry login {{.Host}} -u {{.User}}
{{end}}regctl image copy alpine:latest {{.Host}}/alpine
`,
	"oras": `
{{- template "ca" .}}{{if .User}}# log in
oras login {{.Host}} --username {{.User}}{{template "flag" .}}
{{end}}# push and pull
oras push{{template "flag" .}} {{.Host}}/files/report:1 report.pdf
oras pull{{template "flag" .}} {{.Host}}/files/report:1
`,
}

// connectShared are the parts that several clients have in common.
const connectShared = `
{{- define "containers"}}{{if .CA}}# /etc/containers/certs.d/{{.Host}}/ca.crt
{{.CA}}
{{else if .HTTPS}}# No file is needed for {{.Host}}.
{{else}}# /etc/containers/registries.conf.d/cubby.conf
[[registry]]
location = "{{.Host}}"
insecure = true
{{end}}{{end}}
{{- define "hosts"}}{{if .CA}}# /etc/containerd/certs.d/{{.Host}}/ca.crt
{{.CA}}
{{end}}# /etc/containerd/certs.d/{{.Host}}/hosts.toml
server = "{{.Scheme}}://{{.Host}}"

[host."{{.Scheme}}://{{.Host}}"]
  capabilities = ["pull", "resolve", "push"]
{{- if .CA}}
  ca = "/etc/containerd/certs.d/{{.Host}}/ca.crt"
{{- end}}
{{end}}
{{- define "ca"}}{{if .CA}}# cubby-ca.crt
{{.CA}}
{{end}}{{end}}
{{- define "flag"}}{{if .CA}} --ca-file cubby-ca.crt{{else if not .HTTPS}} --plain-http{{end}}{{end}}`

var connectTemplates = func() map[string]*template.Template {
	all := make(map[string]*template.Template)
	for client, text := range connectTexts {
		all[client] = template.Must(template.Must(template.New(client).Parse(connectShared)).Parse(text))
	}
	return all
}()

// ConnectClients returns the clients that Connect knows.
func ConnectClients() []string {
	var names []string
	for name := range connectTexts {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Connect returns what a client needs to use the registry: files with their content, and commands. user is who logs in, or
// "".
func Connect(client string, c ConnectItem, user string) (string, error) {
	t := connectTemplates[client]
	if t == nil {
		return "", fmt.Errorf("no client %q is known here; known are %s", client, strings.Join(ConnectClients(), ", "))
	}
	c.CA = strings.TrimSpace(c.CA)
	var b strings.Builder
	if err := t.Execute(&b, connectFacts{c, user}); err != nil {
		return "", err
	}
	return b.String(), nil
}
