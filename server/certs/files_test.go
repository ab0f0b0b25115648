package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A pairOf is a certificate and its key in PEM.
type pairOf struct{ cert, key []byte }

// makePair returns a certificate for a name.
func makePair(t *testing.T, name string) pairOf {
	t.Helper()
	a := openTestAuthority(t, t.TempDir(), name)
	if err := a.issue([]string{name}); err != nil {
		t.Fatal(err)
	}
	leaf := a.leaf.Load()
	key, err := x509.MarshalPKCS8PrivateKey(leaf.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return pairOf{
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Certificate[0]}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
	}
}

// TestFiles: a new pair is taken over; what is missing, invalid or does not belong together is not, and is told once.
func TestFiles(t *testing.T) {
	one, two := makePair(t, "one.example"), makePair(t, "two.example")
	cert, key := filepath.Join(t.TempDir(), "tls.crt"), filepath.Join(t.TempDir(), "tls.key")
	write := func(path string, content []byte) func() error {
		return func() error { return os.WriteFile(path, content, 0o600) }
	}
	var log bytes.Buffer
	open := func() (*files, error) { return openFiles(cert, key, slog.New(slog.NewTextHandler(&log, nil))) }
	for _, step := range []struct {
		do   func() error
		want string // in the error of opening
	}{
		{func() error { return nil }, cert},
		{write(cert, one.cert), key},
		{write(key, two.key), "does not match"},
		{write(key, one.cert), key},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		if _, err := open(); err == nil || !strings.Contains(err.Error(), step.want) {
			t.Errorf("opened with %v, want %q", err, step.want)
		}
	}
	if err := write(key, one.key)(); err != nil {
		t.Fatal(err)
	}
	f, err := open()
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		what string
		do   func() error
		name string // in use after it
		log  string // "" for nothing
	}{
		{"nothing", func() error { return nil }, "one.example", ""},
		{"a certificate without its key", write(cert, two.cert), "one.example", "does not match"},
		{"nothing", func() error { return nil }, "one.example", ""},
		{"the key", write(key, two.key), "two.example", "two.example"},
		{"no PEM", write(cert, []byte("nonsense")), "two.example", "failed to find any PEM"},
		{"empty, as while it is written", write(cert, nil), "two.example", ""},
		{"too large", write(cert, make([]byte, fileMax+1)), "two.example", "larger than"},
		{"gone", func() error { return os.Remove(cert) }, "two.example", "no such file"},
		{"nothing", func() error { return nil }, "two.example", ""},
		{"back as it was", write(cert, two.cert), "two.example", "taken over"},
		{"nothing", func() error { return nil }, "two.example", ""},
		{"another", func() error {
			if err := write(cert, one.cert)(); err != nil {
				return err
			}
			return write(key, one.key)()
		}, "one.example", "one.example"},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		log.Reset()
		f.reload()
		pair, err := f.certificate(&tls.ClientHelloInfo{})
		if err != nil || pair.Leaf.VerifyHostname(step.name) != nil {
			t.Errorf("%s: in use is the certificate of %v, want %s", step.what, subjects(pair.Leaf), step.name)
		}
		if (log.Len() == 0) != (step.log == "") || !strings.Contains(log.String(), step.log) {
			t.Errorf("%s: the log says %q, want %q", step.what, log.String(), step.log)
		}
	}
}
