package certs

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cubby/store/durable"
)

func openTestAuthority(t *testing.T, data string, extra ...string) *Authority {
	t.Helper()
	a, err := openAuthority(data, extra, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// verify asks, at a time, whether who trusts the CA alone believes the certificate in use to be a name's.
func verify(t *testing.T, a *Authority, name string, at time.Time) error {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(a.PEM()) {
		t.Fatalf("the CA is not PEM: %s", a.PEM())
	}
	pair, err := a.certificate(&tls.ClientHelloInfo{})
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	if leaf.IsCA || leaf.NotAfter.Sub(leaf.NotBefore) > 90*24*time.Hour {
		t.Errorf("certificate: CA %v, from %v until %v", leaf.IsCA, leaf.NotBefore, leaf.NotAfter)
	}
	if strings.Contains(name, ":") {
		name = "[" + name + "]"
	}
	_, err = leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	return err
}

// TestAuthority: who trusts the CA believes every name and address, and no other, also after a restart.
func TestAuthority(t *testing.T) {
	data := t.TempDir()
	a := openTestAuthority(t, data, "Registry.example", "*.box.lan", "192.0.2.7", "2001:db8::7")
	names, err := machine()
	if err != nil {
		t.Fatal(err)
	}
	names = append(names, "registry.example", "a.box.lan", "192.0.2.7", "2001:db8::7", "localhost", "127.0.0.1", "::1")
	if host, err := os.Hostname(); err == nil {
		names = append(names, host)
	}
	for _, name := range names {
		if err := verify(t, a, name, time.Now()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"example", "box.lan", "192.0.2.8"} {
		if err := verify(t, a, name, time.Now()); err == nil {
			t.Errorf("the certificate is valid for %s", name)
		}
	}
	for _, name := range []string{"tls/ca.crt", "tls/ca.key"} {
		info, err := os.Stat(filepath.Join(data, name))
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v, mode %v", name, err, info.Mode())
		}
	}
	block, _ := pem.Decode(a.PEM())
	sum := sha256.Sum256(block.Bytes)
	if got := strings.ReplaceAll(a.Fingerprint(), ":", ""); got != strings.ToUpper(hex.EncodeToString(sum[:])) || len(a.Fingerprint()) != 95 {
		t.Errorf("fingerprint %s, want that of %x", a.Fingerprint(), sum)
	}

	again := openTestAuthority(t, data)
	if again.Fingerprint() != a.Fingerprint() {
		t.Errorf("after a restart the CA is %s, was %s", again.Fingerprint(), a.Fingerprint())
	}
	if err := verify(t, again, "localhost", time.Now()); err != nil {
		t.Error(err)
	}
	if other := openTestAuthority(t, t.TempDir()); other.Fingerprint() == a.Fingerprint() || other.cert.Subject.String() == a.cert.Subject.String() {
		t.Error("two directories have the same CA")
	}
}

// TestAuthorityDamaged: half a CA that somebody may trust is refused; a key that nothing was signed with is not.
func TestAuthorityDamaged(t *testing.T) {
	other := t.TempDir()
	openTestAuthority(t, other)
	for _, test := range []struct {
		name   string
		change func(data string) error
		want   string // in the error; "" for none
	}{
		{"no key", func(data string) error { return os.Remove(filepath.Join(data, fileKey)) }, "lost its key"},
		{"key of another", func(data string) error { return copyFile(filepath.Join(data, fileKey), filepath.Join(other, fileKey)) }, "does not match"},
		{"empty", func(data string) error { return os.Truncate(filepath.Join(data, fileCA), 0) }, fileCA},
		{"crash after the key", func(data string) error { return os.Remove(filepath.Join(data, fileCA)) }, ""},
		{"crash while writing", func(data string) error {
			return os.WriteFile(filepath.Join(data, fileCA+".new"), []byte("half"), 0o600)
		}, ""},
	} {
		data := t.TempDir()
		openTestAuthority(t, data)
		if err := test.change(data); err != nil {
			t.Fatal(err)
		}
		_, err := openAuthority(data, nil, slog.New(slog.DiscardHandler))
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
}

func copyFile(to, from string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, content, fs.FileMode(0o600))
}

// TestRenewal: a new certificate comes when the old one nears its end, when the clock was wrong, and when the machine is
// called otherwise; not otherwise.
func TestRenewal(t *testing.T) {
	a := openTestAuthority(t, t.TempDir(), "box.lan")
	now, addrs := time.Now(), []string{"localhost", "192.0.2.1"}
	var failure error
	a.now, a.machine = func() time.Time { return now }, func() ([]string, error) {
		if failure != nil {
			return []string{"localhost"}, failure
		}
		return slices.Clone(addrs), nil
	}
	a.refresh()
	day := 24 * time.Hour
	for _, step := range []struct {
		what    string
		change  func()
		renewed bool
	}{
		{"nothing", func() {}, false},
		{"59 days", func() { now = now.Add(59 * day) }, false},
		{"two more", func() { now = now.Add(2 * day) }, true},
		{"nothing", func() {}, false},
		{"an address more", func() { addrs = append(addrs, "192.0.2.2") }, true},
		{"another order", func() { addrs = []string{"192.0.2.2", "192.0.2.1", "localhost", "localhost"} }, false},
		{"an address less", func() { addrs = []string{"192.0.2.2", "localhost"} }, true},
		{"addresses that cannot be read", func() { failure = errors.New("no netlink") }, false},
		{"61 days later", func() { now = now.Add(61 * day) }, true},
		{"readable again", func() { failure = nil }, false},
		{"a year", func() { now = now.Add(365 * day) }, true},
		{"back to the present", func() { now = now.Add(-100 * day) }, true},
	} {
		before := a.leaf.Load()
		step.change()
		a.refresh()
		if renewed := a.leaf.Load() != before; renewed != step.renewed {
			t.Errorf("%s: renewed %v, want %v", step.what, renewed, step.renewed)
		}
		for _, name := range append(addrs, "box.lan") {
			if err := verify(t, a, name, now); err != nil {
				t.Errorf("%s: %s: %v", step.what, name, err)
			}
		}
	}
	now = a.cert.NotAfter.Add(-day)
	a.refresh()
	if leaf := a.leaf.Load().Leaf; leaf.NotAfter.After(a.cert.NotAfter) {
		t.Errorf("the certificate ends on %v, its CA on %v", leaf.NotAfter, a.cert.NotAfter)
	}
}

// TestAuthorityExpired: a CA that nobody believes any more is told about at the start.
func TestAuthorityExpired(t *testing.T) {
	data := t.TempDir()
	dir, err := durable.Open(data, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if err := makeAuthority(dir, time.Now().AddDate(-authorityYears, 0, -1)); err != nil {
		t.Fatal(err)
	}
	if _, err := openAuthority(data, nil, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "expired on") {
		t.Errorf("an expired CA: %v", err)
	}
}
