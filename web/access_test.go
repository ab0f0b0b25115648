package web

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"cubby/store"
	"cubby/store/oci"

	"golang.org/x/net/html"
)

// samples returns a path of each place, about a repository where it is about one.
func samples(s *site, repo string, ref oci.Reference) map[place]string {
	n := name(repo)
	of, at := repositoryPath(n), (route{name: n, ref: ref}).path()
	return map[place]string{
		placeHome: "/", placeNamespace: "/team/", placeSearch: "/-/search?q=api", placeStorage: "/-/storage", placeCollect: "/-/storage/gc", placeCollection: "/-/storage/gc/running",
		placeLogin: "/-/login", placeLogout: "/-/logout", placeSettings: "/-/settings", placeTheme: "/-/theme", placeSession: "/-/session", placeHelp: "/-/help", placeHelpClient: "/-/help/docker",
		placeAsset: s.pages.assets().paths["css"], placeRobots: "/robots.txt", placeIcon: "/favicon.ico",
		placeRepository: of, placeManifests: of + "/-/manifests", placeHistory: of + "/-/history", placeRestore: of + "/-/restore", placeDeleteTags: of + "/-/tags/delete?tag=1",
		placeLayers: at + "/-/layers", placeFiles: at + "/-/files/etc", placeLayerFiles: of + "/-/blob/" + testDigest + "/files/etc",
		placeManifest: at, placeReferrers: at + "/-/referrers", placeRaw: at + "/-/raw", placeRawDownload: at + "/-/raw/download", placeFile: at + "/-/file/" + testDigest,
		placeRepositoryReadme: of + "/-/readme", placeReadme: at + "/-/readme", placeChartValues: at + "/-/chart/values", placeChartSchema: at + "/-/chart/schema", placeChartTemplates: at + "/-/chart/templates",
		placeChartFiles: at + "/-/chart/files", placeChartFile: at + "/-/chart/templates/a.yaml", placeChartDownload: at + "/-/chart/download/values.yaml",
		placeDelete: at + "/-/delete", placeBlob: of + "/-/blob/" + testDigest, placeBlobDownload: of + "/-/blob/" + testDigest + "/download",

		placeAudit: "/-/admin/audit", placeAuditCSV: "/-/admin/audit.csv", placeUsers: "/-/admin/users", placeAnonymous: "/-/admin/anonymous", placeUser: userPath(reader),
		placeUserGrant: userPath(reader) + "/grant", placeUserRevoke: userPath(reader) + "/revoke", placeUserPassword: userPath(reader) + "/password", placeUserToken: userPath(reader) + "/token",
		placeUserRemove: userPath(reader) + "/remove", placeTokens: "/-/tokens", placeTokenRevoke: "/-/tokens/revoke",
		placeModule: at + "/-/module", placeModuleFile: at + "/-/module/files/main.tf", placeModuleDownload: at + "/-/module/download/main.tf", placeAbout: "/-/about",
	}
}

// allowed is the rule of who may open what.
func allowed(viewer string, need access, repo string) bool {
	team, public := strings.HasPrefix(repo, "team/"), strings.HasPrefix(repo, "public/")
	switch {
	case viewer == admin || viewer == viewerLocal:
		return true
	case need == everybody || need == settingOwn || need == listing:
		return true
	case need == members:
		return viewer != anonymous
	case need == pulling:
		return public || team && viewer != anonymous
	case need == deleting || need == restoring:
		return team && viewer == writer
	}
	return false
}

// TestAccess: every page, for every viewer, about what is there and what is not.
func TestAccess(t *testing.T) {
	t.Parallel()
	for _, viewers := range [][]string{{anonymous, reader, writer, admin}, {viewerLocal}} {
		s := newSite(t, func(c *siteConfig) {
			if viewers[0] == viewerLocal {
				withoutUsers(c)
			}
		})
		s.fill()
		for _, repo := range []string{"team/api", "team/none", "public/tool", "public/none", "secret/vault", "secret/none"} {
			for p, path := range samples(s, repo, oci.Reference{Tag: tagOf("1.0")}) {
				for _, viewer := range viewers {
					s.checkAccess(viewer, p, path, repo)
				}
			}
		}
		for p := range pages {
			if samples(s, "a", oci.Reference{})[p] == "" {
				t.Errorf("no path is known for place %d", p)
			}
		}
	}
}

