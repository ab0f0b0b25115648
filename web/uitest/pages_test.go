package uitest

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cubby/scripts/process"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// A world is every server that the pages are on.
type world struct {
	browser context.Context
	stock   *stock
	users   *site
	empty   *site
	hostile *site // what attackers pushed
	links   links
}

// Who looks at a page.
const (
	local  = ""       // this machine, which may do everything on a server without users
	nobody = "nobody" // a visitor of the server with users
	admin  = "admin"
	reader = "reader"
)

// A pageCase is a page to look at.
type pageCase struct {
	name   string
	path   string
	who    string
	site   *site
	status int                    // 0: 200
	reach  func(b *tab, w *world) // how to get there when a path is not enough
	shot   bool                   // a main page, of which CUBBY_SHOTS keeps pictures
	large  bool                   // also at 320 px and with text of twice the size
}

func (w *world) pages() []pageCase {
	s, o, u, e := w.stock, w.stock.site, w.users, w.empty
	blob := func(name string, c process.Content) string { return "/" + name + "/-/blob/" + c.Digest }
	at := func(name string, c process.Content) string { return "/" + name + "@" + c.Digest }
	return []pageCase{
		{name: "repositories", path: "/", site: o, shot: true, large: true},
		{name: "repositories filtered", path: "/?q=team&kind=image&sort=-size", site: o},
		{name: "repositories by pulls", path: "/?sort=pulls", site: o},
		{name: "repositories without a match", path: "/?q=nothing-is-called-so", site: o},
		{name: "namespace", path: "/team/", site: o, shot: true},
		{name: "namespace of long names", path: "/component/component/", site: o},
		{name: "empty", path: "/", site: e, shot: true, large: true},
		{name: "empty storage", path: "/-/storage", site: e},
		{name: "nothing for you", path: "/", site: u, who: reader},

		{name: "tags", path: "/team/api", site: o, shot: true, large: true},
		{name: "tags filtered", path: "/team/api?q=1.*&sort=name", site: o},
		{name: "tags without a match", path: "/team/api?q=zzz", site: o},
		{name: "tags of an index", path: "/team/web", site: o, shot: true},
		{name: "tags with signatures", path: "/team/web?signatures=1", site: o},
		{name: "10 000 tags", path: "/many/tags", site: o},
		{name: "10 000 tags by name", path: "/many/tags?sort=name&q=99", site: o},
		{name: "name of 255 characters", path: "/" + s.long, site: o, shot: true, large: true},
		{name: "tag of 128 characters", path: "/" + s.long + ":" + s.longTag, site: o, large: true},
		{name: "repository a/tags/b", path: "/a/tags/b", site: o},
		{name: "repository metrics", path: "/metrics", site: o},
		{name: "repository v2", path: "/-/r/v2", site: o},
		{name: "repository v2/foo", path: "/-/r/v2/foo", site: o},
		{name: "tag of v2", path: "/-/r/v2:1", site: o},
		{name: "manifests", path: "/team/web/-/manifests", site: o, shot: true},
		{name: "manifests untagged", path: "/team/web/-/manifests?show=untagged", site: o},
		{name: "history", path: "/team/web/-/history", site: o, shot: true},
		{name: "history of a tag", path: "/team/api/-/history/latest", site: o},
		{name: "history of 10 000 tags", path: "/many/tags/-/history", site: o},

		{name: "image", path: "/team/api:latest", site: o, shot: true, large: true},
		{name: "image by digest", path: at("team/api", s.image), site: o},
		{name: "index", path: "/team/web:2.0", site: o, shot: true, large: true},
		{name: "index with absent parts", path: "/team/web:sparse", site: o},
		{name: "huge configuration", path: "/big/config:1", site: o},
		{name: "odd labels", path: "/odd/labels:1", site: o, shot: true, large: true},
		{name: "chart", path: "/charts/shop:1.2.3_build.4", site: o, shot: true},
		{name: "artifact with files", path: "/files/report:1", site: o, shot: true},
		{name: "artifact without titles", path: "/files/bare:1", site: o},
		{name: "referrers", path: "/team/web:2.0/-/referrers", site: o, shot: true},
		{name: "no referrers", path: "/team/api:latest/-/referrers", site: o},
		{name: "raw manifest", path: "/team/web:2.0/-/raw", site: o, shot: true, large: true},
		{name: "raw text", path: blob("files/report", s.text), site: o, large: true},
		{name: "raw html", path: blob("files/report", s.html), site: o},
		{name: "raw hexadecimal", path: blob("files/report", s.hex), site: o},

		{name: "search", path: "/-/search", site: o},
		{name: "search with hits", path: "/-/search?q=team", site: o, shot: true},
		{name: "search for a tag", path: "/-/search?q=1.2", site: o},
		{name: "search for a digest", path: "/-/search?q=" + s.index.Digest[:19], site: o},
		{name: "search for a label", path: "/-/search?q=org.opencontainers.image.version", site: o},
		{name: "search without hits", path: "/-/search?q=nothing-is-called-so", site: o},
		{name: "search for too much", path: "/-/search?q=" + strings.Repeat("long", 100), site: o},
		{name: "storage", path: "/-/storage", site: o, shot: true, large: true},
		{name: "storage for a reader", path: "/-/storage", site: u, who: reader},
		{name: "collection, the plan", path: "/-/storage/gc", site: o, shot: true},
		{name: "collection, keep times ended", path: "/-/storage/gc?now=1", site: o},
		{name: "collection, the result", path: "/-/storage/gc/running", site: e, reach: func(b *tab, w *world) { b.collect(w.empty) }},
		{name: "collection of the past", path: "/-/storage/gc", site: e, reach: func(b *tab, w *world) {
			b.collect(w.empty)
			b.open("/-/storage/gc")
			b.follow("tbody th a", "")
		}},

		{name: "delete a tag", path: "/team/web:2.0/-/delete", site: o, shot: true},
		{name: "delete the last tag", path: "/charts/shop:1.2.3_build.4/-/delete", site: o},
		{name: "delete a manifest", path: at("team/web", s.index) + "/-/delete", site: o},
		{name: "delete a part of an index", path: at("team/web", s.image) + "/-/delete", site: o, status: 404},
		{name: "delete a repository", path: "/files/report/-/delete", site: o, shot: true},
		{name: "delete a large repository", path: "/many/tags/-/delete", site: o},
		{name: "delete tags", path: "/team/api/-/tags/delete?tag=1.0.0&tag=1.0.1&tag=gone", site: o, shot: true},
		{name: "delete many tags", path: "/many/tags/-/tags/delete?tag=v" + strings.Join(numbers(30), "&tag=v"), site: o},

		{name: "login", path: "/-/login", site: u, who: nobody, shot: true, large: true},
		{name: "login where nobody can", path: "/-/login", site: o, reach: func(b *tab, _ *world) { b.open("/-/login") }},
		{name: "login wrong", path: "/-/login", site: u, who: nobody, status: 401, shot: true, reach: func(b *tab, _ *world) {
			b.open("/-/login")
			b.fill("input[name=user]", "admin")
			b.fill("input[name=password]", "wrong")
			b.during(func() { b.press(kb.Enter) })
		}},
		{name: "settings", path: "/-/settings", site: o, shot: true},
		{name: "settings with sessions", path: "/-/settings", site: u, who: admin},
		{name: "help", path: "/-/help", site: o, shot: true, large: true},

		{name: "audit log", path: "/-/admin/audit", site: u, who: admin, shot: true, large: true},
		{name: "audit log filtered", path: "/-/admin/audit?action=push&who=admin&q=front&address=127.0.0.1&since=2001-02-03", site: u, who: admin},
		{name: "audit log without a match", path: "/-/admin/audit?who=nobody-is-called-so", site: u, who: admin},
		{name: "audit log, no day", path: "/-/admin/audit?since=soon", site: u, who: admin, status: 400},
		{name: "audit log of pushes", path: "/-/admin/audit", site: o, shot: true},
		{name: "users", path: "/-/admin/users", site: u, who: admin, shot: true, large: true},
		{name: "users, none yet", path: "/-/admin/users", site: e, shot: true, large: true},
		{name: "users, wrong", path: "/-/admin/users", site: u, who: admin, status: 422, shot: true, large: true, reach: func(b *tab, _ *world) {
			b.open("/-/admin/users")
			b.fill("#name", "reader:2")
			b.fill("#password", "short and wrong")
			b.fill("#pattern", "/team")
			b.follow("main button", "Add the user")
		}},
		{name: "user", path: "/-/admin/users/reader", site: u, who: admin, shot: true, large: true},
		{name: "user, oneself", path: "/-/admin/users/admin", site: u, who: admin, shot: true},
		{name: "remove a user", path: "/-/admin/users/reader/remove", site: u, who: admin, shot: true},
		{name: "remove the last administrator", path: "/-/admin/users/admin/remove", site: u, who: admin},
		{name: "access tokens", path: "/-/tokens", site: u, who: reader, shot: true, large: true},
		{name: "access tokens, wrong", path: "/-/tokens", site: u, who: reader, status: 422, reach: func(b *tab, _ *world) {
			b.open("/-/tokens")
			b.fill("#pattern", "UPPER")
			b.follow("main button", "Make the token")
		}},
		{name: "access tokens where nobody has one", path: "/-/tokens", site: o},
		{name: "new access token", site: u, who: reader, shot: true, large: true, reach: func(b *tab, _ *world) {
			b.open("/-/tokens")
			b.fill("#description", "a laptop that is looked at")
			b.follow("main button", "Make the token")
		}},
		{name: "403 users", path: "/-/admin/users", site: u, who: reader, status: 403},
		{name: "404 user", path: "/-/admin/users/nobody", site: u, who: admin, status: 404},

		{name: "400 name", path: "/UPPER/case", site: o, status: 400},
		{name: "400 tag", path: "/team/api:" + strings.Repeat("t", 129), site: o, status: 400},
		{name: "400 digest", path: "/team/api@sha256:12", site: o, status: 400},
		{name: "400 form", path: "/team/api/-/tags/delete" + "?" + strings.Repeat("tag=a&", 501), site: o, status: 400},
		{name: "401", site: u, who: admin, status: 401, reach: func(b *tab, w *world) {
			b.open("/team/front:1/-/delete")
			b.clearCookies()
			b.follow("button", "Delete the tag")
		}},
		{name: "403", path: "/-/storage/gc", site: u, who: reader, status: 403},
		{name: "403 delete", path: "/team/front:1/-/delete", site: u, who: reader, status: 403},
		{name: "404 repository", path: "/team/apii", site: o, status: 404, shot: true},
		{name: "404 tag", path: "/team/api:none", site: o, status: 404},
		{name: "404 blob", path: "/team/api/-/blob/" + process.Digest([]byte("none")), site: o, status: 404},
		{name: "404 page", path: "/-/nothing", site: o, status: 404},
		{name: "404 collection", path: "/-/storage/gc/999", site: o, status: 404},
		{name: "405", path: "/-/logout", site: o, status: 405},
		{name: "409 moved meanwhile", site: o, status: 409, reach: func(b *tab, w *world) {
			moving := w.stock.to(b.t, "journey/moving")
			moving.image(config("linux/amd64", "before"), nil, nil, "tag")
			b.open("/journey/moving:tag/-/delete")
			moving.image(config("linux/amd64", "after"), nil, nil, "tag")
			b.follow("button", "Delete the tag")
		}},
		{name: "409 in use", site: o, status: 409, reach: func(b *tab, w *world) {
			name := "journey/part" + fmt.Sprint(time.Now().UnixNano())
			p := w.stock.to(b.t, name)
			part := p.image(config("linux/amd64", "part"), nil, nil)
			b.open("/" + name + "@" + part.Digest + "/-/delete")
			p.manifest(manifest(process.MediaTypeIndex, object{"manifests": []object{descriptor(process.MediaTypeImage, part, nil)}}), "index")
			b.follow("button", "Delete for good")
		}},
		{name: "flash with undo", site: o, reach: func(b *tab, w *world) {
			w.stock.to(b.t, "journey/flash").image(config("linux/amd64", "flash"), nil, nil, "tag", "other")
			b.open("/journey/flash:tag/-/delete")
			b.follow("button", "Delete the tag")
		}},
	}
}

