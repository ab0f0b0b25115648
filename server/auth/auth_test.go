package auth

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"cubby/store"

	"golang.org/x/crypto/bcrypt"
)

func always() error { return nil }

func newGuard(t *testing.T, o Options) *Guard {
	t.Helper()
	st, err := store.Open(t.Context(), store.Options{Dir: t.TempDir(), Role: store.RoleServe, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	o.Store = st
	return New(o)
}

// TestToken: the form of an access token, and that a mistyped or cut one is told from it.
func TestToken(t *testing.T) {
	seen := make(map[string]bool)
	for range 100 {
		id, text, secret := NewToken()
		if len(id) != idLength || !strings.HasPrefix(text, "cubby_"+id+"_") || len(secret) != 32 || seen[id] {
			t.Fatalf("%s %s", id, text)
		}
		seen[id] = true
		if !IsToken(text) || TokenID(text) != id || TokenID(id) != id {
			t.Fatalf("%s is no token", text)
		}
		a := &store.Access{Tokens: map[string]*store.Token{id: {ID: id, Secret: secret}}}
		if findToken(a, text) == nil {
			t.Fatal("not found")
		}
		for i := range text {
			if changed := text[:i] + "a" + text[i+1:]; changed != text && (IsToken(changed) || findToken(a, changed) != nil) {
				t.Fatalf("%s is taken for a token", changed)
			}
		}
		if IsToken(text[:len(text)-1]) || IsToken(text+"a") || IsToken("") {
			t.Fatal("a cut or longer token is taken for one")
		}
	}
}

// TestAddress: who asks, behind proxies that are believed and others.
func TestAddress(t *testing.T) {
	g := newGuard(t, Options{Proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("127.0.0.1/32"), netip.MustParsePrefix("fd00::/8")}})
	for _, tt := range []struct {
		peer      string
		forwarded []string
		want      string
	}{
		{"192.0.2.1:5", nil, "192.0.2.1"},
		{"192.0.2.1:5", []string{"198.51.100.1"}, "192.0.2.1"}, // no proxy of ours
		{"127.0.0.1:5", []string{"198.51.100.1"}, "198.51.100.1"},
		{"127.0.0.1:5", nil, "127.0.0.1"},
		{"127.0.0.1:5", []string{"1.1.1.1, 198.51.100.1"}, "198.51.100.1"},
		{"127.0.0.1:5", []string{"1.1.1.1", "198.51.100.1, 10.1.1.1"}, "198.51.100.1"},
		{"[::ffff:127.0.0.1]:5", []string{"::ffff:198.51.100.1"}, "198.51.100.1"},
		{"[fd00::1]:5", []string{"2001:db8::1"}, "2001:db8::1"},
		{"127.0.0.1:5", []string{"nonsense"}, "127.0.0.1"},
		{"127.0.0.1:5", []string{"1.1.1.1, nonsense, 10.1.1.1"}, "10.1.1.1"},
		{"127.0.0.1:5", []string{""}, "127.0.0.1"},
		{"nonsense", nil, "nonsense"},
	} {
		r := httptest.NewRequest(http.MethodGet, "/v2/", nil)
		r.RemoteAddr = tt.peer
		for _, f := range tt.forwarded {
			r.Header.Add("X-Forwarded-For", f)
		}
		if got := g.Address(r); got != tt.want {
			t.Errorf("%s %q: %s, want %s", tt.peer, tt.forwarded, got, tt.want)
		}
	}
	if _, err := ParseNetworks([]string{"192.0.2.1", "2001:db8::/32", "10.1.2.3/8"}); err != nil {
		t.Error(err)
	}
	if _, err := ParseNetworks([]string{"all"}); err == nil {
		t.Error("all is a network")
	}
}

// TestHintProxy: a proxy that is not believed is told of once.
func TestHintProxy(t *testing.T) {
	var log strings.Builder
	g := newGuard(t, Options{Proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, Log: slog.New(slog.NewTextHandler(&log, nil))})
	for _, tt := range []struct {
		peer, forwarded string
		lines           int
	}{{"192.0.2.1:5", "", 0}, {"127.0.0.1:5", "198.51.100.1", 0}, {"192.0.2.1:5", "198.51.100.1", 1}, {"192.0.2.2:5", "198.51.100.1", 1}} {
		r := httptest.NewRequest(http.MethodGet, "/v2/", nil)
		r.RemoteAddr = tt.peer
		if tt.forwarded != "" {
			r.Header.Set("X-Forwarded-For", tt.forwarded)
		}
		if g.HintProxy(r); strings.Count(log.String(), "--trusted-proxy") != tt.lines {
			t.Errorf("%s for %q: %s", tt.peer, tt.forwarded, &log)
		}
	}
}

// TestHtpasswd: what registry:2 has is taken, read again when it changes, and refused with its line.
func TestHtpasswd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "htpasswd")
	hash := func(password string, cost int) string {
		h, err := bcrypt.GenerateFromPassword([]byte(password), cost)
		if err != nil {
			t.Fatal(err)
		}
		return string(h)
	}
	alice := hash("alice", bcrypt.MinCost)
	for text, want := range map[string]string{
		"a b:" + alice:                        "user name invalid",
		"alice":                               "line 1",
		"# users\n\nalice:{SHA}abc\n":         "line 3: alice has no bcrypt hash",
		"alice:" + alice + "x":                "line 1",
		"alice:$2y$20$" + alice[7:]:           "cost 20",
		":" + alice:                           "line 1",
		"a:" + alice + "\nb:$apr1$x$y\nc:d\n": "line 2: b",
	} {
		if _, err := parseHtpasswd([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("alice:" + alice + "\r\n  bob:" + strings.Replace(alice, "$2a$", "$2y$", 1) + "\n")
	h, err := OpenHtpasswd(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	users := func() int {
		h.mu.Lock()
		h.checked = time.Time{} // long ago
		h.mu.Unlock()
		return len(h.Users())
	}
	if n := users(); n != 2 {
		t.Errorf("%d users", n)
	}
	for _, text := range []string{"nonsense", ""} {
		write(text)
		if n := users(); n != 2 {
			t.Errorf("%d users of the invalid file %q", n, text)
		}
	}
	if n := users(); n != 0 { // it is still empty
		t.Errorf("%d users are left of a file without any", n)
	}
	write("alice:" + alice)
	if n := users(); n != 1 {
		t.Errorf("%d users after the change", n)
	}
}

// TestFailuresTakeTheSameTime: by the time of a failed login nobody learns who is known, whatever its hash costs (T-14). What
// is asserted is the work, in rounds of bcrypt; the times are printed.
func TestFailuresTakeTheSameTime(t *testing.T) {
	w := newPasswords(time.Now)
	rounds := 0
	w.bcrypt = func(hash, password []byte) error {
		cost, err := bcrypt.Cost(hash)
		if err != nil {
			t.Error(err)
		}
		rounds += 1 << cost
		return bcrypt.CompareHashAndPassword(hash, password)
	}
	hash := func(cost int) string {
		h, err := bcrypt.GenerateFromPassword([]byte("the right one"), cost)
		if err != nil {
			t.Fatal(err)
		}
		return string(h)
	}
	const highest = 7
	kinds := map[string]string{"known": hash(highest), "known at lower cost": hash(bcrypt.MinCost), "unknown": "", "no hash": "x"}
	times := make(map[string][]time.Duration)
	for range 31 {
		for kind, h := range kinds {
			rounds = 0
			began := time.Now()
			if ok, err := w.compare(t.Context(), "a", h, "a wrong one", highest, always); ok || err != nil {
				t.Fatalf("%s: %v, %v", kind, ok, err)
			}
			times[kind] = append(times[kind], time.Since(began))
			if rounds != 1<<highest {
				t.Fatalf("%s: %d rounds, want %d", kind, rounds, 1<<highest)
			}
		}
	}
	for kind, all := range times {
		slices.Sort(all)
		t.Logf("%s: %v in the median", kind, all[len(all)/2])
	}
	if ok, err := w.compare(t.Context(), "a", hash(bcrypt.MinCost), "the right one", highest, always); !ok || err != nil {
		t.Errorf("the right one: %v, %v", ok, err)
	}
	long := strings.Repeat("x", PasswordMax)
	h, err := bcrypt.GenerateFromPassword([]byte(long), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	if ok, _ := w.compare(t.Context(), "a", string(h), long+"y", highest, always); ok {
		t.Error("what is behind 72 bytes is not compared")
	}
	for _, password := range []string{"short", long + "y"} {
		if _, err := HashPassword(password); err == nil {
			t.Errorf("a password of %d bytes is taken", len(password))
		}
	}
}

// TestManyLogins: comparisons are bounded, and who would have to wait for long is sent away.
func TestManyLogins(t *testing.T) {
	w := newPasswords(time.Now)
	w.patience = 10 * time.Millisecond
	for range comparisonsWaiting {
		w.waiting <- struct{}{}
	}
	if _, err := w.compare(t.Context(), "a", "", "x", bcrypt.MinCost, always); !errors.Is(err, ErrSlowDown) {
		t.Errorf("one more than may wait: %v", err)
	}
	for i := range 3 * passwordsMax {
		user := string(rune('a'+i%26)) + time.Duration(i).String()
		w.fail("192.0.2.1", user, "", w.keyOf(user))
		w.verified(user, "p", "h")
		w.once(user, time.Hour)
	}
	if len(w.failures) > passwordsMax || len(w.right) > passwordsMax || len(w.seen) > passwordsMax || len(w.wrong) > passwordsMax {
		t.Errorf("remembered: %d, %d, %d", len(w.failures), len(w.right), len(w.seen))
	}
}

// TestOneAddress: whoever fails as fast as it can, with a new name each time, neither locks out others nor fills the audit
// log, and what it sends is not in it.
func TestOneAddress(t *testing.T) {
	g := newGuard(t, Options{Cost: bcrypt.MinCost})
	ask := func(address, user, password string) error {
		r := httptest.NewRequest(http.MethodGet, "/v2/", nil)
		r.RemoteAddr = address + ":1"
		r.SetBasicAuth(user, password)
		_, err := g.Identify(r)
		return err
	}
	hash, err := bcrypt.GenerateFromPassword([]byte("the right one"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := g.store.AddUser(t.Context(), "alice", string(hash), nil, store.Actor{}); err != nil {
		t.Fatal(err)
	}
	g.passwords.patience = 50 * time.Millisecond
	// Nobody's turn comes while the test holds all of them.
	for range cap(g.passwords.comparing) {
		g.passwords.comparing <- struct{}{}
	}
	results := make(chan error, 100)
	for i := range cap(results) {
		go func() { results <- ask("203.0.113.9", "stranger"+strconv.Itoa(i), "x") }()
	}
	for range cap(results) - comparisonsOfOne {
		if err := <-results; !errors.Is(err, ErrSlowDown) {
			t.Fatalf("more than %d wait: %v", comparisonsOfOne, err)
		}
	}
	alice := make(chan error, 1)
	go func() { alice <- ask("192.0.2.77", "alice", "the right one") }()
	for range cap(g.passwords.comparing) {
		<-g.passwords.comparing
	}
	if err := <-alice; err != nil {
		t.Errorf("alice from another address: %v", err)
	}
	for range comparisonsOfOne {
		if err := <-results; !errors.Is(err, ErrCredentials) {
			t.Error(err)
		}
	}
	_, token, _ := NewToken()
	for i := range 3 * notedMax {
		for _, try := range [][2]string{{token, "cubby_" + strconv.Itoa(i)}, {"stranger" + strconv.Itoa(i), "cubby_"}} {
			if err := ask("203.0.113.9", try[0], try[1]); !errors.Is(err, ErrCredentials) {
				t.Fatal(err)
			}
		}
	}
	entries, err := g.store.AuditEntries(t.Context(), store.AuditFilter{}, store.AuditEntry{}, 1000)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		if e.Address == "203.0.113.9" {
			n++
		}
		if strings.Contains(e.Who+e.Detail, token[:30]) {
			t.Errorf("a token is in the audit log: %+v", e)
		}
	}
	if n > notedMax || n < 2 {
		t.Errorf("%d entries of one address in a minute", n)
	}
}

// TestLoginsAtOnce: a client that asks for many things at once with the right password is served, by one comparison.
func TestLoginsAtOnce(t *testing.T) {
	g := newGuard(t, Options{Cost: bcrypt.MinCost})
	hash, err := bcrypt.GenerateFromPassword([]byte("the right one"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := g.store.AddUser(t.Context(), "alice", string(hash), nil, store.Actor{}); err != nil {
		t.Fatal(err)
	}
	for range cap(g.passwords.comparing) {
		g.passwords.comparing <- struct{}{}
	}
	results := make(chan error, 20)
	for range cap(results) {
		go func() {
			r := httptest.NewRequest(http.MethodGet, "/v2/", nil)
			r.SetBasicAuth("alice", "the right one")
			p, err := g.Identify(r)
			if err == nil && !p.Known() {
				err = errors.New("not known")
			}
			results <- err
		}()
	}
	for range cap(g.passwords.comparing) {
		<-g.passwords.comparing
	}
	for range cap(results) {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	entries, err := g.store.AuditEntries(t.Context(), store.AuditFilter{Who: "alice"}, store.AuditEntry{}, 100)
	if err != nil || len(entries) != 1 {
		t.Errorf("%d logins are noted, %v", len(entries), err)
	}
}

// TestUnknownAccess: while nobody knows who may do what, nobody gets in, also not who is in a file or on this machine.
func TestUnknownAccess(t *testing.T) {
	hash, err := bcrypt.GenerateFromPassword([]byte("the right one"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	for _, users := range []func() map[string]string{nil, func() map[string]string { return map[string]string{"alice": string(hash)} }} {
		g := newGuard(t, Options{Htpasswd: users, Cost: bcrypt.MinCost})
		g.access = func() *store.Access { return &store.Access{Unknown: true} }
		for _, login := range []bool{false, true} {
			r := httptest.NewRequest(http.MethodGet, "/v2/", nil)
			r.RemoteAddr, r.Host = "127.0.0.1:1", "localhost:5000"
			if login {
				r.SetBasicAuth("alice", "the right one")
			}
			if p, err := g.Identify(r); err == nil || p.Local || p.Known() {
				t.Errorf("htpasswd %v, login %v: %+v, %v", users != nil, login, p, err)
			}
		}
	}
}

// TestHtpasswdIsNeverOpen: with a file of users everyone logs in, whatever is in it.
func TestHtpasswdIsNeverOpen(t *testing.T) {
	for _, users := range []func() map[string]string{nil, func() map[string]string { return nil }} {
		g := newGuard(t, Options{Htpasswd: users})
		r := httptest.NewRequest(http.MethodGet, "/v2/", nil)
		r.RemoteAddr, r.Host = "127.0.0.1:1", "localhost:5000"
		p, err := g.Identify(r)
		if err != nil || p.Local != (users == nil) {
			t.Errorf("htpasswd %v: local %v, %v", users != nil, p.Local, err)
		}
	}
}

// BenchmarkIdentify is what a request costs whose credentials were right a moment ago.
func BenchmarkIdentify(b *testing.B) {
	st, err := store.Open(b.Context(), store.Options{Dir: b.TempDir(), Role: store.RoleServe, Create: true})
	if err != nil {
		b.Fatal(err)
	}
	defer st.Close()
	g := New(Options{Store: st})
	hash, err := bcrypt.GenerateFromPassword([]byte("password"), bcrypt.MinCost)
	if err != nil {
		b.Fatal(err)
	}
	if _, _, err := st.AddUser(b.Context(), "alice", string(hash), nil, store.Actor{}); err != nil {
		b.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodGet, "/v2/", nil)
	r.SetBasicAuth("alice", "password")
	who, err := g.Identify(r)
	if err != nil {
		b.Fatal(err)
	}
	bearer, _, err := g.Issue(who, []string{"repository:team/api:pull,push"})
	if err != nil {
		b.Fatal(err)
	}
	id, token, secret := NewToken()
	if err := st.AddToken(b.Context(), "alice", store.Token{ID: id, Secret: secret, Grant: htpasswdGrants[0]}, store.Actor{}); err != nil {
		b.Fatal(err)
	}
	cookie, err := g.Login(b.Context(), r, "alice", "password")
	if err != nil {
		b.Fatal(err)
	}
	b.Run("session", func(b *testing.B) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.AddCookie(cookie)
		for b.Loop() {
			if p, err := g.IdentifyPage(r); err != nil || !p.Known() {
				b.Fatal(err)
			}
		}
	})
	for kind, header := range map[string]string{
		"basic": r.Header.Get("Authorization"), "bearer": "Bearer " + bearer, "token": "Bearer " + token,
	} {
		b.Run(kind, func(b *testing.B) {
			r.Header.Set("Authorization", header)
			for b.Loop() {
				if _, err := g.Identify(r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// FuzzIdentify: whatever the headers say, nobody is taken for somebody, and nothing panics.
func FuzzIdentify(f *testing.F) {
	st, err := store.Open(f.Context(), store.Options{Dir: f.TempDir(), Role: store.RoleServe, Create: true})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { st.Close() })
	hash, err := bcrypt.GenerateFromPassword([]byte("secret password"), bcrypt.MinCost)
	if err != nil {
		f.Fatal(err)
	}
	if _, _, err := st.AddUser(f.Context(), "alice", string(hash), nil, store.Actor{}); err != nil {
		f.Fatal(err)
	}
	g := New(Options{Store: st, Cost: bcrypt.MinCost, Proxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})
	f.Add("Basic YWxpY2U6eA==", "1.2.3.4", "repository:a/b:pull,push")
	f.Add("Bearer cubby-bearer.e30.AAAA", "::1, x", "registry:catalog:*")
	f.Add("Bearer cubby_aaaaaaaaaa_", ",,", "repository(plugin):a:*")
	f.Add("cubby_session=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA; cubby_session=x", "https", "")
	f.Fuzz(func(t *testing.T, authorization, forwarded, scopes string) {
		r := httptest.NewRequest(http.MethodGet, "/v2/", io.LimitReader(strings.NewReader(""), 0))
		r.RemoteAddr = "192.0.2.1:1"
		r.Header.Set("Authorization", authorization)
		r.Header.Set("X-Forwarded-For", forwarded)
		p, err := g.Identify(r)
		if err == nil && p.Known() || p.Local {
			t.Errorf("%q is %s", authorization, p.Name)
		}
		r.Header.Set("Cookie", authorization)
		r.Header.Set("X-Forwarded-Proto", forwarded)
		if p, err := g.IdentifyPage(r); err != nil || p.Known() || p.Local || p.MayChange() {
			t.Errorf("the cookie %q is of %s, %v", authorization, p.Name, err)
		}
		if len(parseScopes([]string{scopes})) > scopesMax {
			t.Error("too many scopes")
		}
	})
}
