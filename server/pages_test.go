package server

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"cubby/server/auth"
	"cubby/store"
	"cubby/store/oci"

	"golang.org/x/crypto/bcrypt"
)

// fakePages tell for whom they are asked.
type fakePages struct{ guard *auth.Guard }

func (p *fakePages) ServePage(w http.ResponseWriter, r *http.Request, who *auth.Principal, err error) {
	w.Header().Set(headerContentType, "text/html; charset=utf-8")
	switch {
	case errors.Is(err, auth.ErrCrossOrigin):
		w.WriteHeader(http.StatusForbidden)
	case errors.Is(err, auth.ErrBusy):
		w.WriteHeader(http.StatusServiceUnavailable)
	case err != nil && r.URL.Path == "/-/panic-twice":
		panic("in the page of a panic")
	case err != nil:
		w.WriteHeader(http.StatusInternalServerError)
	}
	if err != nil {
		fmt.Fprintf(w, "error page for %s: %v", who.Name, err)
		return
	}
	switch r.URL.Path {
	case "/-/login":
		c, err := p.guard.Login(r.Context(), r, r.PostFormValue("user"), r.PostFormValue("password"))
		if err != nil {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		http.SetCookie(w, c)
	case "/-/logout":
		http.SetCookie(w, p.guard.Logout(r))
	case "/-/denied":
		if name, err := oci.ParseName("a"); err == nil {
			p.guard.Denied(who, r, name)
		}
	case "/-/panic", "/-/panic-twice":
		w.Header().Set("Set-Cookie", "half=done")
		w.Header().Set(headerContentLength, "5000")
		panic("the secret cause")
	case "/-/panic-late":
		fmt.Fprint(w, strings.Repeat("begun ", 10_000))
		panic("the secret cause")
	}
	fmt.Fprintf(w, "page %s for %s, local %v, may change %v, admin %v, stale %v", r.URL.Path, who.Name, who.Local, who.MayChange(), who.IsAdmin(), who.StaleSession)
}

func withPages(c *Config) { c.Pages = &fakePages{c.Guard} }

// cheap makes logins cost little, and lets clients say from where they come.
func cheap(c *Config) {
	c.Guard = auth.New(auth.Options{Store: c.Store, Cost: bcrypt.MinCost, Proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}})
}

// session logs a user in as a browser does, and returns the cookie as headers.
func (r *registry) session(user string) []string {
	r.t.Helper()
	c, err := r.guard.Login(r.t.Context(), httptest.NewRequest(http.MethodPost, "/-/login", nil), user, user+"-password")
	if err != nil {
		r.t.Fatal(err)
	}
	return []string{"Cookie", c.Name + "=" + c.Value}
}

// page asks for a page and fails unless it has the status and the text.
func (r *registry) page(status int, text, method, path string, headers ...string) answer {
	r.t.Helper()
	a := r.want(status, "", method, path, nil, headers...)
	if a.Header.Get(headerContentType) != "text/html; charset=utf-8" || method != "HEAD" && !strings.Contains(string(a.body), text) {
		r.t.Errorf("%s %s: %q, want %q", method, path, a.body, text)
	}
	return a
}

