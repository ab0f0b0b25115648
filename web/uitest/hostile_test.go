package uitest

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	"cubby/scripts/process"

	"github.com/chromedp/chromedp/kb"
)

// payloads returns the strings of testdata/payloads.txt, one a line. What runs any of them sets window.__hit, opens a
// dialog, or asks evil.example for something.
func payloads(t *testing.T) []string {
	t.Helper()
	b, err := os.ReadFile("testdata/payloads.txt")
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	if len(all) != 300 {
		t.Fatalf("%d payloads", len(all))
	}
	return all
}

// A hostilePage is a page that must show payloads as text.
type hostilePage struct {
	path  string
	shows []string
}

// pushHostile pushes every payload, each to where it is of one kind or another, and returns the pages that show them.
func pushHostile(t *testing.T, s *site) (pages []hostilePage) {
	t.Helper()
	all := payloads(t)
	take := func(n int) (some []string) {
		some, all = all[:n], all[n:]
		return some
	}
	p := s.to(t, "hostile/image")
	layer := process.RandomBlob(5, 100)

	labels, keys, env, history := take(30), take(10), take(30), take(30)
	c := config("linux/amd64", "1")
	inner := c["config"].(object)
	of := object{}
	for i, value := range labels {
		of[fmt.Sprintf("label.%d", i)] = value
	}
	for _, key := range keys {
		of[key] = "value"
	}
	inner["Labels"] = of
	inner["Env"] = env
	var steps []object
	for _, step := range history {
		steps = append(steps, object{"created_by": step})
	}
	c["history"] = steps
	p.image(c, nil, []process.Content{layer}, "labels")
	pages = append(pages, hostilePage{"/hostile/image:labels", concat(labels, keys, env, history)})

	// The other fields of a configuration.
	fields := take(11)
	c = config("linux/amd64", "1")
	inner = c["config"].(object)
	c["author"], c["os"], c["architecture"] = fields[0], fields[1], fields[2]
	inner["User"], inner["WorkingDir"], inner["StopSignal"] = fields[3], fields[4], fields[5]
	inner["ExposedPorts"], inner["Volumes"] = object{fields[6]: object{}}, object{fields[7]: object{}}
	inner["Entrypoint"], inner["Cmd"] = []string{fields[8]}, []string{fields[9]}
	c["created"] = fields[10] // no time: the config cannot be read as one
	p.image(c, nil, []process.Content{layer}, "unreadable")
	c["created"] = "2026-10-01T12:00:00Z"
	p.image(c, nil, []process.Content{layer}, "fields")
	// Entrypoint and Cmd are shown as JSON; the platform is part of a list.
	pages = append(pages, hostilePage{"/hostile/image:fields", []string{fields[0], fields[3], fields[4], fields[5], fields[6], fields[7]}}, hostilePage{"/hostile/image:unreadable", nil})

	for i := range 5 { // each annotation that a page knows, in a repository's head too
		a := take(7)
		name := fmt.Sprintf("hostile/annotated%d", i)
		s.to(t, name).image(config("linux/amd64", "1"), object{
			"org.opencontainers.image.description": a[0], "org.opencontainers.image.licenses": a[1], "org.opencontainers.image.revision": a[2],
			"org.opencontainers.image.base.name": a[3], "org.opencontainers.image.source": a[4], "org.opencontainers.image.url": a[5], "org.opencontainers.image.documentation": a[6],
		}, []process.Content{layer}, "1")
		pages = append(pages, hostilePage{"/" + name + ":1", []string{a[0], a[2], a[3]}}, hostilePage{"/" + name, []string{a[0], a[1]}})
	}

	// Referrers: annotations, artifact types.
	subject := p.image(config("linux/amd64", "subject"), nil, []process.Content{layer}, "subject")
	values, names, types := take(15), take(5), take(15)
	for i, artifactType := range types {
		a := object{"note": values[i]}
		if i < len(names) {
			a[names[i]] = "value"
		}
		p.artifact(object{"artifactType": artifactType, "subject": descriptor(process.MediaTypeImage, subject, nil), "annotations": a, "layers": []object{}})
	}
	pages = append(pages, hostilePage{"/hostile/image:subject/-/referrers", concat(values, names, types)}, hostilePage{"/hostile/image:subject", nil})

	// Files: titles and media types.
	f := s.to(t, "hostile/files")
	titles, media := take(15), take(15)
	var layers []object
	for i, title := range titles {
		layers = append(layers, descriptor(media[i], f.blob(fmt.Append(nil, "<script>window.__hit=", i, "</script>")), object{"annotations": object{"org.opencontainers.image.title": title}}))
	}
	f.artifact(object{"artifactType": "application/vnd.example", "layers": layers}, "1")
	pages = append(pages, hostilePage{"/hostile/files:1", concat(titles, media)})

	// Configurations of artifacts, chart and not, and blobs that are pages.
	configs := take(14)
	for i, text := range configs {
		name := "application/vnd.example.config+json"
		if i%2 == 1 {
			name = "application/vnd.cncf.helm.config.v1+json"
		}
		b := f.blob(encode(object{"name": text, "description": text, "home": text, "icon": text}))
		f.artifact(object{"config": descriptor(name, b, nil), "layers": []object{}}, fmt.Sprint("config", i))
		pages = append(pages, hostilePage{fmt.Sprint("/hostile/files:config", i), nil})
		raw := f.blob([]byte(text + "\n"))
		pages = append(pages, hostilePage{"/hostile/files/-/blob/" + raw.Digest, []string{text}})
	}

	// Who pushed.
	for i, agent := range take(10) {
		agent = strings.Map(func(c rune) rune {
			if c < 0x20 || c > 0x7e {
				return -1
			}
			return c
		}, agent)
		m := encode(object{"schemaVersion": 2, "mediaType": process.MediaTypeIndex, "manifests": []object{}, "annotations": object{"n": fmt.Sprint(i)}})
		s.client.Want(t, 201, "PUT", fmt.Sprint("/v2/hostile/agents/manifests/a", i), m, "Content-Type", process.MediaTypeIndex, "User-Agent", agent)
	}
	if len(all) != 65 {
		t.Fatalf("%d payloads are left for queries", len(all))
	}
	return append(pages, hostilePage{"/", nil}, hostilePage{"/hostile/", nil}, hostilePage{"/hostile/image", nil}, hostilePage{"/hostile/image/-/history", nil}, hostilePage{"/hostile/image/-/manifests", nil},
		hostilePage{"/hostile/agents", nil}, hostilePage{"/hostile/agents/-/history", nil}, hostilePage{"/hostile/files", nil}, hostilePage{"/hostile/image:labels/-/raw", nil}, hostilePage{"/hostile/image:subject/-/delete", nil},
		hostilePage{"/-/storage", nil}, hostilePage{"/-/storage/gc", nil})
}

