package server

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"cubby/server/auth"
	"cubby/store"
	"cubby/store/oci"
)

// TestTags: end-8.
func TestTags(t *testing.T) {
	r := newRegistry(t)
	r.want(404, codeNameUnknown, "GET", "/v2/a/b/tags/list", nil)
	m := r.pushImage("a/b", "", "x", "")
	if got := r.tags("a/b"); got == nil || len(got) != 0 {
		t.Errorf("tags of a repository without tags: %v, want []", got)
	}
	want := []string{"1.0", "A", "Z", "_", "a", "b.1", "latest", "z"} // byte order
	for _, tag := range []string{"z", "latest", "A", "_", "1.0", "b.1", "Z", "a"} {
		r.want(201, "", "PUT", "/v2/a/b/manifests/"+tag, m, headerContentType, imageType)
	}
	for _, tt := range []struct {
		query string
		want  []string
		link  string
	}{
		{"", want, ""},
		{"?n=3", want[:3], "/v2/a/b/tags/list?last=Z&n=3"},
		{"?n=3&last=Z", want[3:6], "/v2/a/b/tags/list?last=b.1&n=3"},
		{"?n=3&last=b.1", want[6:], ""},
		{"?n=8", want, ""},
		{"?last=a", want[5:], ""},
		{"?last=nosuch", want[7:], ""},
		{"?last=%27%20OR%201=1--", want, ""},
		{"?n=0", []string{}, ""},
		{"?n=99999999999999999999999", want, ""},
	} {
		a := r.want(200, "", "GET", "/v2/a/b/tags/list"+tt.query, nil)
		var v struct {
			Name string
			Tags []string
		}
		if err := json.Unmarshal(a.body, &v); err != nil {
			t.Fatal(err)
		}
		if v.Name != "a/b" || v.Tags == nil || !slices.Equal(v.Tags, tt.want) || linkOf(a) != tt.link {
			t.Errorf("%s: %v, Link %q; want %v, %q", tt.query, v.Tags, linkOf(a), tt.want, tt.link)
		}
	}
	for _, query := range []string{"?n=-1", "?n=x", "?n=", "?n=1e3", "?n=0x10"} {
		r.want(400, codeUnsupported, "GET", "/v2/a/b/tags/list"+query, nil)
	}
}

func TestCatalog(t *testing.T) {
	r := newRegistry(t)
	for _, name := range []string{"c", "a/b", "b-x", "a"} {
		r.pushImage(name, "1", "x", "")
	}
	r.pushBlob("only/blobs", []byte("x"))
	catalog := func(path string) ([]string, string) {
		t.Helper()
		a := r.want(200, "", "GET", path, nil)
		var v struct{ Repositories []string }
		if err := json.Unmarshal(a.body, &v); err != nil || v.Repositories == nil {
			t.Fatalf("%s: %s", path, a.body)
		}
		return v.Repositories, linkOf(a)
	}
	if got, _ := catalog("/v2/_catalog"); !slices.Equal(got, []string{"a", "a/b", "b-x", "c"}) {
		t.Errorf("catalog %v", got)
	}
	var paged []string
	for next := "/v2/_catalog?n=2"; next != ""; {
		var page []string
		page, next = catalog(next)
		paged = append(paged, page...)
	}
	if !slices.Equal(paged, []string{"a", "a/b", "b-x", "c"}) {
		t.Errorf("pages %v", paged)
	}
	if got, link := catalog("/v2/_catalog?n=0"); len(got) != 0 || link != "" {
		t.Errorf("n=0: %v %q", got, link)
	}
	r.want(400, codeUnsupported, "GET", "/v2/_catalog?n=-5", nil)
}

