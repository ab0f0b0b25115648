package uitest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp/kb"
)

// focused says where the focus is, and what keeps a person from seeing it there (WCAG 2.4.7, 2.4.11).
const focused = `(() => { const e = document.activeElement; if (!e || e === document.body) return {what: "", wrong: ""};
	const what = e.outerHTML.replace(/\s+/g, " ").slice(0, 120), style = getComputedStyle(e), shadow = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
	let wrong = ""; if (!shadow) wrong += " no outline (" + style.outlineStyle + " " + style.outlineWidth + ")";
	const r = [...e.getClientRects()].find((r) => r.width > 0 && r.height > 0);
	if (!r) return {what, wrong: wrong + " has no place"};
	// What of it the window and the boxes that scroll leave to see. A long line or a long list needs not be seen whole.
	let left = Math.max(r.left, 0), right = Math.min(r.right, document.documentElement.clientWidth), top = Math.max(r.top, 0), bottom = Math.min(r.bottom, innerHeight);
	for (let p = e.parentElement; p; p = p.parentElement) if (/auto|scroll|hidden/.test(getComputedStyle(p).overflowX) && p !== document.body) {
		const q = p.getBoundingClientRect(); left = Math.max(left, q.left); right = Math.min(right, q.right); top = Math.max(top, q.top); bottom = Math.min(bottom, q.bottom); }
	if (r.width < 2 || r.height < 2) wrong += " is not visible";
	else if (right - left < Math.min(r.width, 100) - 1 || bottom - top < Math.min(r.height, 100) - 1) wrong += " is outside the window: " + [r.left, r.top, r.right, r.bottom].map(Math.round);
	else { const at = document.elementFromPoint((left + right) / 2, (top + bottom) / 2);
		if (at !== e && !e.contains(at) && !(at && at.contains(e) && at.tagName === "LABEL")) wrong += " is covered by " + (at ? at.outerHTML.slice(0, 80) : "nothing"); }
	return {what, wrong}; })()`

type focusState struct{ What, Wrong string }

// tabOn presses Tab, and fails the test if the focus cannot be seen where it goes.
func (b *tab) tabOn() string {
	b.t.Helper()
	b.press(kb.Tab)
	f := eval[focusState](b, focused)
	if f.Wrong != "" {
		b.t.Errorf("%s: the focus on %s:%s", b.path(), f.What, f.Wrong)
	}
	return f.What
}

// tabTo goes on with Tab until an element has the focus, that matches a selector and begins with a text.
func (b *tab) tabTo(selector, text string) {
	b.t.Helper()
	for range 600 {
		b.tabOn()
		if eval[bool](b, `document.activeElement.matches(`+quote(selector)+`) && (document.activeElement.innerText || document.activeElement.value || "").trim().startsWith(`+quote(text)+`)`) {
			return
		}
	}
	b.t.Fatalf("%s: Tab does not lead to %s that says %q", b.path(), selector, text)
}

// enter activates what has the focus, which leads to another page.
func (b *tab) enter() {
	b.t.Helper()
	b.during(func() { b.press(kb.Enter) })
}

