package server

import (
	"bytes"
	"crypto/sha512"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"cubby/store"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestManifests goes through what can be done to a manifest, by endpoint of the spec.
func TestManifests(t *testing.T) {
	for _, tt := range []struct {
		name string
		run  func(t *testing.T, r *registry)
	}{
		{"end-7a end-3 by tag and digest, byte-exact", func(t *testing.T, r *registry) {
			// Odd white space must come back as it was.
			config := []byte("{}")
			r.pushBlob("a/b", config)
			m := append(imageOf(config, " "), "\n \t\n"...)
			dgst := sum(m).String()
			a := r.want(201, "", "PUT", "/v2/a/b/manifests/1.0", m, headerContentType, imageType+"; charset=utf-8")
			if got := a.Header.Get(headerLocation); got != "/v2/a/b/manifests/1.0" {
				t.Errorf("Location %q", got)
			}
			for _, ref := range []string{"1.0", dgst} {
				for _, method := range []string{"GET", "HEAD"} {
					a := r.want(200, "", method, "/v2/a/b/manifests/"+ref, nil, "Accept", indexType)
					if a.Header.Get(headerDigest) != dgst || a.Header.Get(headerContentType) != imageType || a.ContentLength != int64(len(m)) || a.Header.Get(headerETag) != `"`+dgst+`"` {
						t.Errorf("%s %s: headers %v", method, ref, a.Header)
					}
					if method == "GET" && !bytes.Equal(a.body, m) {
						t.Errorf("GET %s: body differs", ref)
					}
				}
				r.want(304, "", "GET", "/v2/a/b/manifests/"+ref, nil, headerIfNoneMatch, `"`+dgst+`"`)
				r.want(200, "", "GET", "/v2/a/b/manifests/"+ref, nil, headerIfNoneMatch, `"`+sum(nil).String()+`"`)
			}
		}},
		{"end-7a by sha512, tag remembers the digest", func(t *testing.T, r *registry) {
			r.pushBlob("a/b", []byte("{}"))
			m := imageOf([]byte("{}"), "")
			dgst := fmt.Sprintf("sha512:%x", sha512.Sum512(m))
			a := r.want(201, "", "PUT", "/v2/a/b/manifests/"+dgst+"?tag=x", m, headerContentType, imageType)
			if a.Header.Get(headerDigest) != dgst {
				t.Errorf("PUT: digest %q", a.Header.Get(headerDigest))
			}
			if got := r.want(200, "", "HEAD", "/v2/a/b/manifests/x", nil).Header.Get(headerDigest); got != dgst {
				t.Errorf("by tag: digest %q, want %q", got, dgst)
			}
		}},
		{"end-7a wrong digest", func(t *testing.T, r *registry) {
			m := r.pushImage("a/b", "1", "x", "")
			r.want(400, codeDigestInvalid, "PUT", "/v2/a/b/manifests/"+sum(m).String(), append(m, "  "...), headerContentType, imageType)
			r.want(400, codeDigestInvalid, "PUT", "/v2/a/b/manifests/sha256:baddigeststring", m, headerContentType, imageType)
		}},
		{"end-7b tag parameters", func(t *testing.T, r *registry) {
			m := r.pushImage("a/b", "", "x", "")
			query, want := "?", []string{}
			for i := range 12 {
				query += fmt.Sprintf("&tag=t%02d", i)
				want = append(want, fmt.Sprintf("t%02d", i))
			}
			a := r.want(201, "", "PUT", "/v2/a/b/manifests/"+sum(m).String()+query, m, headerContentType, imageType)
			if got := a.Header.Get(headerTag); got != strings.Join(want, ", ") {
				t.Errorf("OCI-Tag %q", got)
			}
			if got := r.tags("a/b"); !slices.Equal(got, want) {
				t.Errorf("tags %v", got)
			}
			r.want(400, codeManifestInvalid, "PUT", "/v2/a/b/manifests/"+sum(m).String()+"?tag=ok&tag=-bad", m, headerContentType, imageType)
			if slices.Contains(r.tags("a/b"), "ok") {
				t.Error("a refused request set a tag")
			}
			r.want(414, codeManifestInvalid, "PUT", "/v2/a/b/manifests/"+sum(m).String()+strings.Replace(strings.Repeat("&tag=x", 101), "&", "?", 1), m, headerContentType, imageType)
		}},
		{"end-7a missing content, one error for each", func(t *testing.T, r *registry) {
			m := imageOf([]byte("{}"), "", []byte("l1"), []byte("l2"))
			a := r.want(404, codeManifestBlobUnknown, "PUT", "/v2/a/b/manifests/x", m, headerContentType, imageType)
			if codes := a.codes(t); len(codes) != 3 {
				t.Errorf("codes %v, want 3", codes)
			}
			if !bytes.Contains(a.body, []byte(sum([]byte("l2")).String())) {
				t.Errorf("body does not name the digest: %s", a.body)
			}
			r.want(404, codeNameUnknown, "GET", "/v2/a/b/tags/list", nil)
		}},
		{"end-7a foreign layers may be missing", func(t *testing.T, r *registry) {
			r.pushBlob("a/b", []byte("{}"))
			m := strings.Replace(string(imageOf([]byte("{}"), "", []byte("l1"))), "application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", 1)
			a := r.want(201, "", "PUT", "/v2/a/b/manifests/x", []byte(m), headerContentType, imageType)
			if got := a.Header.Get(headerWarning); got != "" {
				t.Errorf("Warning %q", got)
			}
		}},
		{"end-7a sparse index is accepted with a warning", func(t *testing.T, r *registry) {
			config := []byte("{}")
			child := imageOf(config, "")
			a := r.want(201, "", "PUT", "/v2/a/b/manifests/x", indexOf("", child), headerContentType, indexType)
			if got := a.Header.Get(headerWarning); !strings.HasPrefix(got, `299 - "`) || !strings.Contains(got, sum(child).String()) {
				t.Errorf("Warning %q", got)
			}
			// The child starts with the right count: it cannot be deleted while the index names it.
			r.pushBlob("a/b", config)
			r.want(201, "", "PUT", "/v2/a/b/manifests/"+sum(child).String(), child, headerContentType, imageType)
			r.want(405, codeUnsupported, "DELETE", "/v2/a/b/manifests/"+sum(child).String(), nil)
		}},
		{"end-9 delete tag, manifest, and what they name", func(t *testing.T, r *registry) {
			m := r.pushImage("a/b", "1", "x", "")
			dgst := sum(m).String()
			r.want(201, "", "PUT", "/v2/a/b/manifests/2", m, headerContentType, imageType)
			r.want(202, "", "DELETE", "/v2/a/b/manifests/1", nil)
			r.want(404, codeManifestUnknown, "GET", "/v2/a/b/manifests/1", nil)
			r.want(404, codeManifestUnknown, "DELETE", "/v2/a/b/manifests/1", nil)
			r.want(200, "", "GET", "/v2/a/b/manifests/2", nil)
			layer := sum([]byte("layer x")).String()
			a := r.want(405, codeUnsupported, "DELETE", "/v2/a/b/blobs/"+layer, nil)
			if !bytes.Contains(a.body, []byte("part of 2 ("+dgst+")")) || a.Header.Get(headerAllow) == "" {
				t.Errorf("refusal does not name the user: %s %v", a.body, a.Header)
			}
			r.want(202, "", "DELETE", "/v2/a/b/manifests/"+dgst, nil)
			r.want(404, codeManifestUnknown, "GET", "/v2/a/b/manifests/"+dgst, nil)
			r.want(404, codeManifestUnknown, "GET", "/v2/a/b/manifests/2", nil)
			r.want(202, "", "DELETE", "/v2/a/b/blobs/"+layer, nil)
			if got := r.tags("a/b"); len(got) != 0 {
				t.Errorf("tags %v", got)
			}
		}},
		{"end-9 a child of an index is protected until the index goes", func(t *testing.T, r *registry) {
			child := r.pushImage("a/b", "", "x", "")
			index := indexOf("", child)
			r.want(201, "", "PUT", "/v2/a/b/manifests/multi", index, headerContentType, indexType)
			a := r.want(405, codeUnsupported, "DELETE", "/v2/a/b/manifests/"+sum(child).String(), nil)
			if !bytes.Contains(a.body, []byte("multi")) {
				t.Errorf("refusal does not name the index: %s", a.body)
			}
			r.want(202, "", "DELETE", "/v2/a/b/manifests/"+sum(index).String(), nil)
			r.want(202, "", "DELETE", "/v2/a/b/manifests/"+sum(child).String(), nil)
		}},
		{"conditional PUT and DELETE", func(t *testing.T, r *registry) {
			m := r.pushImage("a/b", "1", "x", "")
			n := r.pushImage("a/b", "", "y", "")
			etag := func(b []byte) string { return `"` + sum(b).String() + `"` }
			put := func(status int, ref string, headers ...string) {
				t.Helper()
				r.want(status, "", "PUT", "/v2/a/b/manifests/"+ref, n, append([]string{headerContentType, imageType}, headers...)...)
			}
			put(412, "1", headerIfNoneMatch, "*")
			put(412, "1", headerIfMatch, etag(n))
			put(412, "new", headerIfMatch, "*")
			put(412, sum(n).String()+"?tag=1&tag=new", headerIfNoneMatch, "*")
			if got := r.tags("a/b"); !slices.Equal(got, []string{"1"}) {
				t.Fatalf("tags %v after a refused PUT of two", got)
			}
			put(201, "new", headerIfNoneMatch, "*")
			put(201, "1", headerIfMatch, etag(m))
			r.want(412, "", "DELETE", "/v2/a/b/manifests/1", nil, headerIfMatch, etag(m))
			r.want(202, "", "DELETE", "/v2/a/b/manifests/1", nil, headerIfMatch, etag(n))
			r.want(412, "", "DELETE", "/v2/a/b/manifests/"+sum(n).String(), nil, headerIfMatch, etag(m))
		}},
		{"413 above the limit, 4 MiB are fine", func(t *testing.T, r *registry) {
			r.pushBlob("a/b", []byte("{}"))
			filler := func(n int) []byte {
				m := imageOf([]byte("{}"), `,"annotations":{"x":""}`)
				return bytes.Replace(m, []byte(`"x":""`), []byte(`"x":"`+strings.Repeat("y", n-len(m))+`"`), 1)
			}
			r.want(201, "", "PUT", "/v2/a/b/manifests/big", filler(DefaultMaxManifest), headerContentType, imageType)
			r.want(413, codeManifestInvalid, "PUT", "/v2/a/b/manifests/big", filler(DefaultMaxManifest+1), headerContentType, imageType)
		}},
		{"unknown JSON media types are kept as they are", func(t *testing.T, r *registry) {
			blob := r.pushBlob("a/b", []byte("data"))
			m := fmt.Appendf(nil, `{"kind":"thing","files":[{"at":%q}]}`, blob)
			r.want(201, "", "PUT", "/v2/a/b/manifests/x", m, headerContentType, "application/vnd.example.thing+json")
			if a := r.want(200, "", "GET", "/v2/a/b/manifests/x", nil); a.Header.Get(headerContentType) != "application/vnd.example.thing+json" || !bytes.Equal(a.body, m) {
				t.Errorf("%v %s", a.Header, a.body)
			}
			// What it mentions is pinned.
			r.want(405, codeUnsupported, "DELETE", "/v2/a/b/blobs/"+blob.String(), nil)
		}},
		{"the same bytes under another media type", func(t *testing.T, r *registry) {
			config, layer := r.pushBlob("a/b", []byte("{}")), []byte("l")
			r.pushBlob("a/b", layer)
			m := bytes.Replace(imageOf([]byte("{}"), "", layer), []byte(`"mediaType":"`+imageType+`",`), nil, 1)
			r.want(201, "", "PUT", "/v2/a/b/manifests/x", m, headerContentType, "application/vnd.example+json")
			r.want(201, "", "PUT", "/v2/a/b/manifests/x", m, headerContentType, imageType)
			if a := r.want(200, "", "GET", "/v2/a/b/manifests/x", nil); a.Header.Get(headerContentType) != imageType {
				t.Errorf("Content-Type %q", a.Header.Get(headerContentType))
			}
			r.want(202, "", "DELETE", "/v2/a/b/manifests/"+sum(m).String(), nil)
			r.want(202, "", "DELETE", "/v2/a/b/blobs/"+config.String(), nil)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.run(t, newRegistry(t)) })
	}
}

func TestSparsePolicies(t *testing.T) {
	image, index := imageOf([]byte("{}"), ""), indexOf("", []byte("absent"))
	for _, tt := range []struct {
		sparse       store.Sparse
		image, index int
	}{
		{store.SparseNone, 404, 404}, {store.SparseIndex, 404, 201}, {store.SparseAll, 201, 201},
	} {
		r := newRegistry(t, func(c *Config) { c.Sparse = tt.sparse })
		r.want(tt.image, "", "PUT", "/v2/a/manifests/image", image, headerContentType, imageType)
		r.want(tt.index, "", "PUT", "/v2/a/manifests/index", index, headerContentType, indexType)
	}
}

// TestManifestInvalid: what must not get in, each with a 400 that says why.
func TestManifestInvalid(t *testing.T) {
	r := newRegistry(t)
	d := r.pushBlob("a", []byte("{}")).String()
	config := fmt.Sprintf(`{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":2}`, d)
	deep := strings.Repeat(`{"x":`, 500_000) + "1" + strings.Repeat("}", 500_000)
	for _, tt := range []struct{ name, contentType, body string }{
		{"empty", imageType, ``},
		{"not JSON", imageType, `hello`},
		{"array", imageType, `[]`},
		{"truncated", imageType, `{"schemaVersion":2`},
		{"trailing data", imageType, `{"schemaVersion":2,"config":` + config + `,"layers":[]}{}`},
		{"duplicate key", imageType, `{"schemaVersion":2,"schemaVersion":2,"config":` + config + `,"layers":[]}`},
		{"case variant", imageType, `{"schemaVersion":2,"Config":` + config + `,"layers":[]}`},
		{"case variant twice", imageType, `{"schemaVersion":2,"config":` + config + `,"layers":[],"x":{"a":1,"A":2}}`},
		{"invalid UTF-8", imageType, "{\"schemaVersion\":2,\"config\":" + config + ",\"layers\":[],\"x\":\"\xff\"}"},
		{"deep", imageType, deep},
		{"schemaVersion 1", imageType, `{"schemaVersion":1,"config":` + config + `,"layers":[]}`},
		{"no config", imageType, `{"schemaVersion":2,"layers":[]}`},
		{"image and index", imageType, `{"schemaVersion":2,"config":` + config + `,"layers":[],"manifests":[]}`},
		{"index with layers", indexType, `{"schemaVersion":2,"manifests":[],"layers":[]}`},
		{"index with config", indexType, `{"schemaVersion":2,"manifests":[],"config":` + config + `}`},
		{"mediaType contradicts", indexType, `{"schemaVersion":2,"mediaType":"` + imageType + `","manifests":[]}`},
		{"bad layer digest", imageType, `{"schemaVersion":2,"config":` + config + `,"layers":[{"digest":"sha256:../../x","size":1}]}`},
		{"negative size", imageType, `{"schemaVersion":2,"config":` + config + `,"layers":[{"digest":"` + d + `","size":-1}]}`},
		{"bad subject", imageType, `{"schemaVersion":2,"config":` + config + `,"layers":[],"subject":{"digest":"x"}}`},
		{"wrong type of field", imageType, `{"schemaVersion":"2","config":` + config + `,"layers":{}}`},
		{"unknown type that contradicts", "application/vnd.x+json", `{"schemaVersion":2,"mediaType":"` + imageType + `","config":` + config + `,"layers":[],"manifests":[]}`},
		{"unknown type that contradicts in another case", "application/vnd.x+json", `{"mediaType":"application/vnd.x+json","mediatype":"` + imageType + `"}`},
		{"plain JSON that contradicts", "application/json", `{"schemaVersion":2,"mediaType":"` + imageType + `","config":` + config + `,"layers":[]}`},
		{"schema 1", "application/vnd.docker.distribution.manifest.v1+prettyjws", `{"schemaVersion":1}`},
		{"HTML", "text/html", `{"x":"<script>alert(1)</script>"}`},
		{"no type at all", "", `{"schemaVersion":2}`},
		{"malformed type", "application", `{"schemaVersion":2}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r.t = t
			var headers []string
			if tt.contentType != "" {
				headers = []string{headerContentType, tt.contentType}
			}
			r.want(400, codeManifestInvalid, "PUT", "/v2/a/manifests/x", []byte(tt.body), headers...)
		})
	}
	r.t = t
	r.want(404, codeManifestUnknown, "GET", "/v2/a/manifests/x", nil)
}

func (r *registry) referrers(path string) (v1.Index, answer) {
	r.t.Helper()
	a := r.want(http.StatusOK, "", "GET", path, nil)
	if got := a.Header.Get(headerContentType); got != indexType {
		r.t.Fatalf("Content-Type %q", got)
	}
	var index v1.Index
	if err := json.Unmarshal(a.body, &index); err != nil {
		r.t.Fatal(err)
	}
	if index.Manifests == nil {
		r.t.Fatalf("manifests is null: %s", a.body)
	}
	return index, a
}

// TestReferrers: end-12.
func TestReferrers(t *testing.T) {
	r := newRegistry(t)
	subject := r.pushImage("a/b", "1", "subject", "")
	dgst := sum(subject).String()
	path := "/v2/a/b/referrers/" + dgst
	if index, _ := r.referrers("/v2/no/such/referrers/" + dgst); len(index.Manifests) != 0 {
		t.Errorf("unknown repository has referrers")
	}
	r.want(400, codeDigestInvalid, "GET", "/v2/a/b/referrers/latest", nil)

	field := fmt.Sprintf(`,"subject":{"mediaType":%q,"digest":%q,"size":%d}`, imageType, dgst, len(subject))
	plain := r.pushImage("a/b", "", "plain", field+`,"annotations":{"k":"v"}`)
	typed := r.pushImage("a/b", "", "typed", field+`,"artifactType":"application/vnd.example.sbom"`)
	index := indexOf(field, subject)
	a := r.want(201, "", "PUT", "/v2/a/b/manifests/"+sum(index).String(), index, headerContentType, indexType)
	if got := a.Header.Get(headerSubject); got != dgst {
		t.Errorf("OCI-Subject %q", got)
	}
	if got := r.want(201, "", "PUT", "/v2/a/b/manifests/1", subject, headerContentType, imageType).Header.Get(headerSubject); got != "" {
		t.Errorf("OCI-Subject %q without a subject", got)
	}

	all, _ := r.referrers(path)
	var types []string
	for _, m := range all.Manifests {
		types = append(types, m.ArtifactType)
	}
	if want := []string{"application/vnd.oci.image.config.v1+json", "application/vnd.example.sbom", ""}; !slices.Equal(types, want) {
		t.Fatalf("artifact types %q, want %q", types, want)
	}
	if m := all.Manifests[0]; m.Digest != sum(plain) || m.Size != int64(len(plain)) || m.MediaType != imageType || m.Annotations["k"] != "v" {
		t.Errorf("descriptor %+v", m)
	}

	filtered, a := r.referrers(path + "?artifactType=application/vnd.example.sbom")
	if len(filtered.Manifests) != 1 || filtered.Manifests[0].Digest != sum(typed) || a.Header.Get(headerFiltersApplied) != "artifactType" {
		t.Errorf("filtered: %+v, %q", filtered.Manifests, a.Header.Get(headerFiltersApplied))
	}

	var paged []string
	next := path + "?n=1"
	for next != "" {
		page, a := r.referrers(next)
		for _, m := range page.Manifests {
			paged = append(paged, m.Digest.String())
		}
		next = linkOf(a)
	}
	if len(paged) != 3 || paged[0] != sum(plain).String() || paged[2] != sum(index).String() {
		t.Errorf("pages give %v", paged)
	}

	// A client that found no referrers API keeps an index under a tag; what it lists is folded in, once.
	old := r.pushImage("a/b", "", "old", "")
	fallback := indexOf("", old, plain)
	r.want(201, "", "PUT", "/v2/a/b/manifests/sha256-"+dgst[7:], fallback, headerContentType, indexType)
	folded, _ := r.referrers(path)
	count := 0
	for _, m := range folded.Manifests {
		if m.Digest == sum(old) || m.Digest == sum(plain) {
			count++
		}
	}
	if count != 2 || len(folded.Manifests) != 4 {
		t.Errorf("with a referrers tag: %+v", folded.Manifests)
	}
	pages := 0
	for next := path + "?n=1"; next != ""; pages++ {
		page, a := r.referrers(next)
		if len(page.Manifests) != 1 {
			t.Errorf("page %d with n=1 has %d entries", pages, len(page.Manifests))
		}
		next = linkOf(a)
	}
	if pages != 4 {
		t.Errorf("%d pages, want 4", pages)
	}

	// The subject may go; its referrers stay findable.
	r.want(202, "", "DELETE", "/v2/a/b/manifests/"+sum(fallback).String(), nil)
	r.want(405, codeUnsupported, "DELETE", "/v2/a/b/manifests/"+dgst, nil)
	r.want(202, "", "DELETE", "/v2/a/b/manifests/"+sum(index).String(), nil)
	r.want(202, "", "DELETE", "/v2/a/b/manifests/"+sum(plain).String(), nil)
	if left, _ := r.referrers(path); len(left.Manifests) != 1 {
		t.Errorf("after deletes: %+v", left.Manifests)
	}
}

// linkOf returns the path of the next page, or "".
func linkOf(a answer) string {
	link := a.Header.Get(headerLink)
	path, ok := strings.CutSuffix(strings.TrimPrefix(link, "<"), `>; rel="next"`)
	if link != "" && !ok {
		panic("Link " + link)
	}
	return path
}