// TestErrorTable: every code is the spec's, every sentinel has a row, and none is a 500.
func TestErrorTable(t *testing.T) {
	spec := []code{
		"BLOB_UNKNOWN", "BLOB_UPLOAD_INVALID", "BLOB_UPLOAD_UNKNOWN", "DIGEST_INVALID", "MANIFEST_BLOB_UNKNOWN", "MANIFEST_INVALID",
		"MANIFEST_UNKNOWN", "NAME_INVALID", "NAME_UNKNOWN", "SIZE_INVALID", "UNAUTHORIZED", "DENIED", "UNSUPPORTED", "TOOMANYREQUESTS",
	}
	for _, row := range table {
		if !slices.Contains(spec, row.code) || row.status < 400 || row.status > 499 {
			t.Errorf("%v: %d %s", row.is, row.status, row.code)
		}
	}
	for _, err := range []error{
		store.ErrNameUnknown, store.ErrBlobUnknown, store.ErrManifestUnknown, store.ErrManifestBlobUnknown, store.ErrUploadUnknown,
		store.ErrUploadBusy, store.ErrUploadsTooMany, store.ErrRangeInvalid, store.ErrDigestMismatch, store.ErrSizeMismatch, store.ErrInUse,
		store.ErrPrecondition, store.ErrFull, store.ErrReadOnly, oci.ErrNameInvalid, oci.ErrTagInvalid, oci.ErrDigestInvalid, oci.ErrManifestInvalid,
		store.ErrTarget, store.ErrHistoryUnknown, store.ErrContentDeleted, store.ErrImmutable, store.ErrOverwrite,
		store.ErrUserUnknown, store.ErrUserExists, store.ErrUserInvalid, store.ErrActionsInvalid, store.ErrGrantUnknown, store.ErrTokenUnknown,
		oci.ErrGlobInvalid, auth.ErrUnauthorized, auth.ErrCredentials, auth.ErrSlowDown, auth.ErrDenied, errLargeTooMany,
	} {
		if _, _, internal := translate(fmt.Errorf("wrapped: %w", err)); internal {
			t.Errorf("%v has no row", err)
		}
	}
	status, entries, internal := translate(errors.New("/secret/path: disk on fire"))
	if status != 500 || !internal || strings.Contains(entries[0].Message, "secret") {
		t.Errorf("an internal error shows its cause: %d %+v", status, entries)
	}
}

// TestHeadLikeGet: also where neither is possible, and at the token service, the answers differ in nothing but the body.
func TestHeadLikeGet(t *testing.T) {
	r := newRegistry(t)
	for path, status := range map[string]int{"/v2/": 200, "/-/token": 200, "/v2/a/tags/list": 404, "/v2/a/blobs/uploads/": 405, "/v2/A/tags/list": 400} {
		get, head := r.want(status, "", "GET", path, nil), r.want(status, "", "HEAD", path, nil)
		get.Header.Del("Date")
		head.Header.Del("Date")
		if !maps.EqualFunc(get.Header, head.Header, slices.Equal) {
			t.Errorf("%s: HEAD has %v, GET %v", path, head.Header, get.Header)
		}
	}
}

// TestChunkedCloses: behind a chunked request may be what a proxy that went by a Content-Length took for its body.
func TestChunkedCloses(t *testing.T) {
	r := newRegistry(t)
	location := r.want(202, "", "POST", "/v2/a/blobs/uploads/", nil).Header.Get(headerLocation)
	if a := r.do("PATCH", location, io.MultiReader(strings.NewReader("chunk"))); a.StatusCode != 202 || !a.Close {
		t.Errorf("a chunked request is answered with %d, and the connection is closed: %t", a.StatusCode, a.Close)
	}
	if a := r.do("PATCH", location, strings.NewReader("chunk")); a.StatusCode != 202 || a.Close {
		t.Errorf("a request that tells its length is answered with %d, and the connection is closed: %t", a.StatusCode, a.Close)
	}
}

// TestRouting: paths and methods that are not in the API, in the API's JSON.
func TestRouting(t *testing.T) {
	r := newRegistry(t)
	for _, path := range []string{"/v2", "/v2/"} {
		if a := r.want(200, "", "GET", path, nil); a.Header.Get(headerVersion) != "registry/2.0" || string(a.body) != "{}" {
			t.Errorf("%s: %v %s", path, a.Header, a.body)
		}
		r.want(200, "", "HEAD", path, nil)
	}
	for _, path := range []string{"/v2/x", "/v2/a/tags", "/v3/", "/v2/a/b/c/d", "/metrics"} {
		r.want(404, codeUnsupported, "GET", path, nil)
	}
	for _, path := range []string{"/v2/A/tags/list", "/v2//a/tags/list", "/v2/a//b/tags/list", "/v2/../v2/a/tags/list", "/v2/a/%2e%2e/b/tags/list", "/v2/a%00/tags/list"} {
		r.want(400, codeNameInvalid, "GET", path, nil)
	}
	for path, allow := range map[string]string{
		"/v2/_catalog":                "GET, HEAD, OPTIONS",
		"/v2/a/tags/list":             "GET, HEAD, OPTIONS",
		"/v2/a/manifests/x":           "DELETE, GET, HEAD, OPTIONS, PUT",
		"/v2/a/blobs/uploads/":        "OPTIONS, POST",
		"/v2/a/blobs/uploads/session": "DELETE, GET, HEAD, OPTIONS, PATCH, PUT",
		"/v2/a/blobs/" + dgA:          "DELETE, GET, HEAD, OPTIONS",
	} {
		for _, method := range []string{"PUT", "POST", "PATCH", "DELETE"} {
			if strings.Contains(allow, method) {
				continue
			}
			if a := r.want(405, codeUnsupported, method, path, nil); a.Header.Get(headerAllow) != allow {
				t.Errorf("%s %s: Allow %q, want %q", method, path, a.Header.Get(headerAllow), allow)
			}
		}
		if a := r.want(200, "", "OPTIONS", path, nil, "Host", "elsewhere.example"); a.Header.Get(headerAllow) != allow {
			t.Errorf("OPTIONS %s: Allow %q, want %q", path, a.Header.Get(headerAllow), allow)
		}
	}
}