func concat(lists ...[]string) (all []string) {
	for _, list := range lists {
		all = append(all, list...)
	}
	return all
}

// shown returns a payload as a page shows it: what turns the writing around, or has no width, is replaced.
func shown(payload string) string {
	return squeeze(strings.NewReplacer("\u202e", "\ufffd", "\u2066", "\ufffd", "\u2069", "\ufffd", "\u200b", "\ufffd", "\u2028", "\ufffd").Replace(payload))
}

// hostile returns what a page let happen, or does not show.
func (b *tab) hostile(status int, want []string) (findings []string) {
	b.t.Helper()
	findings = append(b.noted(status), b.structure()...)
	text := squeeze(b.text())
	for _, payload := range want {
		if !strings.Contains(text, shown(payload)) {
			findings = append(findings, fmt.Sprintf("it does not show %q", payload))
		}
	}
	// What looks like ours but came from outside: an element that only a payload could have made.
	for _, made := range eval[[]string](b, `[...document.querySelectorAll("iframe, object, embed, base, meta[http-equiv], style, math, foreignObject, video, audio, marquee, template, table [background], [srcdoc], [formaction], form[action*='evil'], [href*='javascript:' i]:not([href*='?']), button[data-copy*='evil.example']:not(.copy)")].map((e) => e.outerHTML.slice(0, 200))`) {
		findings = append(findings, "an element that nobody made: "+made)
	}
	return findings
}

