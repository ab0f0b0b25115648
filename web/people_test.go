package web

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"cubby/server/auth"
	"cubby/store"

	"golang.org/x/net/html"
)

// userID returns what a form about a user says.
func (s *site) userID(user string) string {
	s.t.Helper()
	u := s.store.Access().Users[user]
	if u == nil {
		s.t.Fatalf("there is no user %s", user)
	}
	return markOf(u)
}

// mayDo returns what a user may do, by pattern.
func (s *site) mayDo(user string) string {
	s.t.Helper()
	u := s.store.Access().Users[user]
	if u == nil {
		return "gone"
	}
	var all []string
	for _, g := range u.Grants {
		all = append(all, g.Repositories.String()+" "+g.Actions.String())
	}
	return strings.Join(all, "; ")
}

// audited returns the newest lines of the audit log, as "who action repository detail from".
func (s *site) audited(n int) (lines []string) {
	s.t.Helper()
	for _, e := range must(s.store.AuditEntries(s.t.Context(), store.AuditFilter{}, store.AuditEntry{}, 1000))(s.t) {
		if strings.HasPrefix(string(e.Action), "login") || len(lines) == n {
			continue
		}
		lines = append(lines, fmt.Sprintf("%s %s %s %s from %s", e.Who, e.Action, e.Repository, e.Detail, e.Address))
	}
	return lines
}

// attempt is how the API answers a user name and a password.
func (s *site) attempt(user, password string) error {
	s.t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/v2/", nil)
	r.SetBasicAuth(user, password)
	r.RemoteAddr = "192.0.2.9:1234"
	_, err := s.guard.Identify(r)
	return err
}

// checkRefused fails the test unless a form was refused with a text, kept what was typed, and not the password.
func checkRefused(t *testing.T, what string, a answer, field, text string, kept ...string) {
	t.Helper()
	wants(t, what, a, http.StatusUnprocessableEntity, "Nothing was changed.", text)
	if strings.Contains(a.body, "pass-word-that") {
		t.Errorf("%s: the password is in the form", what)
	}
	for _, want := range kept {
		if !strings.Contains(a.body, want) {
			t.Errorf("%s: %s is not in the form", what, want)
		}
	}
	marked := field == ""
	parsePage(t, a.body).elements(func(n *html.Node, attrs map[string]string) {
		if attrs["id"] == field && strings.Contains(attrs["aria-describedby"], field+"-wrong") {
			marked = true
		}
	})
	if !marked || field != "" && !strings.Contains(a.body, `href="#`+field+`"`) {
		t.Errorf("%s: the field %s is not marked, or the summary does not lead there", what, field)
	}
}

const goodPassword = "pass-word-that-is-long"

// TestAddUser adds users by the form, and refuses what commands refuse.
func TestAddUser(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	const path = "/-/admin/users"
	leads(t, "a user", s.post(admin, path, "name", " alice ", "password", goodPassword, "role", "some", "pattern", "team/**", "actions", "pull", "actions", "push"), "/-/admin/users/alice")
	if got := s.mayDo("alice"); got != "team/** pull,push" {
		t.Errorf("alice may do %q", got)
	}
	if got, want := s.audited(1)[0], "admin user add  alice: team/** pull,push from 127.0.0.1"; got != want {
		t.Errorf("audit %q, want %q", got, want)
	}
	if err := s.attempt("alice", goodPassword); err != nil {
		t.Errorf("alice logs in: %v", err)
	}
	leads(t, "an administrator", s.post(admin, path, "name", "boss", "password", goodPassword, "role", "admin"), "/-/admin/users/boss")
	a := s.post(admin, path, "name", "idle", "password", goodPassword, "role", "some")
	if f := flashed(t, a); s.mayDo("boss") != "** admin" || s.mayDo("idle") != "" || !strings.Contains(f.Text, "may do nothing yet") {
		t.Errorf("boss may do %q, idle %q, %q", s.mayDo("boss"), s.mayDo("idle"), f.Text)
	}
	for _, tt := range []struct {
		what, field, text string
		fields            []string
	}{
		{"a name that is taken", "name", "There is such a user already: alice.", []string{"name", "alice", "password", goodPassword, "role", "some"}},
		{"no name", "name", "User name invalid", []string{"password", goodPassword, "role", "some"}},
		{"a bad name", "name", "User name invalid", []string{"name", "a:b", "password", goodPassword, "role", "admin"}},
		{"anonymous", "name", "anonymous is whoever does not log in", []string{"name", "anonymous", "password", goodPassword, "role", "some"}},
		{"a short password", "password", "A password has 8 to 72 bytes", []string{"name", "new", "password", "short", "role", "admin"}},
		{"a long password", "password", "A password has 8 to 72 bytes", []string{"name", "new", "password", strings.Repeat("x", 73), "role", "some", "pattern", "**", "actions", "pull"}},
		{"a bad pattern", "pattern", "can match nothing", []string{"name", "new", "password", goodPassword, "role", "some", "pattern", "/team", "actions", "pull"}},
		{"no pattern", "pattern", "it is empty", []string{"name", "new", "password", goodPassword, "role", "some", "actions", "pull"}},
		{"no action", "actions", "Choose what is allowed.", []string{"name", "new", "password", goodPassword, "role", "some", "pattern", "team/**"}},
		{"another action", "actions", "Choose what is allowed.", []string{"name", "new", "password", goodPassword, "role", "some", "pattern", "team/**", "actions", "root"}},
	} {
		var kept []string
		for i := 0; i < len(tt.fields); i += 2 {
			if f := tt.fields[i]; f == "name" || f == "pattern" {
				kept = append(kept, `value="`+tt.fields[i+1]+`"`)
			}
		}
		checkRefused(t, tt.what, s.post(admin, path, tt.fields...), tt.field, tt.text, kept...)
	}
	if len(s.store.Access().Users) != 6 {
		t.Errorf("%d users", len(s.store.Access().Users))
	}
}

