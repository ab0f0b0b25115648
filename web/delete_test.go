package web

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
	"golang.org/x/net/html"
)

// at returns where a tag is, or "".
func (s *site) at(repo, tag string) digest.Digest {
	s.t.Helper()
	m, err := s.store.Manifest(s.t.Context(), name(repo), oci.Reference{Tag: tagOf(tag)}, false)
	if err != nil {
		return ""
	}
	return m.Digest
}

// has reports whether a manifest is there.
func (s *site) has(repo string, dgst digest.Digest) bool {
	_, err := s.store.Manifest(s.t.Context(), name(repo), oci.Reference{Digest: dgst}, false)
	return err == nil
}

// TestDeletePreview: each page says what its button does, and no more.
func TestDeletePreview(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c := s.fill()
	for _, tt := range []struct {
		path  string
		texts []string
	}{
		{"/team/api:latest/-/delete", []string{"The image stays: 2.0, stable lead there too. Nothing is freed.", "-cannot be removed"}},
		{"/team/api:1.0/-/delete", []string{"The image stays: 2.0 names it.", "-Nothing is freed"}},
		{"/team/chart:1.2.3_build.5/-/delete", []string{"It is the last tag there.", "for 7 days, and until 30 days after", "frees what nothing else holds", "-signature"}},
		{"/team/api@" + c.amd.String() + "/-/delete", []string{"It cannot be removed: 2.0 names it. Remove that first.", "-Delete for good"}},
		{"/team/api@" + c.index.String() + "/-/delete", []string{"for good, at once", "Its tags go too: 2.0, latest, stable.", "1 signature or other referrer loses what it is attached to", "Delete for good"}},
		{"/team/api@" + c.old.String() + "/-/delete", []string{"for good, at once", "-Its tags go too", "Delete for good"}},
		{"/team/api/-/tags/delete?tag=1.0&tag=latest&tag=gone", []string{"Delete 2 tags?", "Not there any more: gone.", "-To confirm"}},
		{"/team/api/-/tags/delete?tag=gone", []string{"Delete 0 tags?", "Not there any more: gone."}},
		{"/team/api/-/delete", []string{"Delete all tags of team/api?", "5 tags are removed", "To confirm, type the name of the repository, team/api"}},
		{"/team/empty/-/delete", []string{"There is no tag to remove."}},
	} {
		wants(t, tt.path, s.get(writer, tt.path), 200, tt.texts...)
	}
	for path, status := range map[string]int{
		"/team/api:gone/-/delete": 404, "/team/none/-/delete": 404, "/team/none:1/-/delete": 404, "/team/api@" + missing.String() + "/-/delete": 404, "/team/api/-/tags/delete": 303, "/team/none/-/tags/delete?tag=1": 404, "/team/api/-/tags/delete?tag=%20": 400,
		"/team/api/-/tags/delete?" + strings.Repeat("tag=a&", bulkMax+1): 400,
	} {
		if a := s.get(writer, path); a.StatusCode != status {
			t.Errorf("%.60s: %d, want %d", path, a.StatusCode, status)
		}
	}
	// Looking changes nothing.
	if got := s.tagsOf("team/api"); len(got) != 5 {
		t.Errorf("tags %v", got)
	}
}

