package auth

import (
	"crypto/subtle"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"cubby/store"
)

// Identify returns who sent a request. Credentials that are not right are ErrCredentials, also where nobody would need
// any; repeated ones are a *SlowDownError. The principal is there even then, to be named in logs.
func (g *Guard) Identify(r *http.Request) (*Principal, error) {
	p := g.visitor(r)
	if p.access.Unknown {
		return p, errBusy // until the store can read it again
	}
	if g.open(p.access) {
		// Nobody can log in, so credentials from other times mean nothing.
		p.Local = isLocal(r)
		return p, nil
	}
	scheme, value, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	switch {
	case scheme == "":
	case strings.EqualFold(scheme, "Basic"):
		user, password, ok := r.BasicAuth()
		if !ok {
			return p, fmt.Errorf("%w: the Authorization header cannot be read", ErrCredentials)
		}
		if user != "" || password != "" { // skopeo without credentials sends empty ones
			return p, g.login(r.Context(), p, user, password)
		}
	case strings.EqualFold(scheme, "Bearer"):
		return p, g.bearer(p, strings.TrimSpace(value))
	default:
		return p, fmt.Errorf("%w: Authorization with %.20q is not known here, Basic and Bearer are", ErrCredentials, scheme)
	}
	return p, nil
}

// visitor returns the principal of a request of whom nothing is known yet.
func (g *Guard) visitor(r *http.Request) *Principal {
	return &Principal{Name: "anonymous", Address: g.Address(r), Client: r.UserAgent(), access: g.access()}
}

// Address returns the IP address of the client: of the peer, or what a proxy that is believed says. From the right of
// X-Forwarded-For, the first address that is no such proxy's is the client's: what stands left of it anybody can write.
func (g *Guard) Address(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	peer, err := netip.ParseAddr(host)
	if err != nil || !g.isProxy(peer) {
		return host
	}
	forwarded := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, v := range slices.Backward(forwarded) {
		addr, err := netip.ParseAddr(strings.TrimSpace(v))
		if err != nil {
			break
		}
		host = addr.Unmap().WithZone("").String()
		if !g.isProxy(addr) {
			break
		}
	}
	return host
}

// HintProxy logs once that a proxy asks which is not believed: then everybody has its address.
func (g *Guard) HintProxy(r *http.Request) {
	if _, ok := r.Header["X-Forwarded-For"]; !ok || g.hinted.Load() {
		return
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err == nil && !g.isProxy(peer.Addr()) && g.hinted.CompareAndSwap(false, true) {
		g.log.Info("a proxy asks for others; if it is yours, start with --trusted-proxy to see their addresses", "proxy", peer.Addr().Unmap().String())
	}
}

func (g *Guard) isProxy(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	return slices.ContainsFunc(g.proxies, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// isLocal reports whether a request was made on this machine and meant for it: the peer is loopback, the Host header
// is a loopback name (else a web page could get in by DNS rebinding), and no proxy has touched it (a proxy on this
// machine makes everybody's peer loopback, and may put its own name for us into Host).
func isLocal(r *http.Request) bool {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !peer.Addr().Unmap().IsLoopback() || !isLocalHost(r.Host) {
		return false
	}
	// nginx as it comes speaks HTTP/1.0 to what is behind it and adds no header; no registry client does. A request
	// line with a whole URL is for a proxy too, and its host would hide the Host header.
	return r.ProtoAtLeast(1, 1) && r.URL.Host == "" && !IsProxied(r)
}

// IsProxied reports whether a proxy says that it has touched a request.
func IsProxied(r *http.Request) bool {
	for key := range r.Header {
		switch key {
		case "Forwarded", "Via", "X-Real-Ip", "X-Client-Ip", "True-Client-Ip", "Cf-Connecting-Ip":
			return true
		}
		if strings.HasPrefix(key, "X-Forwarded") {
			return true
		}
	}
	return false
}

// isLocalHost reports whether a Host header names this machine: localhost, 127.0.0.0/8 or [::1].
func isLocalHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	} else {
		host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	}
	if strings.EqualFold(strings.TrimSuffix(host, "."), "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// useToken makes the principal the user of an access token.
func (g *Guard) useToken(p *Principal, t *store.Token) error {
	if t.Expired(g.now()) {
		return fmt.Errorf("%w: the access token %s expired %s", ErrCredentials, t.ID, t.ExpiresAt.Format("2006-01-02"))
	}
	if len(t.Networks) > 0 {
		addr, err := netip.ParseAddr(p.Address)
		addr = addr.Unmap().WithZone("")
		if err != nil || !slices.ContainsFunc(t.Networks, func(n netip.Prefix) bool { return n.Contains(addr) }) {
			return fmt.Errorf("%w: the access token %s may not be used from %s", ErrCredentials, t.ID, p.Address)
		}
	}
	p.Name, p.user, p.userID, p.token, p.known = t.User.Name, t.User.Grants, t.User.ID, t, true
	return nil
}

// AddressKey returns what stands for an address where clients are counted: of IPv6 its network, of which one client has
// all addresses.
func AddressKey(address string) string { return networkKey(address, 64) }

// networkKey returns the network of an IPv6 address, and an address of IPv4 as it is.
func networkKey(address string, bits int) string {
	addr, err := netip.ParseAddr(address)
	if err != nil || addr.Unmap().Is4() {
		return address
	}
	network, err := addr.WithZone("").Prefix(bits)
	if err != nil {
		return address
	}
	return network.String()
}

// sameText compares in a time that does not tell how much is equal.
func sameText(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }

// ParseNetworks reads networks such as 192.0.2.0/24, or single addresses.
func ParseNetworks(texts []string) (networks []netip.Prefix, err error) {
	for _, text := range texts {
		n, err := netip.ParsePrefix(text)
		if addr, addrErr := netip.ParseAddr(text); addrErr == nil {
			n, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if err != nil {
			return nil, fmt.Errorf("%q is no network such as 192.0.2.0/24", text)
		}
		networks = append(networks, n.Masked())
	}
	return networks, nil
}