// testHostile shows everything that attackers pushed, and sends what they would make people send.
func testHostile(t *testing.T, w *world) {
	s := w.hostile
	pages := append(pushHostile(t, s), pushHostileModule(t, s)...)
	all := payloads(t)
	for part := range 2 {
		t.Run(fmt.Sprint("pages", part), func(t *testing.T) {
			t.Parallel()
			b := newTab(t, w.browser, s.url)
			shownCount := 0
			for i, p := range pages {
				if i%2 != part {
					continue
				}
				b.forget()
				b.open(p.path)
				report(t, p.path, b.hostile(http.StatusOK, p.shows))
				shownCount += len(p.shows)
				if i%10 == part {
					b.view(360, "dark")
					report(t, p.path+" at 360", b.scroll())
					report(t, p.path+" at 360", b.axe(axeAll))
					b.view(1280, "light")
				}
			}
			t.Logf("%d payloads stand on their pages as text", shownCount)
		})
	}
	t.Run("queries", func(t *testing.T) {
		t.Parallel()
		b := newTab(t, w.browser, s.url)
		for i, payload := range all[len(all)-65:] {
			q := url.QueryEscape(payload)
			for _, path := range []string{"/-/search?q=" + q, "/hostile/image?q=" + q + "&sort=" + q + "&after=" + q, "/?q=" + q + "&kind=" + q + "&sort=" + q, "/-/login?next=" + q, "/" + url.PathEscape(payload)}[i%5 : i%5+1] {
				b.forget()
				status := b.open(path)
				if status >= 500 {
					t.Errorf("%s: status %d", path, status)
				}
				report(t, path, b.hostile(status, nil))
			}
		}
	})
	t.Run("search", func(t *testing.T) {
		t.Parallel()
		b := newTab(t, w.browser, s.url)
		b.open("/-/search?q=label.")
		report(t, "search for labels", b.hostile(http.StatusOK, nil))
		b.open("/")
		for _, payload := range all[:10] {
			b.forget()
			b.fill("#search", shown(payload))
			b.during(func() { b.press(kb.Enter) })
			report(t, payload, b.hostile(http.StatusOK, []string{payload}))
		}
	})
	t.Run("where login leads", func(t *testing.T) {
		t.Parallel()
		for _, next := range []string{"//evil.example/", "https://evil.example/", "javascript:window.__hit=1", "/\\evil.example", "/-/../..//evil.example", "\t//evil.example", "///evil.example"} {
			b := newTab(t, w.browser, w.users.url)
			b.open("/-/login?next=" + url.QueryEscape(next))
			b.fill("input[name=user]", admin)
			b.fill("input[name=password]", w.users.password)
			b.during(func() { b.press(kb.Enter) })
			if stray := b.strays(); len(stray) > 0 || !strings.HasPrefix(b.url(), w.users.url+"/") {
				t.Errorf("next=%q leads to %s %q", next, b.url(), stray)
			}
		}
	})
	t.Run("files", func(t *testing.T) { t.Parallel(); testFiles(t, w) })
}

// testFiles asserts that bytes which clients pushed never come as a page of ours.
func testFiles(t *testing.T, w *world) {
	s := w.stock
	html := s.html
	for path, attachment := range map[string]bool{
		"/files/report/-/blob/" + html.Digest + "/download":           true,
		"/files/report@" + s.report.Digest + "/-/file/" + html.Digest: true,
		"/files/report@" + s.report.Digest + "/-/raw/download":        true,
		"/files/report:1/-/file/" + html.Digest:                       true,
		"/v2/files/report/blobs/" + html.Digest:                       false,
		"/v2/files/report/manifests/1":                                false,
	} {
		header := s.client.Want(t, http.StatusOK, http.MethodGet, path, nil).Header
		csp := header.Get("Content-Security-Policy")
		if !strings.Contains(csp, "sandbox") || !strings.Contains(csp, "default-src 'none'") || header.Get("X-Content-Type-Options") != "nosniff" ||
			strings.Contains(header.Get("Content-Type"), "html") || attachment && !strings.HasPrefix(header.Get("Content-Disposition"), "attachment") {
			t.Errorf("%s: Content-Type %q, Content-Disposition %q, Content-Security-Policy %q, X-Content-Type-Options %q", path, header.Get("Content-Type"), header.Get("Content-Disposition"), csp, header.Get("X-Content-Type-Options"))
		}
	}
	// A browser that opens one of them gets no page: it stays where it is.
	b := newTab(t, w.browser, s.url)
	b.open("/files/report:1")
	before := b.url()
	b.click("td.act a", "Download")
	b.waitFor("the answer of the file", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, request := range b.requests {
			if strings.Contains(request, "/-/file/") {
				return true
			}
		}
		return false
	})
	if b.url() != before {
		t.Errorf("a download leads to %s", b.url())
	}
	report(t, "download", b.hostile(http.StatusOK, nil))
}
