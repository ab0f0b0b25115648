package web

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cubby/server/auth"

	"github.com/opencontainers/go-digest"
	"golang.org/x/net/html"
)

// packChart makes the archive of a chart; files are names and texts by turns.
func packChart(t testing.TB, files ...string) string {
	t.Helper()
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	for i := 0; i < len(files); i += 2 {
		h := &tar.Header{Name: "web/" + files[i], Size: int64(len(files[i+1])), Mode: 0o644, Typeflag: tar.TypeReg}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(files[i+1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// usualChart returns the files of a chart, with others as the test wants them.
func usualChart(more ...string) (files []string) {
	all := map[string]string{
		"Chart.yaml":                     "apiVersion: v2\nname: web\nversion: 1.2.3+build.5\nappVersion: 4.5.6\ndescription: Serves the web\nhome: https://example.com/\nicon: https://example.com/icon.png\nsources: [https://example.com/source, 'javascript:alert(1)']\nkeywords: [web]\nmaintainers: [{name: Ada, email: ada@example.com}]\ndependencies:\n- {name: redis, version: 18.x, repository: https://charts.example.com, condition: redis.enabled}\n- {name: local, version: 0.1.0}\n",
		"values.yaml":                    "# values\nreplicas: 1\nimage:\n  repository: team/api\n  tag: \"1.0\"\n",
		"values.schema.json":             `{"required":["replicas"],"properties":{"replicas":{"type":"integer","default":1,"description":"how many"}}}`,
		"README.md":                      "# Web\n\nIt *serves*.\n\n| a | b |\n|---|---|\n| c | d |\n\n```sh\nhelm\n```\n",
		"templates/deployment.yaml":      "kind: {{ .Values.x }}\n",
		"templates/NOTES.txt":            "Thanks\n",
		"templates/sub/odd name?#%.yaml": "odd\n",
		"crds/thing.yaml":                "kind: CustomResourceDefinition\n",
		"charts/local/Chart.yaml":        "name: local\n",
		"logo.png":                       "\x89PNG\x00",
	}
	for i := 0; i < len(more); i += 2 {
		all[more[i]] = more[i+1]
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		files = append(files, name, all[name])
	}
	return files
}

// chart pushes a chart, as helm does.
func (s *site) chart(repo, archive string, tags ...string) digest.Digest {
	s.t.Helper()
	config := `{"name":"web","version":"1.2.3+build.5","description":"of the configuration"}`
	return s.put(repo, imageType, fmt.Sprintf(`{"schemaVersion":2,"config":%s,"layers":[%s]}`,
		descriptor(chartConfigType, s.blob(repo, config), len(config), ""), descriptor(chartArchiveType, s.blob(repo, archive), len(archive), "")), tags...)
}

// chartPages are the pages of a chart but its overview.
func chartPages(of string) []string {
	return []string{of + "/-/chart/values", of + "/-/chart/schema", of + "/-/chart/templates", of + "/-/chart/readme", of + "/-/chart/files"}
}

func TestChartPages(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.fill()
	host := strings.TrimPrefix(s.url, "http://")
	at := "/team/chart:1.2.3_build.5"
	wants(t, "overview", s.get(reader, at), 200, "Serves the web", "Chartweb 1.2.3+build.5", "App version4.5.6", "Keywordsweb", "redis", "18.x", "redis.enabled", "packed in it",
		"team/api:1.0", "Ada ada@example.com", "Packed chartslocal", "Resource definitions1 file", "which is not loaded here", "Provenance filenone", "helm install chart oci://"+host+"/team/chart --version 1.2.3+build.5 --plain-http", "HelmRelease", "kind: Application", "Files", "Media type", "-cannot be read")
	wants(t, "values", s.get(reader, at+"/-/chart/values"), 200, "values.yaml", "replicas: 1", "Download the file")
	if body := s.get(reader, at+"/-/chart/values").body; !strings.Contains(body, `<a href="#L3"><bdi>image</bdi></a>`) || !strings.Contains(body, `id="L3">image:`) {
		t.Error("the values have no anchors")
	}
	wants(t, "schema", s.get(reader, at+"/-/chart/schema"), 200, "replicas requiredinteger1how many")
	wants(t, "templates", s.get(reader, at+"/-/chart/templates"), 200, "templates/deployment.yaml", "crds/thing.yaml", "templates/NOTES.txt")
	wants(t, "template", s.get(reader, at+"/-/chart/templates/deployment.yaml"), 200, "kind: {{ .Values.x }}")
	wants(t, "odd name", s.get(reader, at+"/-/chart/templates/sub/odd%20name%3F%23%25.yaml"), 200, "odd")
	wants(t, "notes", s.get(reader, at+"/-/chart/templates/NOTES.txt"), 200, "Thanks")
	wants(t, "CRD", s.get(reader, at+"/-/chart/files/crds/thing.yaml"), 200, "CustomResourceDefinition")
	wants(t, "files", s.get(reader, at+"/-/chart/files"), 200, "logo.png", "charts/local/Chart.yaml")
	wants(t, "no text", s.get(reader, at+"/-/chart/files/logo.png"), 200, "It is not a text.", "-Download the file")
	wants(t, "README", s.get(reader, at+"/-/chart/readme"), 200, "README.md", "It serves.")
	if body := s.get(reader, at+"/-/chart/readme").body; !strings.Contains(body, `<h3 id="readme-web">Web</h3>`) || !strings.Contains(body, "<em>serves</em>") {
		t.Errorf("the README is not laid out: %s", body)
	}
	wants(t, "README of the repository", s.get(reader, "/team/chart/-/readme"), 200, "README.md of 1.2.3_build.5", "It serves.")
	wants(t, "the same by another path", s.get(reader, at+"/-/chart"), 200, "Serves the web")
	for _, path := range []string{"/-/chart/templates/none.yaml", "/-/chart/files/none", "/-/chart/download/none", "/-/chart/download/logo.png", "/-/chart/templates/", "/-/chart/none", "/-/chart/values/x", "/-/chart/files/../values.yaml"} {
		wants(t, path, s.get(reader, at+path), 404)
	}
	for _, path := range append(chartPages("/team/api:1.0"), "/team/api:1.0/-/chart/download/values.yaml", "/team/api:1.0/-/readme", "/team/files:v1/-/readme", "/team/files:v1/-/chart/values") {
		wants(t, path, s.get(reader, path), 404)
	}
	a := s.get(reader, at+"/-/chart/download/values.yaml")
	if a.StatusCode != 200 || !strings.HasPrefix(a.body, "# values\n") || a.Header.Get("Content-Disposition") != "attachment; filename=values.yaml" || a.Header.Get("Content-Security-Policy") != fileCSP || a.Header.Get("Content-Type") != "application/octet-stream" {
		t.Errorf("a download: %d %v %q", a.StatusCode, a.Header, a.body)
	}
}

// TestChartMore: a provenance file, an old media type, no archive, and no README.
func TestChartMore(t *testing.T) {
	t.Parallel()
	s := newSite(t, withoutUsers)
	config := `{"name":"web","version":"1.2.3","description":"of the configuration"}`
	put := func(tag string, layers ...string) {
		s.put("c", imageType, fmt.Sprintf(`{"schemaVersion":2,"config":%s,"layers":[%s]}`, descriptor(chartConfigType, s.blob("c", config), len(config), ""), strings.Join(layers, ",")), tag)
	}
	archive := packChart(t, "Chart.yaml", "name: small\nversion: 1.0.0\ndeprecated: true\n")
	s.blob("c", archive)
	put("signed", descriptor(chartProvenanceType, s.blob("c", "signed"), 6, ""), descriptor(chartArchiveOld, sum(archive), len(archive), ""))
	wants(t, "signed", s.get(viewerLocal, "/c:signed"), 200, "Provenance file"+sum("signed").Encoded()[:12]+" nobody has verified it here", "small", "deprecated", "-of the configuration")
	for page, want := range map[string]string{"values": "no values.yaml", "schema": "no values.schema.json", "templates": "no templates", "readme": "no README"} {
		wants(t, page, s.get(viewerLocal, "/c:signed/-/chart/"+page), 200, want)
	}
	put("none")
	put("absent", descriptor(chartArchiveType, missing, 10, ""))
	for tag, want := range map[string]string{"none": "The manifest names no archive", "absent": "The archive of the chart is not stored here."} {
		wants(t, tag, s.get(viewerLocal, "/c:"+tag), 200, want, "of the configuration", "web 1.2.3")
		for _, path := range chartPages("/c:" + tag) {
			if a := s.get(viewerLocal, path); a.StatusCode != 200 {
				t.Errorf("%s: %d", path, a.StatusCode)
			}
		}
	}
}

// TestChartHostile: each hostile archive has its pages, within limits, which say in a sentence what is wrong.
func TestChartHostile(t *testing.T) {
	t.Parallel()
	s := newSite(t, withoutUsers)
	good := packChart(t, usualChart()...)
	lines := []string{"a0: &a0 [x, x]\n"}
	for i := 1; i < 30; i++ {
		lines = append(lines, fmt.Sprintf("a%d: &a%d [*a%d, *a%d, *a%d]\n", i, i, i-1, i-1, i-1))
	}
	laughs := strings.Join(lines, "")
	for name, tt := range map[string]struct{ archive, page, says string }{
		"empty":       {"", "values", "not compressed with gzip"},
		"zip":         {"PK\x03\x04", "files", "not compressed with gzip"},
		"cut":         {good[:len(good)/2], "templates", "damaged"},
		"bomb":        {packChart(t, usualChart("zeros", strings.Repeat("\x00", 6<<20))...), "files", "grows more than"},
		"traversal":   {packChart(t, usualChart("../../etc/passwd", "x")...), "files", "1 of its entries are not shown"},
		"not-utf-8":   {packChart(t, usualChart("values.yaml", "a: \xff")...), "values", "It is not a text."},
		"not-yaml":    {packChart(t, usualChart("values.yaml", "a: [")...), "values", "cannot be read as YAML"},
		"no-facts":    {packChart(t, usualChart("Chart.yaml", "[")...), "values", "Chart.yaml cannot be read"},
		"laughs":      {packChart(t, usualChart("values.yaml", laughs, "Chart.yaml", laughs)...), "values", "Chart.yaml cannot be read"},
		"deep-schema": {packChart(t, usualChart("values.schema.json", strings.Repeat(`{"properties":{"a":`, 9999))...), "schema", "nested too deeply"},
		"loop-schema": {packChart(t, usualChart("values.schema.json", `{"properties":{"a":{"$ref":"#"}}}`)...), "schema", "refers to itself"},
		"large":       {packChart(t, usualChart("README.md", strings.Repeat("# a\n", 1<<19))...), "readme", "more than 1 MiB"},
		"tangled":     {packChart(t, usualChart("README.md", strings.Repeat("[a](b \"", 40<<10))...), "readme", "shown as it is"},
		"long-lines":  {packChart(t, usualChart("values.yaml", "a: "+strings.Repeat("x", 1<<20-10))...), "values", "cannot be read as YAML"},
		"many-lines":  {packChart(t, usualChart("templates/deployment.yaml", strings.Repeat("a\n", 500_000))...), "templates/deployment.yaml", "only the beginning is shown"},
	} {
		s.chart("hostile", tt.archive, name)
		at := "/hostile:" + name
		start := time.Now()
		for _, path := range append(chartPages(at), at, at+"/-/referrers", at+"/-/raw") {
			w := s.record(viewerLocal, http.MethodGet, path, "")
			if w.Code != 200 || w.Header().Get("Content-Security-Policy") != policyCSP {
				t.Errorf("%s: %d: %.200s", path, w.Code, plainText(w.Body.String()))
			}
			if w.Body.Len() > 8<<20 {
				t.Errorf("%s: %d bytes", path, w.Body.Len())
			}
		}
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("%s took %v", name, took)
		}
		wants(t, name, s.get(viewerLocal, at+"/-/chart/"+tt.page), 200, tt.says)
	}
}

// TestChartPayloads: what a chart says never becomes more than text on its pages.
func TestChartPayloads(t *testing.T) {
	t.Parallel()
	s := newSite(t, withoutUsers)
	said := func(p string) string {
		meta := quoted(map[string]any{
			"name": p, "version": p, "apiVersion": p, "appVersion": p, "kubeVersion": p, "description": p, "type": p, "home": p, "icon": p, "sources": []string{p, "https://example.com/"}, "keywords": []string{p}, "deprecated": true,
			"maintainers": []any{map[string]string{"name": p, "email": p, "url": p}}, "dependencies": []any{map[string]string{"name": p, "version": p, "repository": p, "condition": p, "alias": p}},
		})
		schema := quoted(map[string]any{"title": p, "description": p, "properties": map[string]any{p: map[string]any{"type": p, "default": p, "description": p, "enum": []string{p}}}})
		values := "image: team/x\n" + quoted(p) + ": " + quoted(p)
		return packChart(t, "Chart.yaml", meta, "values.yaml", strings.ReplaceAll(values, "\x00", "0"), "values.schema.json", schema, "README.md", "# R\n\n"+p+"\n\n["+p+"]("+p+")", "templates/a.yaml", p, "templates/"+strings.Trim(strings.ReplaceAll(p, "\x00", "0")+".yaml", "/."), p)
	}
	s.chart("base", said("harmless"), "1")
	s.chart("base", said("https://example.com/x_"), "2")
	paths := []string{":1", ":1/-/chart/values", ":1/-/chart/schema", ":1/-/chart/templates", ":1/-/chart/files", ":1/-/chart/templates/a.yaml"}
	harmless := make([]map[string]bool, len(paths))
	for i, path := range paths {
		harmless[i] = shape(t, s.record(viewerLocal, "GET", "/base"+path, "").Body.String())
		maps.Copy(harmless[i], shape(t, s.record(viewerLocal, "GET", "/base"+strings.Replace(path, ":1", ":2", 1), "").Body.String()))
		for _, other := range []string{"div class", "div role", "ul", "ul class", "li", "p", "a", "a href", "a rel", "bdi", "span", "span class", "br", "nav class", "nav aria-label", "div", "section", "h2", "bdi class"} {
			harmless[i][other] = true
		}
	}
	whole := os.Getenv("CUBBY_GATE") == "1" // else each twelfth payload
	for n, p := range payloads(t) {
		if !whole && n%12 != 0 {
			continue
		}
		repo := fmt.Sprint("payload/p", n)
		s.chart(repo, said(p), "1")
		for i, path := range paths {
			w := s.record(viewerLocal, "GET", "/"+repo+path, "")
			if w.Code != 200 {
				t.Errorf("%s with %q: %d", path, p, w.Code)
			}
			checkHostile(t, fmt.Sprintf("%s with %q", path, p), harmless[i], w.Code, w.Header(), w.Body.String())
		}
		// A README has elements of its own, which package markdown looks after: no script, no style, no event.
		w := s.record(viewerLocal, "GET", "/"+repo+":1/-/chart/readme", "")
		parsePage(t, w.Body.String()).elements(func(e *html.Node, attrs map[string]string) {
			for key := range attrs {
				if strings.HasPrefix(key, "on") || key == "style" || key == "src" && e.Data != "script" {
					t.Errorf("README %q: <%s %s>", p, e.Data, key)
				}
			}
			if e.Data == "script" && attrs["src"] != s.pages.assets().paths["js"] || slices.Contains([]string{"style", "iframe", "img", "object", "base", "embed"}, e.Data) {
				t.Errorf("README %q: <%s>", p, e.Data)
			}
		})
		if at := strings.IndexFunc(w.Body.String(), deceives); at >= 0 {
			t.Errorf("README %q: a character that deceives", p)
		}
	}
}

// TestChartAccess: nobody learns from a chart what is in a repository that he may not pull from.
func TestChartAccess(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.fill()
	host := strings.TrimPrefix(s.url, "http://")
	// What it names is there, is not, and is hidden.
	archive := packChart(t, usualChart("values.yaml", fmt.Sprintf("a: {image: %q}\nb: {image: %q}\nc: {image: %q}\nd: {image: docker.io/team/api}\n", host+"/team/api:1", host+"/secret/vault:1", host+"/team/none:1"),
		"Chart.yaml", fmt.Sprintf("name: web\nversion: 1.0.0\ndependencies:\n- {name: chart, version: '1', repository: 'oci://%[1]s/team'}\n- {name: vault, version: '1', repository: 'oci://%[1]s/secret'}\n- {name: none, version: '1', repository: 'oci://%[1]s/team'}\n- {name: api, version: '1', repository: 'oci://elsewhere/team'}\n", host))...)
	s.chart("team/links", archive, "1")
	links := func(viewer string) (all []string) {
		parsePage(t, s.get(viewer, "/team/links:1").body).elements(func(n *html.Node, attrs map[string]string) {
			if n.Data == "a" && within(n, "table") && !strings.Contains(attrs["href"], "/-/") {
				all = append(all, attrs["href"])
			}
		})
		return all
	}
	if got := fmt.Sprint(links(reader)); got != "[/team/chart /team/api]" {
		t.Errorf("the reader sees links to %s", got)
	}
	if got := fmt.Sprint(links(admin)); got != "[/team/chart /secret/vault /team/api /secret/vault]" {
		t.Errorf("the administrator sees links to %s", got)
	}

	// A chart in a hidden repository is in the cache, and somebody names its archive in a manifest of his own.
	hush := packChart(t, usualChart("values.yaml", "hush: classified\n", "README.md", "# Classified\n")...)
	s.chart("secret/chart", hush, "1")
	wants(t, "the hidden chart", s.get(admin, "/secret/chart:1/-/chart/values"), 200, "classified")
	wants(t, "the hidden README", s.get(admin, "/secret/chart:1/-/chart/readme"), 200, "Classified")
	config := `{"name":"web","version":"1.2.3"}`
	s.put("team/thief", imageType, fmt.Sprintf(`{"schemaVersion":2,"config":%s,"layers":[%s]}`, descriptor(chartConfigType, s.blob("team/thief", config), len(config), ""), descriptor(chartArchiveType, sum(hush), len(hush), "")), "1")
	readmeText := "# Classified docs\n"
	s.artifact("secret/docs", "application/vnd.docs", "text/markdown", "", []string{"README.md", readmeText}, "1")
	wants(t, "the hidden docs", s.get(admin, "/secret/docs:1/-/readme"), 200, "Classified docs")
	s.put("team/thief2", imageType, fmt.Sprintf(`{"schemaVersion":2,"artifactType":"application/vnd.docs","config":%s,"layers":[%s]}`, descriptor(emptyConfig, s.blob("team/thief2", "{}"), 2, ""),
		descriptor("text/markdown", sum(readmeText), len(readmeText), `,"annotations":{"org.opencontainers.image.title":"README.md"}`)), "1")
	for _, path := range append(chartPages("/team/thief:1"), "/team/thief:1", "/team/thief/-/readme", "/team/thief2:1/-/readme", "/team/thief2/-/readme") {
		wants(t, path, s.get(reader, path), 200, "not stored here", "-lassified")
	}

	// What is hidden answers like what is not there.
	for _, viewer := range []string{reader, writer, anonymous} {
		for _, page := range append(chartPages(":1"), ":1/-/chart/templates/deployment.yaml", ":1/-/chart/download/values.yaml", "/-/readme") {
			a, b := s.record(viewer, "GET", "/secret/chart"+page, ""), s.record(viewer, "GET", "/secret/other"+page, "")
			if a.Code != b.Code || clean(a.Body.String(), "secret/chart") != clean(b.Body.String(), "secret/other") || a.Code == 200 {
				t.Errorf("%s as %q: %d, what does not exist %d", page, viewer, a.Code, b.Code)
			}
		}
	}
}

func TestChartStatements(t *testing.T) {
	s := newSite(t)
	s.fill()
	host := strings.TrimPrefix(s.url, "http://")
	s.chart("team/links", packChart(t, usualChart("values.yaml", fmt.Sprintf("a: {image: %q}\n", host+"/team/api:1"))...), "1")
	s.chart("team/broken", "none", "1")
	paths := append(chartPages("/team/links:1"), "/team/links:1", "/team/broken:1", "/team/links/-/readme", "/team/files/-/readme", "/team/files:docs/-/readme", "/team/api/-/readme", "/team/links:1/-/chart/templates/deployment.yaml", "/team/links:1/-/chart/download/values.yaml")
	s.session(admin)
	s.get(admin, "/")
	if err := s.store.FlushUses(); err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		s.record(admin, "GET", path, "") // so that its manifest is described
		n := s.statements(path, true)
		for range 3 {
			n = min(n, s.statements(path, true))
		}
		if n > statementsMax {
			t.Errorf("%s took %d statements, at most %d are allowed", path, n, statementsMax)
		}
	}
}

func TestReadme(t *testing.T) {
	t.Parallel()
	s := newSite(t, withoutUsers)
	s.fill()
	wants(t, "an artifact", s.get(viewerLocal, "/team/files:docs/-/readme"), 200, "README.mdDocs See more.")
	wants(t, "its repository", s.get(viewerLocal, "/team/files/-/readme"), 200, "README.md of docsDocs See more.")
	wants(t, "a description", s.get(viewerLocal, "/team/api/tools/-/readme"), 200, "Description of 1What team/api/tools does")
	wants(t, "no tag", s.get(viewerLocal, "/team/empty/-/readme"), 200, "no tag")
	wants(t, "no repository", s.get(viewerLocal, "/team/none/-/readme"), 404)
	if body := s.get(viewerLocal, "/team/files:v1").body; strings.Contains(body, "/-/readme") {
		t.Error("an artifact without a README has a tab for it")
	}
	for tag, tt := range map[string]struct {
		title, mediaType, text, says string
	}{
		"by-type":  {"about.txt", "text/markdown; charset=utf-8", "*a*", "about.txta"},
		"by-title": {"sub\\readme.MD", "text/plain", "*a*", "readme.MDa"},
		"large":    {"README.md", "text/plain", strings.Repeat("a", 513<<10), "more than is shown here"},
		"binary":   {"README.md", "text/plain", "\x00\xff", "It is not a text."},
		"tangled":  {"README.md", "text/plain", strings.Repeat("> ", 1000), "shown as it is"},
		"hostile":  {"README.md", "text/plain", "<script>alert(1)</script> [a](javascript:x)", "alert(1)"},
	} {
		s.artifact("readmes", "application/vnd.docs", tt.mediaType, "", []string{tt.title, tt.text}, tag)
		wants(t, tag, s.get(viewerLocal, "/readmes:"+tag+"/-/readme"), 200, tt.says)
		wants(t, tag+" of the repository", s.get(viewerLocal, "/readmes/-/readme"), 200)
	}
	s.artifact("plain", "application/vnd.docs", "text/plain", `,"annotations":{"org.opencontainers.image.description":"What *it* is"}`, []string{"a.txt", "a"}, "1")
	wants(t, "an artifact's description", s.get(viewerLocal, "/plain/-/readme"), 200, "Description of 1What *it* is")
	s.artifact("none", "application/vnd.docs", "text/plain", "", []string{"a.txt", "a"}, "2")
	wants(t, "nothing", s.get(viewerLocal, "/none/-/readme"), 200, "no README and no description")
}

// TestChartOnce: however many look at a chart at once, it is read once, and one at a time.
func TestChartOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t, withoutUsers)
	h := s.pages
	var mu sync.Mutex
	reads, at := 0, 0
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			r := &request{Request: must(http.NewRequestWithContext(t.Context(), "GET", "/", nil))(t), who: &auth.Principal{Address: fmt.Sprint("192.0.2.", i)}}
			v, err := made(h, r, fmt.Sprint("key ", i%2), func() (int, int64, error) {
				mu.Lock()
				reads++
				at++
				if at > 1 {
					t.Error("two are made at once")
				}
				mu.Unlock()
				defer func() { mu.Lock(); at--; mu.Unlock() }()
				return i % 2, 10, nil
			})
			if err != nil || v != i%2 {
				t.Errorf("%d: %v, %v", i, v, err)
			}
		})
	}
	wg.Wait()
	if reads != 2 {
		t.Errorf("%d were made", reads)
	}
}
