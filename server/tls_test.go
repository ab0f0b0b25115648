package server

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"cubby/server/auth"
	"cubby/server/certs"
	"cubby/store"
)

// selfSigned returns a source with a CA of its own.
func selfSigned(t *testing.T) *certs.Source {
	t.Helper()
	source, err := certs.Open(t.TempDir(), certs.Options{SelfSigned: true}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return source
}

// listenBoth listens on a free port of 127.0.0.1.
func listenBoth(t *testing.T, source *certs.Source, log *slog.Logger) net.Listener {
	t.Helper()
	listeners, err := Listen(t.Context(), []string{"127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	l := AnswerBoth(listeners, source.Config(), log)[0]
	t.Cleanup(func() { l.Close() })
	return l
}

// serveBoth serves a handler on one port, and returns its address.
func serveBoth(t *testing.T, source *certs.Source, h http.Handler, log *slog.Logger, change ...func(*http.Server)) string {
	t.Helper()
	l := listenBoth(t, source, log)
	srv := HTTP(h, log)
	for _, f := range change {
		f(srv)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	t.Cleanup(func() {
		srv.Close()
		if err := <-served; err != http.ErrServerClosed {
			t.Errorf("serve: %v", err)
		}
	})
	return l.Addr().String()
}

// trusting returns a client with connections of its own that trusts a CA and no other.
func trusting(t *testing.T, pem []byte, http2 bool) *http.Client {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		t.Fatalf("no CA: %s", pem)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: http2}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// ask does a request and returns the answer with its body.
func ask(t *testing.T, c *http.Client, method, url string, body []byte) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s %s: read body: %v", method, url, err)
	}
	return answer{res, b}
}

// TestRefusedStream: an upload that is refused while it is sent costs its stream, and not the connection of all others.
func TestRefusedStream(t *testing.T) {
	source := selfSigned(t)
	st, err := store.Open(t.Context(), store.Options{Dir: t.TempDir(), Role: store.RoleServe, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	base := "https://" + serveBoth(t, source, New(Config{Store: st, Guard: auth.New(auth.Options{Store: st})}), slog.New(slog.DiscardHandler))
	c := trusting(t, source.CA.PEM(), true)
	ask(t, c, "GET", base+"/v2/", nil)
	for range 2 {
		body, feed := io.Pipe()
		defer feed.Close()
		go feed.Write(make([]byte, 1<<20)) // and nothing behind it
		reused := false
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { reused = i.Reused }})
		req, err := http.NewRequestWithContext(ctx, "PATCH", base+"/v2/a/blobs/uploads/unknown", body)
		if err != nil {
			t.Fatal(err)
		}
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != http.StatusNotFound || res.ProtoMajor != 2 || !reused {
			t.Errorf("%s %d, %v, on the same connection: %t", res.Proto, res.StatusCode, err, reused)
		}
	}
}

// TestStalledHTTP2: a client of HTTP/2 that takes nothing any more loses its connection, and its handler ends. A write
// deadline would only end the stream, and tell so behind what the client does not take.
func TestStalledHTTP2(t *testing.T) {
	source := selfSigned(t)
	ended := make(chan struct{})
	addr := serveBoth(t, source, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		for {
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	}), slog.New(slog.DiscardHandler), func(srv *http.Server) { srv.HTTP2.WriteByteTimeout /= 300 })
	c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.NetConn().Close()
	const request = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" +
		"\x00\x00\x06\x04\x00\x00\x00\x00\x00" + "\x00\x04\x7f\xff\xff\xff" + // SETTINGS: the largest window of a stream
		"\x00\x00\x04\x08\x00\x00\x00\x00\x00" + "\x7f\xff\x00\x00" + // WINDOW_UPDATE: the same for the connection
		"\x00\x00\x06\x01\x05\x00\x00\x00\x01" + "\x82\x84\x87\x41\x01a" // HEADERS: GET https://a/
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Fatal("the handler still runs")
	}
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.Copy(io.Discard, c.NetConn()); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection is still open")
	}
}

