package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"cubby/server/auth"
	"cubby/store"
	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
)

// A registry is a real server over a real store.
type registry struct {
	t     testing.TB
	url   string
	store *store.Store
	guard *auth.Guard

	posts atomic.Int64 // POST requests that ended
}

func newRegistry(t testing.TB, change ...func(*Config)) *registry {
	t.Helper()
	st, err := store.Open(t.Context(), store.Options{Dir: t.TempDir(), Role: store.RoleServe, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	c := Config{Store: st, Guard: auth.New(auth.Options{Store: st})}
	for _, f := range change {
		f(&c)
	}
	r := &registry{t: t, store: st, guard: c.Guard}
	s := New(c)
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		s.ServeHTTP(w, req)
		if req.Method == http.MethodPost {
			r.posts.Add(1)
		}
	}))
	r.url = ts.URL
	t.Cleanup(func() {
		ts.Close()
		report, err := st.Check(t.Context(), true, nil)
		if err == nil && len(report.Problems) > 0 {
			t.Errorf("check after the test: %+v", report.Problems)
		}
		if err := st.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return r
}

// anonymous lets everybody do something in the repositories of a pattern: none, pull or push.
func (r *registry) anonymous(what, pattern string) {
	r.t.Helper()
	actions, err := auth.ParseAnonymous(what)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := r.store.SetAnonymous(r.t.Context(), store.Grant{Repositories: glob(r.t, pattern), Actions: actions}, store.Actor{}); err != nil {
		r.t.Fatal(err)
	}
}

func glob(t testing.TB, pattern string) oci.Glob {
	t.Helper()
	g, err := oci.ParseGlob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// An answer is a response whose body has been read.
type answer struct {
	*http.Response
	body []byte
}

func (r *registry) do(method, path string, body io.Reader, headers ...string) answer {
	r.t.Helper()
	url := path
	if strings.HasPrefix(path, "/") {
		url = r.url + path
	}
	req, err := http.NewRequestWithContext(r.t.Context(), method, url, body)
	if err != nil {
		r.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			req.Host = headers[i+1]
		}
		req.Header.Add(headers[i], headers[i+1])
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		r.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatalf("%s %s: read body: %v", method, path, err)
	}
	return answer{res, b}
}

// want does a request and fails unless it is answered with the status, and with the code when there is one.
func (r *registry) want(status int, code code, method, path string, body []byte, headers ...string) answer {
	r.t.Helper()
	var reader io.Reader
	if body != nil {
		reader = bytes.NewReader(body)
	}
	a := r.do(method, path, reader, headers...)
	if a.StatusCode != status {
		r.t.Fatalf("%s %s: status %d, want %d; body %s", method, path, a.StatusCode, status, a.body)
	}
	if code != "" && method != http.MethodHead {
		if got := a.codes(r.t); len(got) == 0 || got[0] != code {
			r.t.Fatalf("%s %s: codes %v, want %s; body %s", method, path, got, code, a.body)
		}
	}
	return a
}

// codes returns the error codes of an answer, which must be in the API's form.
func (a answer) codes(t testing.TB) []code {
	t.Helper()
	if got := a.Header.Get(headerContentType); got != "application/json" {
		t.Fatalf("error has Content-Type %q: %s", got, a.body)
	}
	var v struct{ Errors []apiError }
	if err := json.Unmarshal(a.body, &v); err != nil {
		t.Fatalf("error is not JSON: %s", a.body)
	}
	var codes []code
	for _, e := range v.Errors {
		if e.Message == "" {
			t.Errorf("error %s has no message", e.Code)
		}
		codes = append(codes, e.Code)
	}
	return codes
}

func sum(b []byte) digest.Digest { return oci.SumDigest(digest.SHA256, b) }

// pushBlob pushes content with one POST.
func (r *registry) pushBlob(name string, content []byte) digest.Digest {
	r.t.Helper()
	dgst := sum(content)
	r.want(http.StatusCreated, "", "POST", "/v2/"+name+"/blobs/uploads/?digest="+dgst.String(), content)
	return dgst
}

const (
	imageType = "application/vnd.oci.image.manifest.v1+json"
	indexType = "application/vnd.oci.image.index.v1+json"
)

// imageOf returns an image manifest over a config and layers. extra is put before the closing brace.
func imageOf(config []byte, extra string, layers ...[]byte) []byte {
	var list []string
	for _, l := range layers {
		list = append(list, fmt.Sprintf(`{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":%d}`, sum(l), len(l)))
	}
	return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":%d},"layers":[%s]%s}`,
		imageType, sum(config), len(config), strings.Join(list, ","), extra)
}

// pushImage pushes an image with one layer under a reference, and returns its manifest. The reference "" is its digest.
func (r *registry) pushImage(name, ref, content, extra string) []byte {
	r.t.Helper()
	config, layer := []byte(`{"c":"`+content+`"}`), []byte("layer "+content)
	r.pushBlob(name, config)
	r.pushBlob(name, layer)
	m := imageOf(config, extra, layer)
	if ref == "" {
		ref = sum(m).String()
	}
	r.want(http.StatusCreated, "", "PUT", "/v2/"+name+"/manifests/"+ref, m, headerContentType, imageType)
	return m
}

// indexOf returns an index over manifests.
func indexOf(extra string, manifests ...[]byte) []byte {
	var list []string
	for _, m := range manifests {
		list = append(list, fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, imageType, sum(m), len(m)))
	}
	return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[%s]%s}`, indexType, strings.Join(list, ","), extra)
}

func (r *registry) tags(name string) []string {
	r.t.Helper()
	var v struct{ Tags []string }
	a := r.want(http.StatusOK, "", "GET", "/v2/"+name+"/tags/list", nil)
	if err := json.Unmarshal(a.body, &v); err != nil {
		r.t.Fatal(err)
	}
	return v.Tags
}
