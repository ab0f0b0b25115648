//go:build acme

package acme

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"cubby/scripts/process"
)

func TestMain(m *testing.M) { process.Main(m) }

// TestACME gets a certificate from a real ACME server, by either way to prove a name, and has it still when that server
// and the process have gone.
func TestACME(t *testing.T) {
	for _, challenge := range []string{"TLS-ALPN-01", "HTTP-01"} {
		t.Run(challenge, func(t *testing.T) { testACME(t, challenge == "HTTP-01") })
	}
}

func testACME(t *testing.T, onlyHTTP bool) {
	const host = "cubby.test"
	dir, port := process.Dir(t), process.FreePort(t)
	httpPort, tlsPort := process.FreePort(t), port // where nobody listens the other way cannot succeed
	if onlyHTTP {
		httpPort, tlsPort = port, httpPort
	}
	acme := process.StartACME(t, httpPort, tlsPort)
	start := func(directory string) *process.Server {
		c := process.Program(t, "--addr", fmt.Sprint("127.0.0.1:", port), "--tls-acme", host, "--tls-acme-directory", directory, "--tls-acme-email", "me@cubby.test")
		c.Env = append(c.Env, "SSL_CERT_FILE="+acme.Cert)
		return c.Start(t, dir)
	}
	s := start(acme.Directory)
	process.Poll(t, time.Minute, "the certificate", func() bool { return strings.Contains(s.Log(), `"certificate ready"`) })
	c := process.NewTLSClient(t, s.URL, acme.Roots, host)
	sample := c.PushSample(t)
	if _, err := process.NewTLSClient(t, s.URL, acme.Roots, "other.test").Do("GET", "/v2/", nil); err == nil {
		t.Error("there is a certificate for a host that was not named")
	}
	s.Stop(t)

	s = start("https://127.0.0.1:1/dir")
	process.NewTLSClient(t, s.URL, acme.Roots, host).WantSample(t, sample)
	s.Stop(t)
}
