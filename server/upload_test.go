package server

import (
	"bytes"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// start opens a session and returns its location.
func (r *registry) start(name, query string) string {
	r.t.Helper()
	a := r.want(http.StatusAccepted, "", "POST", "/v2/"+name+"/blobs/uploads/"+query, []byte{})
	location := a.Header.Get(headerLocation)
	if !strings.HasPrefix(location, "/v2/"+name+"/blobs/uploads/") {
		r.t.Fatalf("Location %q is not a path of this repository", location)
	}
	if got := a.Header.Get(headerRange); got != "0-0" {
		r.t.Fatalf("Range of a new session is %q", got)
	}
	return location
}

func (r *registry) wantBlob(name, dgst string, content []byte) {
	r.t.Helper()
	a := r.want(http.StatusOK, "", "GET", "/v2/"+name+"/blobs/"+dgst, nil)
	if !bytes.Equal(a.body, content) {
		r.t.Fatalf("blob %s has %d bytes, want %d", dgst, len(a.body), len(content))
	}
	if got := a.Header.Get(headerDigest); got != dgst {
		r.t.Fatalf("blob %s has digest header %q", dgst, got)
	}
	h := r.want(http.StatusOK, "", "HEAD", "/v2/"+name+"/blobs/"+dgst, nil)
	if h.ContentLength != int64(len(content)) {
		r.t.Fatalf("HEAD of blob %s has length %d, want %d", dgst, h.ContentLength, len(content))
	}
}

// TestUploads goes through the ways to push a blob, by endpoint of the spec.
func TestUploads(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcdef"), 200) // 3200 bytes
	sha256 := sum(content).String()
	sha512 := fmt.Sprintf("sha512:%x", sha512.Sum512(content))
	other := sum([]byte("other")).String()
	for _, tt := range []struct {
		name string
		run  func(t *testing.T, r *registry)
	}{
		{"end-4b monolithic POST", func(t *testing.T, r *registry) {
			a := r.want(201, "", "POST", "/v2/a/b/blobs/uploads/?digest="+sha256, content)
			if got := a.Header.Get(headerLocation); got != "/v2/a/b/blobs/"+sha256 {
				t.Errorf("Location %q", got)
			}
			r.wantBlob("a/b", sha256, content)
		}},
		{"end-4b without the last slash", func(t *testing.T, r *registry) {
			r.want(201, "", "POST", "/v2/a/b/blobs/uploads?digest="+sha256, content)
		}},
		{"end-4b wrong digest", func(t *testing.T, r *registry) {
			r.want(400, codeDigestInvalid, "POST", "/v2/a/b/blobs/uploads/?digest="+other, content)
			r.want(404, codeBlobUnknown, "GET", "/v2/a/b/blobs/"+other, nil)
		}},
		{"end-4b malformed digest", func(t *testing.T, r *registry) {
			for _, bad := range []string{"", "sha256:", "sha256:xyz", "md5:d41d8cd98f00b204e9800998ecf8427e", "sha256:" + strings.ToUpper(sha256[7:]), "sha512:" + sha256[7:]} {
				r.want(400, codeDigestInvalid, "POST", "/v2/a/b/blobs/uploads/?digest="+bad, content)
			}
		}},
		{"end-4a end-6 POST then PUT", func(t *testing.T, r *registry) {
			location := r.start("a/b", "")
			r.want(201, "", "PUT", location+"?digest="+sha256, content)
			r.wantBlob("a/b", sha256, content)
			r.want(404, codeBlobUploadUnknown, "GET", location, nil)
		}},
		{"end-6 sha512 known only at the end", func(t *testing.T, r *registry) {
			location := r.start("a/b", "")
			a := r.want(201, "", "PUT", location+"?digest="+sha512, content)
			if got := a.Header.Get(headerDigest); got != sha512 {
				t.Errorf("digest header %q", got)
			}
			r.wantBlob("a/b", sha512, content)
			r.want(404, codeBlobUnknown, "GET", "/v2/a/b/blobs/"+sha256, nil)
		}},
		{"end-4c announced algorithm", func(t *testing.T, r *registry) {
			r.want(201, "", "PUT", r.start("a/b", "?digest-algorithm=sha512")+"?digest="+sha512, content)
			r.want(201, "", "PUT", r.start("a/b", "?digest-algorithm=sha512")+"?digest="+sha256, content)
			r.want(400, codeDigestInvalid, "POST", "/v2/a/b/blobs/uploads/?digest-algorithm=md5", nil)
		}},
		{"end-6 wrong digest ends the session", func(t *testing.T, r *registry) {
			location := r.start("a/b", "")
			r.want(400, codeDigestInvalid, "PUT", location+"?digest="+other, content)
			r.want(404, codeBlobUploadUnknown, "PUT", location+"?digest="+sha256, content)
		}},
		{"end-6 without or with malformed digest keeps the session", func(t *testing.T, r *registry) {
			location := r.start("a/b", "")
			r.want(400, codeDigestInvalid, "PUT", location, content)
			r.want(400, codeDigestInvalid, "PUT", location+"?digest=sha256:zz", content)
			r.want(201, "", "PUT", location+"?digest="+sha256, content)
		}},
		{"end-5 streamed PATCH", func(t *testing.T, r *registry) {
			location := r.start("a/b", "")
			// A reader of unknown length goes out with Transfer-Encoding: chunked, as docker does.
			a := r.do("PATCH", location, io.MultiReader(bytes.NewReader(content)))
			if a.StatusCode != 202 || a.Header.Get(headerRange) != "0-3199" {
				t.Fatalf("PATCH: %d, Range %q", a.StatusCode, a.Header.Get(headerRange))
			}
			r.want(201, "", "PUT", location+"?digest="+sha256, []byte{})
			r.wantBlob("a/b", sha256, content)
		}},
		{"end-5 chunks in and out of order", func(t *testing.T, r *registry) {
			location := r.start("a/b", "")
			refused := func(method, url, contentRange, want string, from, to int) {
				t.Helper()
				a := r.want(416, codeBlobUploadInvalid, method, url, content[from:to], headerContentRange, contentRange)
				if got := a.Header.Get(headerRange); got != want {
					t.Fatalf("416 has Range %q, want %q", got, want)
				}
				if s := r.want(204, "", "GET", url, nil); s.Header.Get(headerRange) != want {
					t.Fatalf("status has Range %q, want %q", s.Header.Get(headerRange), want)
				}
			}
			refused("PATCH", location, "1000-1999", "0-0", 1000, 2000)
			r.want(202, "", "PATCH", location, content[:1000], headerContentRange, "0-999")
			refused("PATCH", location, "2000-3199", "0-999", 2000, 3200)
			refused("PUT", location+"?digest="+sha256, "2000-3199", "0-999", 2000, 3200)
			r.want(202, "", "PATCH", location, content[1000:2000], headerContentRange, "1000-1999")
			refused("PATCH", location, "0-999", "0-1999", 0, 1000)
			r.want(201, "", "PUT", location+"?digest="+sha256, content[2000:], headerContentRange, "2000-3199")
			r.wantBlob("a/b", sha256, content)
		}},
		{"end-5 malformed Content-Range", func(t *testing.T, r *registry) {
			location := r.start("a/b", "")
			for _, bad := range []string{"x", "5", "-5", "5-", "10-5", "0-99999999999999999999", "bytes", "0--1", "0 - 9"} {
				r.want(400, codeBlobUploadInvalid, "PATCH", location, content, headerContentRange, bad)
			}
			r.want(400, codeSizeInvalid, "PATCH", location, content, headerContentRange, "0-99")
			r.want(204, "", "GET", location, nil)
		}},
		{"end-5 a body of unknown length must fit its Content-Range", func(t *testing.T, r *registry) {
			for _, n := range []int{50, 150} {
				location := r.start("a/b", "")
				a := r.do("PATCH", location, io.MultiReader(bytes.NewReader(content[:n])), headerContentRange, "0-99")
				if a.StatusCode != 400 || a.codes(t)[0] != codeSizeInvalid {
					t.Errorf("%d bytes for 0-99: %d %s", n, a.StatusCode, a.body)
				}
			}
			location := r.start("a/b", "")
			if a := r.do("PATCH", location, io.MultiReader(bytes.NewReader(content)), headerContentRange, "0-3199"); a.StatusCode != 202 {
				t.Errorf("whole: %d %s", a.StatusCode, a.body)
			}
			r.want(201, "", "PUT", location+"?digest="+sha256, []byte{})
		}},
		{"end-13 end-14 status and cancel", func(t *testing.T, r *registry) {
			location := r.start("a/b", "")
			r.want(202, "", "PATCH", location, content)
			r.want(404, codeBlobUploadUnknown, "GET", strings.Replace(location, "/a/b/", "/a/c/", 1), nil)
			r.want(204, "", "DELETE", location, nil)
			r.want(404, codeBlobUploadUnknown, "GET", location, nil)
			r.want(404, codeBlobUploadUnknown, "DELETE", location, nil)
			r.want(404, codeBlobUploadUnknown, "PATCH", location, content)
		}},
		{"end-6 empty blob", func(t *testing.T, r *registry) {
			empty := sum(nil).String()
			r.want(201, "", "PUT", r.start("a/b", "")+"?digest="+empty, []byte{})
			r.wantBlob("a/b", empty, nil)
		}},
		{"end-11 mount", func(t *testing.T, r *registry) {
			r.pushBlob("src/one", content)
			a := r.want(201, "", "POST", "/v2/dst/one/blobs/uploads/?mount="+sha256+"&from=src/one", nil)
			if got := a.Header.Get(headerLocation); got != "/v2/dst/one/blobs/"+sha256 {
				t.Errorf("Location %q", got)
			}
			r.wantBlob("dst/one", sha256, content)
			// Deleting it here leaves it there.
			r.want(202, "", "DELETE", "/v2/src/one/blobs/"+sha256, nil)
			r.want(404, codeBlobUnknown, "GET", "/v2/src/one/blobs/"+sha256, nil)
			r.wantBlob("dst/one", sha256, content)
		}},
		{"end-11 anonymous mount", func(t *testing.T, r *registry) {
			r.pushBlob("src/one", content)
			r.want(201, "", "POST", "/v2/dst/one/blobs/uploads/?mount="+sha256, nil)
			r.wantBlob("dst/one", sha256, content)
		}},
		{"end-11 what cannot be mounted is uploaded", func(t *testing.T, r *registry) {
			for _, from := range []string{"&from=no/such", "&from=INVALID%20NAME", "&from=", ""} {
				location := r.start("dst/one", "?mount="+other+from)
				r.want(204, "", "DELETE", location, nil)
			}
			r.want(400, codeDigestInvalid, "POST", "/v2/dst/one/blobs/uploads/?mount=sha256:zz&from=a", nil)
		}},
		{"end-10 delete", func(t *testing.T, r *registry) {
			r.pushBlob("a/b", content)
			r.want(202, "", "DELETE", "/v2/a/b/blobs/"+sha256, nil)
			r.want(404, "", "HEAD", "/v2/a/b/blobs/"+sha256, nil)
			r.want(404, codeBlobUnknown, "DELETE", "/v2/a/b/blobs/"+sha256, nil)
			r.pushBlob("a/b", content)
			r.wantBlob("a/b", sha256, content)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.run(t, newRegistry(t)) })
	}
}

// TestBlobRanges: end-2 with Range.
func TestBlobRanges(t *testing.T) {
	r := newRegistry(t)
	content := []byte("0123456789")
	path := "/v2/a/blobs/" + r.pushBlob("a", content).String()
	for _, tt := range []struct {
		header string
		status int
		body   string
		rng    string
	}{
		{"bytes=2-4", 206, "234", "bytes 2-4/10"},
		{"bytes=7-", 206, "789", "bytes 7-9/10"},
		{"bytes=-3", 206, "789", "bytes 7-9/10"},
		{"bytes=0-", 206, "0123456789", "bytes 0-9/10"},
		{"bytes=5-10", 206, "56789", "bytes 5-9/10"}, // regctl's resume runs one past the end
		{"bytes=5-5000", 206, "56789", "bytes 5-9/10"},
		{"bytes=10-12", 416, "", "bytes */10"},
		{"bytes=5-2", 416, "", ""},
		{"bytes=x", 416, "", ""},
	} {
		a := r.do("GET", path, nil, "Range", tt.header)
		if a.StatusCode != tt.status || tt.status == 206 && string(a.body) != tt.body || a.Header.Get("Content-Range") != tt.rng {
			t.Errorf("Range %s: %d %q %q, want %d %q %q", tt.header, a.StatusCode, a.body, a.Header.Get("Content-Range"), tt.status, tt.body, tt.rng)
		}
		if tt.status == 416 {
			if codes := a.codes(t); codes[0] != codeUnsupported {
				t.Errorf("Range %s: codes %v", tt.header, codes)
			}
		}
	}
	// HEAD looks at the file in another way, and says the same.
	for _, header := range []string{"", "bytes=2-4", "bytes=0-1,3-4", "bytes=10-12", "bytes=x"} {
		get, head := r.do("GET", path, nil, "Range", header), r.do("HEAD", path, nil, "Range", header)
		for _, name := range []string{headerContentLength, headerContentRange, headerDigest, headerETag} {
			if get.StatusCode != head.StatusCode || get.Header.Get(name) != head.Header.Get(name) {
				t.Errorf("Range %q: HEAD has %d, %s %q; GET %d, %q", header, head.StatusCode, name, head.Header.Get(name), get.StatusCode, get.Header.Get(name))
			}
		}
	}
	if a := r.do("GET", path, nil, headerIfNoneMatch, `"`+sum(content).String()+`"`); a.StatusCode != 304 {
		t.Errorf("If-None-Match: %d, want 304", a.StatusCode)
	}
	a := r.do("GET", path, nil)
	for header, want := range map[string]string{
		headerContentType: "application/octet-stream", headerNoSniff: "nosniff", headerCSP: "sandbox; default-src 'none'", headerCacheControl: immutable,
	} {
		if got := a.Header.Get(header); got != want {
			t.Errorf("%s: %q, want %q", header, got, want)
		}
	}
}

// TestUploadCut: a request that breaks off leaves the session at the last byte that came.
func TestUploadCut(t *testing.T) {
	r := newRegistry(t)
	content := bytes.Repeat([]byte("x"), 100_000)
	location := r.start("a/b", "")
	conn, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "PATCH %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n%s", location, content[:60_000])
	conn.Close()
	// The server notices the end of the connection in its own time; the next request waits for its turn meanwhile.
	deadline := time.Now().Add(10 * time.Second)
	for {
		a := r.want(204, "", "GET", location, nil)
		if a.Header.Get(headerRange) == "0-59999" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("session is at %q, want 0-59999", a.Header.Get(headerRange))
		}
	}
	r.want(202, "", "PATCH", location, content[60_000:80_000], headerContentRange, "60000-79999")
	r.want(201, "", "PUT", location+"?digest="+sum(content).String(), content[80_000:])
	r.wantBlob("a/b", sum(content).String(), content)
}