// TestPages: they answer what is not the API's, and without them everything is as it was.
func TestPages(t *testing.T) {
	r, bare := newRegistry(t, withPages), newRegistry(t)
	for _, path := range []string{"/", "/robots.txt", "/favicon.ico", "/team/api:1.9", "/a/b@sha256:0/c", "/-/", "/-/settings", "/-/token/", "/-/healthz/", "/v1/", "/v22", "/V2/", "//v2/", "/v2:1"} {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"} {
			r.page(200, "page "+path+" for anonymous", method, path)
		}
	}
	for _, tt := range []struct {
		method, path string
		status       int
		text         string
	}{
		{"GET", "/v2", 200, "{}"},
		{"GET", "/v2/", 200, "{}"},
		{"GET", "/v2/none/tags/list", 404, "NAME_UNKNOWN"},
		{"GET", "/v2/../a", 404, "UNSUPPORTED"},
		{"PROPFIND", "/v2/", 404, "UNSUPPORTED"},
		{"GET", "/-/token", 200, "access_token"},
		{"GET", "/-/healthz", 200, ""},
		{"GET", "/-/readyz", 200, ""},
		{"POST", "/-/healthz", 404, "UNSUPPORTED"},
		{"GET", "/-/ca.crt", 404, "UNSUPPORTED"},
	} {
		for _, r := range []*registry{r, bare} {
			a := r.want(tt.status, "", tt.method, tt.path, nil)
			if strings.Contains(string(a.body), "page ") || !strings.Contains(string(a.body), tt.text) {
				t.Errorf("%s %s: %s", tt.method, tt.path, a.body)
			}
		}
	}
	if a := bare.want(200, "", "GET", "/", nil); !strings.HasPrefix(string(a.body), "This is Cubby") {
		t.Errorf("without pages: %s", a.body)
	}
	bare.want(404, codeUnsupported, "GET", "/team/api:1.9", nil)
	bare.want(404, codeUnsupported, "GET", "/-/login", nil)
	bare.want(403, codeDenied, "POST", "/-/login", nil, "Sec-Fetch-Site", "cross-site")
}

// TestPagesOrigin: no other site may change anything (T-20), and what has neither header is no browser, or one whose
// cookie stays away from other sites.
func TestPagesOrigin(t *testing.T) {
	r := newRegistry(t, withPages)
	host := strings.TrimPrefix(r.url, "http://")
	for _, tt := range []struct {
		what    string
		headers []string
		status  int
	}{
		{"no header", nil, 200},
		{"same origin", []string{"Sec-Fetch-Site", "same-origin"}, 200},
		{"same origin, both", []string{"Sec-Fetch-Site", "same-origin", "Origin", r.url}, 200},
		{"typed by the user", []string{"Sec-Fetch-Site", "none"}, 200},
		{"Origin alone, as on plain HTTP", []string{"Origin", r.url}, 200},
		{"same site", []string{"Sec-Fetch-Site", "same-site"}, 403},
		{"cross-site", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"cross-site, with our Origin", []string{"Sec-Fetch-Site", "cross-site", "Origin", r.url}, 403},
		{"nonsense", []string{"Sec-Fetch-Site", "x"}, 403},
		{"Origin null", []string{"Origin", "null"}, 403},
		{"Origin empty host", []string{"Origin", "http://"}, 403},
		{"another port", []string{"Origin", "http://127.0.0.1:1"}, 403},
		{"another site", []string{"Origin", "https://evil.example"}, 403},
		{"our host in its path", []string{"Origin", "https://evil.example/" + host}, 403},
		{"our host as user", []string{"Origin", "http://" + host + "@evil.example"}, 403},
		{"a proxy's word for the host", []string{"Origin", "https://evil.example", "X-Forwarded-Host", "evil.example"}, 403},
	} {
		for _, method := range []string{"POST", "PUT", "DELETE", "PROPFIND"} {
			text := "page /-/x for anonymous"
			if tt.status == 403 {
				text = "error page for anonymous: " + auth.ErrCrossOrigin.Error()
			}
			r.page(tt.status, text, method, "/-/x", tt.headers...)
		}
		r.page(200, "page /-/x", "GET", "/-/x", tt.headers...)
		r.page(200, "", "HEAD", "/-/x", tt.headers...)
	}
	// A page of another site whose name was bound to this machine is of the same origin, but this machine's own it is not.
	rebound := []string{"Host", "evil.example", "Origin", "http://evil.example", "Sec-Fetch-Site", "same-origin"}
	r.page(200, "local false, may change false, admin false", "POST", "/-/x", rebound...)
	r.page(200, "local true, may change true, admin true", "POST", "/-/x", "Origin", r.url)
	r.anonymous("push", "**")
	r.page(200, "local false, may change false, admin false", "POST", "/-/x", rebound...)
}