// checkAccess asks for a page by all methods. No form says enough to change anything.
func (s *site) checkAccess(viewer string, p place, path, repo string) {
	s.t.Helper()
	e := pages[p]
	for _, m := range []struct {
		method string
		page   page
		need   access
	}{{http.MethodGet, e.get, e.getAccess}, {http.MethodHead, e.get, e.getAccess}, {http.MethodPost, e.post, e.postAccess}} {
		a := s.record(viewer, m.method, path, "").Result()
		login := strings.HasPrefix(a.Header.Get("Location"), "/-/login?next=")
		what := fmt.Sprintf("%s %s as %q: %d", m.method, path, viewer, a.StatusCode)
		switch {
		case m.page == nil:
			if a.StatusCode != http.StatusMethodNotAllowed || a.Header.Get("Allow") != strings.Join(e.methods(), ", ") {
				s.t.Errorf("%s, Allow %q", what, a.Header.Get("Allow"))
			}
		case allowed(viewer, m.need, repo):
			if login || a.StatusCode == 403 || a.StatusCode == 405 || a.StatusCode >= 500 || a.StatusCode == 401 && p != placeLogin {
				s.t.Errorf("%s, want it allowed", what)
			}
		case viewer == anonymous && m.method == http.MethodPost:
			if a.StatusCode != 401 {
				s.t.Errorf("%s, want 401", what)
			}
		case viewer == anonymous:
			if !login {
				s.t.Errorf("%s, want the way to log in", what)
			}
		case a.StatusCode != 403:
			s.t.Errorf("%s, want 403", what)
		}
		if p == placeLogout && m.method == http.MethodPost {
			delete(s.sessions, viewer)
		}
	}
}

// TestHiddenIsAbsent: what a viewer may not see answers like what does not exist.
func TestHiddenIsAbsent(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c := s.fill()
	for _, viewer := range []string{anonymous, reader, writer} {
		for _, ref := range []oci.Reference{{Tag: tagOf("hush-1")}, {Digest: c.vault}} {
			there, absent := samples(s, "secret/vault", ref), samples(s, "secret/other", ref)
			for p := range pages {
				for _, method := range []string{http.MethodGet, http.MethodPost} {
					if there[p] == absent[p] {
						continue
					}
					a, b := s.record(viewer, method, there[p], ""), s.record(viewer, method, absent[p], "")
					if x, y := clean(a.Body.String(), "secret/vault"), clean(b.Body.String(), "secret/other"); a.Code != b.Code || x != y || clean(a.Header().Get("Location"), "secret/vault") != clean(b.Header().Get("Location"), "secret/other") {
						t.Errorf("%s %s as %q: %d\n%s\nwhat does not exist: %d\n%s", method, there[p], viewer, a.Code, x, b.Code, y)
					}
				}
			}
		}
		for _, pair := range [][2]string{{"/secret/", "/nobody/"}, {"/secret", "/nobody"}, {"/secret/vault/", "/secret/other/"}, {"/SECRET/vault", "/SECRET/other"}, {"/-/r/secret/vault", "/-/r/secret/other"}} {
			a, b := s.get(viewer, pair[0]), s.get(viewer, pair[1])
			if x, y := clean(a.body, word(pair[0])), clean(b.body, word(pair[1])); a.StatusCode != b.StatusCode || x != y {
				t.Errorf("%s as %q: %d\n%s\n%s: %d\n%s", pair[0], viewer, a.StatusCode, x, pair[1], b.StatusCode, y)
			}
		}
	}
}