// TestUploadOneAtATime: a second request on a session waits, and is then refused.
func TestUploadOneAtATime(t *testing.T) {
	r := newRegistry(t)
	location := r.start("a/b", "")
	reader, writer := io.Pipe()
	first := make(chan error, 1)
	go func() {
		req, err := http.NewRequest("PATCH", r.url+location, reader)
		if err != nil {
			first <- err
			return
		}
		res, err := http.DefaultClient.Do(req)
		if err == nil {
			res.Body.Close()
			if res.StatusCode != 202 {
				err = errors.New(res.Status)
			}
		}
		first <- err
	}()
	content := bytes.Repeat([]byte("abc"), 1<<20)
	if _, err := writer.Write(content); err != nil {
		t.Fatal(err)
	}
	// The first request has the session once some of its bytes are on the disk.
	deadline := time.Now().Add(10 * time.Second)
	for received := int64(0); received == 0; {
		if info, err := os.Stat(filepath.Join(r.store.Dir(), "blobs", ".uploads", path.Base(location))); err == nil {
			received = info.Size()
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing was received")
		}
	}
	r.want(409, codeBlobUploadInvalid, "PUT", location+"?digest="+sum(content).String(), []byte{})
	writer.Close()
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	r.want(201, "", "PUT", location+"?digest="+sum(content).String(), []byte{})
}

// TestCutPostLeavesNothing: a POST with the whole blob that breaks off has a session nobody knows; it must not stay.
func TestCutPostLeavesNothing(t *testing.T) {
	r := newRegistry(t)
	for range 20 {
		conn, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "POST /v2/a/blobs/uploads/?digest=%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n%s", sum(nil), strings.Repeat("x", 50_000))
		conn.Close()
	}
	uploads := filepath.Join(r.store.Dir(), "blobs", ".uploads")
	deadline := time.Now().Add(10 * time.Second)
	for {
		left, err := os.ReadDir(uploads)
		if err != nil {
			t.Fatal(err)
		}
		// Those that the server has not read yet come and go; none may stay.
		if len(left) == 0 && r.posts.Load() == 20 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d uploads left after %d requests", len(left), r.posts.Load())
		}
		time.Sleep(10 * time.Millisecond)
	}
}
