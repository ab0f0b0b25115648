package web

import (
	"strconv"
	"strings"
	"testing"

	"cubby/server/auth"

	"golang.org/x/net/html"
)

func TestLogin(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(c *siteConfig) { c.web.FreshPassword = func() bool { return true } })
	s.fill()
	leads(t, "a page that needs it", s.get(anonymous, "/team/api?q=1&sort=name"), "/-/login?next=%2Fteam%2Fapi%3Fq%3D1%26sort%3Dname")
	page := s.get(anonymous, "/-/login?next=%2Fteam%2Fapi%3Fq%3D1")
	wants(t, "the form", page, 200, "Log in", "Your first visit?", "See what is open to everybody")
	for _, want := range []string{`name="next" value="/team/api?q=1"`, `autocomplete="username"`, `autocomplete="current-password"`} {
		if !strings.Contains(page.body, want) {
			t.Errorf("the form has no %s", want)
		}
	}
	if strings.Contains(s.get(anonymous, "/-/login?next=//evil.example").body, `value="//evil.example`) {
		t.Error("the form leads to another site")
	}
	a := s.post(anonymous, "/-/login", "user", reader, "password", "wrong", "next", "/team/api")
	wants(t, "a wrong password", a, 401, "not right")
	if !strings.Contains(a.body, `value="reader"`) || !strings.Contains(a.body, `name="next" value="/team/api"`) || strings.Contains(a.body, "wrong") || len(a.Cookies()) > 0 {
		t.Errorf("a wrong password: cookies %v", a.Cookies())
	}
	b := s.post(anonymous, "/-/login", "user", "nobody", "password", "wrong", "next", "/team/api")
	if strings.ReplaceAll(a.body, `value="reader"`, "") != strings.ReplaceAll(b.body, `value="nobody"`, "") || b.StatusCode != 401 {
		t.Error("the page tells whether there is such a user")
	}
	for next, want := range map[string]string{"/team/api?q=1": "/team/api?q=1", "": "/", "//evil.example": "/", "https://evil.example/": "/", "/\\evil.example": "/", "javascript:alert(1)": "/"} {
		a := s.post(anonymous, "/-/login", "user", reader, "password", reader+"-password", "next", next)
		leads(t, "login with next "+next, a, want)
		if len(a.Cookies()) != 1 || a.Cookies()[0].Name != "cubby_session" || !a.Cookies()[0].HttpOnly {
			t.Errorf("cookies %v", a.Cookies())
		}
	}
	leads(t, "the form, once logged in", s.get(reader, "/-/login?next=/team/api"), "/team/api")
	wants(t, "a page", s.get(reader, "/team/api"), 200)
	if !strings.Contains(s.get(reader, "/team/api").body, `<bdi class="user">reader</bdi>`) {
		t.Error("the page does not say who is logged in")
	}
	leads(t, "logout", s.post(reader, "/-/logout"), "/-/login")
	a = s.get(reader, "/team/api")
	if a.StatusCode != 303 || len(a.Cookies()) != 1 || a.Cookies()[0].MaxAge >= 0 {
		t.Errorf("after the logout: %d, %v", a.StatusCode, a.Cookies())
	}
	wants(t, "a token", s.post(anonymous, "/-/login", "user", reader, "password", newToken()), 401, "access tokens are for clients")
}

func newToken() string {
	_, text, _ := auth.NewToken()
	return text
}

// TestLogoutEverywhere ends the other sessions too.
func TestLogoutEverywhere(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.fill()
	login := func() []string {
		c := s.post(anonymous, "/-/login", "user", reader, "password", reader+"-password").Cookies()[0]
		return []string{"Cookie", c.Name + "=" + c.Value}
	}
	one, other := login(), login()
	leads(t, "logout", s.do(anonymous, "POST", "/-/logout", "", one...), "/-/login")
	wants(t, "the other", s.get(anonymous, "/team/api", other...), 200)
	form := append([]string{"Content-Type", "application/x-www-form-urlencoded"}, other...)
	leads(t, "logout everywhere", s.do(anonymous, "POST", "/-/logout", "everywhere=1", form...), "/-/login")
	if a := s.get(anonymous, "/team/api", other...); a.StatusCode != 303 {
		t.Errorf("the other is logged in: %d", a.StatusCode)
	}
	if a := s.get(reader, "/team/api"); a.StatusCode != 200 {
		t.Errorf("a new login: %d", a.StatusCode)
	}
}