// TestPageSession: a login by form, whom its cookie makes, and what `cubby user passwd` and `user rm` do to it.
func TestPageSession(t *testing.T) {
	log := make(lines, 100)
	r := newRegistry(t, cheap, withPages, func(c *Config) { c.Log = slog.New(slog.NewTextHandler(log, nil)) })
	r.addUser("admin", "** admin")
	r.addUser("alice", "team/** pull")
	login := func(user string, headers ...string) *http.Cookie {
		t.Helper()
		form := url.Values{"user": {user}, "password": {user + "-password"}}.Encode()
		a := r.want(200, "", "POST", "/-/login", []byte(form), append(headers, headerContentType, "application/x-www-form-urlencoded")...)
		if len(a.Cookies()) != 1 {
			t.Fatalf("%d cookies", len(a.Cookies()))
		}
		return a.Cookies()[0]
	}
	send := func(c *http.Cookie) []string { return []string{"Cookie", c.Name + "=" + c.Value} }
	const nobody = "for anonymous, local false, may change false, admin false, stale "
	r.page(200, nobody+"false", "GET", "/")
	r.page(200, nobody+"false", "GET", "/", as("admin")...) // as browsers send it by themselves
	one, admin := login("alice"), login("admin")
	r.page(200, "for alice, local false, may change true, admin false, stale false", "GET", "/", send(one)...)
	r.page(200, "for admin, local false, may change true, admin true, stale false", "GET", "/", send(admin)...)
	named := false
	for len(log) > 0 {
		line := <-log
		named = named || strings.Contains(line, `level=INFO msg=request method=GET path=/ status=200`) && strings.Contains(line, "user=alice")
		if strings.Contains(line, one.Value) || strings.Contains(line, "alice-password") {
			t.Errorf("a secret is logged: %s", line)
		}
	}
	if !named {
		t.Error("alice is not named in the log")
	}

	secure := login("alice", "X-Forwarded-Proto", "https")
	if secure.Name != "__Host-cubby" || !secure.Secure || !secure.HttpOnly || secure.Path != "/" || secure.SameSite != http.SameSiteLaxMode {
		t.Errorf("cookie %v", secure)
	}
	r.page(200, "for alice", "GET", "/", append(send(secure), "X-Forwarded-Proto", "https")...)
	r.page(200, nobody+"false", "GET", "/", append(send(one), "X-Forwarded-Proto", "https")...)

	r.page(200, "", "POST", "/-/denied", send(one)...)
	entries, err := r.store.AuditEntries(t.Context(), store.AuditFilter{Who: "alice", Repository: "a"}, store.AuditEntry{}, 10)
	if err != nil || len(entries) != 1 || entries[0].Action != store.AuditDenied {
		t.Errorf("denials %+v, %v", entries, err)
	}

	// Over the same store another server, as after a restart.
	again := New(Config{Store: r.store, Guard: auth.New(auth.Options{Store: r.store}), Pages: &fakePages{}})
	w, req := httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)
	req.AddCookie(one)
	if again.ServeHTTP(w, req); !strings.Contains(w.Body.String(), "for alice") {
		t.Errorf("after a restart: %s", w.Body)
	}

	if a := r.page(200, "", "POST", "/-/logout", send(secure)...); len(a.Cookies()) != 1 || a.Cookies()[0].MaxAge >= 0 {
		t.Errorf("cookies of the logout %v", a.Cookies())
	}
	r.page(200, "for alice", "GET", "/", append(send(secure), "X-Forwarded-Proto", "https")...) // another scheme, another session
	hash, err := bcrypt.GenerateFromPassword([]byte("alice-password"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.admin("POST", "/user/passwd", "name", "alice", "password", string(hash)); err != nil {
		t.Fatal(err)
	}
	r.page(200, nobody+"true", "GET", "/", send(one)...)
	one = login("alice", send(one)...)
	r.page(200, "for alice", "GET", "/", send(one)...)
	if _, err := r.admin("POST", "/user/rm", "name", "alice"); err != nil {
		t.Fatal(err)
	}
	r.page(200, nobody+"true", "GET", "/", send(one)...)
	r.page(200, "for admin", "GET", "/", send(admin)...)
}

// TestSessionIsNotForTheAPI: it gets what anonymous gets, from the token service too.
func TestSessionIsNotForTheAPI(t *testing.T) {
	r := newRegistry(t, cheap, withPages)
	r.addUser("admin", "** admin")
	r.want(201, "", "PUT", "/v2/a/manifests/1", []byte(`{"schemaVersion":2,"manifests":[]}`), append(as("admin"), headerContentType, indexType)...)
	plain := r.session("admin")
	secure := []string{"Cookie", strings.Replace(plain[1], "cubby_session", "__Host-cubby", 1), "X-Forwarded-Proto", "https"}
	for _, anonymous := range []string{"none", "pull"} {
		r.anonymous(anonymous, "**")
		for _, route := range []string{"GET /v2/", "GET /v2", "GET /v2/_catalog", "GET /v2/a/manifests/1", "GET /v2/a/tags/list", "POST /v2/a/blobs/uploads/",
			"DELETE /v2/a/manifests/1", "GET /-/token?scope=repository:a:pull,push", "POST /-/token"} {
			method, path, _ := strings.Cut(route, " ")
			want := r.do(method, path, nil)
			for _, cookie := range [][]string{plain, secure} {
				got := r.do(method, path, nil, cookie...)
				same := got.StatusCode == want.StatusCode && (got.StatusCode == 200 && path[1] == '-' || string(got.body) == string(want.body))
				if !same {
					t.Errorf("%s with a session: %d %s, without %d %s", route, got.StatusCode, got.body, want.StatusCode, want.body)
				}
			}
		}
	}
	token := r.bearer(plain, "repository:a:pull,push,delete")
	r.want(401, codeUnauthorized, "DELETE", "/v2/a/manifests/1", nil, token...)
	r.page(200, "for admin", "GET", "/", plain...)
}

// TestPagesFail: while nobody knows who may do what, and when a page panics.
func TestPagesFail(t *testing.T) {
	log := make(lines, 100)
	r := newRegistry(t, cheap, withPages, func(c *Config) { c.Log = slog.New(slog.NewTextHandler(log, nil)) })
	r.addUser("admin", "** admin")
	cookie := r.session("admin")
	a := r.page(500, "error page for admin: internal error", "GET", "/-/panic", cookie...)
	if a.Header.Get("Set-Cookie") != "" || strings.Contains(string(a.body), "secret") {
		t.Errorf("%v %s", a.Header, a.body)
	}
	a = r.want(500, codeUnknown, "GET", "/-/panic-twice", nil, cookie...)
	if a.Header.Get("Set-Cookie") != "" || strings.Contains(string(a.body), "secret") {
		t.Errorf("%v %s", a.Header, a.body)
	}
	req, err := http.NewRequestWithContext(t.Context(), "GET", r.url+"/-/panic-late", nil)
	if err != nil {
		t.Fatal(err)
	}
	if res, err := http.DefaultTransport.RoundTrip(req); err == nil {
		b, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err == nil || strings.Contains(string(b), "secret") {
			t.Errorf("a page that began ends as if it were whole: %v, %s", err, b)
		}
	}
	var logged []string
	for len(logged) < 7 {
		select {
		case line := <-log:
			logged = append(logged, line)
		case <-time.After(10 * time.Second):
			t.Fatalf("logged %q", logged)
		}
	}
	if n := len(slices.DeleteFunc(logged, func(s string) bool { return !strings.Contains(s, "the secret cause") })); n != 3 {
		t.Errorf("%d panics are logged", n)
	}

	// A token that cannot be read back.
	unreadable := store.Token{ID: "x", Secret: []byte("x"), Grant: r.grant("** pull"), Networks: make([]netip.Prefix, 1)}
	if err := r.store.AddToken(t.Context(), "admin", unreadable, store.Actor{}); err == nil || !r.store.Access().Unknown {
		t.Fatalf("%v; the access is known", err)
	}
	r.page(503, "error page for anonymous", "GET", "/", cookie...)
	r.page(503, "error page for anonymous", "POST", "/-/login")
	r.page(403, "error page for anonymous", "POST", "/-/login", "Sec-Fetch-Site", "cross-site")
}
