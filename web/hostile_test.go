package web

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unicode"

	"cubby/store"
	"cubby/store/oci"

	"golang.org/x/net/html"
)

// payloads are what an attacker would write where a registry takes any text (T-20): one a line, quoted as in Go.
func payloads(t *testing.T) (all []string) {
	t.Helper()
	for line := range strings.Lines(string(must(os.ReadFile("testdata/hostile.txt"))(t))) {
		all = append(all, must(strconv.Unquote(strings.TrimSpace(line)))(t))
	}
	if len(all) < 300 {
		t.Fatalf("%d payloads", len(all))
	}
	return all
}

// shape returns which elements a page has, with which attributes.
func shape(t *testing.T, body string) map[string]bool {
	t.Helper()
	all := make(map[string]bool)
	parsePage(t, body).elements(func(n *html.Node, attrs map[string]string) {
		all[n.Data] = true
		for key := range attrs {
			all[n.Data+" "+key] = true
		}
	})
	return all
}

// checkHostile fails the test when a page has an element, an attribute, a link, a character or a header that came from a
// payload. harmless are what pages of the kind have without one.
func checkHostile(t *testing.T, what string, harmless map[string]bool, status int, header http.Header, body string) {
	t.Helper()
	if status >= 500 {
		t.Errorf("%s: status %d", what, status)
	}
	for key, values := range header {
		if !headersKnown[key] {
			t.Errorf("%s: the header %q", what, key)
		}
		for _, v := range values {
			if strings.ContainsFunc(v, func(c rune) bool { return c < 0x20 || c == 0x7f }) {
				t.Errorf("%s: the header %s: %q", what, key, v)
			}
			if u, err := url.Parse(v); key == "Location" && (err != nil || u.Host != "" || u.Scheme != "" || !strings.HasPrefix(v, "/") || strings.HasPrefix(v, "//") || strings.HasPrefix(v, `/\`)) {
				t.Errorf("%s: it leads to %q", what, v)
			}
		}
	}
	if got := header.Get("Content-Security-Policy"); got != policyCSP {
		t.Errorf("%s: the policy %q", what, got)
	}
	if header.Get("Content-Type") != "text/html; charset=utf-8" || body == "" {
		return
	}
	if at := strings.IndexFunc(body, deceives); at >= 0 {
		t.Errorf("%s: the character %q in %q", what, []rune(body[at:])[0], body[max(0, at-40):min(len(body), at+40)])
	}
	parsePage(t, body).elements(func(n *html.Node, attrs map[string]string) {
		if !harmless[n.Data] {
			t.Errorf("%s: the element <%s>", what, n.Data)
		}
		for key, value := range attrs {
			if !harmless[n.Data+" "+key] && !usual[n.Data+" "+key] {
				t.Errorf("%s: the attribute %s=%q of <%s>", what, key, value, n.Data)
			}
			if strings.ContainsFunc(value, deceives) {
				t.Errorf("%s: a character in %s=%q", what, key, value)
			}
			if key == "href" || key == "src" || key == "action" || key == "formaction" {
				u, err := url.Parse(value)
				if err != nil || u.Scheme != "" && u.Scheme != "http" && u.Scheme != "https" || u.Scheme == "" && (u.Host != "" || strings.HasPrefix(value, "//") || strings.HasPrefix(value, `/\`)) || u.Scheme != "" && (n.Data != "a" || attrs["rel"] != "nofollow noreferrer") {
					t.Errorf("%s: <%s %s=%q>, %v", what, n.Data, key, value, err)
				}
			}
		}
		if n.FirstChild != nil && n.FirstChild.Type == html.TextNode && strings.ContainsFunc(n.FirstChild.Data, deceives) {
			t.Errorf("%s: a character in the text %q", what, n.FirstChild.Data)
		}
	})
}

// usual are attributes that a page of a kind may have or not.
var usual = map[string]bool{"option selected": true, "th aria-sort": true, "a aria-current": true, "html data-theme": true, "li class": true, "td title": true, "input autofocus": true}

var headersKnown = map[string]bool{
	"Content-Type": true, "Content-Security-Policy": true, "X-Content-Type-Options": true, "Referrer-Policy": true, "Cross-Origin-Opener-Policy": true, "Cache-Control": true, "Vary": true,
	"Etag": true, "Content-Length": true, "Location": true, "Set-Cookie": true, "Retry-After": true, "Allow": true,
}

// deceives reports whether a character shows nothing, or makes others look like what they are not.
func deceives(c rune) bool {
	return c != '\n' && c != '\t' && (unicode.Is(unicode.Cc, c) || unicode.Is(unicode.Bidi_Control, c)) || c >= 0x200b && c <= 0x200f || c == 0x2028 || c == 0x2029 || c == 0xfeff || c >= 0xe0000 && c <= 0xe007f
}

// hostileImage pushes an image that says some texts wherever it may, to a repository of its own.
func (s *site) hostileImage(repo string, texts []string, shift int) {
	one := func(i int) string { return texts[(i+shift)%len(texts)] }
	labels, env, history, volumes := make(map[string]string), []string{}, []any{}, make(map[string]any)
	for i, p := range texts {
		labels[p+" key"], labels[fmt.Sprint("value ", i)] = p, p
		env = append(env, p, "PASSWORD="+p)
		history = append(history, map[string]any{"created_by": p}, map[string]any{"comment": p, "empty_layer": true})
		volumes[p] = struct{}{}
	}
	config := quoted(map[string]any{"os": "linux", "architecture": "amd64", "author": one(0), "config": map[string]any{
		"Labels": labels, "Env": env, "Cmd": texts, "Entrypoint": texts, "User": one(1), "WorkingDir": one(2), "StopSignal": one(3), "Volumes": volumes, "ExposedPorts": volumes,
	}, "history": history})
	annotations := map[string]string{}
	for i, key := range []string{"description", "source", "url", "documentation", "licenses", "title", "version", "vendor", "revision", "base.name", "created", "authors"} {
		annotations["org.opencontainers.image."+key] = one(i)
	}
	for i, p := range texts {
		annotations[p], annotations[fmt.Sprint("a", i)] = "x", p
	}
	image := s.put(repo, imageType, fmt.Sprintf(`{"schemaVersion":2,"config":%s,"layers":[],"annotations":%s}`, descriptor(configType, s.blob(repo, config), len(config), ""), quoted(annotations)), "image")
	var layers []string
	for i, p := range texts {
		layers = append(layers, descriptor(one(i+1), sum(p), 1, `,"annotations":`+quoted(map[string]string{"org.opencontainers.image.title": p})))
	}
	settings := quoted(map[string]any{"x": texts})
	s.put(repo, imageType, fmt.Sprintf(`{"schemaVersion":2,"artifactType":%s,"config":%s,"layers":[%s],"annotations":%s,"subject":%s}`,
		quoted(one(0)), descriptor(one(1), s.blob(repo, settings), len(settings), ""), strings.Join(layers, ","), quoted(annotations), descriptor(imageType, image, 1, "")), "artifact")
	var entries []string
	for i, p := range texts {
		entries = append(entries, descriptor(imageType, sum(p+"child"), 1, fmt.Sprintf(`,"platform":{"os":%s,"architecture":%s,"variant":%s,"os.version":%s}`, quoted(p), quoted(one(i)), quoted(p), quoted(p))))
	}
	s.put(repo, indexType, fmt.Sprintf(`{"schemaVersion":2,"manifests":[%s],"annotations":%s}`, strings.Join(entries, ","), quoted(annotations)), "index")
	// Clients choose how they call themselves, and operators how users and rules are called.
	if err := s.store.DeleteTag(s.t.Context(), name(repo), tagOf("image"), store.Condition{}, store.Actor{Name: one(0), Address: one(1), Client: one(2)}); err != nil {
		s.t.Error(err)
	}
	m, err := oci.ParseManifest(imageType, fmt.Appendf(nil, `{"schemaVersion":2,"config":%s,"layers":[],"annotations":%s}`, descriptor(configType, sum(config), len(config), ""), quoted(annotations)))
	if err != nil {
		s.t.Error(err)
		return
	}
	p := store.ManifestPut{Name: name(repo), Digest: image, Manifest: m, Tags: []oci.Tag{tagOf("image")}, Sparse: store.SparseAll, By: store.Actor{Name: one(0), Address: one(1), Client: one(2)}}
	if _, err := s.store.PutManifest(s.t.Context(), p); err != nil {
		s.t.Error(err)
	}
}

// hostilePages are those that show what hostileImage pushed.
func hostilePages(repo string) []string {
	return []string{"/" + repo, "/" + repo + ":image", "/" + repo + ":artifact", "/" + repo + ":index", "/" + repo + ":image/-/raw", "/" + repo + ":image/-/referrers", "/" + repo + "/-/history", "/" + repo + "/-/manifests", "/" + repo + ":image/-/delete"}
}

// TestHostileContent: what was pushed with a payload looks like what was pushed without one.
func TestHostileContent(t *testing.T) {
	t.Parallel()
	s := newSite(t, withoutUsers)
	all := payloads(t)
	const at = 12 // payloads in an image
	s.hostileImage("base", []string{"harmless", "https://example.com/", "another", "more", "text", "last"}, 0)
	s.hostileImage("link", []string{"https://example.com/"}, 0)
	var wg sync.WaitGroup
	for i := range (len(all) + at - 1) / at {
		wg.Go(func() {
			// Each text is each of the single ones once.
			s.hostileImage(fmt.Sprint("hostile/p", i), all[i*at:min(len(all), (i+1)*at)], i)
		})
	}
	wg.Wait()
	for i, page := range hostilePages("base") {
		harmless := shape(t, s.record(viewerLocal, "GET", page, "").Body.String())
		maps.Copy(harmless, shape(t, s.record(viewerLocal, "GET", hostilePages("link")[i], "").Body.String()))
		for n := range (len(all) + at - 1) / at {
			path := hostilePages(fmt.Sprint("hostile/p", n))[i]
			w := s.record(viewerLocal, "GET", path, "")
			if w.Code != 200 {
				t.Errorf("%s: status %d: %s", path, w.Code, plainText(w.Body.String()))
			}
			checkHostile(t, path, harmless, w.Code, w.Header(), w.Body.String())
		}
	}
}

// TestHostileRequests: each payload in each parameter, field, cookie and path.
func TestHostileRequests(t *testing.T) {
	t.Parallel()
	s := newSite(t, withoutUsers)
	c := s.fill()
	// With two texts for each page: one that finds something and one that does not.
	harmless := make(map[string]bool)
	requests := func(p string) (all [][3]string) { // method, target, form
		q := url.QueryEscape(p)
		form := func(names ...string) string {
			v := make(url.Values)
			for _, name := range names {
				v.Set(name, p)
			}
			return v.Encode()
		}
		return [][3]string{
			{"GET", "/?q=" + q + "&kind=" + q + "&sort=" + q + "&page=" + q, ""},
			{"GET", "/?kind=" + q, ""},
			{"GET", "/team/api?q=" + q + "&sort=" + q + "&signatures=" + q, ""},
			{"GET", "/team/api?platform=" + q + "&" + q + "=" + q, ""},
			{"GET", "/team/api?after=" + q, ""},
			{"GET", "/team/api/-/manifests?show=" + q + "&after=" + q, ""},
			{"GET", "/team/api/-/history?after=" + q + "&x=" + q, ""},
			{"GET", "/team/api/-/tags/delete?tag=" + q, ""},
			{"GET", "/-/search?q=" + q, ""},
			{"GET", "/-/login?next=" + q, ""},
			{"GET", "/-/help/" + url.PathEscape(p), ""},
			{"GET", "/" + url.PathEscape(p), ""},
			{"GET", "/team/api:" + url.PathEscape(p), ""},
			{"GET", "/-/assets/" + url.PathEscape(p), ""},
			{"POST", "/-/theme", "theme=dark&" + form("next")},
			{"POST", "/-/theme", form("theme")},
			{"POST", "/-/settings", form("theme", "density", "client", "next")},
			{"POST", "/-/login", form("user", "password", "next")},
			{"POST", "/team/api/-/restore", form("tag", "to", "next")},
			{"POST", "/team/api/-/restore", "tag=1.0&to=" + c.amd.String() + "&" + form("next")},
			{"POST", "/team/api/-/tags/delete", form("tag", "confirm")},
			{"POST", "/team/api/-/delete", form("confirm", "plan")},
			{"POST", "/team/api:1.0/-/delete", form("digest")},
		}
	}
	for _, p := range []string{"harmless", "api", "1.0", "linux/amd64", "image", "latest", "name", "tagged", "", "org.opencontainers.image.description", "docker", c.amd.Encoded()[:12]} {
		for _, r := range requests(p) {
			if !strings.HasPrefix(r[1], "/team/api/-/restore") {
				maps.Copy(harmless, shape(t, s.record(viewerLocal, r[0], r[1], r[2]).Body.String()))
			}
		}
	}
	before := slices.Clone(s.tagsOf("team/api"))
	whole := os.Getenv("CUBBY_GATE") == "1" // else each payload is in a sixth of the requests
	for n, p := range payloads(t) {
		for i, r := range requests(p) {
			if !whole && (n+i)%6 != 0 {
				continue
			}
			w := s.record(viewerLocal, r[0], r[1], r[2])
			checkHostile(t, fmt.Sprintf("%s %.80q (%d)", r[0], r[1], i), harmless, w.Code, w.Header(), w.Body.String())
		}
	}
	if got := s.tagsOf("team/api"); !slices.Equal(got, before) {
		t.Errorf("tags %v, were %v", got, before)
	}
}

// TestHostileHost: nothing of a Host header that is none stands in a page.
func TestHostileHost(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.fill()
	harmless := shape(t, s.get(anonymous, "/public/tool").body)
	for _, p := range payloads(t) {
		r := must(http.NewRequestWithContext(t.Context(), "GET", s.url+"/public/tool", nil))(t)
		r.Host, r.RequestURI, r.RemoteAddr = p, "/public/tool", "192.0.2.1:1"
		r.Header.Set("Cookie", cookieTheme+"="+p+"; "+cookieClient+"="+p+"; "+cookieFlash+"="+p)
		r.Header.Set("X-Forwarded-Host", p)
		r.Header.Set("User-Agent", p)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		checkHostile(t, fmt.Sprintf("the host %q", p), harmless, w.Code, w.Header(), w.Body.String())
		if !hostForm.MatchString(p) && !strings.Contains(w.Body.String(), "<code>docker pull localhost:5000/public/tool:") {
			t.Errorf("the host %q: the page names another one", p)
		}
	}
}
