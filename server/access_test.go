package server

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"cubby/server/auth"
	"cubby/store"
	"cubby/store/oci"

	"golang.org/x/crypto/bcrypt"
)

// closed returns a registry with users, at the lowest cost of passwords. Every client's address is believed.
func closed(t *testing.T) *registry {
	t.Helper()
	r := newRegistry(t, func(c *Config) {
		c.Guard = auth.New(auth.Options{Store: c.Store, Cost: bcrypt.MinCost, Proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}})
	})
	r.addUser("admin", "** admin")
	return r
}

// addUser makes a user whose password is its name and "-password". Grants are PATTERN ACTIONS.
func (r *registry) addUser(user string, grants ...string) {
	r.t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(user+"-password"), bcrypt.MinCost)
	if err != nil {
		r.t.Fatal(err)
	}
	var all []store.Grant
	for _, g := range grants {
		all = append(all, r.grant(g))
	}
	if _, _, err := r.store.AddUser(r.t.Context(), user, string(hash), all, store.Actor{}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *registry) grant(s string) store.Grant {
	r.t.Helper()
	pattern, actions, _ := strings.Cut(s, " ")
	a, err := store.ParseActions(actions)
	if err != nil {
		r.t.Fatal(err)
	}
	return store.Grant{Repositories: glob(r.t, pattern), Actions: a}
}

// addToken makes an access token and returns its text.
func (r *registry) addToken(user, grant string, change func(*store.Token)) (id, text string) {
	r.t.Helper()
	v := store.Token{Grant: r.grant(grant)}
	v.ID, text, v.Secret = auth.NewToken()
	if change != nil {
		change(&v)
	}
	if err := r.store.AddToken(r.t.Context(), user, v, store.Actor{}); err != nil {
		r.t.Fatal(err)
	}
	return v.ID, text
}

func basic(user, password string) []string {
	req := http.Request{Header: make(http.Header)}
	req.SetBasicAuth(user, password)
	return []string{"Authorization", req.Header.Get("Authorization")}
}

func as(user string) []string { return basic(user, user+"-password") }

// bearer asks the token service and returns the token as headers.
func (r *registry) bearer(credentials []string, scopes ...string) []string {
	r.t.Helper()
	a := r.want(http.StatusOK, "", "GET", "/-/token?service=cubby&"+url.Values{"scope": scopes}.Encode(), nil, credentials...)
	var v struct {
		Token       string
		AccessToken string    `json:"access_token"`
		ExpiresIn   int       `json:"expires_in"`
		IssuedAt    time.Time `json:"issued_at"`
	}
	if err := json.Unmarshal(a.body, &v); err != nil || v.Token == "" || v.Token != v.AccessToken || v.ExpiresIn < 60 || v.IssuedAt.IsZero() {
		r.t.Fatalf("token service: %v: %s", err, a.body)
	}
	return []string{"Authorization", "Bearer " + v.Token}
}

// A matrixUser is somebody in the matrix, with what the table says it may do: "PATTERN-PREFIX ACTIONS".
type matrixUser struct {
	name    string
	headers []string // nil: nobody
	valid   bool     // the credentials are right
	may     map[string]string
}

