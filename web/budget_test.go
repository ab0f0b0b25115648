package web

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"cubby/store/oci"
)

// statementsMax is how many SQL statements a page takes.
const statementsMax = 6

// TestStatements counts them for every page as an administrator, with banners looked up anew and remembered.
func TestStatements(t *testing.T) {
	s := newSite(t)
	c := s.fill()
	s.fillModules()
	for range 3 { // so that lists have more than one row of everything
		s.image("team/api", "amd64", fmt.Sprint(time.Now().UnixNano()), fmt.Sprint("more-", time.Now().UnixNano()))
	}
	s.session(admin)
	s.get(admin, "/")
	if err := s.store.FlushUses(); err != nil { // the use of the session, too
		t.Fatal(err)
	}
	paths := []string{"/?sort=-pulls", "/?q=te*", "/team/api?q=1", "/team/api?sort=name&platform=linux/amd64&signatures=1", "/team/api/-/manifests?show=parts", "/team/api/-/history/1.0", "/-/search?q=" + c.amd.Encoded()[:12], "/-/search?q=",
		"/team/api:latest", "/team/api@" + c.amd.String(), "/team/api@" + c.index.String(), "/team/chart:1.2.3_build.5", "/team/files:v1", "/team/api:2.0/-/delete", "/team/api@" + c.amd.String() + "/-/delete", "/none/at/all", "/UPPER", "/-/none", "/team/files:v1/-/file/" + sum("root").String(),
		"/team/api/-/blob/" + c.config.String(), "/team/api/-/blob/" + c.config.String() + "/download", "/team/api/-/tags/delete?tag=1.0&tag=2.0", "/team",
		"/team/network:1.0", "/team/network:1.0/-/module", "/team/network:1.0/-/module/modules/subnet", "/team/network:1.0/-/module/files/main.tf", "/team/network:1.0/-/module/download/main.tf", "/team/network:1.0/-/module/files/none"}
	for p, path := range samples(s, "team/api", oci.Reference{Tag: tagOf("1.0")}) {
		if pages[p].get != nil {
			paths = append(paths, path)
		}
	}
	most := int64(0)
	for _, path := range paths {
		for _, cold := range []bool{true, false} {
			n := s.statements(path, cold)
			for range 3 { // the store notes uses in the background, and counts that too
				n = min(n, s.statements(path, cold))
			}
			most = max(most, n)
			if n > statementsMax {
				t.Errorf("%s took %d statements, at most %d are allowed; banners cold: %v", path, n, statementsMax, cold)
			}
		}
	}
	t.Logf("at most %d statements", most)
	if most < 4 {
		t.Errorf("at most %d statements: they are not counted", most)
	}
}

// statements returns how many a page takes, with its banners looked up anew or remembered.
func (s *site) statements(path string, cold bool) int64 {
	if cold {
		s.pages.warnings.mu.Lock()
		s.pages.warnings.at = time.Time{}
		s.pages.warnings.mu.Unlock()
	}
	before := s.store.Statements()
	if w := s.record(admin, http.MethodGet, path, ""); w.Code >= 500 {
		s.t.Errorf("%s: status %d", path, w.Code)
	}
	return s.store.Statements() - before
}

// TestWeight: what a browser has to fetch, compressed.
func TestWeight(t *testing.T) {
	t.Parallel()
	s := newSite(t, withoutUsers)
	for i := range 2 * pageRows {
		tags := []string{fmt.Sprintf("1.%d.%d", i/10, i), fmt.Sprintf("build-%x", sum(fmt.Sprint(i)).Encoded()[:12])}
		s.image("team/api", []string{"amd64", "arm64", "s390x"}[i%3], fmt.Sprint(i), tags...)
	}
	for _, tt := range []struct {
		what, path string
		most       int
	}{
		{"a page of 50 tags", "/team/api", 20 << 10},
		{"a page of 50 manifests", "/team/api/-/manifests", 20 << 10},
		{"a page of 50 moves", "/team/api/-/history", 20 << 10},
		{"the style sheet", s.pages.assets().paths["css"], 12 << 10},
		{"the script", s.pages.assets().paths["js"], 6 << 10},
	} {
		a := s.get(viewerLocal, tt.path, "Accept-Encoding", "identity")
		n := len(compress([]byte(a.body)))
		if a.StatusCode != 200 || n > tt.most {
			t.Errorf("%s: %d bytes, at most %d are allowed", tt.what, n, tt.most)
		}
		t.Logf("%s: %d bytes, %d before compression", tt.what, n, len(a.body))
	}
}