func numbers(n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprint(i))
	}
	return all
}

// helpPages are the pages of clients, as the help page lists them.
func (w *world) helpPages(t *testing.T) (all []pageCase) {
	b := newTab(t, w.browser, w.stock.url)
	b.open("/-/help")
	for _, path := range eval[[]string](b, `[...document.querySelectorAll("main a[href^='/-/help/']")].map((a) => a.pathname)`) {
		all = append(all, pageCase{name: strings.TrimPrefix(path, "/-/"), path: path, site: w.stock.site})
	}
	if len(all) < 3 {
		t.Errorf("the help page names %d clients", len(all))
	}
	return all
}

// collect starts a collection, and waits until its page tells the end by loading itself.
func (b *tab) collect(s *site) {
	b.t.Helper()
	s.collecting.Lock()
	defer s.collecting.Unlock()
	b.open("/-/storage/gc")
	b.follow("main button", "Collect now")
	b.waitFor("the end of the collection", func() bool {
		return strings.Contains(b.textSoon(), "All collections")
	})
}

// testPages looks at every page, in both widths and both colours.
func testPages(t *testing.T, w *world) {
	for _, p := range slices.Concat(w.pages(), w.insidePages(), w.chartPages(), w.modulePages(), w.helpPages(t)) {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			p.test(t, w)
		})
	}
}

