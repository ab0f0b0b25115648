// Package certs is where the certificates of a server come from: files, a CA of its own, or an ACME server.
package certs

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// Options say where certificates come from: from at most one source.
type Options struct {
	Cert, Key string // files in PEM

	SelfSigned bool
	Names      []string // DNS names and addresses beside those of the machine

	ACME      []string // host names to get certificates for
	Directory string   // URL of the ACME server; "": Let's Encrypt
	Email     string   // for the ACME server; may be ""
}

// On reports whether there are to be certificates at all.
func (o Options) On() bool { return o.Cert != "" || o.Key != "" || o.SelfSigned || len(o.ACME) > 0 }

// Check returns what is wrong with the options by themselves.
func (o Options) Check() error {
	files := o.Cert != "" || o.Key != ""
	switch {
	case files && o.SelfSigned, files && len(o.ACME) > 0, o.SelfSigned && len(o.ACME) > 0:
		return errors.New("--tls-cert, --tls-self-signed and --tls-acme exclude each other")
	case files && (o.Cert == "" || o.Key == ""):
		return errors.New("--tls-cert and --tls-key go together")
	case len(o.Names) > 0 && !o.SelfSigned:
		return errors.New("--tls-name is for --tls-self-signed")
	case (o.Directory != "" || o.Email != "") && len(o.ACME) == 0:
		return errors.New("--tls-acme-directory and --tls-acme-email are for --tls-acme")
	}
	for _, name := range o.Names {
		if !isAddress(name) && !isDNSName(strings.TrimPrefix(name, "*.")) {
			return fmt.Errorf("--tls-name %q is not a DNS name or an address", name)
		}
	}
	for _, host := range o.ACME {
		if isAddress(host) || !isDNSName(host) || !strings.Contains(host, ".") {
			return fmt.Errorf("--tls-acme %q is not a host name that the Internet knows", host)
		}
	}
	if u, err := url.Parse(o.Directory); o.Directory != "" && (err != nil || u.Scheme != "https" || u.Host == "") {
		return fmt.Errorf("--tls-acme-directory %q is not an https URL", o.Directory)
	}
	return nil
}

func isAddress(s string) bool {
	addr, err := netip.ParseAddr(s)
	return err == nil && addr.Zone() == ""
}

var dnsName = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9_-]*[a-zA-Z0-9])?(\.[a-zA-Z0-9]([a-zA-Z0-9_-]*[a-zA-Z0-9])?)*$`)

func isDNSName(s string) bool { return len(s) <= 253 && dnsName.MatchString(s) }

// ChallengePath is where an ACME server looks for the answer to HTTP-01 (RFC 8555, section 8.3).
const ChallengePath = "/.well-known/acme-challenge/"

// A Source gives certificates.
type Source struct {
	tls *tls.Config

	Host      string                // what the certificates are for, if they are for no address; else ""
	Name      string                // how clients call it, as far as was said; else ""
	CA        *Authority            // nil unless self-signed
	Challenge http.Handler          // answers what an ACME server asks over plain HTTP, below ChallengePath; nil without one
	Watch     func(context.Context) // keeps the certificates up to date until the context is done; call it once
}

// Open returns the source that the options name, or nil when they name none. data is the data directory: this process
// owns it, and keeps in tls/ what must survive.
func Open(data string, o Options, log *slog.Logger) (*Source, error) {
	switch {
	case o.SelfSigned:
		a, err := openAuthority(data, o.Names, log)
		if err != nil {
			return nil, fmt.Errorf("self-signed certificate: %w", err)
		}
		name := ""
		if len(o.Names) > 0 {
			name = o.Names[0]
		}
		return &Source{tls: config(a.certificate), Name: name, CA: a, Watch: every(refreshEvery, a.refresh)}, nil
	case len(o.ACME) > 0:
		return openACME(data, o, log).source(), nil
	case o.On():
		f, err := openFiles(o.Cert, o.Key, log)
		if err != nil {
			return nil, err
		}
		return &Source{tls: config(f.certificate), Watch: every(reloadEvery, f.reload)}, nil
	}
	return nil, nil
}

// Config returns what a TLS server goes by, with HTTP/2; nil without a source.
func (s *Source) Config() *tls.Config {
	if s == nil {
		return nil
	}
	return s.tls
}

// Scheme returns how URLs of the server begin.
func (s *Source) Scheme() string {
	if s == nil {
		return "http"
	}
	return "https"
}

// HostPort returns Host, or Name, with the port of an address, as clients write it: they know that https is 443. It is ""
// without both.
func (s *Source) HostPort(addr net.Addr) string {
	host := cmp.Or(s.Host, s.Name)
	_, port, err := net.SplitHostPort(addr.String())
	if host == "" || err != nil || port == "443" {
		return host
	}
	return net.JoinHostPort(host, port)
}

func config(certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)) *tls.Config {
	return &tls.Config{GetCertificate: certificate, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
}

// every returns a function that calls do at an interval until its context is done.
func every(interval time.Duration, do func()) func(context.Context) {
	return func(ctx context.Context) {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				do()
			}
		}
	}
}