// TestDeleteTag removes a tag, takes that back, and does neither when something moved meanwhile.
func TestDeleteTag(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c := s.fill()
	const path = "/team/api:1.0/-/delete"
	wants(t, "without a digest", s.post(writer, path), 400)
	wants(t, "at another digest", s.post(writer, path, "digest", c.arm.String()), 409, "It has changed meanwhile")
	if s.at("team/api", "1.0") != c.amd {
		t.Fatal("the tag went, or moved")
	}
	a := s.post(writer, path, "digest", c.amd.String())
	leads(t, "delete", a, "/team/api")
	f := flashed(t, a)
	if f != (flash{Text: "Tag 1.0 was removed.", Action: "/team/api/-/restore", Label: "Undo", Tag: "1.0", To: c.amd.String()}) {
		t.Errorf("flash %+v", f)
	}
	if s.at("team/api", "1.0") != "" || !s.has("team/api", c.amd) || s.at("team/api", "2.0") != c.index {
		t.Error("more than the tag went, or it did not")
	}
	wants(t, "the next page", s.get(writer, "/team/api", "Cookie", cookieFlash+"="+a.cookie(cookieFlash)), 200, "Tag 1.0 was removed.Undo", "Removed, and still here")
	wants(t, "again", s.post(writer, path, "digest", c.amd.String()), 409)

	a = s.post(writer, f.Action, "tag", f.Tag, "to", f.To)
	leads(t, "undo", a, "/team/api")
	if f := flashed(t, a); s.at("team/api", "1.0") != c.amd || f.Text != "Tag 1.0 is at "+c.amd.Encoded()[:12]+" again." {
		t.Errorf("undone: %+v", f)
	}
	if f := flashed(t, s.post(writer, f.Action, "tag", f.Tag, "to", f.To)); f.Text != "Tag 1.0 is at "+c.amd.Encoded()[:12]+" already." {
		t.Errorf("undone again: %+v", f)
	}
	entries := must(s.store.History(t.Context(), name("team/api"), tagOf("1.0"), 0, 10))(t)
	if len(entries) != 3 || entries[0].Who != writer || entries[1].Who != writer {
		t.Errorf("history %+v", entries)
	}
	wants(t, "the history", s.get(writer, "/team/api/-/history/1.0"), 200, "removed", "by writer", "History of 1.0")

	// Whoever may not push is offered no undo, and a restore that makes no sense changes nothing.
	from := map[string]string{"1.0": c.amd.String()}
	for _, tt := range []struct {
		tag, to string
		status  int
	}{{"1.0", missing.String(), 404}, {"1.0", "x", 400}, {"", c.amd.String(), 400}, {"never", "1", 404}, {"-", "1", 400}, {"1.0", "99", 404}} {
		wants(t, fmt.Sprintf("restore %+v", tt), s.post(writer, "/team/api/-/restore", "tag", tt.tag, "to", tt.to, "from", from[tt.tag]), tt.status)
	}
	// Whoever pushed the tag anew since the page was made keeps what he pushed.
	wants(t, "an old undo", s.post(writer, "/team/api/-/restore", "tag", "1.0", "to", c.arm.String()), 409, "It has changed meanwhile")
	wants(t, "an old restore", s.post(writer, "/team/api/-/restore", "tag", "1.0", "to", c.arm.String(), "from", c.index.String()), 409, "It has changed meanwhile")
	wants(t, "restore by a reader", s.post(reader, "/team/api/-/restore", "tag", "1.0", "to", c.arm.String()), 403)
	leads(t, "restore with a way back", s.post(writer, "/team/api/-/restore", "tag", "1.0", "to", c.amd.String(), "next", "/team/api/-/history"), "/team/api/-/history")
	leads(t, "restore with a way to elsewhere", s.post(writer, "/team/api/-/restore", "tag", "1.0", "to", c.amd.String(), "next", "//evil"), "/")
	if s.at("team/api", "1.0") != c.amd {
		t.Error("the tag moved")
	}
}

// TestGoneTag: who follows an old link to a tag is told that it was there, if he may see that.
func TestGoneTag(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.fill()
	leads(t, "delete", s.post(writer, "/team/api:1.0/-/delete", "digest", s.at("team/api", "1.0").String()), "/team/api")
	wants(t, "a tag that was there", s.get(reader, "/team/api:1.0"), 404, "There was such a tag", "its history")
	wants(t, "one that never was", s.get(reader, "/team/api:nope"), 404, "-There was such a tag")
	leads(t, "somebody who may not see it", s.get(anonymous, "/team/api:1.0"), "/-/login?next=%2Fteam%2Fapi%3A1.0")
}