// TestFirstUser: on an open registry the first user becomes administrator whatever the form says, and everyone must log in then.
func TestFirstUser(t *testing.T) {
	t.Parallel()
	s := newSite(t, withoutUsers)
	wants(t, "before", s.get(viewerLocal, "/-/admin/users"), 200, "This registry has no users", "Add the first user", "It becomes administrator.", "-as an administrator")
	wants(t, "tokens before", s.get(viewerLocal, "/-/tokens"), 200, "no users, so nobody needs one", "-Make the token")
	wants(t, "a token before", s.post(viewerLocal, "/-/tokens", "pattern", "**", "actions", "pull"), 409, "no users")
	// Only for who may: this machine, by a name of its own.
	for _, path := range []string{"/-/admin/users", "/-/admin/anonymous"} {
		wants(t, "another name", s.do(anonymous, "POST", path, "name=evil&password="+goodPassword, "Content-Type", "application/x-www-form-urlencoded", "Host", "evil.example"), 401)
		wants(t, "a proxy", s.do(anonymous, "POST", path, "name=evil&password="+goodPassword, "Content-Type", "application/x-www-form-urlencoded", "X-Forwarded-For", "192.0.2.1"), 401)
	}
	a := s.post(viewerLocal, "/-/admin/users", "name", "alice", "password", goodPassword, "role", "some", "pattern", "team/**", "actions", "pull")
	leads(t, "the first user", a, "/-/login?next=%2F-%2Fadmin%2Fusers")
	if got := s.mayDo("alice"); got != "** admin" {
		t.Fatalf("the first user may do %q", got)
	}
	if f := flashed(t, a); !strings.Contains(f.Text, "everyone must log in") {
		t.Errorf("it says %q", f.Text)
	}
	wants(t, "a second one", s.post(viewerLocal, "/-/admin/users", "name", "bob", "password", goodPassword, "role", "admin"), 401)
	leads(t, "the page", s.get(viewerLocal, "/-/admin/users"), "/-/login?next=%2F-%2Fadmin%2Fusers")
}

// TestFirstUserRace: of several who add the first user at once one does, and nobody else gets anything.
func TestFirstUserRace(t *testing.T) {
	t.Parallel()
	s := newSite(t, withoutUsers)
	codes := make(chan int)
	const n = 6
	for i := range n {
		go func() {
			codes <- s.record(viewerLocal, "POST", "/-/admin/users", fmt.Sprintf("name=user%d&password=%s", i, goodPassword)).Code
		}()
	}
	made := 0
	for range n {
		switch code := <-codes; code {
		case http.StatusSeeOther:
			made++
		case http.StatusUnauthorized:
		default:
			t.Errorf("status %d", code)
		}
	}
	if a := s.store.Access(); made != 1 || len(a.Users) != 1 || auth.Admins(a) != 1 {
		t.Errorf("%d forms were taken, %d users, %d administrators", made, len(a.Users), auth.Admins(a))
	}
}

