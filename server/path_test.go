package server

import (
	"errors"
	"strings"
	"testing"

	"cubby/store/oci"
)

const (
	hexA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	dgA  = "sha256:" + hexA
)

func TestParsePath(t *testing.T) {
	for _, tt := range []struct {
		path     string
		resource resource
		name     string
		last     string // reference, digest or upload id
	}{
		{"", resourceBase, "", ""},
		{"_catalog", resourceCatalog, "", ""},
		{"team/api/manifests/1.9", resourceManifest, "team/api", "1.9"},
		{"team/api/manifests/" + dgA, resourceManifest, "team/api", dgA},
		{"team/api/blobs/" + dgA, resourceBlob, "team/api", dgA},
		{"team/api/blobs/uploads", resourceUploads, "team/api", ""},
		{"team/api/blobs/uploads/", resourceUploads, "team/api", ""},
		{"team/api/blobs/uploads/ID", resourceUpload, "team/api", "ID"},
		{"team/api/tags/list", resourceTags, "team/api", ""},
		{"team/api/referrers/" + dgA, resourceReferrers, "team/api", dgA},
		// Names that hold the API's own words.
		{"v2/manifests/x", resourceManifest, "v2", "x"},
		{"blobs/uploads/manifests/x", resourceManifest, "blobs/uploads", "x"},
		{"blobs/uploads/tags/list", resourceTags, "blobs/uploads", ""},
		{"blobs/uploads/blobs/uploads/", resourceUploads, "blobs/uploads", ""},
		{"blobs/uploads/blobs/uploads/ID", resourceUpload, "blobs/uploads", "ID"},
		{"a/manifests/b/manifests/c", resourceManifest, "a/manifests/b", "c"},
		{"a/manifests/b/blobs/" + dgA, resourceBlob, "a/manifests/b", dgA},
		{"x/tags/list/tags/list", resourceTags, "x/tags/list", ""},
		{"tags/list/manifests/list", resourceManifest, "tags/list", "list"},
		{"a/manifests/list", resourceManifest, "a", "list"},
		{"a/referrers/manifests/uploads", resourceManifest, "a/referrers", "uploads"},
	} {
		rt, err := parsePath(tt.path)
		if err != nil {
			t.Errorf("parsePath(%q): %v", tt.path, err)
			continue
		}
		last := rt.upload
		switch rt.resource {
		case resourceManifest:
			last = rt.ref.String()
		case resourceBlob, resourceReferrers:
			last = rt.digest.String()
		}
		if rt.resource != tt.resource || rt.name.String() != tt.name || last != tt.last {
			t.Errorf("parsePath(%q) = %d %q %q, want %d %q %q", tt.path, rt.resource, rt.name, last, tt.resource, tt.name, tt.last)
		}
	}
}

func TestParsePathInvalid(t *testing.T) {
	for _, tt := range []struct {
		path string
		want error
	}{
		{"team", errPathUnknown},
		{"team/api", errPathUnknown},
		{"_catalog/", errPathUnknown},
		{"team/tags/list/", errPathUnknown},
		{"team/uploads/x", errPathUnknown},
		{"/manifests/x", oci.ErrNameInvalid},
		{"manifests/x", oci.ErrNameInvalid},
		{"blobs/uploads/", oci.ErrNameInvalid},
		{"Team/manifests/x", oci.ErrNameInvalid},
		{"../x/manifests/x", oci.ErrNameInvalid},
		{"a//b/manifests/x", oci.ErrNameInvalid},
		{strings.Repeat("a", 256) + "/manifests/x", oci.ErrNameInvalid},
		{"a/manifests/", oci.ErrTagInvalid},
		{"a/manifests/-x", oci.ErrTagInvalid},
		{"a/manifests/" + strings.Repeat("x", 129), oci.ErrTagInvalid},
		{"a/manifests/sha256:abc", oci.ErrDigestInvalid},
		{"a/manifests/sha1:" + hexA, oci.ErrDigestInvalid},
		{"a/blobs/" + hexA, oci.ErrDigestInvalid},
		{"a/blobs/sha256:" + strings.ToUpper(hexA), oci.ErrDigestInvalid},
		{"a/blobs/sha256:../../../../etc/passwd", errPathUnknown},
		{"a/referrers/latest", oci.ErrDigestInvalid},
	} {
		if _, err := parsePath(tt.path); !errors.Is(err, tt.want) {
			t.Errorf("parsePath(%q) = %v, want %v", tt.path, err, tt.want)
		}
	}
}

func FuzzParsePath(f *testing.F) {
	for _, seed := range []string{"", "_catalog", "a/manifests/b", "a/blobs/" + dgA, "a/blobs/uploads/", "a/blobs/uploads/x", "a/tags/list", "a/referrers/" + dgA, "a/manifests/b/tags/list"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, path string) {
		rt, err := parsePath(path)
		if err != nil {
			if _, _, internal := translate(err); internal {
				t.Fatalf("parsePath(%q) fails with an error that is no client's fault: %v", path, err)
			}
			return
		}
		// A parsed path can be written again, and the same comes out.
		again := ""
		switch rt.resource {
		case resourceBase, resourceCatalog:
			return
		case resourceManifest:
			again = rt.name.String() + "/manifests/" + rt.ref.String()
		case resourceBlob:
			again = rt.name.String() + "/blobs/" + rt.digest.String()
		case resourceUploads:
			again = strings.TrimSuffix(rt.name.String()+"/blobs/uploads/", "/")
			path = strings.TrimSuffix(path, "/")
		case resourceUpload:
			again = rt.name.String() + "/blobs/uploads/" + rt.upload
		case resourceTags:
			again = rt.name.String() + "/tags/list"
		case resourceReferrers:
			again = rt.name.String() + "/referrers/" + rt.digest.String()
		}
		if again != path {
			t.Fatalf("parsePath(%q) reads %q", path, again)
		}
	})
}

func FuzzParseContentRange(f *testing.F) {
	f.Add("0-99", int64(100))
	f.Add("bytes 5-5/10", int64(-1))
	f.Fuzz(func(t *testing.T, value string, length int64) {
		start, n, err := parseContentRange(value, length)
		if err != nil {
			if _, _, internal := translate(err); internal {
				t.Fatalf("parseContentRange(%q, %d) fails with an error that is no client's fault: %v", value, length, err)
			}
			return
		}
		if start < 0 || n < 1 || length >= 0 && n != length {
			t.Fatalf("parseContentRange(%q, %d) = %d, %d", value, length, start, n)
		}
	})
}