func TestNearestName(t *testing.T) {
	r := newRegistry(t)
	r.pushImage("team/api", "1", "x", "")
	for _, path := range []string{"/v2/teem/api/manifests/1", "/v2/teem/api/tags/list"} {
		a := r.want(404, codeNameUnknown, "GET", path, nil)
		if !strings.Contains(string(a.body), "no repository teem/api here; nearest: team/api") {
			t.Errorf("%s: %s", path, a.body)
		}
	}
	if a := r.want(404, codeNameUnknown, "GET", "/v2/other/manifests/1", nil); strings.Contains(string(a.body), "nearest") {
		t.Errorf("far names are suggested: %s", a.body)
	}
}

// TestLocalOnly: who is let in without --anonymous (S5, S9): a proxy or DNS rebinding must not open the registry.
func TestLocalOnly(t *testing.T) {
	for _, tt := range []struct {
		name      string
		anonymous string
		headers   []string
		pull      int
		push      int
		delete    int
	}{
		{"this machine", "none", nil, 200, 202, 202},
		{"localhost", "none", []string{"Host", "localhost:5000"}, 200, 202, 202},
		{"other loopback address", "none", []string{"Host", "127.1.2.3:5000"}, 200, 202, 202},
		{"IPv6", "none", []string{"Host", "[::1]:5000"}, 200, 202, 202},
		{"DNS rebinding", "none", []string{"Host", "evil.example:5000"}, 401, 401, 401},
		{"looks like localhost", "none", []string{"Host", "localhost.evil.example"}, 401, 401, 401},
		{"LAN address", "none", []string{"Host", "192.0.2.7:5000"}, 401, 401, 401},
		{"proxy, X-Forwarded-For", "none", []string{"X-Forwarded-For", "127.0.0.1"}, 401, 401, 401},
		{"proxy, X-Forwarded-Host", "none", []string{"X-Forwarded-Host", "localhost"}, 401, 401, 401},
		{"proxy, Forwarded", "none", []string{"Forwarded", "for=127.0.0.1"}, 401, 401, 401},
		{"proxy, Via", "none", []string{"Via", "1.1 proxy"}, 401, 401, 401},
		{"anonymous pull", "pull", []string{"Host", "nas:5000"}, 200, 401, 401},
		{"anonymous push", "push", []string{"Host", "nas:5000"}, 200, 202, 401},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRegistry(t)
			r.anonymous(tt.anonymous, "**")
			r.pushImage("a", "1", "x", "")
			get := r.want(tt.pull, "", "GET", "/v2/a/manifests/1", nil, tt.headers...)
			if tt.pull == 401 {
				if codes := get.codes(t); codes[0] != codeUnauthorized || get.Header.Get(headerWWWAuthenticate) == "" {
					t.Errorf("401 is %v %v", codes, get.Header)
				}
			}
			r.want(tt.pull, "", "GET", "/v2/", nil, tt.headers...)
			r.want(tt.push, "", "POST", "/v2/a/blobs/uploads/", nil, tt.headers...)
			r.want(tt.delete, "", "DELETE", "/v2/a/manifests/1", nil, tt.headers...)
			// Health is for everybody, and everything else that is denied looks the same whether it exists or not.
			r.want(200, "", "GET", "/-/healthz", nil, tt.headers...)
			r.want(200, "", "GET", "/-/readyz?for=push", nil, tt.headers...)
			if tt.pull == 401 {
				for _, path := range []string{"/v2/no/such/manifests/1", "/v2/x", "/v2/BAD/manifests/1", "/v2/_catalog"} {
					if a := r.want(401, codeUnauthorized, "GET", path, nil, tt.headers...); string(a.body) != string(get.body) {
						t.Errorf("%s can be told from what exists: %s", path, a.body)
					}
				}
			}
		})
	}
}

