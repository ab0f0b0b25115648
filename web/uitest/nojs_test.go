package uitest

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"
)

// testNoScript does everything that there is to do in a browser whose JavaScript is off.
func testNoScript(t *testing.T, w *world) {
	t.Run("find an image", func(t *testing.T) {
		t.Parallel()
		b := w.withoutScript(t, w.stock.site)
		b.open("/")
		b.fill("#search", "team/web")
		b.during(func() { b.press(kb.Enter) })
		b.follow(".hits a", "team/web")
		b.follow("a.tag", "2.0")
		if !strings.HasPrefix(b.path(), "/team/web:2.0") {
			t.Errorf("at %s", b.path())
		}
		b.want("docker pull localhost:" + w.stock.port + "/team/web:2.0")
		if eval[bool](b, find+`("button.copy", "") !== undefined && getComputedStyle(document.querySelector("button.copy")).visibility !== "hidden"`) {
			t.Error("there is a button to copy, which cannot work")
		}
		b.click(".commands summary", "Other clients")
		if !eval[bool](b, `[...document.querySelectorAll(".commands details code")].some((c) => c.checkVisibility() && c.textContent.startsWith("podman pull"))`) {
			t.Error("the commands of other clients do not unfold")
		}
	})
	t.Run("filter and sort", func(t *testing.T) {
		t.Parallel()
		b := w.withoutScript(t, w.stock.site)
		b.open("/team/api")
		b.fill("main input[name=q]", "1.3.*")
		b.during(func() { b.press(kb.Enter) })
		if tags := b.tags(); len(tags) != 10 || !strings.HasPrefix(tags[0], "1.3.") {
			t.Errorf("filtered: %q", tags)
		}
		b.follow("thead a", "Tag")
		first := b.tags()
		b.follow("thead a", "Tag")
		second := b.tags()
		if len(first) != 10 || len(second) != 10 || first[0] != second[9] || first[9] != second[0] || first[0] == first[9] {
			t.Errorf("sorted one way %q, and the other %q", first, second)
		}
		if got := eval[int](b, `document.querySelectorAll("thead [aria-sort]").length`); got != 1 {
			t.Errorf("%d columns say that they are sorted", got)
		}
		b.follow("main a", "Clear")
		b.follow(".pager a", "Next")
		if len(b.tags()) == 0 {
			t.Error("the next page has no tags")
		}
	})
	t.Run("delete and undo", func(t *testing.T) {
		t.Parallel()
		b := w.withoutScript(t, w.stock.site)
		w.stock.journey(t, "journey/nojs")
		b.open("/journey/nojs")
		b.click("tr:has(a[href$=':alpha']) summary", "")
		b.follow("tr:has(a[href$=':alpha']) .pop a", "Delete")
		b.want("The tag alpha is removed from journey/nojs.")
		b.follow("main button", "Delete the tag")
		b.wantTags("without alpha", "beta", "delta", "gamma", "old-1", "old-2")
		b.want("Tag alpha was removed.")
		b.follow(".flash button", "Undo")
		b.wantTags("with alpha again", "alpha", "beta", "delta", "gamma", "old-1", "old-2")

		// Later, when the flash has gone, the page itself offers it.
		b.open("/journey/nojs:gamma/-/delete")
		b.follow("main button", "Delete the tag")
		b.open("/journey/nojs")
		b.want("Removed, and still here")
		b.follow("form.inline button", "Undo")
		b.wantTags("with gamma again", "alpha", "beta", "delta", "gamma", "old-1", "old-2")

		// Several at once.
		b.click("input[name=tag][value=old-1]", "")
		b.click("input[name=tag][value=old-2]", "")
		b.follow("main button", "Delete selected")
		b.want("Delete 2 tags?")
		b.follow("main button", "Delete 2 tags")
		b.wantTags("without the old", "alpha", "beta", "delta", "gamma")
	})
	t.Run("restore from the history", func(t *testing.T) {
		t.Parallel()
		b := w.withoutScript(t, w.stock.site)
		w.stock.journey(t, "journey/restored")
		digest := func() string {
			return w.stock.client.Want(t, 200, "HEAD", "/v2/journey/restored/manifests/beta", nil).Header.Get("Docker-Content-Digest")
		}
		before := digest()
		b.open("/journey/restored")
		b.follow(".tabs a", "History")
		b.follow("tbody th a", "beta")
		b.follow("tbody button", "Restore")
		b.want("Tag beta is at")
		if after := digest(); after == before {
			t.Errorf("beta is still at %s", after)
		}
	})
	t.Run("delete a repository", func(t *testing.T) {
		t.Parallel()
		b := w.withoutScript(t, w.stock.site)
		w.stock.journey(t, "journey/gone")
		b.open("/journey/gone")
		b.follow(".tabs a", "Delete all tags")
		b.want("Delete all tags of journey/gone?")
		b.fill("input[name=confirm]", "journey/wrong")
		b.follow("main button.danger", "Delete 6 tags")
		if got := b.statusHere(); got != 400 {
			t.Errorf("with another name: status %d", got)
		}
		b.open("/journey/gone/-/delete")
		b.fill("input[name=confirm]", "journey/gone")
		b.follow("main button.danger", "Delete 6 tags")
		b.want("6 tags were removed from journey/gone")
		b.wantTags("gone")
	})
	t.Run("log in and out", func(t *testing.T) {
		t.Parallel()
		b := w.withoutScript(t, w.users)
		b.open("/team/front")
		if !strings.HasPrefix(b.path(), "/-/login?next=") {
			t.Fatalf("at %s, not asked to log in", b.path())
		}
		b.fill("input[name=user]", admin)
		b.fill("input[name=password]", w.users.password)
		b.follow("main button", "Log in")
		if b.path() != "/team/front" {
			t.Errorf("after logging in at %s", b.path())
		}
		b.click(".bar summary", "admin")
		b.follow(".bar button", "Log out")
		b.want("You are logged out.")
		b.open("/team/front")
		if !strings.HasPrefix(b.path(), "/-/login") {
			t.Errorf("after logging out at %s", b.path())
		}
	})
	t.Run("theme", func(t *testing.T) {
		t.Parallel()
		b := w.withoutScript(t, w.stock.site)
		b.open("/team/api?sort=name")
		light := b.background()
		b.follow("footer button", "Dark")
		if b.path() != "/team/api?sort=name" {
			t.Errorf("after changing the theme at %s", b.path())
		}
		dark := b.background()
		b.open("/")
		if again := b.background(); dark == light || again != dark {
			t.Errorf("light %s, dark %s, on the next page %s", light, dark, again)
		}
		b.view(1280, "dark")
		b.follow("footer button", "Light")
		if got := b.background(); got != light {
			t.Errorf("light on a dark system: %s, want %s", got, light)
		}
		b.follow("footer button", "System")
		if got := b.background(); got != dark {
			t.Errorf("as the system, which is dark: %s, want %s", got, dark)
		}
	})
	t.Run("settings", func(t *testing.T) {
		t.Parallel()
		b := w.withoutScript(t, w.stock.site)
		b.open("/-/settings")
		b.click("input[value=compact]", "")
		eval[bool](b, `(document.querySelector("select[name=client]").focus(), true)`)
		b.press("podman") // as one chooses by keyboard
		b.follow("main button", "Save")
		b.want("Saved in this browser.")
		b.open("/team/api:latest")
		if got := eval[string](b, `document.querySelector(".commands code").textContent`); !strings.HasPrefix(got, "podman pull") {
			t.Errorf("the first command is %s", got)
		}
		if got := eval[string](b, "document.documentElement.dataset.density"); got != "compact" {
			t.Errorf("density %q", got)
		}
	})
	t.Run("collect", func(t *testing.T) {
		t.Parallel()
		b := w.withoutScript(t, w.users)
		w.users.journey(t, "journey/collected")
		w.users.collecting.Lock()
		defer w.users.collecting.Unlock()
		b.login(admin, w.users.password)
		b.open("/journey/collected:alpha/-/delete")
		b.follow("main button", "Delete the tag")
		b.open("/-/storage")
		b.follow("main a[href='/-/storage/gc']", "")
		b.want("journey/collected")
		b.follow("main button", "Collect now")
		b.waitFor("the end of the collection", func() bool { return strings.Contains(b.textSoon(), "All collections") })
		b.want("went, in")
	})
}

// withoutScript opens a window in which JavaScript is off.
func (w *world) withoutScript(t *testing.T, s *site) *tab {
	t.Helper()
	b := newTab(t, w.browser, s.url)
	b.noScript()
	b.open("/-/help")
	if b.has("html.js") {
		t.Fatal("JavaScript runs")
	}
	return b
}

// tags returns the tags that a table lists.
func (b *tab) tags() []string {
	b.t.Helper()
	return eval[[]string](b, `[...document.querySelectorAll("a.tag")].map((a) => a.textContent)`)
}

// wantTags fails the test unless the page lists exactly these tags, in any order.
func (b *tab) wantTags(what string, want ...string) {
	b.t.Helper()
	got := eval[[]string](b, `[...document.querySelectorAll("a.tag")].map((a) => a.textContent).sort()`)
	if strings.Join(got, " ") != strings.Join(want, " ") {
		b.t.Fatalf("%s: %s lists %q, want %q", what, b.path(), got, want)
	}
}

func (b *tab) background() string {
	b.t.Helper()
	return eval[string](b, "getComputedStyle(document.body).backgroundColor")
}
