package uitest

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"
)

// ask sends a request of a client, and returns its status and body.
func (s *site) ask(t *testing.T, path, user, password, cookies string) (status int, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if password != "" {
		request.SetBasicAuth(user, password)
	}
	if cookies != "" {
		request.Header.Set("Cookie", cookies)
	}
	client := &http.Client{Timeout: patience}
	defer client.CloseIdleConnections()
	answer, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	raw, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(raw)
}

// testPeople makes users and access tokens, uses them, and takes them away.
func testPeople(t *testing.T, w *world) {
	windows := map[string]func(*testing.T, *site) *tab{
		"with a script":    func(t *testing.T, s *site) *tab { return newTab(t, w.browser, s.url) },
		"without a script": w.withoutScript,
	}
	for name, window := range windows {
		user := "ann-" + strings.ReplaceAll(name, " ", "-")
		t.Run("a user and a token "+name, func(t *testing.T) {
			t.Parallel()
			testUserAndToken(t, w.users, user, window)
		})
	}
	t.Run("the first user", func(t *testing.T) {
		t.Parallel()
		s := startSite(t)
		b := w.withoutScript(t, s)
		b.click(".bar summary", "Admin")
		b.follow(".bar .pop a", "Users")
		b.want("This registry has no users")
		b.fill("#name", "ann")
		b.fill("#password", "a few good words")
		b.follow("main button", "Add the user")
		b.want("from now on everyone must log in")
		if got := b.path(); got != "/-/login?next=%2F-%2Fadmin%2Fusers" {
			t.Fatalf("after the first user at %s", got)
		}
		if status, _ := s.ask(t, "/v2/", "", "", ""); status != http.StatusUnauthorized {
			t.Errorf("without a password: %d", status)
		}
		b.fill("input[name=user]", "ann")
		b.fill("input[name=password]", "a few good words")
		b.during(func() { b.press(kb.Enter) })
		b.want("administrator")
		if got := b.path(); got != "/-/admin/users" {
			t.Errorf("after logging in at %s", got)
		}
	})
	t.Run("what is wrong has the focus", func(t *testing.T) {
		t.Parallel()
		b := newTab(t, w.browser, w.users.url)
		b.login(admin, w.users.password)
		b.open("/-/admin/users")
		b.tabTo("#name", "")
		b.press("no:name")
		b.tabTo("#password", "")
		b.press("a few good words")
		b.enter()
		if got := b.statusHere(); got != http.StatusUnprocessableEntity {
			t.Errorf("status %d", got)
		}
		if got := eval[string](b, `document.activeElement.getAttribute("role")`); got != "alert" {
			t.Errorf("the focus is on %q", got)
		}
		if eval[string](b, `document.getElementById("password").value`) != "" || eval[string](b, `document.getElementById("name").value`) != "no:name" {
			t.Error("the form holds the password, or not the name")
		}
		b.tabTo("main .panel a", "User name invalid")
		b.press(kb.Enter)
		b.tabTo("#password", "")
	})
}

func testUserAndToken(t *testing.T, s *site, user string, window func(*testing.T, *site) *tab) {
	const password = "a few good words"
	boss, own := window(t, s), window(t, s)
	boss.login(admin, s.password)
	boss.click(".bar summary", admin)
	boss.follow(".bar .pop a", "Users")
	boss.fill("#name", user)
	boss.fill("#password", password)
	boss.fill("#pattern", "team/**")
	boss.click("input[name=actions][value=push]", "")
	boss.follow("main button", "Add the user")
	boss.want(user + " was added.")
	boss.want("pull,push")

	own.login(user, password)
	own.click(".bar summary", user)
	if own.has(".bar .pop a[href^='/-/admin/']") {
		t.Error("a user is shown the way to the administration")
	}
	own.follow(".bar .pop a", "Access tokens")
	own.want("There are no access tokens.")
	if own.has("input[name=actions][value=delete]") {
		t.Error("the form offers what the user may not do")
	}
	own.fill("#description", "laptop")
	own.follow("main button", "Make the token")
	own.want("docker login localhost:" + s.port + " -u " + user + " --password-stdin")
	token := eval[string](own, `document.querySelector("main .command code").textContent`)

	use := func(what string, want int) {
		t.Helper()
		for _, path := range []string{"/v2/", "/v2/team/front/tags/list"} {
			if status, body := s.ask(t, path, user, token, ""); status != want {
				t.Errorf("%s: GET %s: %d, want %d: %s", what, path, status, want, body)
			}
		}
	}
	use("the new token", http.StatusOK)
	own.follow("main a", "Done")
	own.want("laptop")
	own.want("just now")
	if strings.Contains(eval[string](own, "document.documentElement.outerHTML"), token[len(token)-20:]) {
		t.Error("the page shows the token again")
	}
	own.follow("main button", "Revoke")
	own.want("is revoked. What used it is refused from now on.")
	use("the revoked token", http.StatusUnauthorized)

	// What was done is in the log.
	boss.open("/-/admin/audit")
	boss.fill("main input[name=who]", user)
	eval[bool](boss, `(document.querySelector("select[name=action]").focus(), true)`)
	boss.press("token revoke") // as one chooses by keyboard
	boss.follow("main .filter button", "Filter")
	if got := eval[int](boss, `document.querySelectorAll("tbody tr").length`); got != 1 {
		t.Errorf("%d lines at %s", got, boss.path())
	}
	boss.want("token revoke")
	var cookies []string
	for _, c := range boss.cookies() {
		cookies = append(cookies, c.Name+"="+c.Value)
	}
	file := eval[string](boss, `document.querySelector("main .filter a.end").getAttribute("href")`)
	if status, body := s.ask(t, file, "", "", strings.Join(cookies, "; ")); status != http.StatusOK || strings.Count(body, "\r\n") != 2 || !strings.Contains(body, ","+user+",,token revoke,") {
		t.Errorf("GET %s: %d %s", file, status, body)
	}

	boss.open("/-/admin/users/" + user)
	boss.follow("main a.button", "Remove the user")
	boss.want("1 session of a browser ends.")
	boss.follow("main button", "Remove "+user)
	boss.want(user + " was removed.")
	own.open("/-/tokens")
	if !strings.HasPrefix(own.path(), "/-/login") {
		t.Errorf("who was removed is at %s", own.path())
	}
	if status, _ := s.ask(t, "/v2/", user, password, ""); status != http.StatusUnauthorized {
		t.Errorf("who was removed logs in: %d", status)
	}
}
