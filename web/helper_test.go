package web

import (
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cubby/server/auth"
	"cubby/store"
	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
	"golang.org/x/crypto/bcrypt"
)

const (
	imageType  = "application/vnd.oci.image.manifest.v1+json"
	indexType  = "application/vnd.oci.image.index.v1+json"
	configType = "application/vnd.oci.image.config.v1+json"
	layerType  = "application/vnd.oci.image.layer.v1.tar+gzip"
)

// Viewers of a site with users. On one without, everybody on this machine is viewerLocal.
const (
	anonymous   = ""
	admin       = "admin"
	reader      = "reader"  // may pull from team/**
	writer      = "writer"  // may push to team/**, move tags and delete
	viewerLocal = "(local)" // on a site without users
)

// A site is the pages over a store, served by HTTP.
type site struct {
	t         *testing.T
	store     *store.Store
	guard     *auth.Guard
	pages     *Handler
	collector *collector
	url       string
	sessions  map[string]*http.Cookie
}

// withoutUsers makes a site on which nobody can log in.
func withoutUsers(c *siteConfig) { c.users = nil }

func readOnly(c *siteConfig) { c.web.ReadOnly = true }

type siteConfig struct {
	users map[string]string // name → grants
	web   Config
}

// newSite opens a store and serves its pages until the test ends.
func newSite(t *testing.T, options ...func(*siteConfig)) *site {
	t.Helper()
	c := siteConfig{users: map[string]string{admin: "** admin", reader: "team/** pull", writer: "team/** pull,push,overwrite,delete"}}
	for _, o := range options {
		o(&c)
	}
	st, err := store.Open(t.Context(), store.Options{Dir: t.TempDir(), Role: store.RoleServe, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	s := &site{t: t, store: st, guard: auth.New(auth.Options{Store: st, Cost: bcrypt.MinCost}), collector: &collector{store: st}, sessions: make(map[string]*http.Cookie)}
	for name, grants := range c.users {
		s.addUser(name, grants)
	}
	if len(c.users) > 0 {
		s.anonymous("public/**", store.ActionPull)
	}
	c.web.Store, c.web.Guard, c.web.Collector, c.web.Version = st, s.guard, s.collector, "1.2.3"
	c.web.Clients = []string{"docker", "podman"}
	c.web.Connect = func(_ context.Context, client, host string, https bool, user string) (string, error) {
		return fmt.Sprintf("# /etc/%s.json for %s\n{\"host\": %q, \"https\": %v}\n# Then log in\n%s login %s\n", client, user, host, https, client, host), nil
	}
	c.web.Keep = func(oci.Name) (untagged, used time.Duration) { return 7 * 24 * time.Hour, 30 * 24 * time.Hour }
	s.pages = New(c.web)
	t.Cleanup(s.pages.Close)
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	s.url = srv.URL
	return s
}

// ServeHTTP is what package server does for a page, but for checking where a change comes from.
func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	who, err := s.guard.IdentifyPage(r)
	s.pages.ServePage(w, r, who, err)
}

func (s *site) addUser(user, grants string) {
	s.t.Helper()
	repositories, list, _ := strings.Cut(grants, " ")
	hash := must(bcrypt.GenerateFromPassword([]byte(user+"-password"), bcrypt.MinCost))(s.t)
	g := store.Grant{Repositories: must(oci.ParseGlob(repositories))(s.t), Actions: must(store.ParseActions(list))(s.t)}
	if _, _, err := s.store.AddUser(s.t.Context(), user, string(hash), []store.Grant{g}, store.Actor{}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) anonymous(repositories string, a store.Actions) {
	s.t.Helper()
	g := store.Grant{Repositories: must(oci.ParseGlob(repositories))(s.t), Actions: a}
	if err := s.store.SetAnonymous(s.t.Context(), g, store.Actor{}); err != nil {
		s.t.Fatal(err)
	}
}

// must returns what a call returns, or fails the test.
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// session returns the cookie of a viewer, or nil for who is not logged in.
func (s *site) session(viewer string) *http.Cookie {
	s.t.Helper()
	if viewer == anonymous || viewer == viewerLocal {
		return nil
	}
	if s.sessions[viewer] == nil {
		r := httptest.NewRequest(http.MethodPost, s.url+"/-/login", nil)
		s.sessions[viewer] = must(s.guard.Login(s.t.Context(), r, viewer, viewer+"-password"))(s.t)
	}
	return s.sessions[viewer]
}

// An answer is a response with its body, uncompressed.
type answer struct {
	*http.Response
	body string
}

// cookie returns what the answer sets, or "".
func (a answer) cookie(name string) string {
	for _, c := range a.Cookies() {
		if c.Name == name {
			return c.Value
		}
	}
	return ""
}

// do sends a request; headers are names and values by turns.
func (s *site) do(viewer, method, path, body string, headers ...string) answer {
	s.t.Helper()
	req := must(http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader(body)))(s.t)
	return s.send(viewer, req, headers...)
}

func (s *site) send(viewer string, req *http.Request, headers ...string) answer {
	s.t.Helper()
	if c := s.session(viewer); c != nil {
		req.AddCookie(c)
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			req.Host = headers[i+1]
			continue
		}
		req.Header.Add(headers[i], headers[i+1])
	}
	res := must(http.DefaultTransport.RoundTrip(req))(s.t)
	defer res.Body.Close()
	return answer{res, string(must(io.ReadAll(res.Body))(s.t))}
}

