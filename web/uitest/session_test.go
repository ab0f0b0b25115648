package uitest

import (
	"strings"
	"testing"

	"github.com/chromedp/cdproto/network"
)

// testSession asserts what the browser is told about a session, and that it is worth nothing to the API.
func testSession(t *testing.T, w *world) {
	for _, base := range []string{w.users.url, "http://nas.test:" + w.users.port} {
		b := newTab(t, w.browser, base)
		b.login(admin, w.users.password)
		session := ""
		for _, c := range b.cookies() {
			if c.Name == "cubby_session" {
				session = c.Name + "=" + c.Value
			}
			if !c.HTTPOnly || c.SameSite != network.CookieSameSiteLax || c.Secure || c.Path != "/" {
				t.Errorf("%s: cookie %s: HttpOnly %v, SameSite %q, Secure %v, path %s", base, c.Name, c.HTTPOnly, c.SameSite, c.Secure, c.Path)
			}
		}
		if session == "" {
			t.Fatalf("%s: there is no session", base)
		}
		if got := eval[string](b, "document.cookie"); strings.Contains(got, "session") {
			t.Errorf("%s: scripts see %s", base, got)
		}
		// The browser sends the cookie along, and gets what anybody gets.
		anybody := newTab(t, w.browser, base)
		anybody.open("/-/login")
		for _, request := range []string{
			`"/v2/"`, `"/v2/team/front/manifests/1"`, `"/v2/_catalog"`, `"/v2/team/front/tags/list"`,
			`"/v2/team/front/blobs/uploads/", {method: "POST"}`, `"/v2/team/front/manifests/1", {method: "DELETE"}`, `"/-/token?scope=repository:team/front:pull"`,
		} {
			ask := `fetch(` + request + `).then((r) => r.text().then((text) => r.status + " " + text))`
			anybody.noPrompt()
			b.noPrompt()
			want, got := eval[string](anybody, ask), eval[string](b, ask)
			if got != want || !strings.HasPrefix(got, "401") && !strings.HasPrefix(got, "403") {
				t.Errorf("%s: fetch(%s) with a session: %q, without: %q", base, request, got, want)
			}
		}
		if b.open("/team/front"); !b.has(".bar .user") {
			t.Errorf("%s: the session has ended", base)
		}
	}
}
