package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// The spec's own expressions, as the reference for the hand-written parsers.
var (
	specName = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	specTag  = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
)

func checkName(t *testing.T, s string) {
	t.Helper()
	name, err := ParseName(s)
	if want := specName.MatchString(s) && len(s) <= NameMax; (err == nil) != want {
		t.Fatalf("ParseName(%q): %v, the spec says %v", s, err, want)
	}
	if err == nil && name.String() != s {
		t.Fatalf("ParseName(%q) = %q", s, name)
	}
	if err != nil && !errors.Is(err, ErrNameInvalid) {
		t.Fatalf("ParseName(%q): %v is no ErrNameInvalid", s, err)
	}
}

func checkTag(t *testing.T, s string) {
	t.Helper()
	tag, err := ParseTag(s)
	if want := specTag.MatchString(s); (err == nil) != want {
		t.Fatalf("ParseTag(%q): %v, the spec says %v", s, err, want)
	}
	if err == nil && tag.String() != s {
		t.Fatalf("ParseTag(%q) = %q", s, tag)
	}
}

var names = []string{
	"", "a", "a/b", "a//b", "/a", "a/", "A", "a.b", "a..b", "a_b", "a__b", "a___b", "a-b", "a---b", "a-", "-a", "a._b", "a-.b",
	"v2", "blobs/uploads", "a/manifests/b", "x/tags/list", "ä", "a\n", "a b", "-", "a/-/b", strings.Repeat("a", 255), strings.Repeat("a", 256),
}

func TestParseName(t *testing.T) {
	for _, s := range names {
		checkName(t, s)
	}
}

func FuzzParseName(f *testing.F) {
	for _, s := range names {
		f.Add(s)
	}
	f.Fuzz(checkName)
}

var tags = []string{"", "latest", "1.0", "_", ".a", "-a", "a:b", "a/b", "A-b_C.9", strings.Repeat("x", 128), strings.Repeat("x", 129), "a\n", "é"}

func TestParseTag(t *testing.T) {
	for _, s := range tags {
		checkTag(t, s)
	}
}

func FuzzParseTag(f *testing.F) {
	for _, s := range tags {
		f.Add(s)
	}
	f.Fuzz(checkTag)
}

func FuzzParseDigest(f *testing.F) {
	hex := strings.Repeat("0a", 32)
	for _, s := range []string{"", "sha256:" + hex, "sha512:" + hex + hex, "sha384:" + hex, "sha256:" + strings.ToUpper(hex), "sha256:..", "sha256:" + hex + "0", hex} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		dgst, err := ParseDigest(s)
		if err != nil {
			if !errors.Is(err, ErrDigestInvalid) {
				t.Fatalf("ParseDigest(%q): %v is no ErrDigestInvalid", s, err)
			}
			return
		}
		// What we accept, the reference implementation accepts, and it is safe as a file name.
		if dgst.String() != s || dgst.Validate() != nil || strings.ContainsAny(dgst.Encoded(), "/.\\") {
			t.Fatalf("ParseDigest(%q) = %q", s, dgst)
		}
	})
}

