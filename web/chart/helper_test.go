package chart

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"slices"
	"testing"
)

// An entry is one of an archive; its type is that of a file unless it says another.
type entry struct {
	name, text string
	kind       byte
}

// files returns entries; names and texts by turns.
func files(all ...string) (entries []entry) {
	for i := 0; i < len(all); i += 2 {
		entries = append(entries, entry{name: all[i], text: all[i+1]})
	}
	return entries
}

// pack makes an archive, without its directories as helm does.
func pack(t testing.TB, entries ...entry) []byte {
	t.Helper()
	return zip(t, tarOf(t, entries...))
}

func tarOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: 0o644, Typeflag: e.kind, Format: tar.FormatPAX}
		switch e.kind {
		case 0, tar.TypeReg:
			h.Typeflag, h.Size = tar.TypeReg, int64(len(e.text))
		case tar.TypeSymlink, tar.TypeLink:
			h.Linkname = e.text
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := w.Write([]byte(e.text)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zip(t testing.TB, b []byte) []byte {
	t.Helper()
	return zipLevel(t, b, gzip.BestSpeed)
}

func zipLevel(t testing.TB, b []byte, level int) []byte {
	t.Helper()
	var z bytes.Buffer
	w, err := gzip.NewWriterLevel(&z, level)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return z.Bytes()
}

func read(t testing.TB, b []byte) *Chart {
	t.Helper()
	c, err := Read(t.Context(), bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// shop is a chart as people make them, with some files as the test wants them.
func shop(more ...string) []entry {
	own := files(more...)
	usual := files(
		"shop/Chart.yaml", `apiVersion: v2
name: shop
version: 1.2.3+build.4
appVersion: "4.5"
kubeVersion: ">= 1.28.0"
description: Sells things
type: application
deprecated: true
home: https://example.com/
icon: https://example.com/icon.png
sources: [https://example.com/source]
keywords: [shop, web]
maintainers:
  - {name: Ada, email: ada@example.com, url: "https://example.com/ada"}
dependencies:
  - name: redis
    version: ^18
    repository: oci://registry.example.com/charts
    condition: redis.enabled
`,
		"shop/values.yaml", `# How many
replicas: 2
image:
  registry: registry.example.com:5000
  repository: team/shop
  tag: "4.5"
sidecars:
  - name: log
    image: ghcr.io/team/log:1.0@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
metrics:
  image: &exporter
    repository: exporter
    pullPolicy: Always
other: *exporter
source: {repository: "https://git.example.com/x", tag: v1}
initImage: busybox
templated: {image: "{{ .Values.x }}"}
`,
		"shop/values.schema.json", `{"title": "Shop", "description": "What it takes", "required": ["image"], "properties": {
	"replicas": {"type": "integer", "default": 2, "description": "how many"},
	"image": {"$ref": "#/definitions/image", "description": "which"},
	"ports": {"type": "array", "items": {"type": "object", "properties": {"name": {"type": ["string", "null"]}}}},
	"mode": {"enum": ["a", 1, null], "default": {"x": []}}},
	"definitions": {"image": {"type": "object", "required": ["tag"], "properties": {"tag": {"type": "string", "default": "4.5"}, "base": {"$ref": "#/definitions/image"}}}}}`,
		"shop/README.md", "# Shop\n\nSells things.\n",
		"shop/templates/NOTES.txt", "Thank you",
		"shop/templates/deployment.yaml", "kind: Deployment\n",
		"shop/templates/tests/test.yaml", "kind: Pod\n",
		"shop/crds/order.yaml", "kind: CustomResourceDefinition\n",
		"shop/charts/redis-18.0.0.tgz", "\x1f\x8b",
		"shop/charts/local/Chart.yaml", "name: local\n",
		"shop/charts/local/values.yaml", "a: b\n",
		"shop/.helmignore", "*.swp\n",
	)
	return append(slices.DeleteFunc(usual, func(e entry) bool {
		return slices.ContainsFunc(own, func(o entry) bool { return o.name == e.name })
	}), own...)
}