func (p pageCase) test(t *testing.T, w *world) {
	b := newTab(t, w.browser, p.site.url)
	switch p.who {
	case admin:
		b.login(admin, p.site.password)
	case reader:
		b.login(reader, p.site.reader)
	}
	status := max(p.status, http.StatusOK)

	p.show(b, w)
	report(t, "1280 light", b.look(status))
	if p.status == 0 {
		w.links.add(p.site, b)
	}
	p.shoot(b, 1280, "light")
	b.view(1280, "dark")
	report(t, "1280 dark", b.axe(axeColours))
	p.shoot(b, 1280, "dark")
	if p.large {
		p.enlarge(b)
	}

	// Once more on a phone, where the script comes late.
	b.view(360, "dark")
	b.slowScripts(150 * time.Millisecond)
	if p.who == admin && p.status == http.StatusUnauthorized {
		b.login(admin, p.site.password)
	}
	p.show(b, w)
	findings := append(b.noted(status), b.structure()...)
	report(t, "360 dark", append(findings, b.scroll()...))
	p.shoot(b, 360, "dark")
	b.view(360, "light")
	p.shoot(b, 360, "light")
	p.unfold(b)
	report(t, "360 light", b.axe(axeAll))
	b.view(360, "dark")
	report(t, "360 dark", b.axe(axeColours))
	if p.large {
		b.view(320, "light")
		report(t, "320", b.scroll())
	}
}

