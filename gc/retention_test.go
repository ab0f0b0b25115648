package gc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"cubby/gc/policy"
	"cubby/store"
	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
)

// rules makes the world go by a policy.
func (w *world) rules(text string) {
	w.Helper()
	p, _, err := policy.Parse([]byte(text))
	if err != nil {
		w.Fatal(err)
	}
	w.collector.Policy = func(context.Context) (*policy.Policy, error) { return p, nil }
}

// tags returns the tags of a repository.
func (w *world) tags(repo string) string {
	w.Helper()
	all, err := w.st.Tags(w.Context(), name(repo), "", 10_000)
	if err != nil && !errors.Is(err, store.ErrNameUnknown) {
		w.Fatal(err)
	}
	return strings.Join(all, " ")
}

// TestRetention: tags go by the rules, their manifests after a keep time, and the history says which rule it was.
func TestRetention(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.rules(`{protected: [{repositories: "**", tags: pr-1}], retention: [{name: prs, repositories: "team/**", tags: "pr-*", keep: {newest: 2}}]}`)
	var images []digest.Digest
	for i := range 5 {
		images = append(images, w.image("team/a", fmt.Sprint("image ", i), fmt.Sprint("pr-", i+1)))
		w.pass(time.Minute)
	}
	w.image("team/a", "image 4", "main") // shares its digest with a tag that stays
	if _, err := w.put("team/a", typeImage, imageBody(sum([]byte("config image 1")), "", sum([]byte("image 1"))), "also"); err != nil {
		t.Fatal(err)
	}
	w.image("other", "image 0", "pr-0")
	dry, _, err := w.collector.Run(t.Context(), Request{Cause: "command", DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := w.tags("team/a"); got != "also main pr-1 pr-2 pr-3 pr-4 pr-5" {
		t.Errorf("a dry run removed tags: %s", got)
	}
	if got := describe(dry.Tags) + "; " + describe(dry.KeptTags); got != "pr-2 by prs, pr-3 by prs; pr-1 by protected 1, pr-4 by prs, pr-5 by prs" {
		t.Errorf("planned %s", got)
	}
	if r := w.collect(); r.Tags != 2 || r.Manifests != 0 {
		t.Errorf("%+v, want 2 tags", r)
	}
	if got := w.tags("team/a"); got != "also main pr-1 pr-4 pr-5" {
		t.Errorf("left: %s", got)
	}
	if got := w.tags("other"); got != "pr-0" {
		t.Errorf("left in a repository without rules: %s", got)
	}
	moves, err := w.st.History(t.Context(), name("team/a"), tag("pr-2"), 0, 1)
	if err != nil || len(moves) != 1 || moves[0].Who != `rule "prs"` || moves[0].Address != "collection" {
		t.Errorf("history: %+v, %v", moves, err)
	}
	if runs, err := w.st.Collections(t.Context(), 1); err != nil || len(runs) != 1 || runs[0].Tags != 2 {
		t.Errorf("log: %+v, %v", runs, err)
	}
	// Within the keep time the tag can come back; the rule takes it again at the next collection.
	w.pass(6 * dayTime)
	w.collect()
	if _, err := w.st.Undo(t.Context(), name("team/a"), tag("pr-3"), store.Actor{}); err != nil {
		t.Error(err)
	}
	w.untag("team/a", "pr-3")
	w.pass(2 * dayTime)
	w.collect()
	for i, want := range []bool{true, true, true, true, true} { // pr-2's has another tag, pr-3's keep time began anew
		if got := w.hasManifest("team/a", images[i]); got != want {
			t.Errorf("image %d is there: %v", i, got)
		}
	}
	w.pass(6 * dayTime)
	w.collect()
	if w.hasManifest("team/a", images[2]) || !w.hasManifest("team/a", images[1]) {
		t.Error("a week after the tag went, its manifest is still there, or one with another tag is gone")
	}
}

func describe(tags []TagItem) string {
	var all []string
	for _, t := range tags {
		all = append(all, t.Tag+" by "+t.Rule)
	}
	return strings.Join(all, ", ")
}

// TestRetentionNow: when keep times are ended, what a rule drops goes in the same run, and the dry run shows it.
func TestRetentionNow(t *testing.T) {
	for _, policyText := range []string{"", `keep: [{repositories: "**", untagged: 0s, used: 0s}], `} {
		w := newWorld(t, t.TempDir())
		w.rules(`{` + policyText + `retention: [{name: r, repositories: "**", tags: "old*", keep: {newest: 0}}]}`)
		child := w.image("a", "child", "")
		index, err := w.put("a", typeIndex, indexBody("", child), "old")
		if err != nil {
			t.Fatal(err)
		}
		signature, err := w.put("a", typeImage, imageBody(w.push("a", "sig"), `,"subject":`+descriptor(typeIndex, index)), "")
		if err != nil {
			t.Fatal(err)
		}
		shared := w.image("a", "shared", "old-shared")
		if _, err := w.put("a", typeIndex, indexBody("", shared), "live"); err != nil {
			t.Fatal(err)
		}
		w.pass(2 * time.Hour)
		q := Request{Cause: "command"}
		if policyText == "" {
			q.End = func(oci.Name) bool { return true }
		}
		q.DryRun = true
		dry, _, err := w.collector.Run(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		q.DryRun = false
		_, r, err := w.collector.Run(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		w.check()
		if r.Tags != 2 || r.Manifests != 3 || r.Spared != 0 || len(dry.Tags) != 2 || len(dry.Manifests) != 3 {
			t.Errorf("done %+v, planned %d tags and %d manifests; want 2 and 3", r, len(dry.Tags), len(dry.Manifests))
		}
		for _, dgst := range []digest.Digest{child, index, signature} {
			if w.hasManifest("a", dgst) {
				t.Errorf("%s is still there", dgst)
			}
		}
		if !w.hasManifest("a", shared) {
			t.Error("a manifest that an index with a tag names is gone")
		}
	}
}

// TestRetentionTakesTime: what loses its last tag seconds after the plan goes all the same.
func TestRetentionTakesTime(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.rules(`{keep: [{repositories: "**", untagged: 0s, used: 0s}], retention: [{name: r, repositories: "**", tags: "*", keep: {newest: 0}}]}`)
	w.image("a", "one", "t1")
	p, err := w.collector.Policy(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	plan, err := NewPlan(t.Context(), w.st, Options{Now: w.now, Policy: p})
	if err != nil {
		t.Fatal(err)
	}
	w.pass(3 * time.Second)
	if r, err := plan.Execute(t.Context(), w.st, nil); err != nil || r.Tags != 1 || r.Manifests != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestRetentionSpares: a tag that changed between plan and execution stays, and so does what hangs on it.
func TestRetentionSpares(t *testing.T) {
	for what, change := range map[string]func(w *world){
		"pushed again": func(w *world) { w.pass(time.Second); w.image("a", "one", "t1") },
		"moved":        func(w *world) { w.image("a", "other", "t1") },
		"used": func(w *world) {
			dgst := sum([]byte(imageBody(sum([]byte("config one")), "", sum([]byte("one")))))
			w.st.Used(name("a"), oci.Reference{Tag: tag("t1")}, dgst, true)
		},
		"another tag removed, it may be among the newest now": func(w *world) { w.untag("a", "t3") },
	} {
		w := newWorld(t, t.TempDir())
		w.rules(`{keep: [{repositories: "**", untagged: 0s, used: 0s}], retention: [{name: r, repositories: "**", tags: "*", keep: {newest: 2}}]}`)
		for _, v := range []string{"one", "two", "three"} {
			w.image("a", v, fmt.Sprint("t", map[string]int{"one": 1, "two": 2, "three": 3}[v]))
			w.pass(time.Minute)
		}
		p, err := w.collector.Policy(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		plan, err := NewPlan(t.Context(), w.st, Options{Now: w.now, Policy: p})
		if err != nil {
			t.Fatal(err)
		}
		if describe(plan.Tags) != "t1 by r" || len(plan.Manifests) != 1 {
			t.Fatalf("%s: planned %s and %d manifests", what, describe(plan.Tags), len(plan.Manifests))
		}
		change(w)
		r, err := plan.Execute(t.Context(), w.st, nil)
		if err != nil {
			t.Fatal(err)
		}
		if r.Tags != 0 || !slices.Contains(strings.Fields(w.tags("a")), "t1") || r.Spared == 0 {
			t.Errorf("%s: %+v, left %s", what, r, w.tags("a"))
		}
		w.check()
	}
}

// TestSubjectTags: signatures and attestations live as long as what they belong to, whatever rules say, and go with it.
func TestSubjectTags(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.rules(`retention: [{name: r, repositories: "**", tags: "*", keep: {newest: 1}}]`)
	image := w.image("a", "signed", "v1")
	stem := strings.Replace(image.String(), ":", "-", 1)
	for _, suffix := range []string{"", ".sig", ".att", ".sbom"} {
		w.image("a", "about it"+suffix, stem+suffix)
	}
	elsewhere := "sha256-" + strings.Repeat("0", 64) + ".sig"
	w.image("a", "about something in another registry", elsewhere)
	odd := stem + ".other"
	w.image("a", "no signature", odd)
	w.pass(time.Minute)
	w.image("a", "newer", "v2")
	w.collect()
	all := []string{elsewhere, stem, stem + ".att", stem + ".sbom", stem + ".sig"}
	if got, want := w.tags("a"), strings.Join(append(all, "v2"), " "); got != want {
		t.Errorf("after the rule: %s\nwant %s", got, want)
	}
	// While the image can be brought back, so can its signatures.
	w.pass(6 * dayTime)
	w.collect()
	if !w.hasManifest("a", image) || !strings.Contains(w.tags("a"), ".sig") {
		t.Fatalf("within the keep time: %s", w.tags("a"))
	}
	w.pass(2 * dayTime)
	w.collect() // the image
	w.collect() // its tags
	if w.hasManifest("a", image) {
		t.Fatal("the image is still there")
	}
	if got, want := w.tags("a"), elsewhere+" v2"; got != want {
		t.Errorf("after the subject: %s, want %s", got, want)
	}
	moves, err := w.st.History(t.Context(), name("a"), tag(stem+".sig"), 0, 1)
	if err != nil || len(moves) != 1 || moves[0].Who != "collection" {
		t.Errorf("history: %+v, %v", moves, err)
	}
}

// TestSubjectBack: a signature stays when its subject was deleted and pushed again before its turn.
func TestSubjectBack(t *testing.T) {
	w := newWorld(t, t.TempDir())
	image := w.image("a", "signed", "v1")
	signature := strings.Replace(image.String(), ":", "-", 1) + ".sig"
	w.image("a", "signature", signature)
	w.pass(time.Minute)
	if err := w.st.DeleteManifest(t.Context(), name("a"), image, store.Condition{}, store.Actor{}); err != nil {
		t.Fatal(err)
	}
	plan, err := NewPlan(t.Context(), w.st, Options{Now: w.now})
	if err != nil {
		t.Fatal(err)
	}
	if len(plan.Tags) != 1 {
		t.Fatalf("planned %s", describe(plan.Tags))
	}
	w.image("a", "signed", "v1")
	if r, err := plan.Execute(t.Context(), w.st, nil); err != nil || r.Tags != 0 || r.Spared == 0 {
		t.Errorf("%+v, %v", r, err)
	}
	if w.collect(); w.tags("a") != signature+" v1" {
		t.Errorf("left: %s", w.tags("a"))
	}
}

// TestUnknownPolicy: when nobody can know the rules, nothing is removed.
func TestUnknownPolicy(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.image("a", "x", "")
	w.pass(60 * dayTime)
	w.collector.Policy = func(context.Context) (*policy.Policy, error) { return nil, errors.New("cubby.yaml: line 3") }
	if _, _, err := w.collector.Run(t.Context(), Request{Cause: "command"}); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "line 3") {
		t.Errorf("not refused: %v", err)
	}
	if _, err := w.planRemoval(Selection{}); !errors.Is(err, ErrRefused) {
		t.Errorf("removal is not refused: %v", err)
	}
	if w.check().Manifests != 1 {
		t.Error("a refused run removed something")
	}
}

// planRemoval plans a removal and does not carry it out.
func (w *world) planRemoval(s Selection) (plan *Removal, err error) {
	errEnough := errors.New("enough")
	err = w.collector.Remove(w.Context(), s, store.Actor{}, func(m *Removal) error { plan = m; return errEnough }, nil)
	if errors.Is(err, errEnough) {
		err = nil
	}
	return plan, err
}

// TestRemoval: what somebody removes by pattern, with all that holds it back.
func TestRemoval(t *testing.T) {
	glob := func(s string) []oci.Glob {
		g, err := oci.ParseGlob(s)
		if err != nil {
			t.Fatal(err)
		}
		return []oci.Glob{g}
	}
	w := newWorld(t, t.TempDir())
	w.rules(`protected: [{name: p, repositories: "**", tags: latest}]`)
	signature := "sha256-" + strings.Repeat("0", 64) + ".sig"
	for i, v := range []string{"latest", "pr-1", "pr-2", "pr-3", signature} {
		w.image("team/a", fmt.Sprint("image ", i), v)
		w.pass(dayTime)
	}
	if _, err := ObserveClock(t.Context(), w.st, w, true, true); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		s    Selection
		want string
	}{
		{Selection{Rule: policy.Rule{Selector: policy.Selector{Repositories: glob("team/*"), Tags: glob("*")}}}, "pr-1 pr-2 pr-3"},
		{Selection{Rule: policy.Rule{Selector: policy.Selector{Repositories: glob("team/*"), Tags: glob("*")}, Newest: 2}}, "pr-1"},
		{Selection{Rule: policy.Rule{Selector: policy.Selector{Repositories: glob("**"), Tags: glob("pr-*")}, Pushed: 3 * dayTime}}, "pr-1 pr-2"},
		{Selection{Rule: policy.Rule{Selector: policy.Selector{Repositories: glob("team/a"), Tags: glob("*")}}, Subjects: true}, "pr-1 pr-2 pr-3 " + signature},
		{Selection{Rule: policy.Rule{Selector: policy.Selector{Repositories: glob("team/a"), Tags: glob("latest")}}, Protected: true}, "latest"},
		{Selection{Rule: policy.Rule{Selector: policy.Selector{Repositories: glob("ops/*"), Tags: glob("*")}}}, ""},
	} {
		removal, err := w.planRemoval(tt.s)
		if err != nil {
			t.Fatal(err)
		}
		var tags []string
		for _, item := range removal.Tags {
			tags = append(tags, item.Tag)
		}
		slices.Sort(tags)
		if got := strings.Join(tags, " "); got != tt.want {
			t.Errorf("%+v: %q go, want %q", tt.s, got, tt.want)
		}
	}

	prs := Selection{Rule: policy.Rule{Selector: policy.Selector{Repositories: glob("**"), Tags: glob("pr-*")}, Pushed: time.Hour}}
	removal, err := w.planRemoval(prs)
	if err != nil {
		t.Fatal(err)
	}
	before := removal.Fingerprint()
	w.image("team/a", "image 9", "pr-3")
	if again, err := w.planRemoval(prs); err != nil || again.Fingerprint() == before {
		t.Errorf("a tag that moved changes no fingerprint (%v)", err)
	}
	gone, spared := 0, 0
	err = removal.Execute(t.Context(), w.st, store.Actor{Name: "admin", Address: "socket"}, func(_ TagItem, ok bool) {
		if ok {
			gone++
		} else {
			spared++
		}
	})
	if err != nil || gone != 2 || spared != 1 || w.tags("team/a") != "latest pr-3 "+signature {
		t.Errorf("%d gone, %d spared, left %s, %v", gone, spared, w.tags("team/a"), err)
	}
	// What belongs to an image that is here stays with it.
	here := strings.Replace(w.image("team/b", "signed", "v1").String(), ":", "-", 1) + ".sig"
	w.image("team/b", "signature", here)
	b := Selection{Rule: policy.Rule{Selector: policy.Selector{Repositories: glob("team/b"), Tags: glob("*")}}, Subjects: true}
	if m, err := w.planRemoval(b); err != nil || len(m.Tags) != 1 || m.Tags[0].Tag != "v1" {
		t.Errorf("planned %+v, %v", m, err)
	}
	// By age only while the clock is plausible.
	w.set(w.now.Add(400 * dayTime))
	if _, err := w.planRemoval(prs); !errors.Is(err, ErrRefused) {
		t.Errorf("with a clock that jumped: %v", err)
	}
	prs.Pushed = 0
	if _, err := w.planRemoval(prs); err != nil {
		t.Error(err)
	}
}

// TestUseNotRecorded: what was used before the server was off for long did not fall out of use meanwhile.
func TestUseNotRecorded(t *testing.T) {
	dir := t.TempDir()
	w := newWorld(t, dir)
	const text = `{keep: [{repositories: "**", used: 30d, untagged: 0s}], retention: [{name: r, repositories: "**", tags: "*", keep: {used: 30d}}]}`
	use := func(dgst digest.Digest) {
		w.st.Used(name("a"), w.reference(dgst), dgst, true)
		if err := w.st.FlushUses(); err != nil {
			t.Fatal(err)
		}
	}
	w.rules(text)
	prod, pinned := w.image("a", "prod", "prod"), w.image("a", "pinned", "")
	w.image("a", "unused", "unused")
	w.pass(60 * dayTime)
	if err := w.st.Record(); err != nil {
		t.Fatal(err)
	}
	use(prod)
	use(pinned)
	if err := w.st.Close(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		off  time.Duration
		up   time.Duration
		want string
	}{
		{90 * dayTime, 25 * time.Hour, "prod"},
		{dayTime, 27 * dayTime, "prod"},
		{0, 3 * dayTime, ""},
	} {
		w.pass(tt.off)
		st, err := store.Open(t.Context(), store.Options{Dir: dir, Role: store.RoleServe, Now: w.sharedNow})
		if err != nil {
			t.Fatal(err)
		}
		w.st, w.collector.Store = st, st
		w.pass(tt.up)
		if _, err := ObserveClock(t.Context(), w.st, w, true, true); err != nil {
			t.Fatal(err)
		}
		w.collect()
		if got := w.tags("a"); got != tt.want || w.hasManifest("a", pinned) != (tt.want != "") {
			t.Errorf("off for %v, on for %v: tags %q, pinned %v; want %q", tt.off, tt.up, got, w.hasManifest("a", pinned), tt.want)
		}
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSignatureFirst: a signature that is pushed before its image comes again is not taken for one of the image that was
// deleted before.
func TestSignatureFirst(t *testing.T) {
	w := newWorld(t, t.TempDir())
	image := w.image("a", "signed", "v1")
	if err := w.st.DeleteManifest(t.Context(), name("a"), image, store.Condition{}, store.Actor{}); err != nil {
		t.Fatal(err)
	}
	w.pass(dayTime)
	signature := strings.Replace(image.String(), ":", "-", 1) + ".sig"
	w.image("a", "signature", signature)
	w.pass(time.Minute)
	w.collect()
	if w.tags("a") != signature {
		t.Errorf("left %q", w.tags("a"))
	}
}

// TestKeepBesideRemoval: when somebody removes what would have stayed, as many stay all the same, whoever it is.
func TestKeepBesideRemoval(t *testing.T) {
	w := newWorld(t, t.TempDir())
	for i := range 600 { // more than one transaction takes
		w.image("a", "x", fmt.Sprint("t", i))
	}
	all, err := oci.ParseTagGlob("t*")
	if err != nil {
		t.Fatal(err)
	}
	repo, err := oci.ParseNameGlob("a")
	if err != nil {
		t.Fatal(err)
	}
	admin := store.Actor{Name: "admin", Address: "socket"}
	s := Selection{Rule: policy.Rule{Selector: policy.Selector{Repositories: []oci.Glob{repo}, Tags: []oci.Glob{all}}, Newest: 2}}
	gone, spared := 0, 0
	err = w.collector.Remove(t.Context(), s, admin, func(m *Removal) error {
		if len(m.Tags) != 598 {
			t.Errorf("planned %d", len(m.Tags))
		}
		return nil
	}, func(item TagItem, ok bool) {
		if !ok {
			spared++
			return
		}
		if gone++; gone == 1 { // behind the first transaction
			if err := w.st.DeleteTag(t.Context(), name("a"), tag("t599"), store.Condition{}, admin); err != nil {
				t.Error(err)
			}
		}
	})
	if err != nil || spared == 0 || gone < 1 || gone+spared != 598 {
		t.Errorf("%d gone, %d spared, %v", gone, spared, err)
	}
}

// TestOneRepository: nothing of another goes.
func TestOneRepository(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.rules(`retention: [{name: r, repositories: "**", tags: "*", keep: {newest: 1}}]`)
	for _, repo := range []string{"a", "b"} {
		w.image(repo, repo+" old", "t1")
		w.pass(time.Minute)
		w.image(repo, repo+" new", "t2")
		w.push(repo, repo+" loose")
	}
	w.pass(2 * time.Hour)
	_, r, err := w.collector.Run(t.Context(), Request{Cause: "command", Repository: name("a"), End: func(oci.Name) bool { return true }})
	if err != nil || r.Tags != 1 || r.Manifests != 1 || r.Blobs != 3 {
		t.Errorf("%+v, %v", r, err)
	}
	if w.tags("b") != "t1 t2" || !w.hasBlob("b", sum([]byte("b loose"))) || w.tags("a") != "t2" {
		t.Errorf("left %q and %q", w.tags("a"), w.tags("b"))
	}
}

// TestUndoKeepsOrder: a tag that is taken back is as old as it was.
func TestUndoKeepsOrder(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.rules(`retention: [{name: r, repositories: "**", tags: "*", keep: {newest: 1}}]`)
	w.image("a", "old", "t1")
	w.pass(time.Minute)
	w.image("a", "new", "t2")
	for range 2 {
		w.pass(time.Minute)
		if w.collect(); w.tags("a") != "t2" {
			t.Fatalf("left %q", w.tags("a"))
		}
		if _, err := w.st.Undo(t.Context(), name("a"), tag("t1"), store.Actor{}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestUndoKeepsUse: a tag that is taken back was pushed and used when it was, also what no entry of the history tells.
func TestUndoKeepsUse(t *testing.T) {
	for what, rule := range map[string]string{"used": "used: 30d", "pushed": "pushed: 30d"} {
		w := newWorld(t, t.TempDir())
		w.rules(`retention: [{name: r, repositories: "**", tags: "*", keep: {` + rule + `}}]`)
		prod := w.image("a", "prod", "prod")
		for range 10 {
			w.pass(10 * dayTime)
			if what == "pushed" {
				w.image("a", "prod", "prod") // the same again
			} else {
				w.st.Used(name("a"), w.reference(prod), prod, true)
			}
			if err := w.st.FlushUses(); err != nil {
				t.Fatal(err)
			}
		}
		undo := func() {
			t.Helper()
			if _, err := w.st.Undo(t.Context(), name("a"), tag("prod"), store.Actor{}); err != nil {
				t.Fatal(err)
			}
			w.pass(time.Minute)
			if w.collect(); w.tags("a") != "prod" {
				t.Errorf("%s: left %q", what, w.tags("a"))
			}
		}
		w.untag("a", "prod")
		undo()
		w.image("a", "wrong", "prod")
		undo()
		if !w.hasManifest("a", prod) {
			t.Errorf("%s: the manifest is gone", what)
		}
		w.pass(29 * dayTime)
		if w.collect(); w.tags("a") != "prod" {
			t.Errorf("%s: within the time: %q", what, w.tags("a"))
		}
		w.pass(2 * dayTime)
		if w.collect(); w.tags("a") != "" {
			t.Errorf("%s: after the time: %q", what, w.tags("a"))
		}
	}
}
