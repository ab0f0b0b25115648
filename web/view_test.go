package web

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// TestOwnPath: a form leads back to a page of ours, whatever it says (S16).
func TestOwnPath(t *testing.T) {
	for _, s := range []string{"/", "/team/api", "/team/api:1.9", "/a@" + testDigest, "/a?q=x&sort=-pushed", "/a?next=//evil", "/-/search?q=%2F%2Fevil", "/a/-/history/1"} {
		if got := ownPath(s); got != s {
			t.Errorf("ownPath(%q) = %q", s, got)
		}
	}
	for _, s := range []string{
		"", "team", "//evil", "///evil", "////evil", "/\\evil", "\\\\evil", "/\\/evil", "\\/evil", "https:", "https://evil", "https:evil", "https:/evil", "HTTPS://evil", "javascript:alert(1)", "data:text/html,x",
		"/%2f/evil", "/%2Fevil", "/%5cevil", "/%5Cevil", "/a\nSet-Cookie: b", "/\r\nX: y", "/\tevil", "/\t/evil", "\t//evil", " //evil", "/ /evil", "http:///evil", "//user@evil", "@evil", ":80/", "?//evil", "#", "/\x00", "\x00/", "/\x7f",
		"/%09/evil", "/%0d%0aX:y", "/.//evil", "/..//evil", "/a/..//evil", "/./%2fevil",
	} {
		got := ownPath(s)
		u, err := url.Parse(got)
		// A browser resolves it against our page, drops tabs and line ends, and takes \ for /.
		seen := strings.NewReplacer("\\", "/", "\t", "", "\n", "", "\r", "").Replace(got)
		if err != nil || u.Host != "" || u.Scheme != "" || !strings.HasPrefix(seen, "/") || strings.HasPrefix(seen, "//") || strings.ContainsAny(got, "\r\n\t\x00") {
			t.Errorf("ownPath(%q) = %q, %v", s, got, err)
		}
		base := &url.URL{Scheme: "https", Host: "reg.example", Path: "/-/login"}
		if to := base.ResolveReference(u); to.Host != "reg.example" || to.Scheme != "https" {
			t.Errorf("ownPath(%q) leads to %s", s, to)
		}
	}
}

// TestHost: commands to copy name a host and nothing else, whatever a Host header says.
func TestHost(t *testing.T) {
	s := newSite(t)
	for host, want := range map[string]string{
		"reg.example": "reg.example", "reg.example:5000": "reg.example:5000", "[2001:db8::1]:5000": "[2001:db8::1]:5000", "127.0.0.1:5000": "127.0.0.1:5000",
		"": "localhost:5000", "a b": "localhost:5000", "a;rm -rf /": "localhost:5000", "$(id)": "localhost:5000", "a`id`": "localhost:5000", "a/b": "localhost:5000",
		"<script>": "localhost:5000", "a\"b": "localhost:5000", "a@b": "localhost:5000", "a:123456": "localhost:5000", "a:x": "localhost:5000", "é": "localhost:5000",
		"a\nb": "localhost:5000", "[::1": "localhost:5000", "[a;b]": "localhost:5000", "a|b": "localhost:5000", "-": "-", strings.Repeat("a", 256): "localhost:5000",
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Host = host
		if got := s.pages.host(&request{Request: r}); got != want {
			t.Errorf("the host %q is shown as %q, want %q", host, got, want)
		}
	}
}

// TestFlash: it is shown once, and one that somebody made up can neither lead away nor hold markup.
func TestFlash(t *testing.T) {
	t.Parallel()
	s := newSite(t, withoutUsers)
	a := s.post(viewerLocal, "/-/settings", "theme", "dark", "density", "compact", "client", "podman")
	leads(t, "settings", a, "/-/settings")
	if f := flashed(t, a); f.Text != "Saved in this browser." {
		t.Errorf("flash %+v", f)
	}
	next := s.get(viewerLocal, "/", "Cookie", cookieFlash+"="+a.cookie(cookieFlash))
	wants(t, "the next page", next, 200, "Saved in this browser.")
	cleared := false
	for _, c := range next.Cookies() {
		cleared = cleared || c.Name == cookieFlash && c.MaxAge < 0 && c.Value == ""
	}
	if !cleared {
		t.Errorf("it stays: %v", next.Cookies())
	}
	wants(t, "the page after", s.get(viewerLocal, "/"), 200, "-Saved in this browser.")

	forge := func(json string) answer {
		return s.get(viewerLocal, "/", "Cookie", cookieFlash+"="+base64.RawURLEncoding.EncodeToString([]byte(json)))
	}
	for _, json := range []string{
		`{"t":"<script>alert(1)</script>","a":"https://evil.example/","l":"Undo","g":"\"><img src=x onerror=alert(1)>","d":"x"}`,
		`{"t":"x","a":"//evil.example/","l":"Undo"}`, `{"t":"x","a":"javascript:alert(1)","l":"Undo"}`, `{"t":"x","a":"/\\evil.example","l":"<b>"}`,
		`{"t":"x","a":"/-/logout","l":"Win"}`, `{"t":["x"]}`, `{"a":"/x"}`, `null`, `[]`, `{`, "\xff",
	} {
		a := forge(json)
		if a.StatusCode != 200 || strings.Contains(a.body, "evil.example/\"") || strings.Contains(a.body, "<b>") || strings.Contains(a.body, "javascript:") {
			t.Errorf("%s: %d", json, a.StatusCode)
		}
		// Only the undo of this program is a form.
		if strings.Contains(a.body, `action="//`) || strings.Contains(a.body, `action="http`) {
			t.Errorf("%s: a form leads away", json)
		}
		checkFlashForms(t, json, a.body)
	}
	wants(t, "no base64", s.get(viewerLocal, "/", "Cookie", cookieFlash+"=%%%"), 200)
}