func (p pageCase) show(b *tab, w *world) {
	b.t.Helper()
	if p.reach != nil {
		p.reach(b, w)
		b.forget() // what came before, on the way, is looked at elsewhere
		return
	}
	b.forget()
	b.open(p.path)
}

// enlarge looks at text of twice the size, and at spaced text.
func (p pageCase) enlarge(b *tab) {
	b.t.Helper()
	eval[bool](b, `(document.documentElement.style.fontSize = "200%", true)`)
	report(b.t, "text of 200 %", b.scroll())
	eval[bool](b, `(document.documentElement.style.fontSize = "", document.body.style.cssText = "line-height: 1.5; letter-spacing: .12em; word-spacing: .16em", true)`)
	report(b.t, "spaced text", b.scroll())
	b.view(640, "light") // a window of 1280 px at 200 %
	eval[bool](b, `(document.body.style.cssText = "", true)`)
	report(b.t, "zoom of 200 %", b.scroll())
}

// unfold looks at the first menu of each kind when it is open, and opens what else is folded.
func (p pageCase) unfold(b *tab) {
	b.t.Helper()
	for _, menu := range []string{"td details.menu", ".bar details.menu"} {
		if !b.has(menu) {
			continue
		}
		eval[bool](b, `(document.querySelector(`+quote(menu)+`).open = true)`)
		report(b.t, "360 with a menu", b.scroll())
		if at := eval[[]float64](b, `(() => { const r = document.querySelector(`+quote(menu+" .pop")+`).getBoundingClientRect(); return [r.left, r.right, innerWidth]; })()`); at[0] < 0 || at[1] > at[2] {
			b.t.Errorf("360: the menu %s lies from %.0f to %.0f px, the window ends at %.0f", menu, at[0], at[1], at[2])
		}
		eval[bool](b, `!(document.querySelector(`+quote(menu)+`).open = false)`)
	}
	eval[bool](b, `(document.querySelectorAll("details:not(.menu)").forEach((d) => d.open = true), true)`)
	report(b.t, "360 unfolded", b.scroll())
}

// shoot keeps a picture of a main page in CUBBY_SHOTS.
func (p pageCase) shoot(b *tab, width int, scheme string) {
	b.t.Helper()
	dir := os.Getenv("CUBBY_SHOTS")
	if dir == "" || !p.shot {
		return
	}
	var picture []byte
	b.run(chromedp.CaptureScreenshot(&picture))
	name := strings.NewReplacer(" ", "-", ",", "", "/", "-").Replace(p.name)
	if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%d-%s.png", name, width, scheme)), picture, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// links are the links that were met, each once, with who may open them.
type links struct {
	mu  sync.Mutex
	all map[string]link // guarded by mu
}

type link struct{ cookie, from string }

func (l *links) add(s *site, b *tab) {
	found, from := b.links(), b.path()
	var cookies []string
	for _, c := range b.cookies() {
		cookies = append(cookies, c.Name+"="+c.Value)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all == nil {
		l.all = make(map[string]link)
	}
	for _, path := range found {
		if _, ok := l.all[s.url+path]; !ok {
			l.all[s.url+path] = link{strings.Join(cookies, "; "), from}
		}
	}
}

// test opens each of them.
func (l *links) test(t *testing.T) {
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, Timeout: patience}
	defer client.CloseIdleConnections()
	for address, link := range l.all {
		request, err := http.NewRequest(http.MethodGet, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Cookie", link.cookie)
		answer, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		u, _ := url.Parse(address)
		if answer.StatusCode >= 400 {
			t.Errorf("%s links to %s, which answers %d", link.from, u.RequestURI(), answer.StatusCode)
		}
	}
	t.Logf("%d links of pages answer", len(l.all))
	if len(l.all) < 50 {
		t.Error("so few links were found that something is wrong")
	}
}
