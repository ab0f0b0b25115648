package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"cubby/store/durable"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

const (
	acmeCheckEvery = 12 * time.Hour
	// acmeRetryEvery keeps below the five failures an hour that Let's Encrypt allows for a name: a try may be one by each
	// of the two ways.
	acmeRetryEvery = 30 * time.Minute
	// acmeLate is how long before the end a certificate should have been renewed, which autocert does 30 days before
	// and tells nobody about when it fails.
	acmeLate = 14 * 24 * time.Hour
)

// An acmeSource asks an ACME server for certificates.
type acmeSource struct {
	manager *autocert.Manager
	hosts   []string
	log     *slog.Logger
	now     func() time.Time // replaced by tests

	mu     sync.Mutex
	failed map[string]time.Time // guarded by mu; hosts that never had a certificate, and when it was refused last
}

// openACME returns a source that asks an ACME server, proving by TLS-ALPN-01 or HTTP-01 that the hosts are its own.
func openACME(data string, o Options, log *slog.Logger) *acmeSource {
	directory := o.Directory
	if directory == "" {
		directory = autocert.DefaultACMEDirectory
	}
	a := &acmeSource{log: log, now: time.Now, failed: make(map[string]time.Time)}
	for _, host := range o.ACME {
		a.hosts = append(a.hosts, strings.ToLower(host))
	}
	a.manager = &autocert.Manager{
		Prompt:     autocert.AcceptTOS,
		Cache:      &cache{data: data},
		HostPolicy: autocert.HostWhitelist(a.hosts...),
		Client:     &acme.Client{DirectoryURL: directory, UserAgent: "cubby"},
		Email:      o.Email,
	}
	return a
}

func (a *acmeSource) source() *Source {
	c := config(a.certificate)
	c.NextProtos = append(c.NextProtos, acme.ALPNProto)
	return &Source{tls: c, Host: a.hosts[0], Challenge: withoutPort(a.manager.HTTPHandler(http.NotFoundHandler())), Watch: a.watch}
}

// certificate returns the certificate of a host, and obtains it if need be. After a failure it lets acmeRetryEvery pass,
// whoever asks: autocert alone would try again every minute, and the ACME server soon refuse the name altogether.
func (a *acmeSource) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	host := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	if !slices.Contains(a.hosts, host) || slices.Equal(hello.SupportedProtos, []string{acme.ALPNProto}) {
		return a.manager.GetCertificate(hello)
	}
	a.mu.Lock()
	failed, known := a.failed[host]
	a.mu.Unlock()
	if again := failed.Add(acmeRetryEvery); known && a.now().Before(again) {
		return nil, fmt.Errorf("there is no certificate for %s, it is tried again at %s", host, again.Format(time.TimeOnly))
	}
	cert, err := a.manager.GetCertificate(hello)
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case err == nil:
		a.failed[host] = time.Time{} // long ago, whatever comes
	case !known || !failed.IsZero():
		a.failed[host] = a.now()
	}
	return cert, err
}

// withoutPort takes the port from a request's Host, which autocert compares with names.
func withoutPort(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if host, _, err := net.SplitHostPort(r.Host); err == nil {
			r = r.Clone(r.Context())
			r.Host = host
		}
		h.ServeHTTP(w, r)
	})
}

// watch obtains certificates before somebody asks for them, and tells the log when that fails: to a client it would
// only be a broken handshake.
func (a *acmeSource) watch(ctx context.Context) {
	for {
		wait := make(chan time.Duration, 1)
		// Not waited for when the server stops: autocert can be neither interrupted nor told to give up within minutes.
		go func() { wait <- a.check() }()
		select {
		case <-ctx.Done():
			return
		case d := <-wait:
			select {
			case <-ctx.Done():
				return
			case <-time.After(d):
			}
		}
	}
}

// check obtains what is missing and returns when to look again.
func (a *acmeSource) check() time.Duration {
	wait := acmeCheckEvery
	for _, host := range a.hosts {
		// Without a suite autocert takes the client for one that wants RSA.
		cert, err := a.certificate(&tls.ClientHelloInfo{ServerName: host, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}})
		switch {
		case err != nil:
			a.log.Error("certificate not obtained", "host", host, "err", err, "again", acmeRetryEvery.String())
			wait = acmeRetryEvery + time.Second
		case time.Until(cert.Leaf.NotAfter) < min(acmeLate, cert.Leaf.NotAfter.Sub(cert.Leaf.NotBefore)/6):
			a.log.Error("certificate not renewed in time", "host", host, "until", cert.Leaf.NotAfter)
		default:
			a.log.Info("certificate ready", "host", host, "until", cert.Leaf.NotAfter)
		}
	}
	return wait
}

// A cache keeps the account and the certificates in the data directory. It is durable, unlike autocert's own: an account
// key that a power cut left empty would fail every request from then on.
type cache struct {
	data string

	mu sync.Mutex // one change at a time: certificates for two kinds of keys share the name of their challenge
}

var _ autocert.Cache = (*cache)(nil)

// Get returns what was put under a key, or autocert.ErrCacheMiss.
func (c *cache) Get(_ context.Context, key string) (content []byte, err error) {
	err = c.in(func(dir *durable.Dir) error {
		content, err = dir.Root().ReadFile(cached(key))
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, autocert.ErrCacheMiss
	}
	return content, err
}

// Put keeps content under a key.
func (c *cache) Put(_ context.Context, key string, content []byte) error {
	return c.in(func(dir *durable.Dir) error {
		for _, name := range []string{dirTLS, dirCache} {
			if err := dir.Mkdir(name); err != nil {
				return err
			}
			if err := dir.SyncDir(path.Dir(name)); err != nil {
				return err
			}
		}
		return dir.WriteFile(cached(key), dirCache, content)
	})
}

// Delete forgets a key, which need not be there.
func (c *cache) Delete(_ context.Context, key string) error {
	return c.in(func(dir *durable.Dir) error { return dir.Remove(cached(key)) })
}

// cached returns the path of a key, which cannot lead out of the directory.
func cached(key string) string { return path.Join(dirCache, path.Clean("/"+key)) }

func (c *cache) in(do func(*durable.Dir) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	dir, err := durable.Open(c.data, nil)
	if err != nil {
		return err
	}
	defer dir.Close()
	return do(dir)
}
