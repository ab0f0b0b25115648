package server

import (
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"

	"cubby/server/certs"
	"cubby/store"

	"github.com/julienschmidt/httprouter"
)

const (
	// firstByteTime is how long a client may take to begin.
	firstByteTime = 10 * time.Second
	// hintEvery is how often the log says that a client speaks https to a port without it.
	hintEvery = time.Minute
	// recordHandshake is the first byte of a TLS connection: the type of the record that a ClientHello comes in.
	recordHandshake = 0x16
)

// AnswerBoth returns listeners that give connections which begin with a ClientHello to TLS, and all others through as
// they are, so that the kernel can send files. Without a TLS configuration those are all, and the log says what the
// clients are doing. Closing a listener closes the one that it stands before.
func AnswerBoth(listeners []net.Listener, config *tls.Config, log *slog.Logger) []net.Listener {
	h := &hint{log: log}
	both := make([]net.Listener, len(listeners))
	for i, l := range listeners {
		both[i] = answerBoth(l, config, h, connectionsMax, firstByteTime)
	}
	return both
}

func answerBoth(l net.Listener, config *tls.Config, h *hint, silentMax int, patience time.Duration) net.Listener {
	b := &bothListener{
		Listener: l, config: config, hint: h, silentMax: silentMax, patience: patience,
		accepted: make(chan accepted), closed: make(chan struct{}),
	}
	b.working.Go(b.accept)
	return b
}

type accepted struct {
	conn net.Conn
	err  error
}

type bothListener struct {
	net.Listener
	config    *tls.Config // nil: no TLS
	hint      *hint
	silentMax int           // connections that have not sent a byte
	patience  time.Duration // until they have

	accepted chan accepted
	closed   chan struct{} // closed by Close
	working  sync.WaitGroup

	mu      sync.Mutex // guards what follows
	stopped bool
	silent  waiting // connections that have not sent a byte
}

// Accept returns the next connection that has begun.
func (b *bothListener) Accept() (net.Conn, error) {
	select {
	case a := <-b.accepted:
		return a.conn, a.err
	case <-b.closed:
		return nil, net.ErrClosed
	}
}

// Close stops listening and drops the connections that Accept has not returned.
func (b *bothListener) Close() error {
	b.mu.Lock()
	if b.stopped {
		b.mu.Unlock()
		return net.ErrClosed
	}
	b.stopped = true
	for c := range b.silent.at {
		c.Close()
	}
	b.mu.Unlock()
	close(b.closed)
	err := b.Listener.Close()
	b.working.Wait()
	return err
}

// accept looks at every connection in a goroutine of its own: one that is silent must not stop the others. An error
// waits for Accept, whose caller pauses after one that may pass.
func (b *bothListener) accept() {
	for {
		c, err := b.Listener.Accept()
		switch {
		case err != nil:
			if !b.hand(accepted{err: err}) {
				return
			}
		case !b.hold(c):
			c.Close()
		default:
			b.working.Go(func() { b.begin(c) })
		}
	}
}

// hand gives something to Accept, and reports false when nobody calls it any more.
func (b *bothListener) hand(a accepted) bool {
	select {
	case b.accepted <- a:
		return true
	case <-b.closed:
		return false
	}
}

// hold takes note of a silent connection, for which the one that was silent longest must go when there are too many. It
// reports false after Close.
func (b *bothListener) hold(c net.Conn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped {
		return false
	}
	if len(b.silent.at) >= b.silentMax {
		b.silent.first().Close()
	}
	b.silent.add(c, http.StateNew)
	return true
}

func (b *bothListener) release(c net.Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.silent.remove(c)
}

// begin waits for the first byte of a connection and hands it to who can read it.
func (b *bothListener) begin(c net.Conn) {
	_ = c.SetReadDeadline(time.Now().Add(b.patience))
	first, err := peek(c)
	_ = c.SetReadDeadline(time.Time{})
	b.release(c)
	if err != nil {
		c.Close()
		return
	}
	conn := c
	switch {
	case first != recordHandshake:
	case b.config != nil:
		conn = tls.Server(c, b.config)
	default:
		// Answered in HTTP all the same: that is how docker and others notice, and use it.
		b.hint.say(c.RemoteAddr())
	}
	if !b.hand(accepted{conn: conn}) {
		c.Close()
	}
}

