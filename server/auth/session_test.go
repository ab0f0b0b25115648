package auth

import (
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"cubby/store"
	"cubby/store/oci"

	"golang.org/x/crypto/bcrypt"
)

func cheapHash(t *testing.T, password string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(hash)
}

// addUser makes a user with a password, who may do what the grants say.
func addUser(t *testing.T, g *Guard, user, password string, grants ...store.Grant) {
	t.Helper()
	if _, _, err := g.store.AddUser(t.Context(), user, cheapHash(t, password), grants, store.Actor{}); err != nil {
		t.Fatal(err)
	}
}

func grant(t *testing.T, pattern string, actions store.Actions) store.Grant {
	t.Helper()
	all, err := oci.ParseGlob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return store.Grant{Repositories: all, Actions: actions}
}

// page returns a browser's request from another machine, with cookies.
func page(cookies ...*http.Cookie) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "http://nas:5000/", nil)
	r.RemoteAddr = "198.51.100.1:1"
	r.Header.Set("User-Agent", "Firefox")
	for _, c := range cookies {
		r.AddCookie(c)
	}
	return r
}

func mustLogin(t *testing.T, g *Guard, r *http.Request, user, password string) *http.Cookie {
	t.Helper()
	c, err := g.Login(t.Context(), r, user, password)
	if err != nil {
		t.Fatalf("login of %s: %v", user, err)
	}
	return c
}

// wantUser asks for a page and fails unless it is a user's, or "" for nobody's. stale is whether the cookie should go.
func wantUser(t *testing.T, g *Guard, r *http.Request, user string, stale bool) *Principal {
	t.Helper()
	p, err := g.IdentifyPage(r)
	if err != nil {
		t.Fatal(err)
	}
	name := p.Name
	if !p.Known() {
		name = ""
	}
	if name != user || p.StaleSession != stale || p.MayChange() != (user != "") {
		t.Errorf("page of %q (known %v), stale %v, may change %v; want %q, %v", p.Name, p.Known(), p.StaleSession, p.MayChange(), user, stale)
	}
	return p
}

// TestSession: a login by password, how far its cookie goes, and what ends it.
func TestSession(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	g := newGuard(t, Options{Cost: bcrypt.MinCost, Now: func() time.Time { return now }})
	addUser(t, g, "alice", "the right one")
	addUser(t, g, "bob", "the right two", grant(t, "team/**", store.ActionPull))
	for _, wrong := range [][2]string{{"alice", "wrong"}, {"alice", ""}, {"", ""}, {"nobody", "the right one"}} {
		if c, err := g.Login(t.Context(), page(), wrong[0], wrong[1]); !errors.Is(err, ErrCredentials) || c != nil {
			t.Errorf("login of %q: %v, %v", wrong, c, err)
		}
	}
	one := mustLogin(t, g, page(), "alice", "the right one")
	if one.Name != "cubby_session" || len(one.Value) != 43 || !one.HttpOnly || one.SameSite != http.SameSiteLaxMode || one.Path != "/" ||
		one.Domain != "" || one.Secure || one.MaxAge != 30*24*3600 || !one.Expires.Equal(now.Add(30*24*time.Hour)) {
		t.Errorf("cookie %+v", one)
	}
	p := wantUser(t, g, page(one), "alice", false)
	if !p.IsAdmin() || p.Actor() != (store.Actor{Name: "alice", Address: "198.51.100.1", Client: "Firefox"}) {
		t.Errorf("%+v", p.Actor())
	}
	wantUser(t, g, page(), "", false)
	for _, value := range []string{"", "x", strings.Repeat("A", 43), one.Value[:42], one.Value + "A", strings.Repeat("x", 5000)} {
		wantUser(t, g, page(&http.Cookie{Name: "cubby_session", Value: value}), "", true)
	}
	wantUser(t, g, page(&http.Cookie{Name: "__Host-cubby", Value: one.Value}), "", false)
	// Some other server on this host set one too.
	wantUser(t, g, page(&http.Cookie{Name: "cubby_session", Value: "x"}, one), "alice", false)

	r := page(one)
	r.SetBasicAuth("bob", "the right two") // as browsers remember it by themselves
	wantUser(t, g, r, "alice", false)
	r.Header.Del("Cookie")
	wantUser(t, g, r, "", false)
	if p, err := g.Identify(page(one)); err != nil || p.Known() || p.MayChange() {
		t.Errorf("a session counts for the API: %+v, %v", p, err)
	}

	// Another login in the same browser leaves nothing of the first, and has an id of its own.
	two := mustLogin(t, g, page(one), "bob", "the right two")
	if two.Value == one.Value {
		t.Error("the same id again")
	}
	wantUser(t, g, page(one), "", true)
	if p := wantUser(t, g, page(two), "bob", false); p.IsAdmin() {
		t.Error("bob is an admin")
	}
	now = now.Add(30*24*time.Hour - time.Second)
	wantUser(t, g, page(two), "bob", false)
	now = now.Add(time.Second)
	wantUser(t, g, page(two), "", true)
}