// TestDeleteWithoutPush: who may delete and not push is offered no undo; who may push and not overwrite moves no tag back.
func TestDeleteWithoutPush(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(c *siteConfig) {
		c.users["cleaner"] = "team/** pull,delete"
		c.users["adder"] = "team/** pull,push"
	})
	c := s.fill()
	a := s.post("cleaner", "/team/api:1.0/-/delete", "digest", c.amd.String())
	if f := flashed(t, a); f != (flash{Text: "Tag 1.0 was removed."}) {
		t.Errorf("flash %+v", f)
	}
	wants(t, "restore by who may not push", s.post("cleaner", "/team/api/-/restore", "tag", "1.0", "to", c.amd.String()), 403)
	leads(t, "restore of a tag that went", s.post("adder", "/team/api/-/restore", "tag", "1.0", "to", c.amd.String()), "/team/api")
	wants(t, "move of a tag that is there", s.post("adder", "/team/api/-/restore", "tag", "1.0", "to", c.arm.String(), "from", c.amd.String()), 403)
	if s.at("team/api", "1.0") != c.amd {
		t.Error("the tag moved")
	}
	wants(t, "delete by who may not", s.post("adder", "/team/api:1.0/-/delete", "digest", c.amd.String()), 403)
}

func TestDeleteManifest(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c := s.fill()
	path := func(dgst digest.Digest) string { return "/team/api@" + dgst.String() + "/-/delete" }
	// shown are the fields of the form on the page before.
	shown := func(dgst digest.Digest) []string {
		e, err := s.store.EffectsOf(t.Context(), name("team/api"), oci.Reference{Digest: dgst})
		if err != nil {
			t.Fatal(err)
		}
		wants(t, "preview", s.get(writer, path(dgst)), 200)
		return []string{"digest", dgst.String(), "tags", tagsText(e)}
	}
	wants(t, "a part of an index", s.post(writer, path(c.amd), shown(c.amd)...), 409, "Still in use")
	wants(t, "one that got a tag since it was shown", s.post(writer, path(c.old), "digest", c.old.String(), "tags", "prod 1"), 409, "It has changed meanwhile")
	wants(t, "another one than was shown", s.post(writer, path(c.old), "digest", c.amd.String()), 409)
	if !s.has("team/api", c.amd) || !s.has("team/api", c.old) {
		t.Fatal("a manifest went")
	}
	if form := s.get(writer, path(c.index)).body; !strings.Contains(form, `name="tags" value="2.0 latest stable 3"`) {
		t.Errorf("the form does not say which tags were shown:\n%s", form)
	}
	a := s.post(writer, path(c.index), shown(c.index)...)
	leads(t, "delete", a, "/team/api")
	if f := flashed(t, a); f.Action != "" || s.has("team/api", c.index) || !s.has("team/api", c.amd) || !s.has("team/api", c.sbom) || s.at("team/api", "latest") != "" || s.at("team/api", "1.0") != c.amd {
		t.Errorf("deleted: %+v", f)
	}
	wants(t, "the way back", s.post(writer, "/team/api/-/restore", "tag", "latest", "to", c.index.String()), 409, "The content is gone")
	leads(t, "what no index names any more", s.post(writer, path(c.arm), shown(c.arm)...), "/team/api")
}

