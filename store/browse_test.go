package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
)

// A shelf is a store with what the pages show, made at known times.
type shelf struct {
	*Store
	clock *clock
	t     testing.TB
}

func newShelf(t *testing.T) *shelf {
	t.Helper()
	c := newClock(s0)
	o := testingOptions(t.TempDir())
	o.Now = c.Now
	return &shelf{Store: open(t, o), clock: c, t: t}
}

// s0 is when a shelf begins.
var s0 = time.Unix(20_000*secondsPerDay, 0)

// later sets the clock forward, so that what comes is newer.
func (s *shelf) later() { s.clock.set(s.clock.now.Add(time.Minute)) }

func (s *shelf) image(repo, architecture, n string, tags ...string) digest.Digest {
	s.t.Helper()
	s.later()
	return mustImage(s.t, s.Store, repo, architecture, n, tags...)
}

// index puts an index; an entry is a digest, or "attestation " and a digest.
func (s *shelf) index(repo string, tags []string, entries ...string) digest.Digest {
	s.t.Helper()
	s.later()
	for i, e := range entries {
		if dgst, ok := strings.CutPrefix(e, "attestation "); ok {
			entries[i] = fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":1,"annotations":{"vnd.docker.reference.type":"attestation-manifest"},"platform":{"os":"unknown","architecture":"unknown"}}`, imageType, dgst)
		} else {
			entries[i] = fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":1,"platform":{"os":"linux","architecture":"a%d"}}`, imageType, e, i)
		}
	}
	return putAs(s.t, s.Store, repo, indexType, fmt.Appendf(nil, `{"schemaVersion":2,"manifests":[%s]}`, strings.Join(entries, ",")), tags...)
}

// artifact puts a manifest of an artifact type with one layer; extra are further fields.
func (s *shelf) artifact(repo, artifactType, layerType, extra string, tags ...string) digest.Digest {
	s.t.Helper()
	s.later()
	return putAs(s.t, s.Store, repo, imageType, fmt.Appendf(nil, `{"schemaVersion":2,"artifactType":%q,"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":%q,"size":2},"layers":[{"mediaType":%q,"digest":%q,"size":7%s]%s}`,
		artifactType, pushed(s.t, s.Store, repo, "{}"), layerType, pushed(s.t, s.Store, repo, "content"), layerEnd(extra), extra), tags...)
}

// layerEnd closes the descriptor of a layer, with a predicate for attestations.
func layerEnd(extra string) string {
	if strings.Contains(extra, "slsa") {
		return `,"annotations":{"in-toto.io/predicate-type":"https://slsa.dev/provenance/v1"}}`
	}
	return "}"
}

func subjectOf(dgst digest.Digest) string {
	return fmt.Sprintf(`,"subject":{"mediaType":%q,"digest":%q,"size":1}`, imageType, dgst)
}

func cosignTag(dgst digest.Digest, suffix string) string {
	return strings.Replace(dgst.String(), ":", "-", 1) + suffix
}

const (
	sigType  = "application/vnd.dev.cosign.simplesigning.v1+json"
	spdxType = "application/spdx+json"
	toto     = "application/vnd.in-toto+json"
)

