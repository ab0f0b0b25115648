package web

import (
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// A document is a parsed page.
type document struct {
	root  *html.Node
	links []string // hrefs and srcs
}

func parsePage(t *testing.T, body string) document {
	t.Helper()
	root, err := html.Parse(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return document{root: root}
}

// elements calls f for each element.
func (d document) elements(f func(n *html.Node, attrs map[string]string)) {
	for n := range d.root.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		attrs := make(map[string]string, len(n.Attr))
		for _, a := range n.Attr {
			attrs[a.Key] = a.Val
		}
		f(n, attrs)
	}
}

// text returns the text of a node.
func text(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			b.WriteString(d.Data)
		}
	}
	return b.String()
}

// plainText returns what a page says between its bars, with single spaces; all of it when it has no main part.
func plainText(body string) string {
	root, err := html.Parse(strings.NewReader(body))
	if err != nil {
		return body
	}
	said := body
	for n := range root.Descendants() {
		if n.Type == html.ElementNode && n.Data == "main" {
			said = text(n)
		}
	}
	return strings.Join(strings.Fields(said), " ")
}

// checkPage fails the test where a page breaks a rule of the house, and returns it parsed.
func checkPage(t *testing.T, what, host string, a answer) document {
	t.Helper()
	for header, want := range map[string]string{
		"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": policyCSP, "X-Content-Type-Options": "nosniff", "Cache-Control": "private, no-cache",
	} {
		if got := a.Header.Get(header); got != want {
			t.Errorf("%s: %s is %q, want %q", what, header, got, want)
		}
	}
	d := parsePage(t, a.body)
	ids, count := make(map[string]bool), make(map[string]int)
	d.elements(func(n *html.Node, attrs map[string]string) {
		count[n.Data]++
		for key := range attrs {
			if key == "style" || strings.HasPrefix(key, "on") {
				t.Errorf("%s: <%s> has the attribute %s", what, n.Data, key)
			}
		}
		if id, ok := attrs["id"]; ok && ids[id] {
			t.Errorf("%s: two elements have the id %q", what, id)
		}
		ids[attrs["id"]] = true
		switch n.Data {
		case "html":
			if attrs["lang"] != "en" {
				t.Errorf("%s: its language is %q", what, attrs["lang"])
			}
		case "style", "base", "iframe", "object", "embed":
			t.Errorf("%s: it has <%s>", what, n.Data)
		case "script":
			if !strings.HasPrefix(attrs["src"], "/-/assets/") || text(n) != "" {
				t.Errorf("%s: a script from %q with the text %q", what, attrs["src"], text(n))
			}
		case "title":
			if n.Parent.Data == "head" && (!strings.HasSuffix(text(n), " · "+host) || len(text(n)) <= len(" · "+host)) {
				t.Errorf("%s: its title is %q, want it to end in the host %s", what, text(n), host)
			}
		case "form":
			d.checkForm(t, what, attrs)
		case "input", "select", "textarea":
			if attrs["type"] != "hidden" && attrs["aria-label"] == "" && attrs["id"] == "" && !within(n, "label") {
				t.Errorf("%s: the field %q has no label", what, attrs["name"])
			}
		}
		for _, key := range []string{"href", "src"} {
			if link, ok := attrs[key]; ok {
				d.links = append(d.links, link)
			}
		}
	})
	if count["h1"] != 1 || count["main"] != 1 || count["title"] == 0 {
		t.Errorf("%s: %d h1, %d main, %d title", what, count["h1"], count["main"], count["title"])
	}
	// A parser drops a form in a form.
	if n := strings.Count(a.body, "<form"); n != count["form"] {
		t.Errorf("%s: %d forms are written, a browser sees %d", what, n, count["form"])
	}
	return d
}

func within(n *html.Node, element string) bool {
	for p := range n.Ancestors() {
		if p.Data == element {
			return true
		}
	}
	return false
}

// checkForm fails the test unless a form goes to a page that takes it.
func (d document) checkForm(t *testing.T, what string, attrs map[string]string) {
	t.Helper()
	if attrs["action"] == "" {
		if attrs["method"] != "" {
			t.Errorf("%s: a form is posted to where it stands", what)
		}
		return // it stays where it is
	}
	u, err := url.Parse(attrs["action"])
	if err != nil || u.Host != "" || u.Scheme != "" {
		t.Errorf("%s: a form goes to %q", what, attrs["action"])
		return
	}
	rt, err := parsePath(u.Path)
	if e := pages[rt.place]; err != nil || attrs["method"] == "post" && e.post == nil || attrs["method"] == "" && e.get == nil {
		t.Errorf("%s: a form goes by %q to %q, which does not take it, %v", what, attrs["method"], attrs["action"], err)
	}
}