// TestProxiesAreNotLocal: requests that only a proxy makes, over a raw connection from this machine.
func TestProxiesAreNotLocal(t *testing.T) {
	r := newRegistry(t)
	for raw, want := range map[string]string{
		"GET /v2/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n":                                "200",
		"GET /v2/ HTTP/1.0\r\nHost: localhost:5000\r\nConnection: close\r\n\r\n":                           "401", // nginx as it comes
		"GET http://localhost/v2/ HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n":             "401",
		"GET /v2/ HTTP/1.1\r\nHost: localhost\r\nCF-Connecting-IP: 192.0.2.1\r\nConnection: close\r\n\r\n": "401",
	} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(conn, raw)
		line, err := bufio.NewReader(conn).ReadString('\n')
		conn.Close()
		if err != nil || !strings.Contains(line, " "+want+" ") {
			t.Errorf("%q: %q, want %s", raw, line, want)
		}
	}
}

// TestEndpointActions: every endpoint has an action, and only these may be used without rights.
func TestEndpointActions(t *testing.T) {
	for res, methods := range endpoints {
		for method, e := range methods {
			writes := method != http.MethodGet
			switch {
			case e.action == 0, e.action == auth.Public:
				t.Errorf("resource %d, %s has no action", res, method)
			case writes && e.action != auth.Push && e.action != auth.Delete:
				t.Errorf("resource %d, %s changes something with action %s", res, method, e.action)
			case method == http.MethodDelete && res != resourceUpload && e.action != auth.Delete:
				t.Errorf("resource %d, DELETE needs action delete, has %s", res, e.action)
			}
		}
	}
}

// TestCrossOrigin: a page of another site must not act through the browser of someone on this machine.
func TestCrossOrigin(t *testing.T) {
	r := newRegistry(t)
	r.pushImage("a", "1", "x", "")
	r.want(403, codeDenied, "DELETE", "/v2/a/manifests/1", nil, "Origin", "https://evil.example")
	r.want(403, codeDenied, "POST", "/v2/a/blobs/uploads/", nil, "Sec-Fetch-Site", "cross-site")
	r.want(200, "", "GET", "/v2/a/manifests/1", nil, "Sec-Fetch-Site", "cross-site")
	// By DNS rebinding a page elsewhere is of the same origin.
	r.want(403, codeDenied, "DELETE", "/v2/a/manifests/1", nil, "Sec-Fetch-Site", "same-origin")
	r.want(403, codeDenied, "DELETE", "/v2/a/manifests/1", nil, "Origin", r.url)
	r.want(202, "", "DELETE", "/v2/a/manifests/1", nil)
}

func TestReady(t *testing.T) {
	st, err := store.Open(t.Context(), store.Options{Dir: t.TempDir(), Role: store.RoleServe, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	dir := st.Dir()
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	if st, err = store.Open(t.Context(), store.Options{Dir: dir, Role: store.RoleServe, ReadOnly: true}); err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	r := newRegistry(t, func(c *Config) { c.Store = st })
	a := r.want(200, "", "GET", "/-/readyz", nil)
	var ready Readiness
	if err := json.Unmarshal(a.body, &ready); err != nil || !ready.Pull || ready.Push || !strings.Contains(ready.Reason, "read-only") {
		t.Errorf("readyz of a read-only store: %s", a.body)
	}
	r.want(503, "", "GET", "/-/readyz?for=push", nil)
	r.want(405, codeUnsupported, "POST", "/v2/a/blobs/uploads/", nil)
	r.want(405, codeUnsupported, "POST", "/v2/a/blobs/uploads/?digest="+sum([]byte("x")).String(), []byte("x"))
	r.want(405, codeUnsupported, "DELETE", "/v2/a/manifests/x", nil)
}

// TestRawRequests: what only a hand-made request can hold is a 400 or a closed connection, never a 5xx (S14, S16).
func TestRawRequests(t *testing.T) {
	r := newRegistry(t)
	r.pushImage("a", "1", "x", "")
	for _, raw := range []string{
		"GET /v2/a/manifests/1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"GET /v2/a/manifests/1 HTTP/1.1\nHost: localhost\n\n",
		"GET http://evil.example/v2/a/manifests/1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"GET /v2/a/manifests/1 HTTP/1.1\r\n\r\n",
		"GET /v2/%zz/manifests/1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"GET /v2/a/manifests/%0d%0aX:y HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"PUT /v2/a/manifests/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
		"PUT /v2/a/manifests/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n",
		"POST /v2/a/blobs/uploads/?digest=" + dgA + " HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
		"FOO /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"GET /" + strings.Repeat("x", 40<<10) + " HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"GET /v2/ HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("x", 2<<20) + "\r\n\r\n",
	} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		// The server may answer and close before it has read all of it.
		_, _ = conn.Write([]byte(raw))
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.CloseWrite()
		}
		line, _ := bufio.NewReader(conn).ReadString('\n')
		conn.Close()
		if strings.HasPrefix(line, "HTTP/1.1 5") && !strings.HasPrefix(line, "HTTP/1.1 505") && !strings.HasPrefix(line, "HTTP/1.1 501") {
			t.Errorf("%.60q: %s", raw, line)
		}
	}
	r.want(200, "", "GET", "/v2/a/manifests/1", nil)
}

