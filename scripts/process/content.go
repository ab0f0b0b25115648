package process

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
)

// Media types of what the tests push.
const (
	MediaTypeConfig = "application/vnd.oci.image.config.v1+json"
	MediaTypeLayer  = "application/vnd.oci.image.layer.v1.tar"
	MediaTypeImage  = "application/vnd.oci.image.manifest.v1+json"
	MediaTypeIndex  = "application/vnd.oci.image.index.v1+json"
)

// Content is something to push: a blob, or a manifest when it has a media type.
type Content struct {
	Digest    string
	MediaType string
	Raw       []byte
	Names     []string // digests that a manifest names
}

// Digest returns the sha256 digest of b.
func Digest(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Blob returns raw as a blob.
func Blob(raw []byte) Content { return Content{Digest: Digest(raw), Raw: raw} }

// File returns where the store in a directory keeps the bytes of a blob.
func (c Content) File(dir string) string {
	encoded := strings.TrimPrefix(c.Digest, "sha256:")
	return filepath.Join(dir, "blobs", "sha256", encoded[:2], encoded)
}

// RandomBlob returns a blob of random content, the same for the same seed and size.
func RandomBlob(seed byte, size int) Content {
	raw := make([]byte, size)
	rand.NewChaCha8([32]byte{seed}).Read(raw)
	return Blob(raw)
}

type descriptor struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int    `json:"size"`
}

// Image returns the manifest of an image.
func Image(config Content, layers ...Content) Content {
	m := struct {
		SchemaVersion int          `json:"schemaVersion"`
		MediaType     string       `json:"mediaType"`
		Config        descriptor   `json:"config"`
		Layers        []descriptor `json:"layers"`
	}{2, MediaTypeImage, descriptor{MediaTypeConfig, config.Digest, len(config.Raw)}, []descriptor{}}
	names := []string{config.Digest}
	for _, layer := range layers {
		m.Layers = append(m.Layers, descriptor{MediaTypeLayer, layer.Digest, len(layer.Raw)})
		names = append(names, layer.Digest)
	}
	return manifest(MediaTypeImage, m, names)
}

// Index returns an index of manifests.
func Index(manifests ...Content) Content {
	m := struct {
		SchemaVersion int          `json:"schemaVersion"`
		MediaType     string       `json:"mediaType"`
		Manifests     []descriptor `json:"manifests"`
	}{2, MediaTypeIndex, []descriptor{}}
	var names []string
	for _, child := range manifests {
		m.Manifests = append(m.Manifests, descriptor{child.MediaType, child.Digest, len(child.Raw)})
		names = append(names, child.Digest)
	}
	return manifest(MediaTypeIndex, m, names)
}

// manifest marshals v with indentation, which a registry that re-marshals would lose.
func manifest(mediaType string, v any, names []string) Content {
	raw, err := json.MarshalIndent(v, "", "   ")
	if err != nil {
		panic(err) // strings and integers always marshal
	}
	return Content{Digest(raw), mediaType, raw, names}
}

// A Sample is what the tests of the commands push and look for.
type Sample struct {
	Images [2]Content // of team/app, tagged v1; and v2, latest
	Index  Content    // of both, tagged all
	Blobs  [3]Content // of team/app; the first is in both images
	Other  Content    // a blob of team/other
}

func (s Sample) tags() map[string]Content {
	return map[string]Content{"v1": s.Images[0], "v2": s.Images[1], "latest": s.Images[1], "all": s.Index}
}

// PushSample pushes a sample.
func (c *Client) PushSample(t *testing.T) (s Sample) {
	t.Helper()
	s.Blobs = [3]Content{RandomBlob(1, 1000), RandomBlob(2, 300<<10), RandomBlob(3, 10)}
	s.Images[0] = c.PushImage(t, "team/app", []string{"v1"}, s.Blobs[0], s.Blobs[1])
	s.Images[1] = c.PushImage(t, "team/app", []string{"v2", "latest"}, s.Blobs[0], s.Blobs[2])
	s.Index = Index(s.Images[:]...)
	c.PushManifest(t, "team/app", s.Index, "all")
	s.Other = RandomBlob(4, 5000)
	c.PushBlob(t, "team/other", s.Other)
	return s
}

// WantSample fails the test unless everything of a sample is served.
func (c *Client) WantSample(t *testing.T, s Sample) {
	t.Helper()
	for tag, want := range s.tags() {
		c.WantContent(t, "team/app", tag, want)
	}
	for _, blob := range s.Blobs {
		c.WantContent(t, "team/app", blob.Digest, blob)
	}
	c.WantContent(t, "team/other", s.Other.Digest, s.Other)
}

// PushImage pushes an image of a config and layers and returns its manifest.
func (c *Client) PushImage(t *testing.T, name string, tags []string, blobs ...Content) Content {
	t.Helper()
	for _, b := range blobs {
		c.PushBlob(t, name, b)
	}
	m := Image(blobs[0], blobs[1:]...)
	c.PushManifest(t, name, m, tags...)
	return m
}