// testKeyboard does the same journeys with keys alone.
func testKeyboard(t *testing.T, w *world) {
	s := w.stock
	for name, path := range map[string]string{
		"repositories": "/", "tags": "/team/web", "index": "/team/web:2.0", "history": "/team/web/-/history", "storage": "/-/storage", "plan": "/-/storage/gc",
		"delete": "/team/web:2.0/-/delete", "settings": "/-/settings", "raw": "/team/web:2.0/-/raw", "error": "/team/apii",
	} {
		for _, width := range []int64{1280, 360} {
			t.Run(fmt.Sprintf("every stop of %s, %d", name, width), func(t *testing.T) {
				t.Parallel()
				b := newTab(t, w.browser, s.url)
				b.view(width, "light")
				b.open(path)
				if first := b.tabOn(); !strings.Contains(first, `class="skip"`) {
					t.Errorf("the first stop is %s", first)
				}
				b.press(kb.Enter)
				if got := eval[string](b, "document.activeElement.id"); got != "main" {
					t.Errorf("the link to skip leads to %q", got)
				}
				b.open("/-/help")
				b.open(path)
				want := eval[int](b, `[...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, summary, [tabindex='0']")].filter((e) =>
					e.checkVisibility({visibilityProperty: true}) && !e.disabled && !(e.type === "radio" && !e.checked)).length`)
				stops := 0
				for b.tabOn() != "" && stops <= want {
					stops++
				}
				if stops != want {
					t.Errorf("Tab stops at %d elements, want %d", stops, want)
				}
			})
		}
	}
	t.Run("find an image", func(t *testing.T) {
		t.Parallel()
		b := newTab(t, w.browser, s.url)
		b.open("/")
		b.tabTo("#search", "")
		b.press("team/web")
		b.enter()
		b.tabTo(".hits a", "team/web")
		b.enter()
		b.tabTo("a.tag", "2.0")
		b.enter()
		b.tabTo(".commands summary", "Other clients")
		b.press(kb.Enter)
		b.tabTo(".commands details pre", "podman pull")
	})
	t.Run("menus", func(t *testing.T) {
		t.Parallel()
		b := newTab(t, w.browser, s.url)
		b.open("/team/api")
		b.tabTo("td .menu summary", "")
		open := func() bool { return eval[bool](b, `document.activeElement.closest("details").open`) }
		for _, key := range []string{kb.Enter, " "} {
			b.press(key)
			if !open() {
				t.Fatalf("the menu does not open with %q", key)
			}
			b.tabOn() // into it
			b.press(kb.Escape)
			if open() || !eval[bool](b, `document.activeElement.matches("summary")`) {
				t.Error("Escape does not close the menu and go back to its button")
			}
		}
		b.press(kb.Enter)
		b.click("h1", "")
		if eval[bool](b, `!!document.querySelector("details.menu[open]")`) {
			t.Error("a click elsewhere does not close the menu")
		}
	})
	t.Run("delete and undo", func(t *testing.T) {
		t.Parallel()
		b := newTab(t, w.browser, s.url)
		s.journey(t, "journey/keys")
		b.open("/journey/keys?sort=name")
		b.tabTo("tr:has(a[href$=':alpha']) td .menu summary", "")
		b.press(kb.Enter)
		b.tabTo(".pop a", "Delete")
		b.enter()
		b.tabTo("main button", "Delete the tag")
		b.enter()
		b.wantTags("without alpha", "beta", "delta", "gamma", "old-1", "old-2")
		b.tabTo(".flash button", "Undo")
		b.enter()
		b.wantTags("with alpha again", "alpha", "beta", "delta", "gamma", "old-1", "old-2")
		b.open("/journey/keys")
		b.tabTo("input[name=tag][value^=old]", "")
		b.press(" ")
		b.tabTo("main button", "Delete selected")
		b.enter()
		b.tabTo("main button", "Delete 1 tag")
		b.enter()
		b.want("1 tag was removed.")
		b.tabTo(".tabs a", "History")
		b.enter()
		b.tabTo("tbody button", "Restore")
		b.enter()
		b.want("is at")
	})
	t.Run("filter and sort", func(t *testing.T) {
		t.Parallel()
		b := newTab(t, w.browser, s.url)
		b.open("/team/api")
		b.tabTo("main input[name=q]", "")
		b.press("1.2.*")
		b.enter()
		b.tabTo("thead a", "Tag")
		b.enter()
		if tags := b.tags(); len(tags) != 10 {
			t.Errorf("%q", tags)
		}
	})
	t.Run("log in, theme, collect, log out", func(t *testing.T) {
		t.Parallel()
		b := newTab(t, w.browser, w.users.url)
		w.users.collecting.Lock()
		defer w.users.collecting.Unlock()
		b.open("/-/storage/gc")
		if !eval[bool](b, `document.activeElement.matches("input[name=user]")`) {
			t.Error("the field for the user has no focus")
		}
		b.press(admin)
		b.tabOn()
		b.press(w.users.password)
		b.enter()
		if b.path() != "/-/storage/gc" {
			t.Fatalf("after logging in at %s", b.path())
		}
		b.tabTo("main button", "Collect now")
		b.enter()
		b.waitFor("the end of the collection", func() bool { return strings.Contains(b.textSoon(), "All collections") })
		light := b.background()
		b.tabTo("footer button", "Dark")
		b.enter()
		if b.background() == light {
			t.Error("the theme is not dark")
		}
		b.tabTo(".bar summary", admin)
		b.press(" ")
		b.tabTo(".bar button", "Log out")
		b.enter()
		b.want("You are logged out.")
	})
	t.Run("copy", func(t *testing.T) { t.Parallel(); testCopy(t, w) })
}

