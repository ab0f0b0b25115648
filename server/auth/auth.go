// Package auth knows who is asking and what they may do. Until users exist there are two principals: someone on this
// machine, who may do everything, and everybody else, who may do what the server was opened for.
package auth

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"cubby/store/oci"
)

// An Action is what a request does to a repository.
type Action int

const (
	// Public is for routes that tell nothing: OPTIONS and health checks.
	Public Action = iota + 1
	// Ping is GET /v2/: it is allowed to whoever may do anything at all.
	Ping
	Pull
	Push
	Delete
)

func (a Action) String() string {
	return [...]string{"nothing", "public", "ping", "pull", "push", "delete"}[a]
}

// These errors refuse a request: ErrUnauthorized because nobody said who is asking, ErrDenied for good.
var (
	ErrUnauthorized = errors.New("authentication required")
	ErrDenied       = errors.New("denied")
)

// A Principal is who is asking.
type Principal struct {
	Name  string // for logs and the tag history
	Local bool   // on this machine
}

// Anonymous says what everybody may do who is not on this machine.
type Anonymous string

const (
	AnonymousNone Anonymous = "none"
	AnonymousPull Anonymous = "pull"
	AnonymousPush Anonymous = "push" // pull and push, not delete
)

// ParseAnonymous returns the access that s names.
func ParseAnonymous(s string) (Anonymous, error) {
	switch a := Anonymous(s); a {
	case AnonymousNone, AnonymousPull, AnonymousPush:
		return a, nil
	}
	return "", fmt.Errorf("anonymous access %q is not none, pull or push", s)
}

// Describe tells in a sentence who may do what.
func (a Anonymous) Describe(readOnly bool) string {
	if readOnly {
		if a == AnonymousNone {
			return "Read-only: anyone on this machine may pull; nobody may push or delete"
		}
		return "Read-only: anyone who can reach it may pull; nobody may push or delete"
	}
	switch a {
	case AnonymousPull:
		return "Open: anyone on this machine may push, pull and delete; anyone who can reach it may pull"
	case AnonymousPush:
		return "Open: anyone on this machine may push, pull and delete; anyone who can reach it may push and pull"
	}
	return "Open: anyone on this machine may push, pull and delete; nobody else may do anything"
}

// A Policy decides. It is immutable.
type Policy struct{ Anonymous Anonymous }

// Identify returns who sent a request.
func (p Policy) Identify(r *http.Request) Principal {
	return Principal{Name: "anonymous", Local: isLocal(r)}
}

// Authorize returns nil when the principal may do the action to the repository, which is zero for actions that
// concern none. Default deny: an action it does not know is refused.
func (p Policy) Authorize(who Principal, action Action, _ oci.Name) error {
	allowed := false
	switch action {
	case Public:
		allowed = true
	case Ping, Pull:
		allowed = who.Local || p.Anonymous == AnonymousPull || p.Anonymous == AnonymousPush
	case Push:
		allowed = who.Local || p.Anonymous == AnonymousPush
	case Delete:
		allowed = who.Local
	}
	if allowed {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrUnauthorized, p.Anonymous.refusal(action))
}

// refusal says what others than this machine may not do, and how to let them.
func (a Anonymous) refusal(action Action) string {
	const local = "by the address localhost and not through a proxy"
	switch {
	case a == AnonymousPull && action == Push:
		return "only this registry's own machine may push, " + local + "; start it with --anonymous push to let others"
	case a == AnonymousPull || a == AnonymousPush:
		return "only this registry's own machine may do that, " + local
	}
	return "this registry is open to its own machine only, " + local + "; start it with --anonymous pull or --anonymous push to let others in"
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
	if !r.ProtoAtLeast(1, 1) || r.URL.Host != "" {
		return false
	}
	for key := range r.Header {
		switch key {
		case "Forwarded", "Via", "X-Real-Ip", "X-Client-Ip", "True-Client-Ip", "Cf-Connecting-Ip":
			return false
		}
		if strings.HasPrefix(key, "X-Forwarded") {
			return false
		}
	}
	return true
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
