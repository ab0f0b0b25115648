package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"cubby/store/durable"
)

// Where the data directory keeps things.
const (
	dirTLS   = "tls"
	fileCA   = "tls/ca.crt"
	fileKey  = "tls/ca.key"
	dirCache = "tls/acme"
)

const (
	authorityYears = 10
	leafTime       = 90 * 24 * time.Hour
	renewBefore    = 30 * 24 * time.Hour
	backdate       = time.Hour // for clients whose clock is late
	refreshEvery   = 30 * time.Second
)

// An Authority is a CA of this server's own. It issues the server's certificate, in memory only.
type Authority struct {
	cert  *x509.Certificate
	key   *ecdsa.PrivateKey
	pem   []byte
	extra []string // names and addresses to put into certificates beside those of the machine
	log   *slog.Logger

	// Replaced by tests.
	now     func() time.Time
	machine func() ([]string, error)

	leaf atomic.Pointer[tls.Certificate]
}

// openAuthority reads the CA, or makes it, and issues a certificate.
func openAuthority(data string, extra []string, log *slog.Logger) (*Authority, error) {
	a := &Authority{extra: extra, log: log, now: time.Now, machine: machine}
	dir, err := durable.Open(data, nil)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	err = a.load(dir)
	made := errors.Is(err, fs.ErrNotExist)
	if made {
		if err = makeAuthority(dir, a.now()); err == nil {
			err = a.load(dir)
		}
	}
	if err != nil {
		return nil, err
	}
	log.Info("certificate authority", "file", fileCA, "fingerprint", a.Fingerprint(), "made", made)
	if a.now().After(a.cert.NotAfter) {
		return nil, fmt.Errorf("the CA in %s expired on %s; remove it to get a new one, which clients have to be given", fileCA, a.cert.NotAfter.Format(time.DateOnly))
	}
	names, err := a.subjects()
	if err != nil {
		log.Warn("addresses of this machine not known, the certificate is for its names alone", "err", err)
	}
	return a, a.issue(names)
}

// load reads the CA. The error is fs.ErrNotExist when there is none.
func (a *Authority) load(dir *durable.Dir) error {
	cert, err := dir.Root().ReadFile(fileCA)
	if err != nil {
		return err
	}
	key, err := dir.Root().ReadFile(fileKey)
	if err != nil {
		return fmt.Errorf("the CA in %s has lost its key (%v); restore %s, or remove both to get a new CA, which clients have to be given", fileCA, err, fileKey)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("%s with %s: %w", fileCA, fileKey, err)
	}
	private, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok || !pair.Leaf.IsCA {
		return fmt.Errorf("%s with %s is not a CA that this program made", fileCA, fileKey)
	}
	a.cert, a.key, a.pem = pair.Leaf, private, cert
	return nil
}

// makeAuthority writes a new CA. The key comes first: a crash before the certificate leaves a key that nothing was
// signed with, and the next start replaces it.
func makeAuthority(dir *durable.Dir, now time.Time) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		// Two machines, or a machine before and after, must not have CAs of one name and different keys.
		Subject:               pkix.Name{CommonName: fmt.Sprintf("Cubby CA %.40s %s", hostName(), rand.Text()[:6])},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.AddDate(authorityYears, 0, 0),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	if err := dir.Mkdir(dirTLS); err != nil {
		return err
	}
	if err := dir.SyncDir("."); err != nil {
		return err
	}
	if err := dir.WriteFile(fileKey, dirTLS, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})); err != nil {
		return err
	}
	return dir.WriteFile(fileCA, dirTLS, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}))
}

// PEM returns the certificate of the CA.
func (a *Authority) PEM() []byte { return a.pem }

// Fingerprint returns the SHA-256 of the CA's certificate as openssl x509 -fingerprint prints it.
func (a *Authority) Fingerprint() string {
	sum := sha256.Sum256(a.cert.Raw)
	return strings.ReplaceAll(fmt.Sprintf("% X", sum), " ", ":")
}

func (a *Authority) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return a.leaf.Load(), nil
}

// refresh issues a new certificate when the one in use is about to expire, or when the machine is called otherwise. A
// clock that was put right is a reason too: small machines start without one.
func (a *Authority) refresh() {
	leaf, now := a.leaf.Load().Leaf, a.now()
	want, err := a.subjects()
	if err != nil {
		want = subjects(leaf)
	}
	if now.After(leaf.NotBefore) && now.Before(leaf.NotAfter.Add(-renewBefore)) && slices.Equal(want, subjects(leaf)) {
		return
	}
	if err := a.issue(want); err != nil {
		a.log.Error("certificate not renewed", "err", err)
	}
}

func (a *Authority) issue(names []string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	from := a.now().Add(-backdate)
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "Cubby"},
		NotBefore:   from,
		NotAfter:    from.Add(leafTime),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if template.NotAfter.After(a.cert.NotAfter) {
		template.NotAfter = a.cert.NotAfter
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return err
	}
	leaf, err := x509.ParseCertificate(raw)
	if err != nil {
		return err
	}
	a.leaf.Store(&tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key, Leaf: leaf})
	a.log.Info("certificate issued", "names", names, "until", leaf.NotAfter)
	return nil
}

// subjects returns what a new certificate is to be valid for, in the order of the function subjects. With an error the
// addresses of the machine are missing.
func (a *Authority) subjects() ([]string, error) {
	var names, addrs []string
	all, err := a.machine()
	for _, name := range append(all, a.extra...) {
		if addr, err := netip.ParseAddr(name); err == nil {
			addrs = append(addrs, addr.Unmap().String())
		} else {
			names = append(names, strings.ToLower(name))
		}
	}
	slices.Sort(names)
	slices.Sort(addrs)
	return append(slices.Compact(names), slices.Compact(addrs)...), err
}

// subjects returns what a certificate is valid for: names, then addresses.
func subjects(cert *x509.Certificate) []string {
	all := slices.Clone(cert.DNSNames)
	for _, ip := range cert.IPAddresses {
		all = append(all, ip.String())
	}
	return all
}

// hostName returns the name of this machine, or "" when it has none that fits into a certificate.
func hostName() string {
	host, err := os.Hostname()
	if err != nil || !isDNSName(host) || isAddress(host) {
		return ""
	}
	return host
}

// machine returns the names and addresses of this machine; with an error only its names and loopback. Link-local IPv6 addresses are left out: no URL can name
// them, and every container that starts brings one.
func machine() ([]string, error) {
	all := []string{"localhost", "127.0.0.1", "::1"}
	if host := hostName(); host != "" {
		all = append(all, host)
		if !strings.Contains(host, ".") {
			all = append(all, host+".local") // as mDNS calls it
		}
	}
	addrs, err := net.InterfaceAddrs()
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if ok && (n.IP.To4() != nil || !n.IP.IsLinkLocalUnicast()) {
			all = append(all, n.IP.String())
		}
	}
	return all, err
}
