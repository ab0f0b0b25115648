package web

import (
	"errors"
	"strings"
	"testing"

	"cubby/store"
	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
)

const testDigest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

var longName = strings.Repeat("a", 127) + "/" + strings.Repeat("b", 127) // 255 characters

func TestParsePath(t *testing.T) {
	d512 := "sha512:" + strings.Repeat("ab", 64)
	repository := func(s string) route { return route{place: placeRepository, name: name(s)} }
	byTag := func(p place, s, tag string) route {
		return route{place: p, name: name(s), ref: oci.Reference{Tag: tagOf(tag)}}
	}
	byDigest := func(p place, s, d string) route {
		return route{place: p, name: name(s), ref: oci.Reference{Digest: digest.Digest(d)}}
	}
	for _, tt := range []struct {
		path string
		want route
	}{
		{"/", route{place: placeHome}},
		{"", route{place: placeHome}},
		{"/robots.txt", route{place: placeRobots}},
		{"/favicon.ico", route{place: placeIcon}},
		{"/-/search", route{place: placeSearch}},
		{"/-/storage", route{place: placeStorage}},
		{"/-/storage/gc", route{place: placeCollect}},
		{"/-/storage/gc/running", route{place: placeCollection}},
		{"/-/storage/gc/17", route{place: placeCollection, id: 17}},
		{"/-/login", route{place: placeLogin}},
		{"/-/logout", route{place: placeLogout}},
		{"/-/settings", route{place: placeSettings}},
		{"/-/theme", route{place: placeTheme}},
		{"/-/session", route{place: placeSession}},
		{"/-/help", route{place: placeHelp}},
		{"/-/help/docker", route{place: placeHelpClient, arg: "docker"}},
		{"/-/assets/0123.css", route{place: placeAsset, arg: "0123.css"}},
		{"/-/tokens", route{place: placeTokens}},
		{"/-/tokens/revoke", route{place: placeTokenRevoke}},
		{"/-/admin/audit", route{place: placeAudit}},
		{"/-/admin/audit.csv", route{place: placeAuditCSV}},
		{"/-/admin/users", route{place: placeUsers}},
		{"/-/admin/users/a@b.example", route{place: placeUser, arg: "a@b.example"}},
		{"/-/admin/users/~..", route{place: placeUser, arg: ".."}},
		{"/-/admin/users/~./remove", route{place: placeUserRemove, arg: "."}},
		{"/-/admin/users/a/grant", route{place: placeUserGrant, arg: "a"}},

		{"/alpine", repository("alpine")},
		{"/team/api", repository("team/api")},
		{"/a/tags/b", repository("a/tags/b")},
		{"/metrics", repository("metrics")},
		{"/v2", repository("v2")},
		{"/v2x/y", repository("v2x/y")},
		{"/-/r/v2", repository("v2")},
		{"/-/r/v2/foo", repository("v2/foo")},
		{"/-/r/robots.txt", repository("robots.txt")},
		{"/-/r/favicon.ico", repository("favicon.ico")},
		{"/" + longName, repository(longName)},
		{"/team/", route{place: placeNamespace, namespace: "team/", name: name("team")}},
		{"/team/api/", route{place: placeNamespace, namespace: "team/api/", name: name("team/api")}},
		{"/-/r/v2/", route{place: placeNamespace, namespace: "v2/", name: name("v2")}},

		{"/team/api:1.9", byTag(placeManifest, "team/api", "1.9")},
		{"/a:A_b.c-d", byTag(placeManifest, "a", "A_b.c-d")},
		{"/a:-", route{}},
		{"/robots.txt:1", byTag(placeManifest, "robots.txt", "1")},
		{"/a@" + testDigest, byDigest(placeManifest, "a", testDigest)},
		{"/a@" + d512, byDigest(placeManifest, "a", d512)},
		{"/a:1.9@" + testDigest, byDigest(placeManifest, "a", testDigest)},
		{"/" + longName + ":" + strings.Repeat("t", 128), byTag(placeManifest, longName, strings.Repeat("t", 128))},

		{"/a/-/manifests", route{place: placeManifests, name: name("a")}},
		{"/a/-/readme", route{place: placeRepositoryReadme, name: name("a")}},
		{"/a:1/-/readme", byTag(placeReadme, "a", "1")},
		{"/a:1/-/chart", byTag(placeManifest, "a", "1")},
		{"/a:1/-/chart/readme", byTag(placeReadme, "a", "1")},
		{"/a:1/-/chart/values", byTag(placeChartValues, "a", "1")},
		{"/a:1/-/chart/schema", byTag(placeChartSchema, "a", "1")},
		{"/a:1/-/chart/templates", byTag(placeChartTemplates, "a", "1")},
		{"/a:1/-/chart/files", byTag(placeChartFiles, "a", "1")},
		{"/a:1/-/chart/templates/x/-/y.yaml", route{place: placeChartFile, name: name("a"), ref: oci.Reference{Tag: tagOf("1")}, arg: "templates/x/-/y.yaml"}},
		{"/a:1/-/chart/files/crds/x.yaml", route{place: placeChartFile, name: name("a"), ref: oci.Reference{Tag: tagOf("1")}, arg: "crds/x.yaml"}},
		{"/a:1/-/chart/download/x", route{place: placeChartDownload, name: name("a"), ref: oci.Reference{Tag: tagOf("1")}, arg: "x"}},
		{"/a/-/history", route{place: placeHistory, name: name("a")}},
		{"/a/-/history/1.9", byTag(placeHistory, "a", "1.9")},
		{"/a/-/restore", route{place: placeRestore, name: name("a")}},
		{"/a/-/delete", route{place: placeDelete, name: name("a")}},
		{"/a/-/tags/delete", route{place: placeDeleteTags, name: name("a")}},
		{"/a/-/blob/" + testDigest, route{place: placeBlob, name: name("a"), digest: testDigest}},
		{"/a/-/blob/" + testDigest + "/download", route{place: placeBlobDownload, name: name("a"), digest: testDigest}},
		{"/a/-/blob/" + testDigest + "/files", route{place: placeLayerFiles, name: name("a"), digest: testDigest}},
		{"/a/-/blob/" + testDigest + "/files/", route{place: placeLayerFiles, name: name("a"), digest: testDigest}},
		{"/a/-/blob/" + testDigest + "/files/etc/-/files", route{place: placeLayerFiles, name: name("a"), digest: testDigest, arg: "etc/-/files"}},
		{"/a:1/-/layers", byTag(placeLayers, "a", "1")},
		{"/a:1/-/files", byTag(placeFiles, "a", "1")},
		{"/a:1/-/files/../x:y@z//", route{place: placeFiles, name: name("a"), ref: oci.Reference{Tag: tagOf("1")}, arg: "../x:y@z//"}},
		{"/a:1/-/referrers", byTag(placeReferrers, "a", "1")},
		{"/a:1/-/raw", byTag(placeRaw, "a", "1")},
		{"/a:1/-/raw/download", byTag(placeRawDownload, "a", "1")},
		{"/a:1/-/delete", byTag(placeDelete, "a", "1")},
		{"/a@" + testDigest + "/-/delete", byDigest(placeDelete, "a", testDigest)},
		{"/a:1/-/file/" + testDigest, route{place: placeFile, name: name("a"), ref: oci.Reference{Tag: tagOf("1")}, digest: testDigest}},
		{"/-/about", route{place: placeAbout}},
		{"/a:1/-/module", byTag(placeModule, "a", "1")},
		{"/a:1/-/module/modules/x/y", withArg(byTag(placeModule, "a", "1"), "modules/x/y")},
		{"/a:1/-/module/examples/x", withArg(byTag(placeModule, "a", "1"), "examples/x")},
		{"/a:1/-/module/files/a/-/b c.tf", withArg(byTag(placeModuleFile, "a", "1"), "a/-/b c.tf")},
		{"/a:1/-/module/download/modules/x/main.tf", withArg(byTag(placeModuleDownload, "a", "1"), "modules/x/main.tf")},
		{"/-/r/v2/-/manifests", route{place: placeManifests, name: name("v2")}},
	} {
		got, err := parsePath(tt.path)
		if tt.want == (route{}) {
			if err == nil {
				t.Errorf("parsePath(%q) = %+v, want an error", tt.path, got)
			}
			continue
		}
		if err != nil || got != tt.want {
			t.Errorf("parsePath(%q) = %+v, %v, want %+v", tt.path, got, err, tt.want)
		}
	}
}