// TestBothProtocols pushes and pulls on one port over HTTP/2, HTTP/1.1 with TLS, and plain HTTP, with the CA that the
// port itself serves.
func TestBothProtocols(t *testing.T) {
	source := selfSigned(t)
	st, err := store.Open(t.Context(), store.Options{Dir: t.TempDir(), Role: store.RoleServe, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	guard, log := auth.New(auth.Options{Store: st}), slog.New(slog.DiscardHandler)
	addr := serveBoth(t, source, New(Config{Store: st, Guard: guard, Certs: source}), log)
	authority := ask(t, http.DefaultClient, "GET", "http://"+addr+"/-/ca.crt", nil)
	if got := authority.Header.Get(headerContentType); got != "application/x-x509-ca-cert" || !bytes.Equal(authority.body, source.CA.PEM()) {
		t.Errorf("the CA is served as %s: %s", got, authority.body)
	}
	for i, test := range []struct {
		scheme string
		client *http.Client
		proto  string
	}{
		{"https", trusting(t, authority.body, true), "HTTP/2.0"},
		{"https", trusting(t, authority.body, false), "HTTP/1.1"},
		{"http", trusting(t, authority.body, false), "HTTP/1.1"},
	} {
		base := test.scheme + "://" + addr
		blob := bytes.Repeat([]byte{byte(i), 1, 2, 3}, 1<<20)
		a := ask(t, test.client, "POST", base+"/v2/a/blobs/uploads/?digest="+sum(blob).String(), blob)
		if a.StatusCode != http.StatusCreated || a.Proto != test.proto || (a.TLS != nil) != (test.scheme == "https") {
			t.Errorf("push by %s: %s %s, want it by %s", base, a.Proto, a.Status, test.proto)
		}
		if a = ask(t, test.client, "GET", base+"/v2/a/blobs/"+sum(blob).String(), nil); !bytes.Equal(a.body, blob) {
			t.Errorf("pull by %s: %s, %d bytes, want %d", base, a.Status, len(a.body), len(blob))
		}
	}
	if _, err := (&http.Client{Transport: &http.Transport{}}).Get("https://" + addr + "/v2/"); err == nil {
		t.Error("who does not trust the CA was answered")
	}
	old := &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}
	if c, err := tls.Dial("tcp", addr, old); err == nil {
		c.Close()
		t.Error("TLS 1.1 is spoken")
	}
}

// TestPlainFromElsewhere: on a port with TLS, plain HTTP serves this machine; a client of the API elsewhere is told, and a
// browser sent to https. Without TLS everybody is served.
func TestPlainFromElsewhere(t *testing.T) {
	st, err := store.Open(t.Context(), store.Options{Dir: t.TempDir(), Role: store.RoleServe, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	source, guard := selfSigned(t), auth.New(auth.Options{Store: st})
	with, without := New(Config{Store: st, Guard: guard, Certs: source}), New(Config{Store: st, Guard: guard})
	challenged := *source
	challenged.Challenge = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	acme := New(Config{Store: st, Guard: guard, Certs: &challenged})
	const away, here, mapped = "192.0.2.9:4711", "127.0.0.1:4711", "[::ffff:127.0.0.1]:4711"
	for _, test := range []struct {
		server       *Server
		peer, method string
		url          string
		status       int
		location     string
	}{
		{with, away, "GET", "/v2/", 400, ""},
		{with, away, "GET", "/v2", 400, ""},
		{with, away, "HEAD", "/v2/a/manifests/x", 400, ""},
		{with, away, "PUT", "/v2/a/manifests/x", 400, ""},
		{with, away, "POST", "/", 400, ""},
		{with, away, "GET", tokenPath + "?scope=x", 400, ""},
		{with, away, "OPTIONS", "/v2/", 400, ""},
		{with, away, "GET", "/", 308, "https://box.lan:5000/"},
		{with, away, "HEAD", "/", 308, "https://box.lan:5000/"},
		{with, away, "GET", "/team/api:1.9?a=b%20c", 308, "https://box.lan:5000/team/api:1.9?a=b%20c"},
		{with, away, "GET", "/a%2fb", 308, "https://box.lan:5000/a%2fb"},
		{with, away, "GET", "//evil.example/", 308, "https://box.lan:5000//evil.example/"},
		{with, away, "GET", "/v2x", 308, "https://box.lan:5000/v2x"},
		{with, away, "GET", certs.ChallengePath + "x", 308, "https://box.lan:5000" + certs.ChallengePath + "x"},
		{with, away, "GET", "/-/healthz", 200, ""},
		{with, away, "GET", "/-/readyz", 200, ""},
		{with, away, "GET", "/-/ca.crt", 200, ""},
		{with, here, "GET", "/", 200, ""},
		{with, here, "GET", "/v2/", 401, ""}, // by authorize: the host is not this machine's
		{with, mapped, "GET", "/", 200, ""},
		{with, away, "GET", "https://box.lan:5000/", 200, ""},
		{with, away, "GET", "https://box.lan:5000/v2/", 401, ""},
		{without, away, "GET", "/", 200, ""},
		{without, away, "GET", "/v2/", 401, ""},
		{without, here, "GET", "/-/ca.crt", 404, ""},
		{acme, away, "GET", certs.ChallengePath + "x", http.StatusTeapot, ""},
		{acme, here, "GET", certs.ChallengePath + "x", http.StatusTeapot, ""},
		{acme, away, "GET", "https://box.lan" + certs.ChallengePath + "x", 404, ""},
	} {
		target, encrypted := strings.CutPrefix(test.url, "https://box.lan:5000")
		if !encrypted {
			target, encrypted = strings.CutPrefix(test.url, "https://box.lan")
		}
		r, w := httptest.NewRequest(test.method, target, nil), httptest.NewRecorder()
		r.RemoteAddr, r.Host = test.peer, "box.lan:5000"
		if encrypted {
			r.TLS = &tls.ConnectionState{}
		}
		test.server.ServeHTTP(w, r)
		if w.Code != test.status || w.Header().Get(headerLocation) != test.location {
			t.Errorf("%s %s from %s: %d, Location %q; want %d, %q", test.method, test.url, test.peer, w.Code, w.Header().Get(headerLocation), test.status, test.location)
		}
		if test.status == http.StatusBadRequest && test.method != "HEAD" {
			a := answer{w.Result(), w.Body.Bytes()}
			if a.codes(t)[0] != codeUnsupported || !bytes.Contains(a.body, []byte("this port speaks https")) {
				t.Errorf("%s %s: %s", test.method, test.url, a.body)
			}
		}
	}
}

// TestSilentConnection: connections that say nothing stop neither others nor the end, and plain ones are what net.Listen
// gave, so that the kernel can send files.
func TestSilentConnection(t *testing.T) {
	for _, source := range []*certs.Source{nil, selfSigned(t)} {
		l := listenBoth(t, source, slog.New(slog.DiscardHandler))
		dial := func() net.Conn {
			t.Helper()
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			return c
		}
		silent, gone := dial(), dial()
		gone.Close()
		talking := dial()
		if _, err := talking.Write([]byte("GET / ")); err != nil {
			t.Fatal(err)
		}
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, ok := c.(*net.TCPConn); !ok || c.RemoteAddr().String() != talking.LocalAddr().String() {
			t.Errorf("%s: accepted a %T of %s, want that of %s", source.Scheme(), c, c.RemoteAddr(), talking.LocalAddr())
		}
		first := make([]byte, 6)
		if _, err := io.ReadFull(c, first); err != nil || string(first) != "GET / " {
			t.Errorf("%s: read %q, %v", source.Scheme(), first, err)
		}
		if err := l.Close(); err != nil {
			t.Errorf("%s: close: %v", source.Scheme(), err)
		}
		if err := silent.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if n, err := silent.Read(first); err != io.EOF && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: a silent connection got %d bytes and %v, want it closed", source.Scheme(), n, err)
		}
		if _, err := l.Accept(); err == nil {
			t.Errorf("%s: accepted after Close", source.Scheme())
		}
	}
}

// TestSilentConnectionsEnd: who says nothing is dropped after a while, and when too many do the one that did longest.
func TestSilentConnectionsEnd(t *testing.T) {
	for _, test := range []struct {
		name     string
		max      int
		patience time.Duration
		ended    int // connections that are dropped, of two
	}{
		{"impatient", 10, time.Millisecond, 2},
		{"full", 1, time.Hour, 1},
	} {
		listeners, err := Listen(t.Context(), []string{"127.0.0.1:0"})
		if err != nil {
			t.Fatal(err)
		}
		l := answerBoth(listeners[0], nil, &hint{}, test.max, test.patience)
		var both [2]net.Conn
		for i := range both {
			if both[i], err = net.Dial("tcp", l.Addr().String()); err != nil {
				t.Fatal(err)
			}
			defer both[i].Close()
		}
		for i, c := range both[:test.ended] {
			if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("%s: connection %d ends with %v", test.name, i, err)
			}
		}
		l.Close()
	}
}

// A lockedBuffer is written by a server and read by its test.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestHelloOnPlainPort: https to a port without it is answered in HTTP, which tells clients what to do, and logged once.
func TestHelloOnPlainPort(t *testing.T) {
	var log lockedBuffer
	addr := serveBoth(t, nil, http.NotFoundHandler(), slog.New(slog.NewJSONHandler(&log, nil)))
	for range 3 {
		_, err := http.Get("https://" + addr + "/v2/")
		if err == nil || !strings.Contains(err.Error(), "server gave HTTP response to HTTPS client") {
			t.Errorf("https to a plain port: %v", err)
		}
	}
	ask(t, http.DefaultClient, "GET", "http://"+addr+"/", nil)
	var line struct{ Level, Msg, Hint, Addr string }
	if err := json.Unmarshal([]byte(log.String()), &line); err != nil {
		t.Fatalf("want one line: %v\n%s", err, log.String())
	}
	if line.Level != "WARN" || !strings.Contains(line.Hint, "--tls-self-signed") || !strings.Contains(line.Hint, "insecure") || !strings.HasPrefix(line.Addr, "127.0.0.1:") {
		t.Errorf("the log says %s", log.String())
	}
}

func TestHintEvery(t *testing.T) {
	var log lockedBuffer
	h := &hint{log: slog.New(slog.NewTextHandler(&log, nil))}
	for i, step := range []struct {
		later time.Duration
		lines int
	}{{0, 1}, {0, 1}, {hintEvery - time.Second, 1}, {hintEvery, 2}, {0, 2}} {
		h.last = h.last.Add(-step.later)
		h.say(&net.TCPAddr{})
		if n := strings.Count(log.String(), "\n"); n != step.lines {
			t.Errorf("step %d: %d lines, want %d", i, n, step.lines)
		}
	}
}