// statements fails the test when f takes more than max statements.
func (s *shelf) statements(what string, limit int64, f func()) {
	s.t.Helper()
	var n int64
	for range 3 { // what the store does every few seconds in the background counts too
		before := s.Statements()
		f()
		if n = s.Statements() - before; n > 0 && n <= limit {
			return
		}
	}
	s.t.Errorf("%s took %d statements, at most %d are allowed", what, n, limit)
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func (s *shelf) pull(repo, tagName string, dgst digest.Digest, times int) {
	s.t.Helper()
	for range times {
		s.Used(name(repo), oci.Reference{Tag: tag(tagName)}, dgst, true)
	}
	if err := s.FlushUses(); err != nil {
		s.t.Fatal(err)
	}
}

func TestSummaries(t *testing.T) {
	s := newShelf(t)
	first := s.image("b/c", "amd64", "1", "1")
	pushedAt := s.clock.now
	s.image("a", "amd64", "1", "1", "2")
	mustPush(t, s.Store, "empty", "x")
	s.pull("b/c", "1", first, 2)
	s.clock.set(s.clock.now.Add(24 * time.Hour))
	s.pull("b/c", "1", first, 3)

	var all []RepositorySummary
	s.statements("Summaries", 1, func() { all = must[[]RepositorySummary](t)(s.Summaries(t.Context(), time.Time{})) })
	if len(all) != 2 || all[0].Name.String() != "a" || all[0].Tags != 2 || all[1].Pulls != 0 || all[1].Kind != "image" ||
		!all[1].PushedAt.Equal(pushedAt) || !all[1].LastUsed.Equal(s.clock.now) || !all[0].LastUsed.IsZero() {
		t.Errorf("summaries %+v", all)
	}
	use := must[RepositoryUse](t)(s.RepositoryUse(t.Context(), name("b/c")))
	if all[1].Stored != use.Stored || all[1].OnlyHere != use.OnlyHere || all[1].Stored == all[1].OnlyHere {
		t.Errorf("sizes %+v, want %+v", all[1], use)
	}
	if got := must[[]RepositorySummary](t)(s.Summaries(t.Context(), s.clock.now)); got[1].Pulls != 3 {
		t.Errorf("pulls of today %d, want 3", got[1].Pulls)
	}
	s.statements("PullsByDay", 1, func() {
		got := must[map[oci.Name][]int64](t)(s.PullsByDay(t.Context(), []oci.Name{name("a"), name("b/c"), name("nothing")}, s.clock.now.Add(-48*time.Hour), 3))
		if want := map[oci.Name][]int64{name("b/c"): {0, 2, 3}}; !reflect.DeepEqual(got, want) {
			t.Errorf("pulls by day %v, want %v", got, want)
		}
	})
}

func TestSummary(t *testing.T) {
	s := newShelf(t)
	dgst := s.image("a", "arm64", "7", "1")
	s.artifact("a", "", sigType, "", cosignTag(dgst, ".sig"))
	s.pull("a", "1", dgst, 4)
	s.statements("Summary", 1, func() {
		got := must[RepositoryDetail](t)(s.Summary(t.Context(), name("a")))
		if got.Name.String() != "a" || got.Pulls != 4 || got.Facts.Config == nil || got.Facts.Config.Labels["n"] != "7" || got.Kind != "image" {
			t.Errorf("summary %+v", got)
		}
	})
	s.clock.set(s.clock.now.Add(summaryDays * 24 * time.Hour))
	if got := must[RepositoryDetail](t)(s.Summary(t.Context(), name("a"))); got.Pulls != 0 {
		t.Errorf("pulls of long ago: %d", got.Pulls)
	}
	if _, err := s.Summary(t.Context(), name("no")); !errors.Is(err, ErrNameUnknown) {
		t.Errorf("unknown: %v", err)
	}
}

// TestTagPages walks every order with and without filters, in pages, and compares with a model in Go.
func TestTagPages(t *testing.T) {
	s := newShelf(t)
	amd, arm := s.image("a", "amd64", "1"), s.image("a", "arm64", "1")
	signed := false
	type model struct {
		name, key           string
		pushed, used, pulls int64
		arm                 bool
	}
	var all []model
	for i, v := range []string{"1.9", "1.10", "v1.2", "1.0-rc.1", "1.0", "latest", "Edge", "main_x", "2", "3", "4", "5"} {
		architecture, dgst := "amd64", amd
		if i%3 == 0 {
			architecture, dgst = "arm64", arm
		}
		if i%4 != 1 {
			s.later()
		}
		mustImage(t, s.Store, "a", architecture, "1", v)
		m := model{name: v, key: oci.TagOrder(v), pushed: s.clock.now.Unix(), arm: i%3 == 0}
		if i%2 == 0 {
			s.pull("a", v, dgst, i%5)
			m.pulls = int64(i % 5)
		}
		all = append(all, m)
		if !signed {
			s.artifact("a", "", sigType, "", cosignTag(amd, ".sig"))
			signed = true
		}
	}
	// Uses go to every tag at the digest: read them back.
	for i := range all {
		if err := s.db.queryRow(t.Context(), `SELECT last_used, pulls FROM tags WHERE name = ?`, all[i].name).Scan(&all[i].used, &all[i].pulls); err != nil {
			t.Fatal(err)
		}
	}
	compare := map[string]func(a, b model) int{
		"pushed": func(a, b model) int { return signOf(b.pushed-a.pushed, strings.Compare(a.name, b.name)) },
		"name":   func(a, b model) int { return strings.Compare(a.key, b.key) },
		"pulls":  func(a, b model) int { return signOf(b.pulls-a.pulls, strings.Compare(a.key, b.key)) },
		"used":   func(a, b model) int { return signOf(b.used-a.used, strings.Compare(a.key, b.key)) },
	}
	filters := []struct {
		match, platform string
		keep            func(m model) bool
	}{
		{"", "", func(model) bool { return true }},
		{"1.", "", func(m model) bool { return strings.Contains(m.name, "1.") }},
		{"1.*", "", func(m model) bool { return strings.HasPrefix(m.name, "1.") }},
		{"?", "", func(m model) bool { return len(m.name) == 1 }},
		{"EDGE", "", func(m model) bool { return m.name == "Edge" }},
		{"_", "", func(m model) bool { return strings.Contains(m.name, "_") }},
		{"%", "", func(model) bool { return false }},
		{"", "linux/arm64", func(m model) bool { return m.arm }},
		{"", "linux/arm", func(model) bool { return false }},
		{strings.Repeat("x", 1000), "", func(model) bool { return false }},
	}
	for base, cmp := range compare {
		for _, reverse := range []bool{false, true} {
			order := must[TagSort](t)(ParseTagSort(base))
			if reverse {
				order = order.Reverse()
			}
			for _, f := range filters {
				var want []string
				kept := slices.DeleteFunc(slices.Clone(all), func(m model) bool { return !f.keep(m) })
				slices.SortFunc(kept, cmp)
				if reverse {
					slices.Reverse(kept)
				}
				for _, m := range kept {
					want = append(want, m.name)
				}
				var got []string
				for after, pages := "", 0; pages < 10; pages++ {
					page := must[TagPage](t)(s.TagPage(t.Context(), name("a"), TagQuery{Match: f.match, Platform: f.platform, Sort: order, After: after, N: 5}))
					if page.Total != int64(len(want)) {
						t.Errorf("%s %+v: total %d, want %d", order, f.match, page.Total, len(want))
					}
					for _, r := range page.Rows {
						got = append(got, r.Name)
					}
					if after = page.Next; after == "" {
						break
					}
				}
				if !slices.Equal(got, want) {
					t.Errorf("%s %q %q: %v, want %v", order, f.match, f.platform, got, want)
				}
			}
		}
	}
	page := must[TagPage](t)(s.TagPage(t.Context(), name("a"), TagQuery{N: 2}))
	if page.Hidden != 1 {
		t.Errorf("hidden %d, want 1", page.Hidden)
	}
	page = must[TagPage](t)(s.TagPage(t.Context(), name("a"), TagQuery{N: 100, Subjects: true}))
	if page.Hidden != 0 || page.Total != int64(len(all)+1) || len(page.Rows) != len(all)+1 {
		t.Errorf("with subjects: total %d, hidden %d, %d rows", page.Total, page.Hidden, len(page.Rows))
	}
	for _, after := range []string{"x", "!", must[TagPage](t)(s.TagPage(t.Context(), name("a"), TagQuery{Sort: TagsByName, N: 1})).Next} {
		if _, err := s.TagPage(t.Context(), name("a"), TagQuery{N: 1, After: after}); !errors.Is(err, ErrCursor) || !isRefusal(err) {
			t.Errorf("cursor %q: %v", after, err)
		}
	}
	if _, err := s.TagPage(t.Context(), name("no"), TagQuery{N: 1}); !errors.Is(err, ErrNameUnknown) {
		t.Errorf("unknown: %v", err)
	}
	if _, err := ParseTagSort("size"); !errors.Is(err, ErrSort) {
		t.Errorf("order: %v", err)
	}
}

func signOf(n int64, otherwise int) int {
	switch {
	case n < 0:
		return -1
	case n > 0:
		return 1
	}
	return otherwise
}

func TestTagRow(t *testing.T) {
	s := newShelf(t)
	small, large := s.image("a", "amd64", "1"), s.image("a", "arm64", strings.Repeat("1", 2000))
	largeRaw := must[Manifest](t)(s.Manifest(t.Context(), name("a"), oci.Reference{Digest: large}, true))
	attestation := s.artifact("a", toto, toto, `,"annotations":{"x":"slsa"}`)
	index := s.index("a", []string{"multi", "latest", "v1", "v2", "v3"}, small.String(), large.String(), "attestation "+attestation.String(), sum([]byte("absent")).String())
	single := s.image("a", "s390x", "2", "single")
	s.artifact("a", "", sigType, "", cosignTag(single, ".sig"))
	s.artifact("a", spdxType, "x/y", subjectOf(index))
	listed := s.artifact("a", "application/vnd.cncf.notary.signature", "x/y", "")
	s.index("a", []string{cosignTag(index, "")}, listed.String())

	var page TagPage
	s.statements("TagPage", 4, func() { page = must[TagPage](t)(s.TagPage(t.Context(), name("a"), TagQuery{N: 10, Sort: TagsByName})) })
	rows := make(map[string]TagRow)
	for _, r := range page.Rows {
		rows[r.Name] = r
	}
	size := func(m Manifest) int64 { return m.Size + 50 + 1000 }
	smallRaw := must[Manifest](t)(s.Manifest(t.Context(), name("a"), oci.Reference{Digest: small}, true))
	m := rows["multi"]
	if m.Digest != index || !m.Index || m.Kind != "image" || !slices.Equal(m.Platforms, []string{"linux/a0", "linux/a1", "linux/a3"}) ||
		m.SizeMin != min(size(smallRaw), size(largeRaw)) || m.SizeMax != max(size(smallRaw), size(largeRaw)) ||
		!slices.Equal(m.Aliases, []string{"latest", "v1", "v2"}) || m.AliasCount != 4 ||
		!slices.Equal(m.Provides, []string{"provenance", "sbom", "signature"}) {
		t.Errorf("index %+v", m)
	}
	one := rows["single"]
	if one.Digest != single || one.Index || one.SizeMin != one.SizeMax || one.SizeMin < 1050 || !slices.Equal(one.Platforms, []string{"linux/s390x"}) ||
		len(one.Aliases) != 0 || one.AliasCount != 0 || !slices.Equal(one.Provides, []string{"signature"}) {
		t.Errorf("image %+v", one)
	}
}

func TestRemovedTags(t *testing.T) {
	s := newShelf(t)
	one, two := s.image("a", "amd64", "1", "kept", "gone", "gone2", "back", "twice"), s.image("a", "amd64", "2", "deleted", "twice")
	remove := func(v string) {
		t.Helper()
		s.later()
		if err := s.DeleteTag(t.Context(), name("a"), tag(v), Condition{}, Actor{Name: "me"}); err != nil {
			t.Fatal(err)
		}
	}
	for _, v := range []string{"gone", "back", "deleted", "twice"} {
		remove(v)
	}
	s.image("a", "amd64", "1", "back")
	s.image("a", "amd64", "1", "twice")
	remove("twice")
	// Removed twice from the same manifest, it is there once.
	remove("gone2")
	s.image("a", "amd64", "1", "gone2")
	remove("gone2")
	if err := s.DeleteManifest(t.Context(), name("a"), two, Condition{}, Actor{}); err != nil {
		t.Fatal(err)
	}
	s.statements("RemovedTags", 1, func() {
		got := must[[]RemovedTag](t)(s.RemovedTags(t.Context(), name("a"), 5))
		if len(got) != 3 || got[0].Tag != "gone2" || got[1].Tag != "twice" || got[1].Digest != one || got[2].Tag != "gone" || got[2].Who != "me" || got[2].At.IsZero() {
			t.Errorf("removed %+v", got)
		}
	})
	if got := must[[]RemovedTag](t)(s.RemovedTags(t.Context(), name("a"), 1)); len(got) != 1 || got[0].Tag != "gone2" {
		t.Errorf("the last removed: %+v", got)
	}
}

// BenchmarkBrowse reads a store of 1 000 repositories with 50 tags each, every manifest with labels of its own.
func BenchmarkBrowse(b *testing.B) {
	s, err := Open(b.Context(), testingOptions(b.TempDir()))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	const repositories, tags = 1000, 50
	config := pushed(b, s, "base", configOf("amd64", "1"))
	var wg sync.WaitGroup
	work := make(chan int)
	for range 64 {
		wg.Go(func() {
			for i := range work {
				fillRepository(b, s, fmt.Sprintf("team%d/app%d", i%20, i), config, tags)
			}
		})
	}
	for i := range repositories {
		work <- i
	}
	close(work)
	wg.Wait()
	repo := name("team7/app7")
	first := must[ManifestDetail](b)(s.Detail(b.Context(), repo, oci.Reference{Tag: tag("1.7.0")}))
	run := func(what string, f func() error) {
		b.Run(what, func(b *testing.B) {
			for b.Loop() {
				if err := f(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	ctx := b.Context()
	run("Summaries", func() error { _, err := s.Summaries(ctx, time.Time{}); return err })
	run("Summaries/pulls", func() error { _, err := s.Summaries(ctx, time.Now().Add(-summaryDays*day)); return err })
	run("Summary", func() error { _, err := s.Summary(ctx, repo); return err })
	for _, order := range slices.Sorted(maps.Keys(tagOrders)) {
		run("TagPage/"+order, func() error {
			_, err := s.TagPage(ctx, repo, TagQuery{Sort: TagSort{order}, N: tags})
			return err
		})
	}
	run("TagPage/match", func() error { _, err := s.TagPage(ctx, repo, TagQuery{Match: "1.2*", N: tags}); return err })
	run("ManifestPage", func() error { _, _, _, err := s.ManifestPage(ctx, repo, ShowUntagged, "", 50); return err })
	run("Detail", func() error { _, err := s.Detail(ctx, repo, oci.Reference{Digest: first.Digest}); return err })
	run("ReferrerTree", func() error { _, _, err := s.ReferrerTree(ctx, repo, first.Digest, 100); return err })
	run("EffectsOf", func() error { _, err := s.EffectsOf(ctx, repo, oci.Reference{Tag: tag("1.7.0")}); return err })
	run("RemovedTags", func() error { _, err := s.RemovedTags(ctx, repo, 20); return err })
	for _, text := range []string{"1.7.0", "7", "nothing"} {
		run("FindTags/"+text, func() error { _, _, err := s.FindTags(ctx, text, nil, 20); return err })
	}
	none := Among{name("nowhere")}
	run("FindTags/hidden", func() error { _, _, err := s.FindTags(ctx, "1", none, 20); return err })
	run("FindDigests", func() error { _, _, err := s.FindDigests(ctx, first.Digest.Encoded()[:8], nil, 20); return err })
	for _, text := range []string{"org.opencontainers.image.revision", "org.opencontainers.image.version=team7/app7-7", "team7/app7-7", "nothing"} {
		run("FindLabels/"+text, func() error { _, _, err := s.FindLabels(ctx, text, nil, 20); return err })
	}
	run("FindLabels/hidden", func() error { _, _, err := s.FindLabels(ctx, "team", none, 20); return err })
	run("BiggestBlobs", func() error { _, err := s.BiggestBlobs(ctx, nil, 20); return err })
}

// fillRepository puts images that differ in their annotations.
func fillRepository(b *testing.B, s *Store, repo string, config digest.Digest, tags int) {
	if err := s.MountBlob(context.WithoutCancel(b.Context()), name("base"), name(repo), config); err != nil {
		b.Error(err)
		return
	}
	for i := range tags {
		extra := fmt.Sprintf(`,"annotations":{"org.opencontainers.image.version":"%s-%d","org.opencontainers.image.revision":%q,"org.opencontainers.image.vendor":"us"}`,
			repo, i, sum(fmt.Append(nil, repo, i)).Encoded()[:40])
		putAs(b, s, repo, imageType, realImage(config, extra), fmt.Sprintf("1.%d.0", i))
	}
}
