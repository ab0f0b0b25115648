package store

import (
	"fmt"
	"strings"
	"testing"

	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
)

// benchStore returns a store with an image of a few kilobytes at a:latest and many other tags.
func benchStore(b *testing.B) (s *Store, config, manifest digest.Digest) {
	b.Helper()
	s = open(b, testingOptions(b.TempDir()))
	config = mustPush(b, s, "a", strings.Repeat("config", 1000))
	manifest = mustPut(b, s, "a", imageOf(config), "latest")
	tags := make([]string, 50)
	for i := range 20 {
		for k := range tags {
			tags[k] = fmt.Sprintf("v%d.%d", i, k)
		}
		mustPut(b, s, "a", imageOf(config), tags...)
	}
	return s, config, manifest
}

// outdate empties the cache, as a commit does.
func outdate(s *Store) { s.reads.begin([]*operation{{scope: anything}})() }

// BenchmarkManifest reads a manifest by tag that was read before.
func BenchmarkManifest(b *testing.B) {
	s, _, want := benchStore(b)
	for b.Loop() {
		if m, err := s.Manifest(b.Context(), name("a"), oci.Reference{Tag: tag("latest")}, true); err != nil || m.Digest != want {
			b.Fatal(m.Digest, err)
		}
	}
}

// BenchmarkManifestAnew reads a manifest by tag after a change.
func BenchmarkManifestAnew(b *testing.B) {
	s, _, want := benchStore(b)
	for b.Loop() {
		outdate(s)
		if m, err := s.Manifest(b.Context(), name("a"), oci.Reference{Tag: tag("latest")}, true); err != nil || m.Digest != want {
			b.Fatal(m.Digest, err)
		}
	}
}

// BenchmarkOpenBlob opens and closes a blob that was asked for before.
func BenchmarkOpenBlob(b *testing.B) {
	s, config, _ := benchStore(b)
	for b.Loop() {
		blob, err := s.OpenBlob(b.Context(), name("a"), config)
		if err != nil {
			b.Fatal(err)
		}
		blob.Close()
	}
}

// BenchmarkTagsAnew reads a page of 100 of 1 000 tags after a change.
func BenchmarkTagsAnew(b *testing.B) {
	s, _, _ := benchStore(b)
	for b.Loop() {
		outdate(s)
		if tags, err := s.Tags(b.Context(), name("a"), "v10", 100); err != nil || len(tags) != 100 {
			b.Fatal(len(tags), err)
		}
	}
}

// BenchmarkPushBlob pushes a blob of 16 KiB: with the disk, of one client.
func BenchmarkPushBlob(b *testing.B) {
	s, _, _ := benchStore(b)
	content := make([]byte, 16<<10)
	b.SetBytes(int64(len(content)))
	for n := 0; b.Loop(); n++ {
		copy(content, fmt.Sprintf("%16d", n))
		if _, err := push(b, s, "a", content); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRetag moves a tag to and fro: with the disk, of one client.
func BenchmarkRetag(b *testing.B) {
	s, config, _ := benchStore(b)
	images := [][]byte{imageOf(config), imageOf(config, config)}
	for n := 0; b.Loop(); n++ {
		if err := put(b, s, "a", images[n%2], "moving"); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPutManifest puts new manifests of six blobs and moves a tag to them: with the disk, of one client.
func BenchmarkPutManifest(b *testing.B) {
	s, config, _ := benchStore(b)
	blobs := []digest.Digest{config}
	for i := range 5 {
		blobs = append(blobs, mustPush(b, s, "a", fmt.Sprint("layer", i)))
	}
	body, _ := strings.CutPrefix(string(imageOf(blobs...)), "{")
	for n := 0; b.Loop(); n++ {
		if err := put(b, s, "a", fmt.Appendf(nil, `{"number":%d,%s`, n, body), "moving"); err != nil {
			b.Fatal(err)
		}
	}
}
