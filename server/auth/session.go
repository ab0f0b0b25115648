package auth

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"cubby/store"
)

const (
	// cookiePlain is the session's cookie on plain HTTP, where browsers take no cookie with the prefix. On https it is not
	// accepted: whoever can write into a plain connection could have planted it.
	cookiePlain  = "cubby_session"
	cookieSecure = "__Host-cubby"
	// sessionTime is how long a browser stays logged in.
	sessionTime = 30 * 24 * time.Hour
	// cookiesMax bounds the cookies of our name that are looked at: others on the same host may have set some.
	cookiesMax = 20
)

// Open reports whether nobody can log in.
func (g *Guard) Open() bool { return g.open(g.access()) }

// IsAdmin reports whether the principal may administer the registry: whoever is on this machine while nobody can log in,
// and a user of the store who may do everything, but not by a token.
func (p *Principal) IsAdmin() bool {
	if p.Local {
		return true
	}
	u := p.access.Users[p.Name]
	return p.known && p.userID != 0 && p.token == nil && !p.scoped && u != nil && u.IsAdmin()
}

// MayChange reports whether pages may change things for the principal at all. An anonymous visitor must log in whatever
// anonymous is granted: the page that asks could be another site's, by DNS rebinding.
func (p *Principal) MayChange() bool { return p.Local || p.session != nil }

// Secure reports whether the client sees https.
func (g *Guard) Secure(r *http.Request) bool {
	return r.TLS != nil || strings.EqualFold(g.forwarded(r, "X-Forwarded-Proto"), "https")
}

// Host returns the host as the client wrote it.
func (g *Guard) Host(r *http.Request) string {
	host := g.forwarded(r, "X-Forwarded-Host")
	bad := func(c rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:[]", c)
	}
	if host == "" || strings.ContainsFunc(host, bad) {
		return r.Host
	}
	return host
}

// forwarded returns the first value of a header, if the peer is a proxy that is believed.
func (g *Guard) forwarded(r *http.Request, header string) string {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !g.isProxy(peer.Addr()) {
		return ""
	}
	value, _, _ := strings.Cut(r.Header.Get(header), ",")
	return strings.TrimSpace(value)
}

// IdentifyPage returns who looks at a web page, by the session's cookie alone: browsers send a password that they
// remember by themselves. The principal is there also with an error, which is ErrBusy.
func (g *Guard) IdentifyPage(r *http.Request) (*Principal, error) {
	p := g.visitor(r)
	if p.access.Unknown {
		return p, errBusy
	}
	ids, sent := g.sessionIDs(r)
	if g.open(p.access) {
		p.Local, p.StaleSession = isLocal(r), sent
		return p, nil
	}
	for _, id := range ids {
		if v := p.access.Sessions[id]; v != nil && g.inForce(p.access, v) {
			g.become(p, v.User)
			p.session = v
			g.sessionUsed(p)
			return p, nil
		}
	}
	p.StaleSession = sent
	return p, nil
}

// sessionIDs returns the sessions that a request's cookies claim, and whether it has any such cookie.
func (g *Guard) sessionIDs(r *http.Request) (ids []store.SessionID, sent bool) {
	for i, c := range r.CookiesNamed(g.cookieName(r)) {
		sent = true
		if id, err := base64.RawURLEncoding.DecodeString(c.Value); err == nil && len(id) == sha256.Size && i < cookiesMax {
			ids = append(ids, sha256.Sum256(id))
		}
	}
	return ids, sent
}

func (g *Guard) cookieName(r *http.Request) string {
	if g.Secure(r) {
		return cookieSecure
	}
	return cookiePlain
}

// inForce reports whether a session is not over: its user is the one who logged in, with the password of then.
func (g *Guard) inForce(a *store.Access, v *store.Session) bool {
	id := int64(0)
	if u := a.Users[v.User]; u != nil {
		id = u.ID
	}
	hash := g.passwordHash(a, v.User)
	password := sha256.Sum256([]byte(hash))
	return hash != "" && id == v.UserID && sameText(password[:], v.Password[:]) && !v.Expired(g.now())
}

// sessionUsed notes a use once in a few minutes: pages come in dozens.
func (g *Guard) sessionUsed(p *Principal) {
	if g.passwords.once("session\x00"+string(p.session.ID[:])+p.Address, verifiedTime) {
		g.store.SessionUsed(p.session.ID, p.Address)
	}
}

// Login begins a session for whom a user name and a password prove, and returns its cookie. A session that the browser had
// ends: its id is never used on for somebody else. What is refused is ErrCredentials or ErrSlowDown, as for clients.
func (g *Guard) Login(ctx context.Context, r *http.Request, user, password string) (*http.Cookie, error) {
	p := g.visitor(r)
	p.page = true
	switch {
	case p.access.Unknown:
		return nil, errBusy
	case g.open(p.access):
		return nil, fmt.Errorf("%w: this registry has no users yet", ErrCredentials)
	case strings.HasPrefix(password, tokenPrefix):
		// Whether it is a valid one is told to nobody.
		if g.passwords.once("token for a page\x00"+p.Address+"\x00"+user, time.Minute) {
			g.auditFailed(p, user, "", "access token for a page")
		}
		return nil, fmt.Errorf("%w: log in with the password; access tokens are for clients", ErrCredentials)
	}
	// Taken before it is compared: if it changes meanwhile, the session is over before it begins.
	hash := g.passwordHash(p.access, user)
	if err := g.login(ctx, p, user, password); err != nil {
		return nil, err
	}
	g.store.Audit(store.AuditEntry{Action: store.AuditLogin, Detail: "browser"}, p.Actor())
	return g.begin(r, p, hash)
}