// TestMatrix asks for every route as everybody in every kind of repository and compares with one table (T-14).
func TestMatrix(t *testing.T) {
	r := closed(t)
	r.anonymous("pull", "pub/**")
	r.addUser("puller", "team/** pull")
	r.addUser("pusher", "team/** pull,push")
	r.addUser("overwriter", "team/** pull,push,overwrite")
	r.addUser("deleter", "team/** delete")
	r.addUser("owner", "team/** admin")
	r.addUser("other", "other/** admin")
	r.addUser("nothing")
	r.addUser("gone", "** admin")
	_, gone := r.addToken("gone", "** admin", nil)
	goneBearer := r.bearer(as("gone"), "repository:team/here:pull,push,delete")
	if err := r.store.RemoveUser(t.Context(), "gone", store.Actor{}); err != nil {
		t.Fatal(err)
	}
	revoked, revokedText := r.addToken("admin", "** admin", nil)
	revokedBearer := r.bearer(basic("x", revokedText), "repository:team/here:pull,push,delete")
	if err := r.store.RemoveToken(t.Context(), revoked, store.Actor{}); err != nil {
		t.Fatal(err)
	}
	_, expired := r.addToken("admin", "** admin", func(v *store.Token) { v.ExpiresAt = time.Now().Add(-time.Second) })
	_, elsewhere := r.addToken("admin", "** admin", func(v *store.Token) { v.Networks = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")} })
	_, narrow := r.addToken("admin", "team/** pull,push", func(v *store.Token) { v.Networks = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} })
	_, wide := r.addToken("puller", "** admin", nil)
	_, disjoint := r.addToken("puller", "other/** admin", nil)

	const all = "pull push overwrite delete"
	team := func(actions string) map[string]string { return map[string]string{"team/": actions} }
	users := []matrixUser{
		{"nobody", nil, true, nil},
		{"empty credentials", basic("", ""), true, nil},
		{"a session of admin", r.session("admin"), true, nil},
		{"wrong password", basic("puller", "wrong-password"), false, nil},
		{"unknown user", basic("stranger", "wrong-password"), false, nil},
		{"removed user", as("gone"), false, nil},
		{"token of a removed user", basic("x", gone), false, nil},
		{"bearer of a removed user", goneBearer, false, nil},
		{"revoked token", basic("x", revokedText), false, nil},
		{"bearer of a revoked token", revokedBearer, false, nil},
		{"expired token", basic("x", expired), false, nil},
		{"token from elsewhere", basic("x", elsewhere), false, nil},
		{"cut token", basic("x", narrow[:len(narrow)-1]), false, nil},
		{"nonsense bearer", []string{"Authorization", "Bearer eyJhbGciOiJub25lIn0.e30."}, false, nil},
		{"another scheme", []string{"Authorization", "Digest x"}, false, nil},
		{"user without grants", as("nothing"), true, team("")},
		{"puller", as("puller"), true, team("pull")},
		{"pusher", as("pusher"), true, team("pull push")},
		{"overwriter", as("overwriter"), true, team("pull push overwrite")},
		{"deleter", as("deleter"), true, team("delete")},
		{"owner", as("owner"), true, team(all)},
		{"owner elsewhere", as("other"), true, map[string]string{"other/": all}},
		{"admin", as("admin"), true, map[string]string{"": all}},
		{"narrow token of admin", basic("anyone", narrow), true, team("pull push")},
		{"narrow token as bearer", []string{"Authorization", "Bearer " + narrow}, true, team("pull push")},
		{"wide token of puller", basic("", wide), true, team("pull")},
		{"disjoint token of puller", basic("", disjoint), true, map[string]string{}},
	}

	layer, config := []byte("layer"), []byte(`{}`)
	manifest := imageOf(config, "", layer)
	another := imageOf(config, `,"annotations":{"a":"b"}`, layer)
	repositories := []string{"team/here", "team/absent", "pub/here", "pub/absent", "other/here"}
	fill := func() {
		t.Helper()
		for _, repo := range repositories {
			if strings.HasSuffix(repo, "here") {
				r.want(201, "", "POST", "/v2/"+repo+"/blobs/uploads/?digest="+sum(layer).String(), layer, as("admin")...)
				r.want(201, "", "POST", "/v2/"+repo+"/blobs/uploads/?digest="+sum(config).String(), config, as("admin")...)
				r.want(201, "", "PUT", "/v2/"+repo+"/manifests/1", manifest, append(as("admin"), headerContentType, imageType)...)
			}
		}
	}
	fill()
	type route struct {
		method, path string // REPO is the repository
		needs        string // one action, or "" for none, "list" or "ping"
		body         []byte
	}
	routes := []route{
		{"GET", "/v2/", "ping", nil},
		{"GET", "/v2/_catalog", "list", nil},
		{"GET", "/v2/REPO/nothing/here", "ping", nil},
		{"PATCH", "/v2/REPO/tags/list", "ping", nil},
		{"GET", "/v2/REPO/manifests/1", "pull", nil},
		{"HEAD", "/v2/REPO/manifests/1", "pull", nil},
		{"GET", "/v2/REPO/manifests/" + sum(manifest).String(), "pull", nil},
		{"GET", "/v2/REPO/blobs/" + sum(layer).String(), "pull", nil},
		{"HEAD", "/v2/REPO/blobs/" + sum(layer).String(), "pull", nil},
		{"GET", "/v2/REPO/tags/list", "pull", nil},
		{"GET", "/v2/REPO/referrers/" + sum(manifest).String(), "pull", nil},
		{"POST", "/v2/REPO/blobs/uploads/", "push", nil},
		{"POST", "/v2/REPO/blobs/uploads/?mount=" + sum(layer).String() + "&from=other/here", "push", nil},
		{"GET", "/v2/REPO/blobs/uploads/AAAAAAAAAAAAAAAAAAAAAAAAAA", "push", nil},
		{"PATCH", "/v2/REPO/blobs/uploads/AAAAAAAAAAAAAAAAAAAAAAAAAA", "push", []byte("x")},
		{"PUT", "/v2/REPO/blobs/uploads/AAAAAAAAAAAAAAAAAAAAAAAAAA?digest=" + sum(layer).String(), "push", nil},
		{"DELETE", "/v2/REPO/blobs/uploads/AAAAAAAAAAAAAAAAAAAAAAAAAA", "push", nil},
		{"PUT", "/v2/REPO/manifests/1", "push", manifest}, // the same again
		{"PUT", "/v2/REPO/manifests/1", "overwrite", another},
		{"PUT", "/v2/REPO/manifests/new", "push", another},
		{"DELETE", "/v2/REPO/manifests/1", "delete", nil},
		{"DELETE", "/v2/REPO/manifests/" + sum(manifest).String(), "delete", nil},
		{"DELETE", "/v2/REPO/blobs/" + sum(layer).String(), "delete", nil},
	}
	cells, mismatches, serial := 0, 0, 0
	for _, u := range users {
		kinds := []string{"as is"}
		if u.valid && (u.headers == nil || strings.HasPrefix(u.headers[1], "Basic ")) {
			kinds = append(kinds, "bearer")
		}
		for _, kind := range kinds {
			for _, rt := range routes {
				answers := make(map[string]string)
				for _, repo := range repositories {
					serial++
					from := []string{"X-Forwarded-For", fmt.Sprintf("192.0.2.%d", serial%250)}
					if !u.valid {
						// Else failed logins are slowed down: each comes from an address of its own.
						from[1] = fmt.Sprintf("2001:db8::%x", serial)
					}
					headers := append(slices.Clone(u.headers), from...)
					if kind == "bearer" {
						headers = append(r.bearer(headers, "repository:"+repo+":pull,push,delete", auth.CatalogScope), from...)
					}
					got, body := r.cell(rt.method, strings.ReplaceAll(rt.path, "REPO", repo), rt.body, headers)
					want := u.wants(rt.method, rt.needs, repo, u.headers != nil && !strings.HasPrefix(u.name, "empty") && u.headers[0] == "Authorization", kind == "bearer")
					cells++
					if got != want {
						mismatches++
						t.Errorf("%s (%s): %s %s: %s, want %s: %s", u.name, kind, rt.method, strings.ReplaceAll(rt.path, "REPO", repo), got, want, body)
					}
					if got != "served" {
						answers[repo] = strings.ReplaceAll(strings.ReplaceAll(body, repo, "REPO"), from[1], "ADDRESS")
					} else if rt.method != "GET" && rt.method != "HEAD" {
						fill()
					}
				}
				// What is there must not be told from what is not.
				if a, b := answers["team/here"], answers["team/absent"]; a != b && b != "" {
					mismatches++
					t.Errorf("%s (%s): %s %s tells what exists:\n%s\n%s", u.name, kind, rt.method, rt.path, a, b)
				}
			}
		}
	}
	t.Logf("%d cells, %d mismatches", cells, mismatches)
}

// wants is the table: what the answer to a user is.
func (u *matrixUser) wants(method, needs, repo string, credentials, scoped bool) string {
	known := credentials
	rights := ""
	for prefix, actions := range u.may {
		if strings.HasPrefix(repo, prefix) {
			rights = actions
		}
	}
	if strings.HasPrefix(repo, "pub/") {
		rights += " pull"
	}
	switch {
	case !u.valid:
		return "401"
	case (needs == "ping" || needs == "list") && (known || scoped):
		return "served"
	case needs == "ping" || needs == "list":
		return "401"
	}
	has := func(action string) bool { return slices.Contains(strings.Fields(rights), action) }
	first := needs
	if needs == "overwrite" {
		first = "push"
	}
	switch {
	case has(first) && (needs != "overwrite" || has("overwrite") || strings.HasSuffix(repo, "absent")):
		return "served"
	case has(first):
		return "403" // decided in the transaction
	case known:
		return "403"
	}
	return "401"
}

// cell does a request and returns whether it was served, whatever came of it, or refused, and the body.
func (r *registry) cell(method, path string, body []byte, headers []string) (got, text string) {
	r.t.Helper()
	if method == "PUT" && strings.Contains(path, "/manifests/") {
		headers = append(headers, headerContentType, imageType)
	}
	var a answer
	if body != nil {
		a = r.do(method, path, strings.NewReader(string(body)), headers...)
	} else {
		a = r.do(method, path, nil, headers...)
	}
	switch a.StatusCode {
	case 401:
		if a.Header.Get(headerWWWAuthenticate) == "" {
			return "401 without a challenge", string(a.body)
		}
		return "401", string(a.body)
	case 403:
		return "403", string(a.body)
	}
	if a.StatusCode >= 500 || a.StatusCode == 429 {
		return fmt.Sprint(a.StatusCode), string(a.body)
	}
	return "served", string(a.body)
}

// TestHiddenNames: lists, suggestions and mounts know only what the principal may see.
func TestHiddenNames(t *testing.T) {
	r := closed(t)
	r.addUser("alice", "team/** pull,push")
	admin := as("admin")
	for _, repo := range []string{"team/a", "team/b", "secret/a", "secret/b", "team/c"} {
		m := []byte(`{"schemaVersion":2,"manifests":[]}`)
		r.want(201, "", "POST", "/v2/"+repo+"/blobs/uploads/?digest="+sum([]byte(repo)).String(), []byte(repo), admin...)
		r.want(201, "", "PUT", "/v2/"+repo+"/manifests/1", m, append(admin, headerContentType, indexType)...)
	}
	catalog := func(query string, headers ...string) string {
		t.Helper()
		var v struct{ Repositories []string }
		a := r.want(200, "", "GET", "/v2/_catalog"+query, nil, headers...)
		if err := json.Unmarshal(a.body, &v); err != nil {
			t.Fatal(err)
		}
		return strings.Join(v.Repositories, " ") + a.Header.Get(headerLink)
	}
	if got := catalog("", as("alice")...); got != "team/a team/b team/c" {
		t.Errorf("alice sees %s", got)
	}
	if got := catalog("?n=2&last=a", as("alice")...); got != `team/a team/b</v2/_catalog?last=team%2Fb&n=2>; rel="next"` {
		t.Errorf("alice's page: %s", got)
	}
	if got := catalog("", as("admin")...); got != "secret/a secret/b team/a team/b team/c" {
		t.Errorf("admin sees %s", got)
	}
	r.want(401, "", "GET", "/v2/_catalog", nil, r.bearer(as("alice"), "repository:team/a:pull")...)
	if got := catalog("", r.bearer(as("alice"))...); got != "team/a team/b team/c" {
		t.Errorf("with a token without scope alice sees %s", got)
	}
	if got := catalog("", r.bearer(as("alice"), auth.CatalogScope)...); got != "team/a team/b team/c" {
		t.Errorf("with a scope alice sees %s", got)
	}
	if a := r.want(404, codeNameUnknown, "GET", "/v2/team/x/manifests/1", nil, as("alice")...); strings.Contains(string(a.body), "secret") {
		t.Errorf("suggested: %s", a.body)
	}
	// A mount of what one may not read is an upload, as of what does not exist; with a scope that lacks it too.
	secret, mine := sum([]byte("secret/a")).String(), sum([]byte("team/b")).String()
	for _, tt := range []struct {
		query   string
		headers []string
		want    int
	}{
		{"mount=" + secret + "&from=secret/a", as("alice"), 202},
		{"mount=" + secret, as("alice"), 202},
		{"mount=" + secret + "&from=none/a", as("alice"), 202},
		{"mount=" + mine + "&from=team/b", r.bearer(as("alice"), "repository:team/a:pull,push"), 202},
		{"mount=" + mine + "&from=team/b", r.bearer(as("alice"), "repository:team/a:pull,push", "repository:team/b:pull"), 201},
		{"mount=" + mine, as("alice"), 201},
	} {
		r.want(tt.want, "", "POST", "/v2/team/a/blobs/uploads/?"+tt.query, nil, tt.headers...)
	}
	r.want(404, codeBlobUnknown, "GET", "/v2/team/a/blobs/"+secret, nil, as("alice")...)
	// An upload session belongs to who began it.
	location := r.want(202, "", "POST", "/v2/team/a/blobs/uploads/", nil, as("alice")...).Header.Get(headerLocation)
	r.want(404, codeBlobUploadUnknown, "GET", location, nil, admin...)
	r.want(204, "", "GET", location, nil, r.bearer(as("alice"), "repository:team/a:push")...)
}

// TestRevocation: what is taken away is gone with the next request, also for what was derived from it.
func TestRevocation(t *testing.T) {
	r := closed(t)
	r.addUser("alice", "team/** pull")
	r.want(201, "", "PUT", "/v2/team/a/manifests/1", []byte(`{"schemaVersion":2,"manifests":[]}`), append(as("admin"), headerContentType, indexType)...)
	id, text := r.addToken("alice", "team/** pull", nil)
	password, passwordBearer := as("alice"), r.bearer(as("alice"), "repository:team/a:pull")
	token, tokenBearer := basic("x", text), r.bearer(basic("x", text), "repository:team/a:pull")
	get := func(status int, headers ...[]string) {
		t.Helper()
		for _, h := range headers {
			r.want(status, "", "GET", "/v2/team/a/manifests/1", nil, h...)
		}
	}
	ctx, by := t.Context(), store.Actor{}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	get(200, password, passwordBearer, token, tokenBearer)
	_, err := r.store.RemoveGrant(ctx, "alice", r.grant("team/** pull"), by)
	must(err)
	get(403, password, passwordBearer, token, tokenBearer)
	_, err = r.store.AddGrant(ctx, "alice", r.grant("team/a pull"), by)
	must(err)
	get(200, password, passwordBearer, token, tokenBearer)
	hash, err := bcrypt.GenerateFromPassword([]byte("other-password"), bcrypt.MinCost)
	must(err)
	must(r.store.SetPassword(ctx, "alice", string(hash), by))
	get(401, password, passwordBearer)
	get(200, token, tokenBearer, basic("alice", "other-password"))
	must(r.store.RemoveToken(ctx, id, by))
	get(401, token, tokenBearer)
	fresh := r.bearer(basic("alice", "other-password"), "repository:team/a:pull")
	must(r.store.RemoveUser(ctx, "alice", by))
	get(401, basic("alice", "other-password"), fresh)
	// One of the same name is another.
	r.addUser("alice", "team/** pull")
	get(401, basic("alice", "other-password"), fresh, tokenBearer)
	get(200, as("alice"))
}

// TestChallenge: Basic while nothing is open without logging in, Bearer as soon as it is, with a realm where the client is.
func TestChallenge(t *testing.T) {
	r := closed(t)
	challenge := func(path string, headers ...string) string {
		t.Helper()
		return r.want(401, codeUnauthorized, "GET", path, nil, headers...).Header.Get(headerWWWAuthenticate)
	}
	const basicWant = `Basic realm="cubby", charset="UTF-8"`
	for _, path := range []string{"/v2/", "/v2/a/manifests/1", "/v2/_catalog", "/v2/nonsense", "/-/token"} {
		if got := challenge(path); got != basicWant {
			t.Errorf("%s: %s", path, got)
		}
	}
	r.anonymous("pull", "pub/**")
	for _, tt := range []struct {
		path    string
		headers []string
		want    string
	}{
		{"/v2/", []string{"Host", "nas:5000"}, `Bearer realm="http://nas:5000/-/token",service="cubby"`},
		{"/v2/", []string{"Host", "reg.example", "X-Forwarded-Proto", "https"}, `Bearer realm="https://reg.example/-/token",service="cubby"`},
		{"/v2/a/b/manifests/1", []string{"Host", "h"}, `Bearer realm="http://h/-/token",service="cubby",scope="repository:a/b:pull"`},
		{"/v2/a/b/manifests/1", append(basic("admin", "wrong"), "Host", "h"), `Bearer realm="http://h/-/token",service="cubby",scope="repository:a/b:pull"`},
	} {
		if got := challenge(tt.path, tt.headers...); got != tt.want {
			t.Errorf("%s %v:\n got %s\nwant %s", tt.path, tt.headers, got, tt.want)
		}
	}
	push := r.want(401, codeUnauthorized, "POST", "/v2/pub/a/blobs/uploads/", nil, "Host", "h").Header.Get(headerWWWAuthenticate)
	if !strings.HasSuffix(push, `scope="repository:pub/a:pull,push"`) {
		t.Errorf("push: %s", push)
	}
	// Who has no credentials gets a token for what is open, and is served with it; GET /v2/ too.
	token := r.bearer(nil, "repository:pub/a:pull,push")
	r.want(200, "", "GET", "/v2/", nil, token...)
	r.want(404, codeNameUnknown, "GET", "/v2/pub/a/manifests/1", nil, token...)
	r.want(401, codeUnauthorized, "POST", "/v2/pub/a/blobs/uploads/", nil, token...)
	r.want(401, codeUnauthorized, "GET", "/v2/pub/b/manifests/1", nil, token...) // another scope
	if got := challenge("/-/token", basic("admin", "wrong")...); got != basicWant {
		t.Errorf("token service: %s", got)
	}
}

// TestTokenService: the forms in which clients ask.
func TestTokenService(t *testing.T) {
	r := closed(t)
	r.addUser("alice", "team/** pull,push,delete")
	post := func(status int, form url.Values, headers ...string) answer {
		t.Helper()
		return r.want(status, "", "POST", "/-/token", []byte(form.Encode()), append(headers, headerContentType, "application/x-www-form-urlencoded")...)
	}
	use := func(a answer) []string {
		t.Helper()
		var v struct{ Token string }
		if err := json.Unmarshal(a.body, &v); err != nil {
			t.Fatal(err)
		}
		return []string{"Authorization", "Bearer " + v.Token}
	}
	// containerd: several scopes in one value.
	form := url.Values{"grant_type": {"password"}, "client_id": {"containerd-client"}, "service": {"cubby"}, "username": {"alice"}, "password": {"alice-password"}, "scope": {"repository:team/a:pull,push repository:team/b:pull"}}
	token := use(post(200, form))
	r.want(202, "", "POST", "/v2/team/a/blobs/uploads/", nil, token...)
	r.want(401, "", "POST", "/v2/team/b/blobs/uploads/", nil, token...)
	r.want(404, "", "GET", "/v2/team/b/tags/list", nil, token...)
	r.want(401, "", "DELETE", "/v2/team/a/manifests/1", nil, token...)
	// helm and docker login: no scope, and then GET /v2/.
	form.Set("scope", "")
	r.want(200, "", "GET", "/v2/", nil, use(post(200, form))...)
	r.want(200, "", "GET", "/v2/", nil, r.bearer(as("alice"))...)
	r.want(404, "", "DELETE", "/v2/team/a/manifests/1", nil, r.bearer(as("alice"), "repository:team/a:*")...)
	// What is not granted is not in the token, whatever is asked for.
	r.want(403, codeDenied, "GET", "/v2/other/a/tags/list", nil, r.bearer(as("alice"), "repository:other/a:pull,push,*", "nonsense", "repository:BAD:pull", "repository(plugin):team/a:pull")...)
	post(401, url.Values{"grant_type": {"password"}, "username": {"alice"}, "password": {"wrong"}})
	post(401, url.Values{})
	post(400, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"x"}})
	r.want(400, codeUnsupported, "POST", "/-/token", []byte(strings.Repeat("x=y&", 20_000)), headerContentType, "application/x-www-form-urlencoded")
	a := r.want(200, "", "GET", "/-/token?"+url.Values{"scope": slices.Repeat([]string{"repository:team/a:pull"}, 1000)}.Encode(), nil, as("alice")...)
	if a.Header.Get(headerCacheControl) != "no-store" || len(a.body) > 16_000 {
		t.Errorf("%v, %d bytes", a.Header, len(a.body))
	}
	// A token cannot be had for a token: it would outlive it, and could be for more.
	for _, scope := range []string{"repository:team/a:pull", "repository:team/b:pull,push,delete", auth.CatalogScope, ""} {
		r.want(401, codeUnauthorized, "GET", "/-/token?"+url.Values{"scope": {scope}}.Encode(), nil, r.bearer(as("alice"), "repository:team/a:pull")...)
	}
	// Ours alone: one that was changed is none.
	header := r.bearer(as("alice"), "repository:team/a:pull")[1]
	for i := len("Bearer "); i < len(header); i++ {
		changed := header[:i] + string(rune('A'+(header[i]-'A'+1)%26)) + header[i+1:]
		if changed == header {
			continue
		}
		a := r.do("GET", "/v2/", nil, "Authorization", changed)
		// The last character of base64 has bits that mean nothing.
		if a.StatusCode != 401 && i < len(header)-1 {
			t.Fatalf("changed at %d: %d", i, a.StatusCode)
		}
	}
}