// TestRefusedWhileSending: a client that is refused while it sends reads the answer, however late it looks for it.
func TestRefusedWhileSending(t *testing.T) {
	r := newRegistry(t)
	const size = 64 << 20 // more than the buffers of the connection take
	for _, head := range []string{fmt.Sprint("Content-Length: ", size), "Transfer-Encoding: chunked"} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "PATCH /v2/a/blobs/uploads/unknown HTTP/1.1\r\nHost: localhost\r\n%s\r\n\r\n", head)
		if strings.HasPrefix(head, "T") {
			fmt.Fprintf(conn, "%x\r\n", size)
		}
		if n, err := conn.Write(make([]byte, size)); err != nil {
			t.Errorf("%s: cut after %d bytes: %v", head, n, err)
		}
		a, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || a.StatusCode != http.StatusNotFound || !a.Close {
			t.Errorf("%s: answered with %v, %v", head, a, err)
		}
	}
}

// TestLingerMax: when as many linger as may, one more is answered and half-closed at once.
func TestLingerMax(t *testing.T) {
	s := New(Config{Store: newRegistry(t).store, Guard: auth.New(auth.Options{})})
	for range lingerMax {
		s.lingering <- struct{}{}
	}
	ts := httptest.NewServer(s)
	defer ts.Close()
	conn, err := net.Dial("tcp", ts.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetReadDeadline(time.Now().Add(lingerTime / 2)); err != nil {
		t.Fatal(err)
	}
	// More than the server reads at once: a connection that is closed with bytes unread is reset.
	fmt.Fprintf(conn, "PATCH /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", 64<<20, make([]byte, 64<<10))
	read := bufio.NewReader(conn)
	if a, err := http.ReadResponse(read, nil); err != nil || a.StatusCode != http.StatusNotFound || !a.Close {
		t.Fatalf("answered with %v, %v", a, err)
	}
	if _, err := io.Copy(io.Discard, read); err != nil {
		t.Errorf("after the answer: %v, want the connection's end", err)
	}
	if len(s.lingering) != lingerMax {
		t.Errorf("%d linger", len(s.lingering))
	}
}

// TestBodyThatNeverComes: a request whose body is announced and not sent is answered or cut soon, whoever reads it.
func TestBodyThatNeverComes(t *testing.T) {
	r := newRegistry(t)
	r.pushImage("a", "large", "x", `,"annotations":{"x":"`+strings.Repeat("y", 20_000)+`"}`)
	for _, head := range []string{
		"GET /-/healthz HTTP/1.1\r\nHost: localhost",
		"GET / HTTP/1.1\r\nHost: localhost",
		"POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: evil.example",
		"PATCH /v2/a/blobs/uploads/unknown HTTP/1.1\r\nHost: localhost",
		"GET /nothing HTTP/1.1\r\nHost: localhost",
		"GET /v2/a/manifests/large HTTP/1.1\r\nHost: localhost",
	} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(15 * time.Second)); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "%s\r\nContent-Length: 100\r\n\r\n", head)
		if _, err := io.Copy(io.Discard, conn); err != nil {
			t.Errorf("%s: %v", head, err)
		}
		conn.Close()
	}
}

// TestExpect: when a client was not told to send its body, and does so or not, the connection ends, whatever the method and
// the answer.
func TestExpect(t *testing.T) {
	r := newRegistry(t)
	r.pushImage("a", "small", "one", "")
	r.pushImage("a", "large", "two", `,"annotations":{"text":"`+strings.Repeat("x", 100_000)+`"}`)
	for _, path := range []string{"/v2/", "/v2/a/manifests/small", "/v2/a/manifests/large", "/v2/a/manifests/none", "/"} {
		for _, method := range []string{"GET", "HEAD"} {
			conn, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx", method, path)
			response, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
			if err != nil {
				t.Fatalf("%s %s: %v", method, path, err)
			}
			response.Body.Close()
			if !response.Close {
				t.Errorf("%s %s: %s, and the connection stays", method, path, response.Status)
			}
		}
	}
}