// TestUserGrants allows more, takes away what was shown, and nothing of a namesake.
func TestUserGrants(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	path := userPath(reader)
	id := s.userID(reader)
	leads(t, "more", s.post(admin, path+"/grant", "user", id, "pattern", "team/**", "actions", "push"), path)
	leads(t, "another", s.post(admin, path+"/grant", "user", id, "pattern", "other/*", "actions", "push"), path)
	if got := s.mayDo(reader); got != "other/* push; team/** pull,push" {
		t.Errorf("may do %q", got)
	}
	if got, want := s.audited(1)[0], "admin grant other/* reader push from 127.0.0.1"; got != want {
		t.Errorf("audit %q, want %q", got, want)
	}
	wants(t, "the page", s.get(admin, path), 200, "team/**pull,pushTake away", "other/*pushTake away")
	checkRefused(t, "a bad pattern", s.post(admin, path+"/grant", "user", id, "pattern", "UPPER", "actions", "push"), "pattern", "can match nothing", `value="UPPER"`)
	checkRefused(t, "nothing", s.post(admin, path+"/grant", "user", id, "pattern", "team/**"), "actions", "Choose what is allowed.", `value="team/**"`)
	// What came meanwhile stays: the form takes away what it showed.
	leads(t, "taken", s.post(admin, path+"/revoke", "user", id, "pattern", "team/**", "actions", "pull"), path)
	if got := s.mayDo(reader); got != "other/* push; team/** push" {
		t.Errorf("may do %q", got)
	}
	if f := flashed(t, s.post(admin, path+"/revoke", "user", id, "pattern", "team/**", "actions", "pull")); !strings.Contains(f.Text, "no such grant any more") {
		t.Errorf("taken twice: %q", f.Text)
	}
	// Another administrator removes the user, and makes a namesake, while the page is open.
	if err := s.store.RemoveUser(t.Context(), reader, store.Actor{}); err != nil {
		t.Fatal(err)
	}
	for _, below := range []string{"/grant", "/revoke", "/password", "/token", "/remove"} {
		wants(t, "gone: "+below, s.post(admin, path+below, "user", id, "pattern", "**", "actions", "admin", "password", goodPassword, "id", "x"), 404, "No such user: reader")
	}
	wants(t, "gone", s.get(admin, path), 404, "No such user: reader")
	s.addUser("gone-for-the-id", "team/** pull") // SQLite may use the number of the last row again
	s.addUser(reader, "team/** pull")
	for _, below := range []string{"/grant", "/password", "/revoke", "/token", "/remove"} {
		wants(t, "a namesake: "+below, s.post(admin, path+below, "user", id, "pattern", "**", "actions", "admin", "password", goodPassword, "id", "x"), 409, "not what was shown")
		wants(t, "nobody: "+below, s.post(admin, path+below, "pattern", "**", "actions", "admin", "password", goodPassword, "id", "x"), 400, "which user was shown")
	}
	if got := s.mayDo(reader); got != "team/** pull" {
		t.Errorf("the namesake may do %q", got)
	}
}

// TestLastAdmin: pages leave somebody who can administer.
func TestLastAdmin(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	path := userPath(admin)
	id := s.userID(admin)
	wants(t, "the page", s.get(admin, path), 200, "It is the only administrator", "-Take away", "-Remove yourself")
	wants(t, "the page before", s.get(admin, path+"/remove"), 200, "the only administrator", "-This is you")
	wants(t, "removed", s.post(admin, path+"/remove", "user", id), 409, "make another user an administrator first")
	for _, actions := range []string{"admin", "pull,admin", "pull,push,overwrite,delete,admin"} {
		wants(t, "taken "+actions, s.post(admin, path+"/revoke", "user", id, "pattern", "**", "actions", actions), 409, "make another user an administrator first")
	}
	if s.mayDo(admin) != "** admin" {
		t.Fatalf("may do %q", s.mayDo(admin))
	}
	// With another one it is possible, also of oneself.
	leads(t, "another", s.post(admin, userPath(writer)+"/grant", "user", s.userID(writer), "pattern", "**", "actions", "admin"), userPath(writer))
	wants(t, "the page", s.get(admin, path), 200, "-It is the only administrator", "Take away", "Remove yourself")
	wants(t, "the page before", s.get(admin, path+"/remove"), 200, "This is you", "You are logged out at once")
	leads(t, "demoted", s.post(admin, path+"/revoke", "user", id, "pattern", "**", "actions", "admin"), "/")
	wants(t, "who is none any more", s.get(admin, "/-/admin/users"), 403)
	wants(t, "the other", s.post(writer, userPath(writer)+"/remove", "user", s.userID(writer)), 409)
}

// TestAdminsRemoveEachOther: one of them stays.
func TestAdminsRemoveEachOther(t *testing.T) {
	t.Parallel()
	for range 5 {
		s := newSite(t, func(c *siteConfig) { c.users = map[string]string{admin: "** admin", writer: "** admin"} })
		s.session(admin)
		s.session(writer)
		codes := make(chan int)
		for _, pair := range [][2]string{{admin, writer}, {writer, admin}} {
			form := "user=" + s.userID(pair[1])
			go func() { codes <- s.record(pair[0], "POST", userPath(pair[1])+"/remove", form).Code }()
		}
		a, b := <-codes, <-codes
		if n := auth.Admins(s.store.Access()); n != 1 || min(a, b) != http.StatusSeeOther || max(a, b) == http.StatusSeeOther {
			t.Errorf("%d administrators are left, status %d and %d", n, a, b)
		}
	}
}

// TestSetPassword ends sessions and what was logged in with the old password.
func TestSetPassword(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.session(reader)
	path := userPath(reader)
	checkRefused(t, "short", s.post(admin, path+"/password", "user", s.userID(reader), "password", "short"), "password", "A password has 8 to 72 bytes")
	wants(t, "before", s.get(reader, "/-/tokens"), 200)
	leads(t, "changed", s.post(admin, path+"/password", "user", s.userID(reader), "password", goodPassword), path)
	leads(t, "the session", s.get(reader, "/-/tokens"), "/-/login?next=%2F-%2Ftokens")
	if err := s.attempt(reader, goodPassword); err != nil {
		t.Errorf("the new one: %v", err)
	}
	if err := s.attempt(reader, reader+"-password"); err == nil {
		t.Error("the old one is good")
	}
	if got, want := s.audited(10), "admin user passwd  reader from 127.0.0.1"; !strings.Contains(strings.Join(got, "\n"), want) {
		t.Errorf("audit %q, want %q", got, want)
	}
	leads(t, "one's own", s.post(admin, userPath(admin)+"/password", "user", s.userID(admin), "password", goodPassword), "/-/login")
}