// TestDeleteTags removes some tags at once, but none that moved.
func TestDeleteTags(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	dgst := s.image("team/many", "amd64", "1", tagNames(20)...)
	other := s.image("team/many", "amd64", "2", "t19")
	const path = "/team/many/-/tags/delete"
	fields := func(tags ...string) (all []string) {
		for _, tag := range tags {
			all = append(all, "tag", tag+"@"+dgst.String())
		}
		return all
	}
	// What the page shows is what its form sends.
	page := s.get(writer, path+"?tag=t0&tag=t1&tag=t0")
	var sent []string
	parsePage(t, page.body).elements(func(_ *html.Node, attrs map[string]string) {
		if attrs["name"] == "tag" {
			sent = append(sent, "tag", attrs["value"])
		}
	})
	if !slices.Equal(sent, fields("t0", "t1")) {
		t.Errorf("the form sends %v", sent)
	}
	a := s.post(writer, path, sent...)
	leads(t, "two tags", a, "/team/many")
	if f := flashed(t, a); f.Text != "2 tags were removed." {
		t.Errorf("flash %+v", f)
	}
	// One moved since it was shown, one went.
	a = s.post(writer, path, fields("t2", "t19", "t0")...)
	if f := flashed(t, a); f.Text != "1 tag was removed. 2 tags moved meanwhile, or may not be removed: t19, t0." {
		t.Errorf("flash %+v", f)
	}
	if s.at("team/many", "t19") != other || s.at("team/many", "t2") != "" || s.at("team/many", "t3") != dgst {
		t.Error("a tag that moved went, or another one")
	}
	// More than ten want the name.
	eleven := tagNames(14)[3:]
	wants(t, "the page of eleven", s.get(writer, path+"?tag="+strings.Join(eleven, "&tag=")), 200, "Delete 11 tags?", "To confirm")
	wants(t, "eleven", s.post(writer, path, fields(eleven...)...), 400, "type the name of the repository, team/many")
	wants(t, "eleven with another name", s.post(writer, path, append(fields(eleven...), "confirm", "team/api")...), 400)
	if n := len(s.tagsOf("team/many")); n != 17 {
		t.Errorf("%d tags are left, want 17", n)
	}
	leads(t, "eleven with the name", s.post(writer, path, append(fields(eleven...), "confirm", "team/many")...), "/team/many")
	if n := len(s.tagsOf("team/many")); n != 6 {
		t.Errorf("%d tags are left, want 6", n)
	}
	for _, bad := range [][]string{nil, {"tag", "x"}, {"tag", "@" + dgst.String()}, {"tag", "t16@*"}, {"tag", "t16@"}, {"tag", "t16@" + other.String()}} {
		a := s.post(writer, path, bad...)
		if s.at("team/many", "t16") != dgst {
			t.Errorf("%v removed the tag: %d", bad, a.StatusCode)
		}
	}
	if a := s.post(writer, path, "tag", strings.Repeat("x", formMax)); a.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("a form too large: %d", a.StatusCode)
	}
}

func tagNames(n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprint("t", i))
	}
	return all
}

func TestDeleteRepository(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.fill()
	const path = "/team/api/-/delete"
	plan := must(s.collector.PlanRemoval(t.Context(), name("team/api")))(t).Fingerprint
	if a := s.get(writer, path); !strings.Contains(a.body, `name="plan" value="`+plan+`"`) {
		t.Error("the form does not send the plan that is shown")
	}
	wants(t, "without the name", s.post(writer, path, "plan", plan), 400, "type the name of the repository, team/api")
	wants(t, "with another name", s.post(writer, path, "plan", plan, "confirm", "team/API"), 400)
	s.image("team/api", "amd64", "new", "new")
	wants(t, "after a push", s.post(writer, path, "plan", plan, "confirm", "team/api"), 409, "It has changed meanwhile")
	if n := len(s.tagsOf("team/api")); n != 6 {
		t.Fatalf("%d tags are left", n)
	}
	plan = must(s.collector.PlanRemoval(t.Context(), name("team/api")))(t).Fingerprint
	a := s.post(writer, path, "plan", plan, "confirm", "team/api")
	leads(t, "all", a, "/team/api")
	if f := flashed(t, a); len(s.tagsOf("team/api")) > 0 || len(s.tagsOf("team/api/tools")) != 1 || !strings.HasPrefix(f.Text, "6 tags were removed from team/api.") {
		t.Errorf("flash %+v", f)
	}
	wants(t, "the repository", s.get(writer, "/team/api"), 200, "This repository has no tags", "Removed, and still here")
}

// TestImmutable: a rule that forbids to move a tag is told, and kept.
func TestImmutable(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c := s.fill()
	s.store.SetImmutable(func(oci.Name, oci.Tag) string { return "release" })
	wants(t, "restore", s.post(writer, "/team/api/-/restore", "tag", "1.0", "to", c.arm.String(), "from", c.amd.String()), 409, "This tag must not move")
	if s.at("team/api", "1.0") != c.amd {
		t.Error("the tag moved")
	}
}
