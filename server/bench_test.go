package server

import (
	"bytes"
	"fmt"
	"net/http"
	"testing"
)

// BenchmarkServe is what a request costs over loopback, with its client in the same process.
func BenchmarkServe(b *testing.B) {
	r := newRegistry(b)
	manifest := r.pushImage("a", "latest", "content", "")
	layer := r.pushBlob("a", bytes.Repeat([]byte("layer"), 3000))
	for i := range 200 {
		r.want(http.StatusCreated, "", "PUT", fmt.Sprintf("/v2/a/manifests/v%03d", i), manifest, headerContentType, imageType)
	}
	for _, v := range []struct{ name, method, path string }{
		{"manifest", "GET", "/v2/a/manifests/latest"},
		{"head", "HEAD", "/v2/a/blobs/" + layer.String()},
		{"blob", "GET", "/v2/a/blobs/" + layer.String()},
		{"tags", "GET", "/v2/a/tags/list?n=100"},
		{"catalog", "GET", "/v2/_catalog?n=100"},
	} {
		b.Run(v.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r.want(http.StatusOK, "", v.method, v.path, nil)
			}
		})
	}
	b.Run("retag", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			r.want(http.StatusCreated, "", "PUT", "/v2/a/manifests/again", manifest, headerContentType, imageType)
		}
	})
}