// withArg returns a route with what it has besides.
func withArg(rt route, arg string) route {
	rt.arg = arg
	return rt
}

func TestParseBadPath(t *testing.T) {
	for _, tt := range []struct {
		path string
		want error
	}{
		{"/-", oci.ErrNameInvalid},
		{"/-/", errPath},
		{"/-/none", errPath},
		{"/a/-/blob/" + testDigest + "/filesystem", oci.ErrDigestInvalid},
		{"/a:1/-/filesystem", errPath},
		{"/-/search/", errPath},
		{"/-/help/", nil}, // no client is called so
		{"/-/help/a/b", errPath},
		{"/-/storage/gc/", errPath},
		{"/-/storage/gc/0", errPath},
		{"/-/storage/gc/-1", errPath},
		{"/-/storage/gc/99999999999999999999", errPath},
		{"/-/admin", errPath},
		{"/-/admin/users/", store.ErrUserInvalid},
		{"/-/admin/users/a/", errPath},
		{"/-/admin/users/a/none", errPath},
		{"/-/admin/users/~a", store.ErrUserInvalid},
		{"/-/admin/users/anonymous", store.ErrUserInvalid},
		{"/-/r/", oci.ErrNameInvalid},
		{"/-/r/-/search", oci.ErrNameInvalid},
		{"//", oci.ErrNameInvalid},
		{"//team", oci.ErrNameInvalid},
		{"/team//api", oci.ErrNameInvalid},
		{"/UPPER", oci.ErrNameInvalid},
		{"/team/../api", oci.ErrNameInvalid},
		{"/.", oci.ErrNameInvalid},
		{"/a b", oci.ErrNameInvalid},
		{"/a\x00", oci.ErrNameInvalid},
		{"/é", oci.ErrNameInvalid},
		{"/" + longName + "c", oci.ErrNameInvalid},
		{"/a:", errPath},
		{"/a:1:2", oci.ErrNameInvalid},
		{"/a:.x", oci.ErrTagInvalid},
		{"/a:" + strings.Repeat("t", 129), oci.ErrTagInvalid},
		{"/a@", oci.ErrDigestInvalid},
		{"/a@sha256:12", oci.ErrDigestInvalid},
		{"/a@md5:0123", oci.ErrDigestInvalid},
		{"/a@" + strings.ToUpper(testDigest), oci.ErrDigestInvalid},
		{"/a:.@" + testDigest, oci.ErrTagInvalid},
		{"/:1", oci.ErrNameInvalid},
		{"/@" + testDigest, oci.ErrNameInvalid},
		{"/a/-/", errPath},
		{"/a/-/none", errPath},
		{"/a/-/history/", oci.ErrTagInvalid},
		{"/a/-/history/1/2", oci.ErrTagInvalid},
		{"/a/-/blob/x", oci.ErrDigestInvalid},
		{"/a/-/blob/" + testDigest + "/", oci.ErrDigestInvalid},
		{"/a/-/raw", errPath},
		{"/a:1/-/manifests", errPath},
		{"/a:1/-/file/", oci.ErrDigestInvalid},
		{"/a:1/-/raw/", errPath},
		{"/a/-/delete/-/delete", errPath},
		{"/a/-/chart/values", errPath},
		{"/a:1/-/chart/", errPath},
		{"/a:1/-/chart/none", errPath},
		{"/a:1/-/chart/templates/", errPath},
		{"/a:1/-/chart/values/x", errPath},
		{"/a:1/-/chart/files/" + strings.Repeat("x", argMax+1), errPath},
		{"/a/-/module", errPath},
		{"/a:1/-/modules", errPath},
		{"/a:1/-/module/", errPath},
		{"/a:1/-/module/none/x", errPath},
		{"/a:1/-/module/files", errPath},
		{"/a:1/-/module/files/", errPath},
		{"/a:1/-/module/files/../x", errPath},
		{"/a:1/-/module/files//x", errPath},
		{"/a:1/-/module/files/.", errPath},
		{"/a:1/-/module/modules/", errPath},
		{"/a:1/-/module/modules/x/", errPath},
		{"/a:1/-/module/files/" + strings.Repeat("x", argMax+1), errPath},
	} {
		got, err := parsePath(tt.path)
		if !errors.Is(err, tt.want) || tt.want == nil && err != nil {
			t.Errorf("parsePath(%q) = %+v, %v, want %v", tt.path, got, err, tt.want)
		}
	}
}

