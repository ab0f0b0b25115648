package web

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
)

// A command is what somebody types to use an artifact.
type command struct {
	Client string // who runs it, in the words of the page
	Text   string
}

// imageClients are the clients of images, of which a viewer prefers one.
var imageClients = []string{"docker", "podman", "nerdctl", "skopeo", "crane"}

// A target is what commands are about.
type target struct {
	Host  string // as the browser wrote it
	HTTPS bool
	Name  oci.Name
	Tag   string        // "" by digest
	Dgst  digest.Digest // of the same manifest
}

// ref returns HOST/NAME:TAG, or by digest.
func (t target) ref() string {
	if t.Tag == "" {
		return t.byDigest()
	}
	return t.Host + "/" + t.Name.String() + ":" + t.Tag
}

func (t target) byDigest() string { return t.Host + "/" + t.Name.String() + "@" + t.Dgst.String() }

// plain returns the flag that a client needs for plain HTTP, with a space in front. Those that take it from a loopback
// address by themselves need none there.
func (t target) plain(flag string, loopback bool) string {
	if t.HTTPS || loopback && isLocalhost(t.Host) {
		return ""
	}
	return " " + flag
}

func isLoopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// isLocalhost reports whether a host is one of those that every client takes for this machine.
func isLocalhost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return slices.Contains([]string{"localhost", "127.0.0.1", "::1", "[::1]"}, host)
}

// imageCommand returns how a client fetches an image.
func (t target) imageCommand(client, ref string) string {
	switch client {
	case "podman":
		return "podman pull" + t.plain("--tls-verify=false", false) + " " + ref
	case "nerdctl":
		return "nerdctl" + t.plain("--insecure-registry", true) + " pull " + ref
	case "skopeo":
		return "skopeo copy" + t.plain("--src-tls-verify=false", false) + " docker://" + ref + " docker-archive:image.tar"
	case "crane":
		return "crane pull" + t.plain("--insecure", true) + " " + ref + " image.tar"
	}
	return "docker pull " + ref
}

// commands returns how to use an artifact of a kind, the one for the viewer's client first.
func (t target) commands(kind oci.ArtifactKind, client string) []command {
	base := t.Name.String()
	base = base[strings.LastIndexByte(base, '/')+1:]
	http := t.plain("--plain-http", false)
	version := ""
	if t.Tag != "" {
		// Helm writes + of a version as _ in a tag.
		version = " --version " + strings.ReplaceAll(t.Tag, "_", "+")
	}
	oras := command{"oras", "oras pull" + http + " " + t.ref()}
	switch kind {
	case "image", "":
		return t.imageCommands(client)
	case "chart":
		base = strings.ReplaceAll(base, "_", "-") // which no name in Kubernetes has
		chart := "oci://" + t.Host + "/" + t.Name.String()
		if t.Tag == "" {
			chart = "oci://" + t.byDigest() // without either helm takes the newest version
		}
		return []command{
			{"helm", fmt.Sprintf("helm install %s %s%s%s", base, chart, version, http)},
			{"helm, the archive", fmt.Sprintf("helm pull %s%s%s", chart, version, http)},
			{"helm, rendered", fmt.Sprintf("helm template %s %s%s%s", base, chart, version, http)},
			{"Flux", t.flux(base)},
			{"Argo CD", t.argo(base)},
			oras,
		}
	case "module":
		return t.moduleCommands("")
	case "provider":
		if t.Tag != "" { // OpenTofu finds a provider by its tags
			return []command{{"OpenTofu, in .tofurc", t.providerMirror()}, oras}
		}
		return []command{oras}
	case "signature", "sbom", "attestation":
		return []command{oras, {"oras, what it is attached to", "oras manifest fetch" + http + " " + t.byDigest()}}
	}
	scheme := "http"
	if t.HTTPS {
		scheme = "https"
	}
	ref := t.Tag
	if ref == "" {
		ref = t.Dgst.String()
	}
	return []command{
		oras,
		{"crane, the manifest", "crane manifest" + t.plain("--insecure", true) + " " + t.ref()},
		{"curl, the manifest", fmt.Sprintf("curl -fsS -H 'Accept: */*' %s://%s/v2/%s/manifests/%s", scheme, t.Host, t.Name, ref)},
	}
}

func (t target) imageCommands(client string) (all []command) {
	if !slices.Contains(imageClients, client) {
		client = imageClients[0]
	}
	all = append(all, command{client, t.imageCommand(client, t.ref())})
	if t.Tag != "" && t.Dgst != "" {
		all = append(all, command{client + ", by digest", t.imageCommand(client, t.byDigest())})
	}
	for _, c := range imageClients {
		if c != client {
			all = append(all, command{c, t.imageCommand(c, t.ref())})
		}
	}
	return append(all, command{"Dockerfile", "FROM " + t.ref()}, command{"compose.yaml", "image: " + t.ref()})
}

// flux returns what makes Flux install a chart, from exactly the tag or the digest.
func (t target) flux(name string) string {
	ref, insecure := fmt.Sprintf("digest: %q", t.Dgst), ""
	if t.Tag != "" {
		ref = fmt.Sprintf("tag: %q", t.Tag)
	}
	if !t.HTTPS {
		insecure = "  insecure: true\n"
	}
	return fmt.Sprintf(`apiVersion: source.toolkit.fluxcd.io/v1
kind: OCIRepository
metadata:
  name: %[1]q
spec:
  interval: 1h
  url: oci://%[2]s/%[3]s
%[4]s  ref:
    %[5]s
  layerSelector:
    mediaType: %[6]s
    operation: copy
---
apiVersion: helm.toolkit.fluxcd.io/v2
kind: HelmRelease
metadata:
  name: %[1]q
spec:
  interval: 1h
  chartRef:
    kind: OCIRepository
    name: %[1]q`, name, t.Host, t.Name, insecure, ref, chartArchiveType)
}

// argo is the same for Argo CD, from 3.1 on.
func (t target) argo(name string) string {
	revision := t.Tag
	if revision == "" {
		revision = t.Dgst.String()
	}
	return fmt.Sprintf(`apiVersion: argoproj.io/v1alpha1
kind: Application
metadata:
  name: %[1]q
  namespace: argocd
spec:
  project: default
  source:
    repoURL: oci://%[2]s/%[3]s
    path: .
    targetRevision: %[4]q
  destination:
    server: https://kubernetes.default.svc
    namespace: %[1]q`, name, t.Host, t.Name, revision)
}