// word returns the part of a path by which pages about it differ.
func word(path string) string {
	return strings.Trim(strings.TrimPrefix(path, "/-/r"), "/")
}

// TestListsHide: no list tells of a repository that the viewer may not see.
func TestListsHide(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c := s.fill()
	// These find secret/vault, or what it shares, by everything there is.
	queries := []string{"/?q=v*", "/?q=ault", "/?sort=-only", "/-/search?q=vau", "/-/search?q=hus", "/-/search?q=assified", "/-/search?q=org.opencontainers.image.description",
		"/-/search?q=" + c.vault.Encoded()[:12], "/-/search?q=" + c.config.Encoded()[:12], "/-/search?q=" + c.layer.Encoded(), "/-/search?q=" + sum(strings.Repeat("classified ", 1000)).Encoded()[:8],
		"/-/search?q=1.0", "/-/storage", "/", "/team/", "/team/api", "/team/vault", "/team/api@" + c.vault.String(), "/public/vault", "/none/", "/vault/"}
	found := 0
	for _, path := range queries {
		if strings.Contains(s.get(admin, path).body, "/secret/vault") {
			found++
		}
		for _, viewer := range []string{anonymous, reader, writer} {
			d := parsePage(t, s.get(viewer, path).body)
			d.elements(func(n *html.Node, attrs map[string]string) {
				if strings.Contains(attrs["href"], "secret") || n.Data == "bdi" && slices.ContainsFunc(hidden, func(h string) bool { return strings.Contains(text(n), h) && !strings.Contains(path, h[:3]) }) {
					t.Errorf("%s as %q shows %s %q", path, viewer, attrs["href"], text(n))
				}
			})
		}
	}
	if found < 12 {
		t.Errorf("only %d pages show the administrator what is hidden", found)
	}
	// Numbers do not tell either.
	for _, tt := range []struct{ viewer, path, text string }{
		{reader, "/", "5 repositories"}, {anonymous, "/", "1 repository"}, {admin, "/", "10 repositories"}, {reader, "/team/", "4 repositories"},
		{anonymous, "/-/search?q=vault", "Nothing that you may see matches"}, {reader, "/-/search?q=hush", "Nothing that you may see matches"},
	} {
		wants(t, tt.path+" as "+tt.viewer, s.get(tt.viewer, tt.path), 200, tt.text)
	}
	for _, viewer := range []string{reader, writer, anonymous} {
		wants(t, "storage", s.get(viewer, "/-/storage"), 200, "-On disk", "-Can be freed", "-unshared", "Largest repositories")
	}
	wants(t, "storage", s.get(admin, "/-/storage"), 200, "On disk", "Can be freed", "secret/vault")
	// A near miss names what may be seen only.
	wants(t, "a near miss", s.get(reader, "/team/apu"), 404, "Did you mean team/api")
	wants(t, "a near miss of what is hidden", s.get(reader, "/team/vaultt"), 404, "-Did you mean secret")
	wants(t, "a near miss of what is hidden, for who sees it", s.get(admin, "/secret/vaul"), 404, "Did you mean secret/vault")
}

// TestAnonymousChangesNothing: whatever anonymous is granted, a visitor who did not log in changes nothing.
func TestAnonymousChangesNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.anonymous("public/**", store.ActionsAll)
	dgst := s.image("public/tool", "amd64", "1", "1")
	a := s.get(anonymous, "/public/tool")
	wants(t, "the repository", a, 200, "-Delete", "-Undo")
	if strings.Contains(a.body, "/-/delete") || strings.Contains(a.body, `type="checkbox"`) {
		t.Error("the page offers to delete")
	}
	for _, f := range [][]string{
		{"/public/tool:1/-/delete", "digest", dgst.String()}, {"/public/tool@" + dgst.String() + "/-/delete", "digest", dgst.String()}, {"/public/tool/-/tags/delete", "tag", "1@" + dgst.String()},
		{"/public/tool/-/delete", "confirm", "public/tool"}, {"/public/tool/-/restore", "tag", "2", "to", dgst.String()}, {"/-/storage/gc", "now", "1"},
	} {
		wants(t, "POST "+f[0], s.post(anonymous, f[0], f[1:]...), 401)
		if !strings.HasSuffix(f[0], "/restore") {
			leads(t, "GET "+f[0], s.get(anonymous, f[0]), "/-/login?next="+url.QueryEscape(f[0]))
		}
	}
	if got := s.tagsOf("public/tool"); !slices.Equal(got, []string{"1"}) || len(s.collector.runs) > 0 {
		t.Errorf("tags %v, %d collections", got, len(s.collector.runs))
	}
}