// TestRemoveUser says what goes, and removes it with the next request.
func TestRemoveUser(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	text := s.newToken(reader, "laptop", "team/**", "pull")
	path := userPath(reader)
	wants(t, "the page before", s.get(admin, path+"/remove"), 200, "Remove the user reader?", "pull of team/**", "1 access token is revoked: laptop.", "1 session of a browser ends.", "What it pushed stays")
	if err := s.attempt("x", text); err != nil {
		t.Errorf("before: %v", err)
	}
	leads(t, "removed", s.post(admin, path+"/remove", "user", s.userID(reader)), "/-/admin/users")
	if err := s.attempt("x", text); err == nil {
		t.Error("the token of who is gone is good")
	}
	leads(t, "the session", s.get(reader, "/-/tokens"), "/-/login?next=%2F-%2Ftokens")
}

// TestUsersList: who there is, what they may do, and when they were last here.
func TestUsersList(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for i := range usersShown + 5 {
		s.addUser(fmt.Sprintf("many%03d", i), "x/** pull")
	}
	text := s.newToken(writer, "job", "**", "pull")
	if err := s.attempt("any", text); err != nil {
		t.Fatal(err)
	}
	a := s.get(admin, "/-/admin/users")
	wants(t, "the list", a, 200, "108 users", "admin you", "many000", "administrator", "pull of x/**", "-many104", "Next", "just now from 127.0.0.1")
	wants(t, "the next page", s.get(admin, "/-/admin/users?after=many098"), 200, "many104", "pull,push,overwrite,delete of team/** 1", "First page", "-many098")
	wants(t, "a part of a name", s.get(admin, "/-/admin/users?q=WRI"), 200, "1 user", "writer", "from 192.0.2.9", "-reader")
	wants(t, "no such", s.get(admin, "/-/admin/users?q=none"), 200, "No user is called so")
	wants(t, "the user", s.get(admin, userPath(writer)), 200, "job", "pull of **", "of that only: pull of team/**", "from 192.0.2.9", "1 session of a browser")
	for _, dots := range []string{".", ".."} {
		s.addUser(dots, "x/** pull")
		wants(t, "a user that looks like a step up", s.get(admin, userPath(dots)), 200, "pull")
	}
}

// TestAnonymousPage opens and closes what everybody may do.
func TestAnonymousPage(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	const path = "/-/admin/anonymous"
	leads(t, "opened", s.post(admin, path, "everybody", "open/**", "what", "push"), "/-/admin/users")
	wants(t, "the page", s.get(admin, "/-/admin/users"), 200, "open/**pull,push,overwriteTake away", "public/**pullTake away")
	leads(t, "closed", s.post(admin, path, "everybody", "public/**", "what", "none"), "/-/admin/users")
	if a := s.store.Access().Anonymous; len(a) != 1 || a[0].Repositories.String() != "open/**" {
		t.Errorf("open are %v", a)
	}
	if got, want := strings.Join(s.audited(2), "\n"), "admin anonymous public/** none from 127.0.0.1\nadmin anonymous open/** pull,push,overwrite from 127.0.0.1"; got != want {
		t.Errorf("audit %s", got)
	}
	checkRefused(t, "a bad pattern", s.post(admin, path, "everybody", "/x", "what", "pull"), "everybody", "can match nothing", `value="/x"`)
	wants(t, "something else", s.post(admin, path, "everybody", "x", "what", "delete"), 422, "is not none, pull or push")
}

var secretForm = regexp.MustCompile(`cubby_[a-z2-7]{10}_[a-z2-7]{39}`)

// newToken makes an access token by the page, and returns its text.
func (s *site) newToken(viewer, description, pattern string, actions ...string) string {
	s.t.Helper()
	fields := []string{"description", description, "pattern", pattern, "end", "90d"}
	for _, a := range actions {
		fields = append(fields, "actions", a)
	}
	a := s.post(viewer, "/-/tokens", fields...)
	text := secretForm.FindString(a.body)
	if a.StatusCode != 200 || !auth.IsToken(text) {
		s.t.Fatalf("no token: %d %s", a.StatusCode, plainText(a.body))
	}
	return text
}