// TestLoginSlowDown: guessing is made to wait, and the page says for how long.
func TestLoginSlowDown(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for i := range 20 {
		a := s.post(anonymous, "/-/login", "user", reader, "password", "guess "+strconv.Itoa(i), "next", "/team/api")
		if a.StatusCode == 401 {
			continue
		}
		after, err := strconv.Atoi(a.Header.Get("Retry-After"))
		wants(t, "too many", a, 429, "Log in")
		if err != nil || after < 1 || i < 3 || !strings.Contains(a.body, `name="next" value="/team/api"`) {
			t.Errorf("after %d guesses: Retry-After %q", i, a.Header.Get("Retry-After"))
		}
		return
	}
	t.Error("20 guesses are not slowed down")
}

// TestWithoutUsers: nobody can log in, and this machine may do everything.
func TestWithoutUsers(t *testing.T) {
	t.Parallel()
	s := newSite(t, withoutUsers)
	s.fill()
	wants(t, "login", s.get(viewerLocal, "/-/login"), 200, "nobody can log in")
	wants(t, "login by form", s.post(viewerLocal, "/-/login", "user", "a", "password", "b"), 401)
	wants(t, "home", s.get(viewerLocal, "/"), 200, "secret/vault")
	// The same machine by another name may be another site's page.
	for _, path := range []string{"/", "/team/api", "/-/storage/gc", "/nothing", "/UPPER", "/-/nothing"} {
		wants(t, path+" by another name", s.get(anonymous, path, "Host", "evil.example"), 401, "-vault")
	}
	wants(t, "a change by another name", s.do(anonymous, "POST", "/-/storage/gc", "", "Host", "evil.example"), 401)
}

// TestBanners: what an administrator should know, and nobody else.
func TestBanners(t *testing.T) {
	t.Parallel()
	problem := ""
	s := newSite(t, func(c *siteConfig) { c.web.Problem = func() string { return problem } })
	s.fill()
	bannersOf := func(viewer string, headers ...string) (texts []string) {
		parsePage(t, s.get(viewer, "/-/help", headers...).body).elements(func(n *html.Node, attrs map[string]string) {
			if strings.HasPrefix(attrs["class"], "banner") {
				texts = append(texts, text(n))
			}
		})
		return texts
	}
	if got := bannersOf(admin); len(got) != 0 {
		t.Errorf("banners %q", got)
	}
	if got := bannersOf(admin, "Host", "nas:5000"); len(got) != 1 || !strings.Contains(got[0], "not encrypted") {
		t.Errorf("banners over plain HTTP %q", got)
	}
	problem = "line 3: <b>bad</b>"
	s.pages.warnings.at = s.pages.now().Add(-warningsKept)
	if got := bannersOf(admin); len(got) != 1 || !strings.Contains(got[0], "line 3: <b>bad</b>") {
		t.Errorf("banners with a bad file %q", got)
	}
	problem = ""
	if got := bannersOf(admin); len(got) != 1 {
		t.Errorf("they are looked up anew each time: %q", got)
	}
	if got := bannersOf(writer, "Host", "nas:5000"); len(got) != 0 {
		t.Errorf("banners of who is no administrator %q", got)
	}
}

// TestDiskBanner: from nine tenths on.
func TestDiskBanner(t *testing.T) {
	const g = 1 << 30
	for _, tt := range []struct {
		free, total int64
		want        string
	}{
		{0, 0, ""}, {50 * g, 100 * g, ""}, {11 * g, 100 * g, ""}, {10 * g, 100 * g, "The disk is 90 % full: 10 GiB are left."}, {0, 100 * g, "The disk is 100 % full: 0 B are left."},
	} {
		got := diskBanner(tt.free, tt.total)
		if len(got) != min(len(tt.want), 1) || tt.want != "" && !strings.HasPrefix(got[0].Text, tt.want) {
			t.Errorf("%d of %d free: %+v, want %q", tt.free, tt.total, got, tt.want)
		}
	}
}