// testCopy copies commands in a window that has a clipboard and in one of plain HTTP on a network, which has none. There
// is one clipboard for all windows, so nothing else may use it meanwhile.
func testCopy(t *testing.T, w *world) {
	secure := newTab(t, w.browser, w.stock.url)
	secure.allow(browser.PermissionTypeClipboardReadWrite, browser.PermissionTypeClipboardSanitizedWrite)
	lan := newTab(t, w.browser, "http://nas.test:"+w.users.port)
	lan.login(admin, w.users.password)
	for _, c := range []struct {
		name   string
		b      *tab
		secure bool
		host   string
		repo   string
	}{
		{"localhost", secure, true, "localhost:" + w.stock.port, "team/api"},
		{"nas.test", lan, false, "nas.test:" + w.users.port, "team/front"},
	} {
		b := c.b
		b.open("/" + c.repo + ":latest")
		if got := eval[bool](b, "isSecureContext && !!navigator.clipboard"); got != c.secure {
			t.Errorf("%s: secure context: %v", c.name, got)
		}
		b.want("docker pull " + c.host + "/" + c.repo + ":latest")
		b.click(".commands summary", "Other clients")
		buttons := eval[int](b, `document.querySelectorAll("main button[data-copy]").length`)
		if buttons < 5 {
			t.Errorf("%s: %d buttons to copy", c.name, buttons)
		}
		for i := range buttons {
			button := fmt.Sprintf(`document.querySelectorAll("main button[data-copy]")[%d]`, i)
			// What stands beside the button is what must be copied.
			shown := eval[string](b, `(() => { const e = `+button+`; return (e.parentElement.querySelector("code") || e.parentElement.querySelector(".mono")).textContent; })()`)
			b.copied("before")
			eval[bool](b, `(`+button+`.focus(), document.getElementById("status").textContent = "", true)`)
			b.press(map[bool]string{true: kb.Enter, false: " "}[i%2 == 0])
			b.waitFor("the word that it was copied", func() bool { return eval[string](b, `document.getElementById("status").textContent`) == "Copied" })
			if got := b.paste(); got != shown {
				t.Errorf("%s: copied %q, shown %q", c.name, got, shown)
			}
			if !eval[bool](b, button+` === document.activeElement`) {
				t.Errorf("%s: copying %q takes the focus away", c.name, shown)
			}
		}
		// The row of a tag has a button too.
		b.open("/" + c.repo)
		want := eval[string](b, `document.querySelector("td button[data-copy]").dataset.copy`)
		b.click("td button[data-copy]", "")
		b.waitFor("the word that it was copied", func() bool { return eval[string](b, `document.getElementById("status").textContent`) == "Copied" })
		if got := b.paste(); got != want || !strings.HasPrefix(got, "docker pull "+c.host+"/"+c.repo+":") {
			t.Errorf("%s: copied %q from a row, want %q", c.name, got, want)
		}
	}
}

// copied puts a text into the clipboard by keys.
func (b *tab) copied(text string) {
	b.t.Helper()
	eval[bool](b, `(() => { const a = document.createElement("textarea"); a.id = "clip"; a.value = `+quote(text)+`; document.body.append(a); a.select(); return true; })()`)
	b.edit("copy")
	eval[bool](b, `(document.getElementById("clip").remove(), true)`)
}

// paste returns what is in the clipboard, by the keys of a person: a page of plain HTTP may not ask for it.
func (b *tab) paste() string {
	b.t.Helper()
	eval[bool](b, `(() => { const before = document.activeElement, a = document.createElement("textarea"); a.id = "clip"; document.body.append(a); a.focus(); a.before_ = before; return true; })()`)
	b.edit("paste")
	return eval[string](b, `(() => { const a = document.getElementById("clip"), text = a.value, before = a.before_; a.remove(); before.focus({preventScroll: true}); return text; })()`)
}

// edit runs a command of the editor, as its keys do.
func (b *tab) edit(command string) {
	b.t.Helper()
	key := map[string]string{"copy": "c", "paste": "v"}[command]
	b.run(
		input.DispatchKeyEvent(input.KeyRawDown).WithKey(key).WithModifiers(input.ModifierCtrl).WithCommands([]string{command}),
		input.DispatchKeyEvent(input.KeyUp).WithKey(key).WithModifiers(input.ModifierCtrl),
	)
}