func TestReferrersTag(t *testing.T) {
	long := digest.Digest("sha512:" + strings.Repeat("a", 128))
	if got, want := ReferrersTag(long).String(), "sha512-"+strings.Repeat("a", 64); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

const (
	typeImage = "application/vnd.oci.image.manifest.v1+json"
	typeIndex = "application/vnd.oci.image.index.v1+json"
)

func hexDigest(c string) string { return "sha256:" + strings.Repeat(c, 64) }

func TestParseManifestReferences(t *testing.T) {
	descriptor := func(c, mediaType string) string {
		return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":1}`, mediaType, hexDigest(c))
	}
	type ref struct {
		c                string
		manifest, needed bool
	}
	for _, tt := range []struct {
		name, mediaType, body string
		subject               string
		artifactType          string
		refs                  []ref
	}{
		{"image", typeImage, `{"schemaVersion":2,"config":` + descriptor("a", "c/c") + `,"layers":[` + descriptor("b", "l/l") + `,` + descriptor("b", "l/l") + `]}`,
			"", "c/c", []ref{{"a", false, true}, {"b", false, true}}},
		{"image with subject and type", typeImage, `{"schemaVersion":2,"artifactType":"x/y","config":` + descriptor("a", "c/c") + `,"layers":[],"subject":` + descriptor("e", typeImage) + `}`,
			"e", "x/y", []ref{{"a", false, true}}},
		{"foreign layer", typeImage, `{"schemaVersion":2,"config":` + descriptor("a", "c/c") + `,"layers":[` + descriptor("b", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip") + `]}`,
			"", "c/c", []ref{{"a", false, true}, {"b", false, false}}},
		{"index", typeIndex, `{"schemaVersion":2,"manifests":[` + descriptor("a", typeImage) + `]}`, "", "", []ref{{"a", true, true}}},
		{"artifact manifest of 1.1-rc", MediaTypeArtifactManifest, `{"mediaType":"` + MediaTypeArtifactManifest + `","artifactType":"x/y","blobs":[` + descriptor("a", "b/b") + `]}`,
			"", "x/y", []ref{{"a", false, true}}},
		{"a digest in a field of its own", typeImage, `{"schemaVersion":2,"config":` + descriptor("a", "c/c") + `,"layers":[],"org.example":{"deep":[` + descriptor("d", "x/x") + `]}}`,
			"", "c/c", []ref{{"a", false, true}, {"d", false, false}}},
		{"unknown type pins every digest it mentions", "application/vnd.example+json", `{"x":["` + hexDigest("a") + `",{"y":"` + hexDigest("b") + `"}],"subject":{"digest":"` + hexDigest("c") + `"},"A":1,"a":2}`,
			"c", "", []ref{{"a", false, false}, {"b", false, false}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, err := ParseManifest(tt.mediaType, []byte(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			var want []Referenced
			for _, r := range tt.refs {
				want = append(want, Referenced{Digest: digest.Digest(hexDigest(r.c)), Manifest: r.manifest, Needed: r.needed})
			}
			if !slices.Equal(m.References, want) {
				t.Errorf("references %+v, want %+v", m.References, want)
			}
			subject := digest.Digest("")
			if tt.subject != "" {
				subject = digest.Digest(hexDigest(tt.subject))
			}
			if m.Subject != subject || m.ArtifactType != tt.artifactType {
				t.Errorf("subject %q, artifact type %q; want %q, %q", m.Subject, m.ArtifactType, subject, tt.artifactType)
			}
		})
	}
}

func FuzzParseManifest(f *testing.F) {
	body := `{"schemaVersion":2,"mediaType":"` + typeImage + `","config":{"mediaType":"c/c","digest":"` + hexDigest("a") + `","size":1},"layers":[{"digest":"` + hexDigest("b") + `","size":2}],"annotations":{"a":"b","A":"c"}}`
	f.Add(typeImage, []byte(body))
	f.Add(typeIndex, []byte(`{"schemaVersion":2,"manifests":[]}`))
	f.Add("", []byte(body))
	f.Add("application/vnd.x+json", []byte(`{"a":["`+hexDigest("a")+`"]}`))
	f.Fuzz(func(t *testing.T, contentType string, raw []byte) {
		m, err := ParseManifest(contentType, raw)
		if err != nil {
			if !errors.Is(err, ErrManifestInvalid) {
				t.Fatalf("%v is no ErrManifestInvalid", err)
			}
			return
		}
		if !json.Valid(raw) {
			t.Fatalf("accepted what is not JSON: %q", raw)
		}
		seen := make(map[digest.Digest]bool)
		for _, ref := range m.References {
			if _, err := ParseDigest(ref.Digest.String()); err != nil || seen[ref.Digest] {
				t.Fatalf("reference %q: %v, twice %v", ref.Digest, err, seen[ref.Digest])
			}
			seen[ref.Digest] = true
		}
		// Reading it again by the type it was stored with gives the same.
		again, err := ParseManifest(m.MediaType, raw)
		if err != nil || !slices.Equal(again.References, m.References) || again.Subject != m.Subject {
			t.Fatalf("read again: %v, %+v", err, again)
		}
	})
}

// TestParseManifestMemory: a hostile manifest must not cost a multiple of its size that counts.
func TestParseManifestMemory(t *testing.T) {
	fill := func(before, unit, after string) []byte {
		n := (4<<20 - len(before) - len(after)) / (len(unit) + 1)
		return []byte(before + strings.TrimSuffix(strings.Repeat(unit+",", n), ",") + after)
	}
	for name, raw := range map[string][]byte{
		"empty layers":    fill(`{"schemaVersion":2,"config":{},"layers":[`, "{}", "]}"),
		"empty manifests": fill(`{"schemaVersion":2,"manifests":[`, "{}", "]}"),
		"numbers":         fill(`{"schemaVersion":2,"x":[`, "1", "]}"),
		"nulls":           fill(`{"schemaVersion":2,"layers":[`, "null", "]}"),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, imageErr := ParseManifest(typeImage, raw)
		_, indexErr := ParseManifest(typeIndex, raw)
		runtime.ReadMemStats(&after)
		if imageErr == nil || indexErr == nil {
			t.Errorf("%s: accepted", name)
		}
		if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 64<<20 {
			t.Errorf("%s: %d MiB allocated for twice %d MiB", name, allocated>>20, len(raw)>>20)
		}
	}
}