func (s *site) get(viewer, path string, headers ...string) answer {
	s.t.Helper()
	return s.do(viewer, http.MethodGet, path, "", headers...)
}

// post sends a form; fields are names and values by turns.
func (s *site) post(viewer, path string, fields ...string) answer {
	s.t.Helper()
	form := make(url.Values)
	for i := 0; i < len(fields); i += 2 {
		form.Add(fields[i], fields[i+1])
	}
	return s.do(viewer, http.MethodPost, path, form.Encode(), "Content-Type", "application/x-www-form-urlencoded")
}

// record answers a request without a network, for tests that make thousands.
func (s *site) record(viewer, method, target, body string) *httptest.ResponseRecorder {
	s.t.Helper()
	path, query, _ := strings.Cut(target, "?")
	r := httptest.NewRequest(method, s.url+"/", strings.NewReader(body))
	r.RequestURI = target // as the server has it
	r.URL = &url.URL{Path: must(url.PathUnescape(path))(s.t), RawQuery: query}
	r.Host, r.RemoteAddr = strings.TrimPrefix(s.url, "http://"), "127.0.0.1:1234"
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if c := s.session(viewer); c != nil {
		r.AddCookie(c)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

// wants fails the test unless an answer has the status and holds the texts, and none of those behind a dash.
func wants(t *testing.T, what string, a answer, status int, texts ...string) {
	t.Helper()
	if a.StatusCode != status {
		t.Errorf("%s: status %d, want %d: %s", what, a.StatusCode, status, plainText(a.body))
		return
	}
	text := plainText(a.body)
	for _, want := range texts {
		unwanted, no := strings.CutPrefix(want, "-")
		if no == strings.Contains(text, strings.TrimPrefix(unwanted, "")) {
			t.Errorf("%s: %q is there: %v; the page says\n%s", what, unwanted, no, text)
		}
	}
}

// leads fails the test unless an answer leads to a path.
func leads(t *testing.T, what string, a answer, to string) {
	t.Helper()
	if got := a.Header.Get("Location"); a.StatusCode != http.StatusSeeOther || got != to {
		t.Errorf("%s: status %d to %q, want 303 to %q: %s", what, a.StatusCode, got, to, plainText(a.body))
	}
}

// flashed returns the text that the next page shows.
func flashed(t *testing.T, a answer) (f flash) {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.AddCookie(&http.Cookie{Name: cookieFlash, Value: a.cookie(cookieFlash)})
	if got := takeFlash(httptest.NewRecorder(), &request{Request: r}); got != nil {
		return *got
	}
	return flash{}
}

// name, sum and so on make what tests name.

func name(s string) oci.Name { return parsed(oci.ParseName(s)) }

func tagOf(s string) oci.Tag { return parsed(oci.ParseTag(s)) }

func parsed[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func sum(b string) digest.Digest { return oci.SumDigest(digest.SHA256, []byte(b)) }

// blob pushes a blob.
func (s *site) blob(repo, content string) digest.Digest {
	s.t.Helper()
	dgst := sum(content)
	id := must(s.store.StartUpload(name(repo), "test", digest.SHA256))(s.t)
	if err := s.store.FinishUpload(s.t.Context(), name(repo), "test", id, -1, strings.NewReader(content), dgst); err != nil {
		s.t.Fatal(err)
	}
	return dgst
}

// put pushes a manifest.
func (s *site) put(repo, mediaType, raw string, tags ...string) digest.Digest {
	s.t.Helper()
	m := must(oci.ParseManifest(mediaType, []byte(raw)))(s.t)
	p := store.ManifestPut{Name: name(repo), Digest: sum(raw), Manifest: m, Sparse: store.SparseAll, By: store.Actor{Name: "pusher", Address: "192.0.2.1", Client: "docker/28"}}
	for _, tag := range tags {
		p.Tags = append(p.Tags, tagOf(tag))
	}
	must(s.store.PutManifest(s.t.Context(), p))(s.t)
	return sum(raw)
}

// descriptor returns a descriptor as JSON; more are further fields, with a comma in front.
func descriptor(mediaType string, dgst digest.Digest, size int, more string) string {
	return fmt.Sprintf(`{"mediaType":%s,"digest":%q,"size":%d%s}`, quoted(mediaType), dgst, size, more)
}

// quoted returns JSON.
func quoted(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// image pushes an image with a label n.
func (s *site) image(repo, architecture, n string, tags ...string) digest.Digest {
	s.t.Helper()
	config := fmt.Sprintf(`{"created":"2024-01-02T03:04:05Z","os":"linux","architecture":%q,"config":{"Labels":{"n":%q},"Env":["PATH=/bin","DB_PASSWORD=x"],"Cmd":["sh"]},"history":[{"created_by":"RUN make"}]}`, architecture, n)
	layer := "layer " + architecture
	return s.put(repo, imageType, fmt.Sprintf(`{"schemaVersion":2,"config":%s,"layers":[%s],"annotations":{"org.opencontainers.image.description":"What %s does","org.opencontainers.image.source":"https://example.com/%s"}}`,
		descriptor(configType, s.blob(repo, config), len(config), ""), descriptor(layerType, s.blob(repo, layer), len(layer), ""), repo, repo), tags...)
}

// artifact pushes a manifest of an artifact type; files are titles and contents by turns.
func (s *site) artifact(repo, artifactType, fileType, more string, files []string, tags ...string) digest.Digest {
	s.t.Helper()
	var layers []string
	for i := 0; i < len(files); i += 2 {
		layers = append(layers, descriptor(fileType, s.blob(repo, files[i+1]), len(files[i+1]), `,"annotations":{"org.opencontainers.image.title":`+quoted(files[i])+`}`))
	}
	return s.put(repo, imageType, fmt.Sprintf(`{"schemaVersion":2,"artifactType":%s,"config":%s,"layers":[%s]%s}`,
		quoted(artifactType), descriptor(emptyConfig, s.blob(repo, "{}"), 2, ""), strings.Join(layers, ","), more), tags...)
}

func subject(dgst digest.Digest) string { return `,"subject":` + descriptor(imageType, dgst, 1, "") }

// Content of a filled site, by name.
type content struct {
	amd, arm, index, signature, sbom, chart, files, vault, old, attestation digest.Digest
	config, layer                                                           digest.Digest // of amd
}

// missing is in the index and not in the store.
var missing = sum("a manifest that nobody pushed")

// hidden are the texts by which nobody but the admin may learn of secret/vault.
var hidden = []string{"secret/", "vault", "hush", "classified"}

// fill pushes one of each.
func (s *site) fill() (c content) {
	s.t.Helper()
	const repo = "team/api"
	c.amd, c.arm = s.image(repo, "amd64", "1", "1.0"), s.image(repo, "arm64", "1")
	c.old = s.image(repo, "amd64", "old", "old")
	c.attestation = s.artifact(repo, "", "application/vnd.in-toto+json", "", []string{"provenance", `{"predicateType":"https://slsa.dev/provenance/v1"}`})
	platform := func(architecture string) string {
		return fmt.Sprintf(`,"platform":{"os":"linux","architecture":%q}`, architecture)
	}
	c.index = s.put(repo, indexType, fmt.Sprintf(`{"schemaVersion":2,"manifests":[%s,%s,%s,%s]}`,
		descriptor(imageType, c.amd, 500, platform("amd64")), descriptor(imageType, c.arm, 500, platform("arm64")), descriptor(imageType, missing, 500, platform("s390x")),
		descriptor(imageType, c.attestation, 500, fmt.Sprintf(`,"platform":{"os":"unknown","architecture":"unknown"},"annotations":{"vnd.docker.reference.type":"attestation-manifest","vnd.docker.reference.digest":%q}`, c.amd))),
		"2.0", "latest", "stable")
	c.signature = s.artifact(repo, "", "application/vnd.dev.cosign.simplesigning.v1+json", "", []string{"", "signed"}, strings.Replace(c.index.String(), ":", "-", 1)+".sig")
	c.sbom = s.artifact(repo, "application/spdx+json", "application/spdx+json", subject(c.index)+`,"annotations":{"tool":"syft"}`, []string{"sbom.json", `{"spdxVersion":"SPDX-2.3"}`})
	s.artifact(repo, "application/vnd.example.note", "text/plain", subject(c.sbom), []string{"note.txt", "seen"})
	if err := s.store.DeleteTag(s.t.Context(), name(repo), tagOf("old"), store.Condition{}, store.Actor{Name: "someone"}); err != nil {
		s.t.Fatal(err)
	}
	s.image("team/api/tools", "amd64", "tools", "1")
	s.image("public/tool", "amd64", "public", "1", "2")
	for _, repo := range []string{"v2", "v2/foo", "metrics", "robots.txt"} {
		s.image(repo, "amd64", repo, "1")
	}
	c.chart = s.chart("team/chart", packChart(s.t, usualChart()...), "1.2.3_build.5")
	c.files = s.artifact("team/files", "application/vnd.example.report", "text/html", "", []string{"report.html", "<script>alert(1)</script>\n", "../../etc/passwd", "root", "blob.bin", "\x00\x01\x02"}, "v1")
	s.artifact("team/files", "application/vnd.example.docs", "text/markdown", "", []string{"docs/README.md", "# Docs\n\nSee [more](https://example.com/).\n"}, "docs")
	// What it holds is shared with team/api, and it has the biggest blob.
	s.image("secret/vault", "amd64", "1", "1.0")
	c.vault = s.artifact("secret/vault", "application/vnd.hush", "text/plain", `,"annotations":{"org.opencontainers.image.description":"classified"}`, []string{"hush.txt", strings.Repeat("classified ", 1000)}, "hush-1")
	s.blob("team/empty", "no manifest names this")
	m := must(s.store.Manifest(s.t.Context(), name(repo), oci.Reference{Digest: c.amd}, true))(s.t)
	d := readDescriptors(m.Raw)
	c.config, c.layer = d.Config.Digest, d.Layers[0].Digest
	s.store.Used(name(repo), oci.Reference{Tag: tagOf("latest")}, c.index, true)
	if err := s.store.FlushUses(); err != nil {
		s.t.Fatal(err)
	}
	return c
}

// A collector is one whose collections are what the test says, because the real one is in a package that this one must
// not know. What it removes from a repository it does remove.
type collector struct {
	store *store.Store

	mu      sync.Mutex
	plan    Plan
	planErr error
	// collect, when set, is a collection; else it is done at once, as planned.
	collect func(ctx context.Context, progress func(done, total int)) (Plan, error)
	runs    []bool // whether it ended keep times, of each collection
	by      []store.Actor
}

func (c *collector) Plan(_ context.Context, now bool) (Plan, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.plan
	if now {
		p.Frees, p.Kept, p.KeptUntil = p.Frees+p.Kept, 0, time.Time{}
	}
	return p, c.planErr
}

func (c *collector) Collect(ctx context.Context, now bool, fingerprint string, by store.Actor, progress func(done, total int)) (Plan, error) {
	c.mu.Lock()
	collect, plan := c.collect, c.plan
	if fingerprint == plan.Fingerprint {
		c.runs, c.by = append(c.runs, now), append(c.by, by)
	}
	c.mu.Unlock()
	if fingerprint != plan.Fingerprint {
		return Plan{}, ErrPlanChanged
	}
	if collect != nil {
		return collect(ctx, progress)
	}
	return plan, nil
}

func (c *collector) PlanRemoval(ctx context.Context, name oci.Name) (p Plan, err error) {
	tags, err := c.store.Tags(ctx, name, "", 10_000)
	if err != nil {
		return p, err
	}
	h := sha256.New()
	for _, tag := range tags {
		at, err := c.store.Manifest(ctx, name, oci.Reference{Tag: tagOf(tag)}, false)
		if err != nil {
			return p, err
		}
		fmt.Fprintln(h, tag, at.Digest)
		p.Lines = append(p.Lines, PlanLine{Remove: true, Kind: "tag", Repository: name, Tag: tag, Digest: at.Digest, Why: "it was asked for"})
	}
	p.Tags, p.Fingerprint = int64(len(tags)), hex.EncodeToString(h.Sum(nil))
	return p, nil
}

func (c *collector) Remove(ctx context.Context, name oci.Name, fingerprint string, by store.Actor) (n int64, err error) {
	p, err := c.PlanRemoval(ctx, name)
	if err != nil {
		return 0, err
	}
	if p.Fingerprint != fingerprint {
		return 0, ErrPlanChanged
	}
	for _, l := range p.Lines {
		if err := c.store.DeleteTag(ctx, name, tagOf(l.Tag), store.Condition{}, by); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// gunzip returns what a compressed body holds.
func gunzip(t *testing.T, b string) string {
	t.Helper()
	z := must(gzip.NewReader(strings.NewReader(b)))(t)
	return string(must(io.ReadAll(z))(t))
}

// tagsOf returns the tags of a repository.
func (s *site) tagsOf(repo string) []string {
	s.t.Helper()
	tags, err := s.store.Tags(s.t.Context(), name(repo), "", 1000)
	if err != nil {
		s.t.Fatal(err)
	}
	slices.Sort(tags)
	return tags
}

// clean returns a body without a name, so that pages that say the same of two are equal.
func clean(body, name string) string {
	return strings.ReplaceAll(strings.NewReplacer("%2F", "/", "%2f", "/").Replace(body), name, "NAME")
}