func (g *Guard) begin(r *http.Request, p *Principal, hash string) (*http.Cookie, error) {
	var secret [sha256.Size]byte
	_, _ = rand.Read(secret[:]) // it never fails
	now := g.now()
	v := store.Session{ID: sha256.Sum256(secret[:]), User: p.Name, UserID: p.userID, Password: sha256.Sum256([]byte(hash)),
		CreatedAt: now, ExpiresAt: now.Add(sessionTime), Address: p.Address, Client: p.Client}
	before, _ := g.sessionIDs(r)
	if err := g.store.AddSession(v, before...); err != nil {
		return nil, err
	}
	c := g.cookie(r)
	c.Value, c.MaxAge, c.Expires = base64.RawURLEncoding.EncodeToString(secret[:]), int(sessionTime.Seconds()), v.ExpiresAt
	return c, nil
}

// cookie returns the session's cookie for the scheme that the client sees, without a value.
func (g *Guard) cookie(r *http.Request) *http.Cookie {
	return &http.Cookie{Name: g.cookieName(r), Path: "/", Secure: g.Secure(r), HttpOnly: true, SameSite: http.SameSiteLaxMode}
}

// ClearCookie returns a cookie that makes the browser forget its session, which goes on: see Principal.StaleSession.
func (g *Guard) ClearCookie(r *http.Request) *http.Cookie {
	c := g.cookie(r)
	c.MaxAge = -1
	return c
}

// Logout ends the session of the request, and returns the cookie that clears its own.
func (g *Guard) Logout(r *http.Request) *http.Cookie {
	p, _ := g.IdentifyPage(r)
	ids, _ := g.sessionIDs(r)
	n := g.end(func(v *store.Session) bool { return slices.Contains(ids, v.ID) })
	if n > 0 && p.known {
		g.store.Audit(store.AuditEntry{Action: store.AuditLogout}, p.Actor())
	}
	return g.ClearCookie(r)
}

// LogoutEverywhere ends every session of the user of the request, and returns the cookie that clears its own.
func (g *Guard) LogoutEverywhere(r *http.Request) *http.Cookie {
	if p, _ := g.IdentifyPage(r); p.session != nil {
		g.end(func(v *store.Session) bool { return v.User == p.Name })
		g.store.Audit(store.AuditEntry{Action: store.AuditLogout, Detail: "everywhere"}, p.Actor())
	}
	return g.ClearCookie(r)
}

// end ends sessions and returns how many. That a row could not be removed yet is for the operator to know.
func (g *Guard) end(match func(*store.Session) bool) int {
	n, err := g.store.EndSessions(match)
	if err != nil {
		g.log.Error("session ended but still on disk", "err", err)
	}
	return n
}

// A SessionItem is a session as its user sees it.
type SessionItem struct {
	ID        string // names it and opens nothing
	Current   bool   // it is the one that asks
	CreatedAt time.Time
	ExpiresAt time.Time
	UsedAt    time.Time // to a few minutes
	Address   string    // from where it was last used
	Client    string    // as the browser calls itself
}

// Sessions returns the sessions of the principal that are in force, the last used first; none unless a session asks.
func (g *Guard) Sessions(ctx context.Context, p *Principal) ([]SessionItem, error) {
	if p.session == nil {
		return nil, nil
	}
	uses, err := g.store.SessionUses(ctx, p.Name)
	if err != nil {
		return nil, err
	}
	a, items := g.access(), []SessionItem{}
	for _, v := range a.Sessions {
		if v.User != p.Name || !g.inForce(a, v) {
			continue
		}
		item := SessionItem{ID: sessionName(v), Current: v.ID == p.session.ID, CreatedAt: v.CreatedAt, ExpiresAt: v.ExpiresAt,
			UsedAt: v.CreatedAt, Address: v.Address, Client: v.Client}
		if use, ok := uses[v.ID]; ok {
			item.UsedAt, item.Address = use.At, use.Address
		}
		items = append(items, item)
	}
	slices.SortFunc(items, func(a, b SessionItem) int { return cmp.Or(b.UsedAt.Compare(a.UsedAt), strings.Compare(a.ID, b.ID)) })
	return items, nil
}

// sessionName is short enough for a form, and long enough to be one's own.
func sessionName(v *store.Session) string { return hex.EncodeToString(v.ID[:16]) }

// EndSession ends a session of the principal by its SessionItem.ID, and reports whether there was one.
func (g *Guard) EndSession(p *Principal, id string) bool {
	if p.session == nil {
		return false
	}
	n := g.end(func(v *store.Session) bool { return v.User == p.Name && sessionName(v) == id })
	if n > 0 {
		g.store.Audit(store.AuditEntry{Action: store.AuditLogout, Detail: "another session"}, p.Actor())
	}
	return n > 0
}