// TestCrawl follows every link that a viewer sees, and looks at every page.
func TestCrawl(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c := s.fill()
	s.fillModules()
	s.collector.plan = Plan{
		Tags: 1, Manifests: 1, Blobs: 1, Frees: 1000, Kept: 2000, KeptUntil: s.pages.now().AddDate(0, 0, 7),
		Lines: []PlanLine{
			{Remove: true, Kind: "tag", Repository: name("team/api"), Tag: "1.0", Rule: "old", Why: "it is old"},
			{Remove: true, Kind: "manifest", Repository: name("team/api"), Digest: c.amd, Size: 500},
			{Remove: true, Kind: "blob", Repository: name("team/api"), Digest: c.layer, Size: 500},
			{Kind: "manifest", Repository: name("team/api"), Digest: c.old, Size: 500, Until: s.pages.now().AddDate(0, 0, 7)},
		},
	}
	seen := 0
	for _, viewer := range []string{admin, reader, anonymous} {
		begin := []string{"/", "/-/settings", "/-/help", "/-/about", "/-/storage", "/-/search?q=team", "/-/search?q=" + c.amd.Encoded()[:10], "/-/search?q=hush", "/-/login",
			"/public/tool", "/team/empty", "/team/api?q=none", "/team/api@" + c.old.String(), "/nothing/here", "/-/nothing", "/UPPER", "/team/api:1.0?x", "/team/api/-/delete", "/team/api/-/tags/delete?tag=1.0&tag=gone", "/team/files/-/blob/" + sum("root").String()}
		seen += s.crawl(viewer, begin)
	}
	if seen < 300 {
		t.Errorf("only %d pages were seen", seen)
	}
	t.Logf("%d pages", seen)
}

// crawl follows links from some pages on. Links that a page shows must work, but for what the first pages ask for.
func (s *site) crawl(viewer string, queue []string) (n int) {
	s.t.Helper()
	t, host := s.t, strings.TrimPrefix(s.url, "http://")
	from := make(map[string]string) // the page that links to another
	known := make(map[string]bool)
	first := len(queue)
	for i := 0; i < len(queue); i++ {
		path := queue[i]
		what := fmt.Sprintf("%s as %q", path, viewer)
		a := s.get(viewer, path)
		if a.StatusCode >= 500 || i >= first && a.StatusCode >= 400 {
			t.Errorf("%s, a link of %s: status %d: %s", what, from[path], a.StatusCode, plainText(a.body))
			continue
		}
		links := []string{a.Header.Get("Location")}
		if a.Header.Get("Content-Type") == "text/html; charset=utf-8" && a.StatusCode < 300 || a.StatusCode >= 400 {
			links = checkPage(t, what, host, a).links
			n++
		}
		for _, link := range links {
			u, err := url.Parse(link)
			if err != nil || u.Host == "" && link != "" && link[0] != '/' && link[0] != '#' {
				t.Errorf("%s: the link %q is no path, %v", what, link, err)
			}
			if err != nil || u.Host != "" || link == "" || link[0] == '#' {
				continue
			}
			rt, err := parsePath(u.Path)
			// Every order of a list is looked at once, and every form is tested elsewhere.
			if err != nil {
				t.Errorf("%s: the link %q: %v", what, link, err)
			} else if key := u.Path + "?" + strings.Join(parameters(u), "&"); !known[key] && pages[rt.place].get != nil {
				known[key], from[u.RequestURI()] = true, path
				queue = append(queue, u.RequestURI())
			}
		}
		if len(queue) > 2000 {
			t.Fatalf("as %q there is no end of links", viewer)
		}
	}
	return n
}

// parameters returns the names of a link's parameters, with the values of those that are few.
func parameters(u *url.URL) (all []string) {
	for name, values := range u.Query() {
		if name == "sort" || name == "show" {
			name += "=" + values[0]
		}
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// TestHeaders: what no page is has the headers of its own that keep it harmless.
func TestHeaders(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c := s.fill()
	css, js, icon := s.pages.assets().paths["css"], s.pages.assets().paths["js"], s.pages.assets().paths["svg"]
	for _, tt := range []struct {
		path, mediaType, cache string
		file                   string // its name, if it is a download
	}{
		{css, "text/css; charset=utf-8", "public, max-age=31536000, immutable", ""},
		{js, "text/javascript; charset=utf-8", "public, max-age=31536000, immutable", ""},
		{icon, "image/svg+xml", "public, max-age=31536000, immutable", ""},
		{"/favicon.ico", "image/svg+xml", "public, max-age=86400", ""},
		{"/robots.txt", "text/plain; charset=utf-8", "", ""},
		{"/team/api:1.0/-/raw/download", "application/octet-stream", "private, no-cache", c.amd.Encoded()[:12] + ".json"},
		{"/team/files/-/blob/" + sum("root").String() + "/download", "application/octet-stream", "private, no-cache", sum("root").Encoded()},
		{"/team/files:v1/-/file/" + sum("<script>alert(1)</script>\n").String(), "application/octet-stream", "private, no-cache", "report.html"},
		{"/team/files:v1/-/file/" + sum("root").String(), "application/octet-stream", "private, no-cache", "passwd"},
	} {
		a := s.get(admin, tt.path)
		csp := policyCSP
		if tt.file != "" {
			csp = fileCSP
			if got, want := a.Header.Get("Content-Disposition"), "attachment; filename="+tt.file; got != want {
				t.Errorf("%s: %s, want %s", tt.path, got, want)
			}
		}
		if a.StatusCode != 200 || a.Header.Get("Content-Type") != tt.mediaType || a.Header.Get("Cache-Control") != tt.cache ||
			a.Header.Get("Content-Security-Policy") != csp || a.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: status %d, headers %v", tt.path, a.StatusCode, a.Header)
		}
	}
	for _, a := range []answer{s.get(anonymous, "/team/api"), s.post(admin, "/-/theme", "theme", "dark"), s.get(admin, "/-/assets/none.css"), s.get(admin, "/team/files/-/blob/"+missing.String()+"/download")} {
		if a.StatusCode < 300 || a.Header.Get("Content-Security-Policy") != policyCSP || a.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: status %d, headers %v", a.Request.URL, a.StatusCode, a.Header)
		}
	}
	if a := s.get(admin, "/team/files/-/blob/"+sum("root").String()+"/download", "Range", "bytes=1-2"); a.StatusCode != 206 || a.body != "oo" {
		t.Errorf("a part of a download: %d %q", a.StatusCode, a.body)
	}
}

