package process

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// An ACME is a running pebble, an ACME server for tests.
type ACME struct {
	Directory string // URL
	Cert      string // path of the certificate of its API
	Roots     []byte // PEM of what it signs with
}

// StartACME starts a pebble that looks for every name on 127.0.0.1, at these ports for HTTP-01 and TLS-ALPN-01. It ends
// with the test.
func StartACME(t *testing.T, httpPort, tlsPort int) ACME {
	t.Helper()
	NeedTool(t, "pebble", "pebble-challtestsrv")
	dir, own := Dir(t), NewCertificate(t, "127.0.0.1")
	dns, api, management := loopback(FreePort(t)), loopback(FreePort(t)), loopback(FreePort(t))
	a := ACME{Directory: "https://" + api + "/dir", Cert: filepath.Join(dir, "cert.pem")}
	key, config := filepath.Join(dir, "key.pem"), filepath.Join(dir, "pebble.json")
	text, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": api, "managementListenAddress": management, "certificate": a.Cert, "privateKey": key,
		"httpPort": httpPort, "tlsPort": tlsPort, "retryAfter": map[string]int{"authz": 1, "order": 1},
		"profiles": map[string]any{"default": map[string]any{"description": "90 days", "validityPeriod": 90 * 24 * 3600}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for path, content := range map[string][]byte{a.Cert: own.Cert, key: own.Key, config: text} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	startTool(t, "pebble-challtestsrv", "-dnsserver", dns, "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "",
		"-management", loopback(0), "-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", "")
	startTool(t, "pebble", "-config", config, "-dnsserver", dns, "-strict")
	Poll(t, startMax, "the DNS server", func() bool {
		conn, err := net.Dial("tcp", dns)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	c := NewTLSClient(t, "http://"+management, own.Cert, "127.0.0.1")
	Poll(t, startMax, "pebble", func() bool {
		answer, err := c.Do(http.MethodGet, "/roots/0", nil)
		a.Roots = answer.Body
		return err == nil && answer.Status == http.StatusOK
	})
	return a
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// FreePort returns a port that nobody listens on, for now.
func FreePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", loopback(0))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// startTool runs a program until the test ends.
func startTool(t *testing.T, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	// Without it pebble waits before it looks, and refuses some requests to see whether they are repeated.
	cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0")
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(fmt.Errorf("%s: %w", name, err))
	}
	t.Cleanup(func() { _ = cmd.Wait() }) // killed by the test's context
}
