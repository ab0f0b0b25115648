package certs

import (
	"bytes"
	"crypto/tls"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/acme/autocert"
)

// The way through a real ACME server is scripts/acme.sh.

// TestCache: what was put is there for another process, for its owner alone, until it is deleted.
func TestCache(t *testing.T) {
	data := t.TempDir()
	if _, err := (&cache{data: data}).Get(t.Context(), "acme_account+key"); !errors.Is(err, autocert.ErrCacheMiss) {
		t.Errorf("in an empty directory: %v", err)
	}
	for _, content := range []string{"one", "two"} {
		if err := (&cache{data: data}).Put(t.Context(), "acme_account+key", []byte(content)); err != nil {
			t.Fatal(err)
		}
		if got, err := (&cache{data: data}).Get(t.Context(), "acme_account+key"); err != nil || string(got) != content {
			t.Errorf("got %q, %v, want %q", got, err, content)
		}
	}
	for name, mode := range map[string]os.FileMode{"tls": os.ModeDir | 0o700, "tls/acme": os.ModeDir | 0o700, "tls/acme/acme_account+key": 0o600} {
		if info, err := os.Stat(filepath.Join(data, name)); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v, want mode %v", name, info, err, mode)
		}
	}
	c := &cache{data: data}
	if err := c.Put(t.Context(), "../../escaped", nil); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(data, "tls/acme/escaped")); err != nil {
		t.Errorf("a key led out of the directory: %v", err)
	}
	for range 2 {
		if err := c.Delete(t.Context(), "acme_account+key"); err != nil {
			t.Errorf("delete: %v", err)
		}
	}
	if _, err := c.Get(t.Context(), "acme_account+key"); !errors.Is(err, autocert.ErrCacheMiss) {
		t.Errorf("after delete: %v", err)
	}
}

// TestChallenge: HTTP-01 is answered for the hosts that were named, and TLS-ALPN-01 is offered.
func TestChallenge(t *testing.T) {
	data := t.TempDir()
	s, err := Open(data, Options{ACME: []string{"cubby.example"}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(s.Config().NextProtos, "acme-tls/1") || !slices.Contains(s.Config().NextProtos, "h2") {
		t.Errorf("protocols %v", s.Config().NextProtos)
	}
	// As another process of ours, or this one before a restart, would have left it.
	if err := (&cache{data: data}).Put(t.Context(), "token+http-01", []byte("proof")); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		host, path string
		status     int
	}{
		{"cubby.example", ChallengePath + "token", http.StatusOK},
		{"cubby.example:80", ChallengePath + "token", http.StatusOK},
		{"cubby.example", ChallengePath + "other", http.StatusNotFound},
		{"other.example", ChallengePath + "token", http.StatusForbidden},
		{"cubby.example", "/v2/", http.StatusNotFound},
	} {
		r, w := httptest.NewRequest(http.MethodGet, test.path, nil), httptest.NewRecorder()
		r.Host = test.host
		s.Challenge.ServeHTTP(w, r)
		if w.Code != test.status || (w.Body.String() == "proof") != (test.status == http.StatusOK) {
			t.Errorf("%s%s: %d %q, want %d", test.host, test.path, w.Code, w.Body, test.status)
		}
	}
}

// TestACMERests: after a failure the ACME server is left alone for a while, however often clients ask; a host that had a
// certificate once is not refused, because another kind of key may have failed.
func TestACMERests(t *testing.T) {
	var log bytes.Buffer
	a := openACME(t.TempDir(), Options{ACME: []string{"Cubby.example"}, Directory: "https://127.0.0.1:1/dir"}, slog.New(slog.NewTextHandler(&log, nil)))
	now := time.Now()
	a.now = func() time.Time { return now }
	// rests reports whether the server was left alone.
	rests := func(name string) bool {
		t.Helper()
		_, err := a.certificate(&tls.ClientHelloInfo{ServerName: name})
		if err == nil {
			t.Fatal("a certificate came from nowhere")
		}
		return strings.Contains(err.Error(), "tried again")
	}
	for _, step := range []struct {
		name  string
		later time.Duration
		want  bool
	}{
		{"cubby.example", 0, false},
		{"cubby.example", time.Second, true},
		{"CUBBY.example.", time.Minute, true},
		{"other.example", 0, false},
		{"other.example", time.Second, false},
		{"cubby.example", acmeRetryEvery, false},
		{"cubby.example", time.Second, true},
	} {
		now = now.Add(step.later)
		if got := rests(step.name); got != step.want {
			t.Errorf("%s %v later: left alone %v, want %v", step.name, step.later, got, step.want)
		}
	}
	if len(a.failed) != 1 {
		t.Errorf("it remembers %v", a.failed)
	}
	a.failed["cubby.example"] = time.Time{}
	for range 2 {
		if rests("cubby.example") {
			t.Error("a host that had a certificate is refused")
		}
	}
	if wait := a.check(); wait < acmeRetryEvery || wait > 2*acmeRetryEvery || !strings.Contains(log.String(), "certificate not obtained") {
		t.Errorf("after a failure it looks again in %v, and says %s", wait, log.String())
	}
}