// TestTransfer gets pages whole, as HEAD, compressed, and not again. /-/storage is not among them: it shows the free space of
// the machine, which others change.
func TestTransfer(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c := s.fill()
	for _, path := range []string{"/", "/team/api", "/team/api:1.0", "/team/", "/-/help", "/-/search?q=api", "/team/api@" + c.index.String() + "/-/raw", "/none", s.pages.assets().paths["css"], "/robots.txt",
		"/team/api:1.0/-/raw/download", "/team/files/-/blob/" + sum("root").String() + "/download"} {
		whole := s.get(admin, path, "Accept-Encoding", "identity")
		head := s.do(admin, http.MethodHead, path, "", "Accept-Encoding", "identity")
		for _, header := range []string{"Date"} {
			whole.Header.Del(header)
			head.Header.Del(header)
		}
		if head.body != "" || head.StatusCode != whole.StatusCode || fmt.Sprint(head.Header) != fmt.Sprint(whole.Header) && path != "/robots.txt" {
			t.Errorf("HEAD %s: %d %v with %d bytes, GET %d %v", path, head.StatusCode, head.Header, len(head.body), whole.StatusCode, whole.Header)
		}
		etag := whole.Header.Get("ETag")
		if a := s.get(admin, path, "If-None-Match", etag, "Accept-Encoding", "gzip"); etag != "" && (a.StatusCode != 304 || a.body != "" || a.Header.Get("ETag") != etag) {
			t.Errorf("%s again: %d %v", path, a.StatusCode, a.Header)
		}
		if strings.HasSuffix(path, "download") || path == "/robots.txt" {
			continue
		}
		for _, accepts := range []string{"gzip", "br, GZIP;q=0.5", "deflate,gzip"} {
			a := s.get(admin, path, "Accept-Encoding", accepts)
			if a.Header.Get("Content-Encoding") != "gzip" || gunzip(t, a.body) != whole.body {
				t.Errorf("%s for %s: %v", path, accepts, a.Header)
			}
		}
		for _, accepts := range []string{"gzip;q=0", "gzip; q=0", "br", ""} {
			if a := s.get(admin, path, "Accept-Encoding", accepts); a.Header.Get("Content-Encoding") != "" || a.body != whole.body {
				t.Errorf("%s for %q: %v", path, accepts, a.Header)
			}
		}
	}
	// Another viewer, another page; another host too.
	etag := s.get(admin, "/team/api").Header.Get("ETag")
	if a := s.get(reader, "/team/api", "If-None-Match", etag); a.StatusCode != 200 {
		t.Errorf("the reader is told that a page is as the administrator saw it: %d", a.StatusCode)
	}
}

// TestTemplateNames: a template of the same name in another file would silently take its place.
func TestTemplateNames(t *testing.T) {
	t.Parallel()
	files := must(fs.Glob(templateFiles, "templates/*.html"))(t)
	at := make(map[string]string)
	for _, file := range files {
		shared := strings.HasPrefix(path.Base(file), "parts") || path.Base(file) == "layout.html"
		for _, m := range regexp.MustCompile(`\{\{define "(\w+)"\}\}`).FindAllStringSubmatch(string(must(fs.ReadFile(templateFiles, file))(t)), -1) {
			if other, ok := at[m[1]]; ok && m[1] != "content" {
				t.Errorf("%s and %s both define %q", other, file, m[1])
			}
			if shared || m[1] != "content" {
				at[m[1]] = file
			}
		}
	}
	if len(at) < 20 {
		t.Errorf("only %d templates were found", len(at))
	}
}