// checkFlashForms fails the test when a flash has a form that does anything but restore a tag.
func checkFlashForms(t *testing.T, what, body string) {
	t.Helper()
	d := parsePage(t, body)
	for n := range d.root.Descendants() {
		if n.Data != "form" {
			continue
		}
		for p := range n.Ancestors() {
			for _, a := range p.Attr {
				if a.Key != "class" || a.Val != "flash" {
					continue
				}
				for _, f := range n.Attr {
					if rt, err := parsePath(f.Val); f.Key == "action" && (err != nil || rt.place != placeRestore) {
						t.Errorf("%s: a flash has a form that goes to %q", what, f.Val)
					}
				}
			}
		}
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, tt := range []struct {
		path   string
		fields []string
		cookie string
		value  string // "" is removed
		next   string
	}{
		{"/-/theme", []string{"theme", "dark", "next", "/team/api?q=1"}, cookieTheme, "dark", "/team/api?q=1"},
		{"/-/theme", []string{"theme", "light"}, cookieTheme, "light", "/"},
		{"/-/theme", []string{"theme", "system", "next", "//evil"}, cookieTheme, "", "/"},
		{"/-/settings", []string{"theme", "dark"}, cookieTheme, "dark", "/-/settings"},
		{"/-/settings", []string{"theme", "<script>"}, cookieTheme, "", "/-/settings"},
		{"/-/settings", []string{"density", "compact", "next", "/a"}, cookieDensity, "compact", "/a"},
		{"/-/settings", []string{"density", "comfortable"}, cookieDensity, "", "/-/settings"},
		{"/-/settings", []string{"client", "crane", "next", "https://evil"}, cookieClient, "crane", "/"},
		{"/-/settings", []string{"client", "curl|sh"}, cookieClient, "", "/-/settings"},
	} {
		a := s.post(anonymous, tt.path, tt.fields...)
		leads(t, tt.path, a, tt.next)
		found := false
		for _, c := range a.Cookies() {
			if c.Name == tt.cookie {
				found = true
				if c.Value != tt.value || (tt.value == "") != (c.MaxAge < 0) || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" {
					t.Errorf("%s %v: cookie %v", tt.path, tt.fields, c)
				}
			}
		}
		if !found {
			t.Errorf("%s %v: no cookie %s", tt.path, tt.fields, tt.cookie)
		}
	}
	wants(t, "an unknown theme", s.post(anonymous, "/-/theme", "theme", "pink"), 400)
	s.image("public/tool", "amd64", "1", "1")
	a := s.get(anonymous, "/public/tool", "Cookie", "cubby_theme=dark; cubby_density=compact; cubby_client=skopeo")
	for _, want := range []string{`<html lang="en" data-theme="dark" data-density="compact">`, "<code>skopeo copy"} {
		if !strings.Contains(a.body, want) {
			t.Errorf("%q is not in the page", want)
		}
	}
	a = s.get(anonymous, "/public/tool", "Cookie", `cubby_theme="><script>; cubby_density=x; cubby_client=x`)
	for _, want := range []string{`<html lang="en">`, "<code>docker pull"} {
		if !strings.Contains(a.body, want) {
			t.Errorf("%q is not in the page with settings that there are not", want)
		}
	}
}

// TestTemplates parses the templates of all pages, which pages do when they are first asked for.
func TestTemplates(t *testing.T) {
	for name, parsed := range templates {
		if parsed().Lookup("layout") == nil {
			t.Errorf("%s has no layout", name)
		}
	}
	if len(templates) < 20 {
		t.Errorf("%d pages, there are more", len(templates))
	}
}