// peek returns the first byte that a client sends, and leaves it there. So who reads the connection needs no wrapper
// that would hide its *net.TCPConn.
func peek(c net.Conn) (byte, error) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return 0, errors.ErrUnsupported
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0, err
	}
	var first [1]byte
	var n int
	var peekErr error
	err = raw.Read(func(fd uintptr) bool {
		for {
			n, _, peekErr = syscall.Recvfrom(int(fd), first[:], syscall.MSG_PEEK)
			if peekErr != syscall.EINTR {
				return peekErr != syscall.EAGAIN
			}
		}
	})
	if err := errors.Join(err, peekErr); err != nil {
		return 0, err
	}
	if n == 0 {
		return 0, io.EOF
	}
	return first[0], nil
}

// A hint tells the log about clients that speak https to a port without it.
type hint struct {
	log *slog.Logger

	mu   sync.Mutex
	last time.Time // guarded by mu
}

func (h *hint) say(peer net.Addr) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now := time.Now(); h.last.IsZero() || now.Sub(h.last) >= hintEvery {
		h.last = now
		h.log.Warn("client speaks https, this port only http", "addr", peer.String(),
			"hint", "tell the client that the registry is insecure (plain HTTP), or start cubby serve with --tls-self-signed, --tls-cert and --tls-key, or --tls-acme")
	}
}

// errPlain refuses plain HTTP from elsewhere on a port that speaks https.
var errPlain = errors.New("this port speaks https; plain HTTP is for the registry's own machine")

// servePlain answers a request without TLS on a port that has it, and reports whether it did: to this machine plain HTTP
// serves as well, a browser elsewhere is sent to https, and a client of the API is told.
func (s *Server) servePlain(w http.ResponseWriter, r *http.Request) bool {
	if s.certs == nil || r.TLS != nil {
		return false
	}
	if s.certs.Challenge != nil && strings.HasPrefix(r.URL.Path, certs.ChallengePath) {
		s.certs.Challenge.ServeHTTP(w, r)
		return true
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	switch {
	case err == nil && peer.Addr().Unmap().IsLoopback():
		return false
	case r.URL.Path == "/-/ca.crt", r.URL.Path == "/-/healthz", r.URL.Path == "/-/readyz":
		// The CA is fetched before it is trusted, and compared with its fingerprint. The others tell nothing.
		return false
	case r.Method != http.MethodGet && r.Method != http.MethodHead, r.Host == "", r.URL.Path == tokenPath,
		r.URL.Path == "/v2", strings.HasPrefix(r.URL.Path, "/v2/"):
		s.writeError(w, r, errPlain)
		return true
	}
	target := url.URL{Scheme: "https", Host: r.Host, Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery}
	w.Header().Set(headerCacheControl, "no-store") // or browsers would never again ask without TLS
	http.Redirect(w, r, target.String(), http.StatusPermanentRedirect)
	return true
}

// authorityCertificate serves the CA's certificate, for clients that are to trust it.
func (s *Server) authorityCertificate(w http.ResponseWriter, _ *http.Request, _ httprouter.Params) {
	w.Header().Set(headerContentType, "application/x-x509-ca-cert")
	w.Header().Set(headerNoSniff, "nosniff")
	_, _ = w.Write(s.certs.CA.PEM())
}

// SettleTLS makes the store remember by what scheme, CA and name clients reach the registry.
func SettleTLS(st *store.Store, listeners []net.Listener, source *certs.Source, readOnly bool) error {
	if readOnly {
		return nil
	}
	settings := map[string]string{SettingHTTPS: "", SettingCA: ""}
	if source != nil {
		settings[SettingHTTPS] = "true"
		if source.CA != nil {
			settings[SettingCA] = string(source.CA.PEM())
		}
		if host := source.HostPort(listeners[0].Addr()); host != "" {
			settings[SettingHost] = host
		}
	}
	for name, value := range settings {
		if err := st.SetSetting(name, value); err != nil {
			return err
		}
	}
	return nil
}