// TestReadOnly: nothing is changed, nothing is offered; what concerns the browser goes on.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	s := newSite(t, readOnly)
	s.fill()
	before := fmt.Sprint(s.tagsOf("team/api"))
	for p, path := range samples(s, "team/api", oci.Reference{Tag: tagOf("1.0")}) {
		e := pages[p]
		if e.post == nil || e.postAccess == everybody || e.postAccess == settingOwn {
			continue
		}
		if a := s.post(admin, path, "digest", testDigest, "tag", "1.0", "confirm", "team/api"); a.StatusCode != http.StatusConflict || !strings.Contains(a.body, "--read-only") {
			t.Errorf("POST %s: %d", path, a.StatusCode)
		}
	}
	if got := fmt.Sprint(s.tagsOf("team/api")); got != before || len(s.collector.runs) > 0 {
		t.Errorf("tags %s, were %s; %d collections", got, before, len(s.collector.runs))
	}
	a := s.get(admin, "/team/api")
	wants(t, "the repository", a, 200, "-Delete", "-Undo")
	if !strings.Contains(a.body, "read-only") || strings.Contains(a.body, "/-/delete") {
		t.Error("the page offers to delete, or does not say that nothing can be changed")
	}
	leads(t, "theme", s.post(admin, "/-/theme", "theme", "dark"), "/")
	leads(t, "login", s.post(anonymous, "/-/login", "user", admin, "password", "admin-password"), "/")
}

// TestMethods: what a page does not know is refused, and said.
func TestMethods(t *testing.T) {
	t.Parallel()
	s := newSite(t, withoutUsers)
	s.fill()
	for p, path := range samples(s, "team/api", oci.Reference{Tag: tagOf("1.0")}) {
		for _, method := range []string{"PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "get"} {
			if a := s.do(viewerLocal, method, path, ""); a.StatusCode != http.StatusMethodNotAllowed || a.Header.Get("Allow") != strings.Join(pages[p].methods(), ", ") {
				t.Errorf("%s %s: %d, Allow %q", method, path, a.StatusCode, a.Header.Get("Allow"))
			}
		}
		if pages[p].get != nil {
			continue
		}
		get, head := s.do(viewerLocal, "GET", path, ""), s.do(viewerLocal, "HEAD", path, "")
		if length := head.Header.Get("Content-Length"); get.StatusCode != http.StatusMethodNotAllowed || length != strconv.Itoa(len(get.body)) {
			t.Errorf("%s: %d with %d bytes for GET, %d with %s for HEAD", path, get.StatusCode, len(get.body), head.StatusCode, length)
		}
	}
	if got := s.tagsOf("team/api"); len(got) != 5 {
		t.Errorf("tags %v", got)
	}
}

// TestErrorTable: each error that may reach a page has a status and a title, and none is hidden by one before it.
func TestErrorTable(t *testing.T) {
	for i, row := range table {
		if http.StatusText(row.status) == "" || row.status < 400 || row.title == "" {
			t.Errorf("%v: %d %q", row.is, row.status, row.title)
		}
		for _, before := range table[:i] {
			if before.is == row.is {
				t.Errorf("%v stands in the table twice", row.is)
			}
		}
	}
}