// TestTokens makes an access token, uses it, and revokes it.
func TestTokens(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	s := newSite(t, func(c *siteConfig) {
		c.web.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	s.fill()
	a := s.post(writer, "/-/tokens", "description", "laptop", "pattern", "team/api", "actions", "pull", "actions", "push", "end", "7d")
	host := strings.TrimPrefix(s.url, "http://")
	wants(t, "the token", a, 200, "It is shown this once", "pull,push of team/api", "docker login "+host+" -u writer --password-stdin", "podman login --tls-verify=false "+host+" -u writer --password-stdin", "oras login --plain-http")
	text := secretForm.FindString(a.body)
	if !auth.IsToken(text) || a.Header.Get("Cache-Control") != "no-store" || a.Header.Get("ETag") != "" || a.Header.Get("Location") != "" || len(a.Cookies()) > 0 {
		t.Fatalf("token %q, headers %v", text, a.Header)
	}
	secret := text[strings.LastIndexByte(text, '_')+1:]
	list := s.get(writer, "/-/tokens")
	wants(t, "the list", list, 200, "laptop", auth.TokenID(text), "pull,push of team/api", "never", "-"+secret)
	if got, want := s.audited(1)[0], "writer token create team/api writer "+auth.TokenID(text)+" pull,push from 127.0.0.1"; got != want {
		t.Errorf("audit %q, want %q", got, want)
	}
	if err := s.attempt("whoever", text); err != nil {
		t.Fatalf("the token: %v", err)
	}
	wants(t, "the list after its use", s.get(writer, "/-/tokens"), 200, "just now from 192.0.2.9")
	// Nothing else knows the secret.
	for _, viewer := range []string{writer, admin} {
		for _, path := range []string{"/-/tokens", "/-/admin/audit", "/-/admin/audit.csv", userPath(writer), userPath(writer) + "/remove", "/-/settings"} {
			if body := s.get(viewer, path).body; strings.Contains(body, secret) {
				t.Errorf("%s as %s tells the secret", path, viewer)
			}
		}
	}
	if strings.Contains(strings.Join(s.audited(1000), "\n"), secret) || strings.Contains(log.String(), secret) {
		t.Error("the secret is in the audit log, or in the log")
	}
	// Somebody else's is none; an administrator has the page of the user.
	for _, id := range []string{auth.TokenID(text), "none", ""} {
		if f := flashed(t, s.post(reader, "/-/tokens/revoke", "id", id)); f.Text != "That access token was revoked already." {
			t.Errorf("the token %q of somebody else: %q", id, f.Text)
		}
		if f := flashed(t, s.post(admin, userPath(reader)+"/token", "user", s.userID(reader), "id", id)); f.Text != "That access token was revoked already." {
			t.Errorf("the token %q on the page of another user: %q", id, f.Text)
		}
	}
	if err := s.attempt("whoever", text); err != nil {
		t.Fatalf("the token is gone: %v", err)
	}
	leads(t, "revoked", s.post(writer, "/-/tokens/revoke", "id", auth.TokenID(text)), "/-/tokens")
	if err := s.attempt("whoever", text); err == nil {
		t.Error("the revoked token is good")
	}
	leads(t, "revoked again", s.post(writer, "/-/tokens/revoke", "id", auth.TokenID(text)), "/-/tokens")
	other := s.newToken(writer, "", "**", "pull")
	leads(t, "by an administrator", s.post(admin, userPath(writer)+"/token", "user", s.userID(writer), "id", auth.TokenID(other)), userPath(writer))
	if err := s.attempt("whoever", other); err == nil {
		t.Error("the token that the administrator revoked is good")
	}
}

// TestTokenForm refuses what would be of no use, and keeps what was typed.
func TestTokenForm(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	form := s.get(reader, "/-/tokens")
	wants(t, "the form", form, 200, "There are no access tokens.", "You may do yourself: pull of team/**.")
	if strings.Contains(form.body, `value="push"`) || strings.Contains(form.body, `value="admin"`) {
		t.Error("the form offers what the user may not do")
	}
	for _, tt := range []struct {
		what, field, text string
		fields            []string
	}{
		{"nothing", "actions", "Choose what is allowed", []string{"pattern", "team/**", "end", "90d"}},
		{"what nobody may", "actions", "so the token would allow nothing", []string{"pattern", "team/**", "actions", "push", "end", "90d"}},
		{"a bad pattern", "pattern", "can match nothing", []string{"pattern", "/x", "actions", "pull", "end", "90d"}},
		{"an end of no sense", "end", "", []string{"pattern", "**", "actions", "pull", "end", "soon"}},
		{"an end of now", "end", "over at once", []string{"pattern", "**", "actions", "pull", "end", "0d"}},
		{"a long description", "description", "at most 100 bytes", []string{"pattern", "**", "actions", "pull", "end", "90d", "description", strings.Repeat("x", 101)}},
		{"two lines", "description", "in one line", []string{"pattern", "**", "actions", "pull", "end", "90d", "description", "a\nb"}},
	} {
		checkRefused(t, tt.what, s.post(reader, "/-/tokens", tt.fields...), tt.field, tt.text, `value="`+tt.fields[1]+`"`)
	}
	for i := range tokensMax {
		tok := store.Token{ID: fmt.Sprint("t", i), Secret: []byte("x"), Grant: everything[0]}
		if err := s.store.AddToken(t.Context(), reader, tok, store.Actor{}); err != nil {
			t.Fatal(err)
		}
	}
	checkRefused(t, "too many", s.post(reader, "/-/tokens", "pattern", "**", "actions", "pull", "end", ""), "", "as many as there may be")
	wants(t, "one that never ends", s.post(writer, "/-/tokens", "pattern", "**", "actions", "pull", "end", ""), 200, "until it is revoked")
}

// TestTokenPowers: a token says what is left of it when its user may do less.
func TestTokenPowers(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.newToken(writer, "wide", "**", "pull", "delete")
	s.newToken(writer, "inside", "team/api", "pull")
	s.newToken(writer, "across", "*/api", "pull")
	page := s.get(writer, "/-/tokens")
	wants(t, "tokens", page, 200, "pull,delete of **of that only: pull,delete of team/**", "pull of */apiof that only: pull of */api that team/** matches too", "-team/apiof")
	if _, err := s.store.RemoveGrant(t.Context(), writer, s.store.Access().Users[writer].Grants[0], store.Actor{}); err != nil {
		t.Fatal(err)
	}
	wants(t, "of who may do nothing", s.get(writer, "/-/tokens"), 200, "of that now nothing", "You may do nothing yourself yet", "-Make the token")
	s.pages.now = func() time.Time { return time.Now().AddDate(1, 0, 0) }
	wants(t, "a year later", s.get(admin, userPath(writer)), 200, "expired")
}

// TestHtpasswdTokens: who is in the htpasswd file alone has none.
func TestHtpasswdTokens(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	hash := s.store.Access().Users[reader].Password
	s.guard = auth.New(auth.Options{Store: s.store, Cost: 4, Htpasswd: func() map[string]string { return map[string]string{"filed": hash} }})
	s.pages.Guard = s.guard
	r := httptest.NewRequest(http.MethodPost, s.url+"/-/login", nil)
	s.sessions["filed"] = must(s.guard.Login(t.Context(), r, "filed", reader+"-password"))(t)
	wants(t, "the page", s.get("filed", "/-/tokens"), 200, "htpasswd file", "-Make the token")
	wants(t, "a token", s.post("filed", "/-/tokens", "pattern", "**", "actions", "pull", "end", "90d"), 409, "htpasswd file")
	wants(t, "revoked", s.post("filed", "/-/tokens/revoke", "id", "x"), 409, "htpasswd file")
}

// TestPeopleReadOnly: nothing is offered that would be refused.
func TestPeopleReadOnly(t *testing.T) {
	t.Parallel()
	s := newSite(t, readOnly)
	for _, path := range []string{"/-/admin/users", userPath(reader), userPath(reader) + "/remove", "/-/tokens"} {
		a := s.get(admin, path)
		if a.StatusCode != 200 {
			t.Errorf("%s: %d", path, a.StatusCode)
		}
		parsePage(t, a.body).elements(func(n *html.Node, attrs map[string]string) {
			if n.Data == "form" && attrs["method"] == "post" && attrs["action"] != "/-/theme" && attrs["action"] != "/-/logout" {
				t.Errorf("%s offers %s", path, attrs["action"])
			}
		})
	}
	wants(t, "a token", s.post(reader, "/-/tokens", "pattern", "**", "actions", "pull"), 409, "started with")
	if len(s.store.Access().Tokens) > 0 {
		t.Error("a token was made")
	}
}

// TestPeopleNavigation: administrators find the pages, and nobody else is shown them.
func TestPeopleNavigation(t *testing.T) {
	t.Parallel()
	for viewer, want := range map[string]string{admin: "/-/tokens /-/admin/users /-/admin/audit", reader: "/-/tokens", anonymous: ""} {
		s := newSite(t)
		var got []string
		parsePage(t, s.get(viewer, "/").body).elements(func(n *html.Node, attrs map[string]string) {
			if h := attrs["href"]; n.Data == "a" && (h == "/-/tokens" || strings.HasPrefix(h, "/-/admin/")) {
				got = append(got, h)
			}
		})
		if strings.Join(got, " ") != want {
			t.Errorf("%q finds %q, want %q", viewer, got, want)
		}
	}
	open := newSite(t, withoutUsers)
	if body := open.get(viewerLocal, "/").body; !strings.Contains(body, `href="/-/admin/users"`) || strings.Contains(body, `href="/-/tokens"`) {
		t.Error("on an open registry the users are not found, or tokens are")
	}
	if !strings.Contains(newSite(t).get(reader, "/-/settings").body, `<a href="/-/tokens">Access tokens</a>.`) {
		t.Error("the settings do not lead to access tokens")
	}
}

// TestAuditPage filters the log, keeps the filter in the URL, and pages.
func TestAuditPage(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.fill()
	who := func(name, address string) store.Actor {
		return store.Actor{Name: name, Address: address, Client: "docker/28", Token: "tok-" + name}
	}
	for i := range pageRows + 5 {
		s.store.Audit(store.AuditEntry{Action: store.AuditLogin, Detail: fmt.Sprint("n", i)}, who("robot", "198.51.100.7"))
	}
	s.store.Audit(store.AuditEntry{Action: store.AuditDenied, Repository: "secret/100%_vault", Reference: "1.0", Detail: "GET"}, who("mallory", "203.0.113.5"))
	a := s.get(admin, "/-/admin/audit")
	wants(t, "the log", a, 200, "mallory", "token tok-mallory", "denied secret/100%_vault 1.0 GET", "203.0.113.5", "docker/28", "robot", "Older", "-someone")
	for _, tt := range []struct {
		query string
		want  []string
	}{
		{"who=mallory", []string{"denied", "-n54", "-Older", "Clear"}},
		{"action=denied", []string{"mallory", "-n54"}},
		{"action=none", []string{"mallory", "n54"}}, // as the form shows
		{"q=100%25_", []string{"mallory", "-n54"}},
		{"q=VAULT", []string{"mallory"}},
		{"q=1_0", []string{"Nothing matches", "-mallory"}},
		{"address=203.0.113.5", []string{"mallory", "-n54"}},
		{"address=203.0.113", []string{"Nothing matches"}},
		{"token=tok-robot", []string{"n54", "-mallory", "token tok-robot"}},
		{"since=2001-02-03", []string{"mallory", "n54"}},
		{"since=2999-01-01", []string{"Nothing matches"}},
		{"who=' OR 1=1 --", []string{"Nothing matches"}},
		{"action=push&q=team/chart", []string{"pusher", "1.2.3_build.5", "-mallory"}},
	} {
		wants(t, tt.query, s.get(admin, "/-/admin/audit?"+strings.NewReplacer(" ", "%20", "'", "%27").Replace(tt.query)), 200, tt.want...)
	}
	form := s.get(admin, "/-/admin/audit?action=denied&who=mallory&q=vault&address=203.0.113.5&since=2001-02-03").body
	for _, want := range []string{`<option selected>denied</option>`, `name="who" type="search" value="mallory"`, `name="q" type="search" value="vault"`, `value="203.0.113.5"`, `value="2001-02-03"`, `href="/-/admin/audit.csv?action=denied&amp;`} {
		if !strings.Contains(form, want) {
			t.Errorf("the form has no %s", want)
		}
	}
	wants(t, "no day", s.get(admin, "/-/admin/audit?since=soon"), 400, "A day is written like")
	wants(t, "no day, as a file", s.get(admin, "/-/admin/audit.csv?since=soon"), 400, "A day is written like")
	wants(t, "no place", s.get(admin, "/-/admin/audit?after=x"), 400, "begin with the first one")
	// All pages together are the log.
	next := regexp.MustCompile(`rel="next" href="([^"]+)"`)
	seen, path := 0, "/-/admin/audit?who=robot"
	for range 5 {
		body := s.get(admin, path).body
		seen += strings.Count(body, `<tr><th scope="row">`)
		m := next.FindStringSubmatch(body)
		if m == nil {
			break
		}
		path = strings.ReplaceAll(m[1], "&amp;", "&")
	}
	if seen != pageRows+5 {
		t.Errorf("%d entries on all pages", seen)
	}
}

// TestAuditCSV: everything that the filter selects, in a form that programs read and no spreadsheet runs.
func TestAuditCSV(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	odd := []string{"=1+1", "+1", "-1", "@x", "\tx", "\rx", "＝1", "plain, \"quoted\"\nand more", "'=", " =1", ""}
	for _, text := range odd {
		s.store.Audit(store.AuditEntry{Action: store.AuditLogin, Repository: text, Reference: text, Detail: text}, store.Actor{Name: "odd", Address: text, Client: text, Token: text})
	}
	const more = 2*auditChunk + 10
	for i := range more {
		s.store.Audit(store.AuditEntry{Action: store.AuditDenied, Detail: strconv.Itoa(i)}, store.Actor{Name: "many", Address: "192.0.2.1"})
	}
	a := s.get(admin, "/-/admin/audit.csv?who=odd")
	for header, want := range map[string]string{
		"Content-Type": "text/csv; charset=utf-8; header=present", "Content-Disposition": "attachment; filename=audit-" + time.Now().Format(time.DateOnly) + ".csv",
		"X-Content-Type-Options": "nosniff", "Content-Security-Policy": fileCSP, "Cache-Control": "no-store",
	} {
		if got := a.Header.Get(header); got != want {
			t.Errorf("%s: %q, want %q", header, got, want)
		}
	}
	if !strings.HasPrefix(a.body, "time,who,token,action,repository,reference,detail,address,client\r\n") {
		t.Errorf("it begins %.100q", a.body)
	}
	rows := must(csv.NewReader(strings.NewReader(a.body)).ReadAll())(t)
	if len(rows) != len(odd)+1 {
		t.Fatalf("%d rows", len(rows))
	}
	for i, text := range odd {
		row := rows[len(odd)-i]
		want := text
		if i < 7 {
			want = "'" + strings.TrimPrefix(text, "\r") // which a file has at ends of lines only
		}
		for _, col := range []int{2, 4, 5, 6, 7, 8} {
			if row[col] != want || row[1] != "odd" || row[3] != "login" {
				t.Errorf("%q became %q: %q", text, row[col], row)
			}
		}
		if _, err := time.Parse(time.RFC3339, row[0]); err != nil {
			t.Error(err)
		}
	}
	rows = must(csv.NewReader(strings.NewReader(s.get(admin, "/-/admin/audit.csv?who=many").body)).ReadAll())(t)
	if len(rows) != more+1 || rows[1][6] != strconv.Itoa(more-1) || rows[more][6] != "0" {
		t.Errorf("%d rows of %d", len(rows)-1, more)
	}
	if a := s.do(admin, http.MethodHead, "/-/admin/audit.csv", ""); a.StatusCode != 200 || a.body != "" {
		t.Errorf("HEAD: %d %q", a.StatusCode, a.body)
	}
}

// TestAuditLooksBack: a search in a long log says how far it came, and goes on.
func TestAuditLooksBack(t *testing.T) {
	if testing.Short() {
		return
	}
	t.Parallel()
	s := newSite(t)
	s.store.Audit(store.AuditEntry{Action: store.AuditLogin}, store.Actor{Name: "first"})
	for i := range 52_000 {
		s.store.Audit(store.AuditEntry{Action: store.AuditLogin}, store.Actor{Name: "other"})
		if i%1900 == 0 {
			s.audited(1) // writes what waits
		}
	}
	a := s.get(admin, "/-/admin/audit?who=first")
	wants(t, "the first look", a, 200, "Nothing matches since", "Search further back")
	m := regexp.MustCompile(`rel="next" href="([^"]+)"`).FindStringSubmatch(a.body)
	if m == nil {
		t.Fatal("there is no way on")
	}
	wants(t, "the second look", s.get(admin, strings.ReplaceAll(m[1], "&amp;", "&")), 200, "first", "-Search further back")
	if rows := must(csv.NewReader(strings.NewReader(s.get(admin, "/-/admin/audit.csv?who=first").body)).ReadAll())(t); len(rows) != 2 {
		t.Errorf("the file has %d rows", len(rows))
	}
}

// TestHostilePeople: what strangers write into the log, and users into forms, is text.
func TestHostilePeople(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.session(admin)
	requests := func(p string) (all [][3]string) {
		form := func(names ...string) string {
			var parts []string
			for _, name := range names {
				parts = append(parts, name+"="+url.QueryEscape(p))
			}
			return strings.Join(parts, "&")
		}
		user := "user=" + s.userID(reader) + "&"
		return [][3]string{
			{"GET", "/-/admin/audit?" + form("who", "q", "address", "action", "token"), ""},
			{"GET", "/-/admin/audit?" + form("since"), ""},
			{"GET", "/-/admin/audit?" + form("after"), ""},
			{"GET", "/-/admin/users?" + form("q", "after"), ""},
			{"GET", "/-/admin/users/" + url.PathEscape(p), ""},
			{"POST", "/-/admin/users", "role=some&" + form("name", "password", "pattern", "actions")},
			{"POST", "/-/admin/anonymous", form("everybody", "what")},
			{"POST", userPath(reader) + "/grant", user + form("pattern", "actions")},
			{"POST", userPath(reader) + "/revoke", user + form("pattern", "actions")},
			{"POST", userPath(reader) + "/token", user + form("id")},
			{"POST", "/-/tokens", form("description", "pattern", "actions", "end")},
			{"POST", "/-/tokens/revoke", form("id")},
		}
	}
	harmless := make(map[string]bool)
	add := func(body string) {
		for key := range shape(t, body) {
			harmless[key] = true
		}
	}
	s.newToken(admin, "harmless", "**", "pull")
	s.newToken(reader, "harmless", "**", "pull")
	for range pageRows + 1 {
		s.store.Audit(store.AuditEntry{Action: store.AuditDenied, Repository: "a", Reference: "b", Detail: "c"}, store.Actor{Name: "d", Address: "e", Client: "f", Token: "g"})
	}
	for _, p := range []string{"harmless", "", "**"} {
		for _, r := range requests(p) {
			add(s.record(admin, r[0], r[1], r[2]).Body.String())
		}
	}
	for _, path := range []string{"/-/admin/audit", userPath(reader), "/-/tokens", "/-/admin/users?after=a"} {
		add(s.record(admin, "GET", path, "").Body.String())
	}
	all := payloads(t)
	for i, p := range all {
		s.store.Audit(store.AuditEntry{Action: store.AuditDenied, Repository: p, Reference: p, Detail: p}, store.Actor{Name: p, Address: p, Client: p, Token: p})
		if i%4 != 0 {
			continue
		}
		for _, r := range requests(p) {
			w := s.record(admin, r[0], r[1], r[2])
			checkHostile(t, fmt.Sprintf("%s %.80q", r[0], r[1]), harmless, w.Code, w.Header(), w.Body.String())
		}
	}
	for i := range 90 {
		tok := store.Token{ID: fmt.Sprint("t", i), Secret: []byte("x"), Grant: everything[0], Description: all[i*len(all)/90]}
		if err := s.store.AddToken(t.Context(), reader, tok, store.Actor{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{userPath(reader), userPath(reader) + "/remove", "/-/admin/users"} {
		w := s.record(admin, "GET", path, "")
		checkHostile(t, path, harmless, w.Code, w.Header(), w.Body.String())
	}
	next := regexp.MustCompile(`rel="next" href="([^"]+)"`)
	for path, n := "/-/admin/audit", 0; path != ""; n++ {
		w := s.record(admin, "GET", path, "")
		checkHostile(t, path, harmless, w.Code, w.Header(), w.Body.String())
		m := next.FindStringSubmatch(w.Body.String())
		if path = ""; m != nil && n < 50 {
			path = html.UnescapeString(m[1])
		}
	}
}