// TestPathsRoundTrip: what a link names is what its page is about.
func TestPathsRoundTrip(t *testing.T) {
	for _, s := range []string{"a", "v2", "v2/foo", "v2/", "v2x", "metrics", "a/tags/b", "robots.txt", "favicon.ico", "robots.txt/a", "a--b/c__d", "-/r", longName} {
		n, err := oci.ParseName(s)
		if err != nil {
			continue
		}
		for _, path := range []string{repositoryPath(n), tagPath(n, "1.9"), digestPath(n, testDigest), blobPath(n, testDigest)} {
			rt, err := parsePath(path)
			if err != nil || rt.name != n || rt.hasRef() && rt.path() != path || strings.HasPrefix(path, "/v2/") || path == "/v2" {
				t.Errorf("%s: %+v, %v", path, rt, err)
			}
		}
		for _, part := range nameParts(n) {
			if _, err := parsePath(part.Path); err != nil {
				t.Errorf("%s: the part %q leads to %s: %v", s, part.Text, part.Path, err)
			}
			if strings.HasPrefix(part.Path, "/v2/") {
				t.Errorf("%s: the part %q leads to %s, which is the API's", s, part.Text, part.Path)
			}
		}
		for _, item := range namespaces(summariesOf(s), "") {
			if rt, err := parsePath(item.Path); err != nil || rt.place != placeNamespace || strings.HasPrefix(item.Path, "/v2/") {
				t.Errorf("%s: the namespace %q leads to %s: %+v, %v", s, item.Text, item.Path, rt, err)
			}
		}
	}
}

func FuzzParsePath(f *testing.F) {
	for _, s := range []string{"/", "/a", "/a/", "/a:1", "/a@" + testDigest, "/a:1@" + testDigest + "/-/raw", "/-/r/v2/x", "/-/storage/gc/1", "/a/-/blob/" + testDigest, "/a/-/history/1", "//", "/:@", "/a\xff/-/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		rt, err := parsePath(path)
		if err != nil {
			return
		}
		if _, ok := pages[rt.place]; !ok {
			t.Fatalf("parsePath(%q) = %+v, which is no page", path, rt)
		}
		switch rt.place {
		case placeRepository, placeManifest:
			if again, err := parsePath(rt.path()); err != nil || again != rt {
				t.Errorf("parsePath(%q) = %+v, whose path %q is %+v, %v", path, rt, rt.path(), again, err)
			}
		}
	})
}