type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

// TestTokenRequestsAreLogged: clients that are asked for Bearer fail to log in nowhere else. No credentials are in the line.
func TestTokenRequestsAreLogged(t *testing.T) {
	log := make(lines, 10)
	r := newRegistry(t, func(c *Config) { c.Log = slog.New(slog.NewTextHandler(log, nil)) })
	r.addUser("alice", "** pull")
	r.want(401, "", "GET", tokenPath+"?account=alice&password=secret", nil, basic("alice", "secret")...)
	select {
	case line := <-log:
		if !strings.Contains(line, "path=/-/token status=401") || strings.Contains(line, "secret") {
			t.Errorf("logged %s", line)
		}
	case <-time.After(10 * time.Second):
		t.Error("not logged")
	}
}

// TestLoginsAreSlowed: failed logins wait longer and longer; a login that was right goes on, and so do other addresses.
// The same wrong password again counts once.
func TestLoginsAreSlowed(t *testing.T) {
	now := time.Now()
	r := newRegistry(t, func(c *Config) {
		c.Guard = auth.New(auth.Options{Store: c.Store, Cost: bcrypt.MinCost, Now: func() time.Time { return now }, Proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}})
	})
	r.addUser("alice", "** admin")
	from := func(address string, headers []string) []string { return append(headers, "X-Forwarded-For", address) }
	r.want(200, "", "GET", "/v2/", nil, from("192.0.2.1", as("alice"))...)
	tries := 0
	another := func(user string) []string {
		tries++
		return basic(user, fmt.Sprint("wrong ", tries))
	}
	for range 5 {
		r.want(401, "", "GET", "/v2/", nil, from("192.0.2.1", another("alice"))...)
	}
	_, revoked, _ := auth.NewToken()
	for range 10 {
		r.want(401, "", "GET", "/v2/", nil, from("192.0.2.1", basic("alice", "wrong 1"))...)
		r.want(401, "", "GET", "/v2/", nil, from("192.0.2.1", basic("alice", revoked))...)
	}
	r.want(401, "", "GET", "/v2/", nil, from("192.0.2.1", another("alice"))...)
	r.want(429, "", "GET", "/v2/", nil, from("192.0.2.1", basic("alice", "wrong 1"))...)
	a := r.want(429, codeTooManyRequests, "GET", "/v2/", nil, from("192.0.2.1", another("alice"))...)
	if a.Header.Get(headerRetryAfter) != "2" {
		t.Errorf("Retry-After %q", a.Header.Get(headerRetryAfter))
	}
	r.want(200, "", "GET", "/v2/", nil, from("192.0.2.1", as("alice"))...) // is remembered
	r.want(401, "", "GET", "/v2/", nil, from("192.0.2.2", basic("alice", "wrong"))...)
	r.want(401, "", "GET", "/v2/", nil, from("192.0.2.1", basic("bob", "wrong"))...)
	waits := []int{}
	for range 9 {
		for step := 0; ; step++ {
			now = now.Add(time.Second)
			if r.do("GET", "/v2/", nil, from("192.0.2.1", another("alice"))...).StatusCode == 401 {
				waits = append(waits, step+1)
				break
			}
		}
	}
	if fmt.Sprint(waits) != "[1 2 4 8 16 32 60 60 60]" {
		t.Errorf("waits %v seconds", waits)
	}
	// What is no access token says nothing about the password, and a new password is another one.
	for i := range 50 {
		r.want(401, "", "GET", "/v2/", nil, from("192.0.2.9", basic("alice", fmt.Sprint("cubby_", i)))...)
	}
	r.want(401, "", "GET", "/v2/", nil, from("192.0.2.9", another("alice"))...)
	hash, err := bcrypt.GenerateFromPassword([]byte("new password"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.store.SetPassword(t.Context(), "alice", string(hash), store.Actor{}); err != nil {
		t.Fatal(err)
	}
	r.want(200, "", "GET", "/v2/", nil, from("192.0.2.1", basic("alice", "new password"))...)
	// Of IPv6 one client has a whole network.
	for i := range 6 {
		r.want(401, "", "GET", "/v2/", nil, from(fmt.Sprintf("2001:db8::%d", i+1), another("alice"))...)
	}
	r.want(429, "", "GET", "/v2/", nil, from("2001:db8::99", another("alice"))...)
	// Unknown users alike, so that nothing is learnt.
	for range 6 {
		r.want(401, "", "GET", "/v2/", nil, from("192.0.2.3", another("nobody"))...)
	}
	r.want(429, "", "GET", "/v2/", nil, from("192.0.2.3", another("nobody"))...)
	now = now.Add(10 * time.Minute)
	r.want(200, "", "GET", "/v2/", nil, from("192.0.2.3", basic("alice", "new password"))...)
	entries, err := r.store.AuditEntries(t.Context(), store.AuditFilter{Who: "alice"}, store.AuditEntry{}, 1000)
	if err != nil || !slices.ContainsFunc(entries, func(e store.AuditEntry) bool { return e.Action == store.AuditLoginFailed }) {
		t.Errorf("failed logins of alice: %+v, %v", entries, err)
	}
}

// TestOverwriteByBearer: the right to overwrite is decided inside the transaction, also with a token of the token service.
func TestOverwriteByBearer(t *testing.T) {
	r := closed(t)
	r.addUser("maker", "** pull,push")
	r.addUser("mover", "** pull,push,overwrite")
	one, two := []byte(`{"schemaVersion":2,"manifests":[]}`), []byte(`{"schemaVersion":2,"manifests":[] }`)
	put := func(status int, m []byte, headers []string) {
		t.Helper()
		r.want(status, "", "PUT", "/v2/a/manifests/1", m, append(headers, headerContentType, indexType)...)
	}
	scope := "repository:a:pull,push"
	put(201, one, r.bearer(as("maker"), scope))
	put(201, one, r.bearer(as("maker"), scope))
	put(403, two, r.bearer(as("maker"), scope))
	put(201, two, r.bearer(as("mover"), scope))
	entries, err := r.store.AuditEntries(t.Context(), store.AuditFilter{Repository: "a"}, store.AuditEntry{}, 10)
	if err != nil || len(entries) < 3 || entries[0].Who != "mover" || entries[0].Action != store.AuditPush {
		t.Errorf("audit: %+v, %v", entries, err)
	}
	if name, err := oci.ParseName("a"); err != nil {
		t.Fatal(err)
	} else if moves, err := r.store.History(t.Context(), name, oci.Tag{}, 0, 1); err != nil || moves[0].Who != "mover" {
		t.Errorf("history: %+v, %v", moves, err)
	}
}