// TestSessionEnds: with the password, the user, or a word of it; also those of an htpasswd file that is read again.
func TestSessionEnds(t *testing.T) {
	file := map[string]string{"carol": cheapHash(t, "the right one")}
	g := newGuard(t, Options{Cost: bcrypt.MinCost, Htpasswd: func() map[string]string { return file }})
	addUser(t, g, "alice", "the right one")
	login := func(user string) *http.Cookie {
		t.Helper()
		return mustLogin(t, g, page(), user, "the right one")
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx := t.Context()

	one, two, carol := login("alice"), login("alice"), login("carol")
	if p := wantUser(t, g, page(carol), "carol", false); p.IsAdmin() {
		t.Error("a user of the file is an admin")
	}
	must(g.store.SetPassword(ctx, "alice", cheapHash(t, "the right one"), store.Actor{})) // the same, but said again
	wantUser(t, g, page(one), "", true)
	wantUser(t, g, page(two), "", true)
	one = login("alice")
	must(g.store.RemoveUser(ctx, "alice", store.Actor{}))
	wantUser(t, g, page(one), "", true)
	hash := cheapHash(t, "the right one")
	_, _, err := g.store.AddUser(ctx, "alice", hash, nil, store.Actor{})
	must(err)
	wantUser(t, g, page(one), "", true)
	one = login("alice")
	must(g.store.RemoveUser(ctx, "alice", store.Actor{}))
	_, _, err = g.store.AddUser(ctx, "alice", hash, nil, store.Actor{}) // of the same password, and another all the same
	must(err)
	wantUser(t, g, page(one), "", true)

	wantUser(t, g, page(carol), "carol", false)
	before := file
	file = map[string]string{"carol": cheapHash(t, "the right one")}
	wantUser(t, g, page(carol), "", true)
	file = nil
	wantUser(t, g, page(carol), "", true)
	file = before
	wantUser(t, g, page(carol), "carol", false)
	_, _, err = g.store.AddUser(ctx, "carol", before["carol"], nil, store.Actor{}) // hides the one of the file
	must(err)
	wantUser(t, g, page(carol), "", true)
}

// TestLogout: of one browser, of all, of another; each is noted.
func TestLogout(t *testing.T) {
	g := newGuard(t, Options{Cost: bcrypt.MinCost})
	addUser(t, g, "alice", "the right one")
	addUser(t, g, "bob", "the right one")
	var c [4]*http.Cookie
	for i := range c {
		c[i] = mustLogin(t, g, page(), "alice", "the right one")
	}
	bob := mustLogin(t, g, page(), "bob", "the right one")

	clearing := g.Logout(page(c[0]))
	if clearing.Name != c[0].Name || clearing.Value != "" || clearing.MaxAge >= 0 || clearing.Path != "/" {
		t.Errorf("cookie %+v", clearing)
	}
	wantUser(t, g, page(c[0]), "", true)
	g.Logout(page(c[0]))
	p := wantUser(t, g, page(c[1]), "alice", false)
	items, err := g.Sessions(t.Context(), p)
	if err != nil || len(items) != 3 || items[0].Client != "Firefox" || items[0].Address != "198.51.100.1" || items[0].UsedAt.IsZero() {
		t.Fatalf("%+v, %v", items, err)
	}
	i := slices.IndexFunc(items, func(v SessionItem) bool { return !v.Current })
	if g.EndSession(wantUser(t, g, page(bob), "bob", false), items[i].ID) || g.EndSession(p, "") || g.EndSession(&Principal{}, items[i].ID) {
		t.Error("somebody else's session was ended")
	}
	if !g.EndSession(p, items[i].ID) || g.EndSession(p, items[i].ID) {
		t.Error("a session is not ended, or twice")
	}
	if items, err := g.Sessions(t.Context(), p); err != nil || len(items) != 2 {
		t.Errorf("%d sessions are left, %v", len(items), err)
	}
	g.LogoutEverywhere(page()) // of nobody
	g.LogoutEverywhere(page(c[1]))
	for i := range c {
		wantUser(t, g, page(c[i]), "", true)
	}
	wantUser(t, g, page(bob), "bob", false)

	entries, err := g.store.AuditEntries(t.Context(), store.AuditFilter{Who: "alice"}, store.AuditEntry{}, 100)
	if err != nil {
		t.Fatal(err)
	}
	var noted []string
	for _, e := range slices.Backward(entries) {
		noted = append(noted, strings.TrimSpace(string(e.Action)+" "+e.Detail))
	}
	want := "login browser, login browser, login browser, login browser, logout, logout another session, logout everywhere"
	if got := strings.Join(noted, ", "); got != want {
		t.Errorf("noted %s\nwant  %s", got, want)
	}
}

// TestLoginByPageIsSlowed: as by clients, and together with them. Access tokens are for clients, and whether one is valid
// is not told.
func TestLoginByPageIsSlowed(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	g := newGuard(t, Options{Cost: bcrypt.MinCost, Now: func() time.Time { return now }})
	addUser(t, g, "alice", "the right one")
	id, token, secret := NewToken()
	if err := g.store.AddToken(t.Context(), "alice", store.Token{ID: id, Secret: secret, Grant: htpasswdGrants[0]}, store.Actor{}); err != nil {
		t.Fatal(err)
	}
	_, none, _ := NewToken()
	var answers []string
	for _, password := range []string{token, none, "cubby_"} {
		for range 10 {
			c, err := g.Login(t.Context(), page(), "alice", password)
			if c != nil || !errors.Is(err, ErrCredentials) || !strings.Contains(err.Error(), "access tokens are for clients") {
				t.Fatalf("%v, %v", c, err)
			}
			answers = append(answers, err.Error())
		}
	}
	if slices.Sort(answers); answers[0] != answers[len(answers)-1] {
		t.Errorf("a valid token is answered otherwise: %q", slices.Compact(answers))
	}
	for i := range failuresFree + 1 {
		password := "wrong " + string(rune('a'+i))
		if i%2 == 0 {
			r := page()
			r.SetBasicAuth("alice", password)
			if _, err := g.Identify(r); !errors.Is(err, ErrCredentials) {
				t.Fatal(err)
			}
		} else if _, err := g.Login(t.Context(), page(), "alice", password); !errors.Is(err, ErrCredentials) {
			t.Fatal(err)
		}
	}
	if _, err := g.Login(t.Context(), page(), "alice", "the right one"); !errors.Is(err, ErrSlowDown) || errors.Is(err, ErrBusy) {
		t.Errorf("after %d failures: %v", failuresFree+1, err)
	}
	now = now.Add(time.Minute)
	mustLogin(t, g, page(), "alice", "the right one")
	entries, err := g.store.AuditEntries(t.Context(), store.AuditFilter{}, store.AuditEntry{}, 1000)
	failed := 0
	for _, e := range entries {
		if e.Action == store.AuditLoginFailed {
			failed++
		}
		if strings.Contains(e.Detail+e.Who, token) || strings.Contains(e.Detail+e.Who, "the right one") {
			t.Errorf("a secret is noted: %+v", e)
		}
	}
	if err != nil || failed != failuresFree+2 {
		t.Errorf("%d failed logins are noted, %v", failed, err)
	}
}

// TestPagesOfNobody: while nobody can log in, this machine may do everything and nobody else anything; while nobody knows
// who may, nobody.
func TestPagesOfNobody(t *testing.T) {
	g := newGuard(t, Options{})
	if !g.Open() {
		t.Error("not open without users")
	}
	here := func() *http.Request {
		r := page()
		r.RemoteAddr, r.Host, r.URL.Host = "127.0.0.1:1", "localhost:5000", ""
		return r
	}
	for _, tt := range []struct {
		what   string
		change func(*http.Request)
		local  bool
	}{
		{"this machine", func(*http.Request) {}, true},
		{"another", func(r *http.Request) { r.RemoteAddr = "192.0.2.1:1" }, false},
		{"a name that was bound to us", func(r *http.Request) { r.Host = "evil.example:5000" }, false},
		{"a proxy here", func(r *http.Request) { r.Header.Set("X-Forwarded-For", "192.0.2.1") }, false},
	} {
		r := here()
		tt.change(r)
		p, err := g.IdentifyPage(r)
		if err != nil || p.Local != tt.local || p.MayChange() != tt.local || p.IsAdmin() != tt.local || p.Known() || p.StaleSession {
			t.Errorf("%s: %+v, %v", tt.what, p, err)
		}
	}
	r := here()
	r.AddCookie(&http.Cookie{Name: "cubby_session", Value: "of another time"})
	if p, err := g.IdentifyPage(r); err != nil || !p.Local || !p.StaleSession {
		t.Errorf("%+v, %v", p, err)
	}
	if c, err := g.Login(t.Context(), here(), "alice", "the right one"); c != nil || !errors.Is(err, ErrCredentials) {
		t.Errorf("login where nobody can: %v, %v", c, err)
	}

	addUser(t, g, "alice", "the right one")
	c := mustLogin(t, g, here(), "alice", "the right one")
	wantUser(t, g, here(), "", false)
	g.access = func() *store.Access { return &store.Access{Unknown: true} }
	r = here()
	r.AddCookie(c)
	if p, err := g.IdentifyPage(r); !errors.Is(err, ErrBusy) || !errors.Is(err, ErrSlowDown) || p.Known() || p.MayChange() || p.IsAdmin() || p.StaleSession {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := g.Login(t.Context(), here(), "alice", "the right one"); !errors.Is(err, ErrBusy) || g.Open() {
		t.Errorf("login: %v", err)
	}
}

// TestSchemes: what the client sees decides which cookie there is, and no other is accepted.
func TestSchemes(t *testing.T) {
	g := newGuard(t, Options{Cost: bcrypt.MinCost, Proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
	addUser(t, g, "alice", "the right one")
	for _, tt := range []struct {
		peer             string
		tls              bool
		proto, forwarded string // headers
		secure           bool
		host             string // as the client wrote it
	}{
		{"192.0.2.1:1", false, "", "", false, "nas:5000"},
		{"192.0.2.1:1", true, "", "", true, "nas:5000"},
		{"192.0.2.1:1", false, "https", "evil.example", false, "nas:5000"}, // no proxy of ours
		{"10.1.1.1:1", false, "https", "reg.example", true, "reg.example"},
		{"10.1.1.1:1", false, "HTTPS, http", "reg.example:8443, inner", true, "reg.example:8443"},
		{"10.1.1.1:1", false, "http", "", false, "nas:5000"},
		{"10.1.1.1:1", false, "", `a"b`, false, "nas:5000"},
		{"10.1.1.1:1", false, "", "[2001:db8::1]:5000", false, "[2001:db8::1]:5000"},
	} {
		request := func(cookies ...*http.Cookie) *http.Request {
			r := page(cookies...)
			r.RemoteAddr = tt.peer
			if tt.tls {
				r.TLS = &tls.ConnectionState{}
			}
			if tt.proto != "" {
				r.Header.Set("X-Forwarded-Proto", tt.proto)
			}
			if tt.forwarded != "" {
				r.Header.Set("X-Forwarded-Host", tt.forwarded)
			}
			return r
		}
		if got := g.Secure(request()); got != tt.secure {
			t.Errorf("%+v: secure %v", tt, got)
		}
		if got := g.Host(request()); got != tt.host {
			t.Errorf("%+v: host %s", tt, got)
		}
		name, other := "cubby_session", "__Host-cubby"
		if tt.secure {
			name, other = other, name
		}
		c := mustLogin(t, g, request(), "alice", "the right one")
		clearing := g.ClearCookie(request(c))
		if c.Name != name || c.Secure != tt.secure || clearing.Name != name || clearing.Secure != tt.secure {
			t.Errorf("%+v: cookie %v, cleared by %v", tt, c, clearing)
		}
		wantUser(t, g, request(&http.Cookie{Name: name, Value: c.Value}), "alice", false)
		wantUser(t, g, request(&http.Cookie{Name: other, Value: c.Value}), "", false)
		if strings.Contains(c.String(), "Domain") {
			t.Errorf("%s", c)
		}
	}
}

// TestAdminByToken: a token administers nothing, whoever it is of.
func TestAdminByToken(t *testing.T) {
	g := newGuard(t, Options{Cost: bcrypt.MinCost})
	addUser(t, g, "alice", "the right one")
	id, token, secret := NewToken()
	if err := g.store.AddToken(t.Context(), "alice", store.Token{ID: id, Secret: secret, Grant: grant(t, "**", store.ActionAdmin)}, store.Actor{}); err != nil {
		t.Fatal(err)
	}
	for password, admin := range map[string]bool{"the right one": true, token: false} {
		r := page()
		r.SetBasicAuth("alice", password)
		p, err := g.Identify(r)
		if err != nil || p.IsAdmin() != admin || p.MayChange() {
			t.Errorf("admin %v, may change pages %v, %v", p.IsAdmin(), p.MayChange(), err)
		}
		bearer, _, err := g.Issue(p, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+bearer)
		if p, err := g.Identify(r); err != nil || p.IsAdmin() {
			t.Errorf("by a token of the token service: %v", err)
		}
	}
}
