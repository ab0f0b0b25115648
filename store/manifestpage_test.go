package store

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
)

func TestManifestPage(t *testing.T) {
	s := newShelf(t)
	child := s.image("a", "amd64", "1")
	index := s.index("a", []string{"multi", "latest"}, child.String())
	untagged := s.image("a", "amd64", "2")
	sbom := s.artifact("a", spdxType, "x/y", subjectOf(index))
	stray := s.artifact("a", spdxType, "x/y", subjectOf(sum([]byte("elsewhere"))))
	tagged := s.image("a", "arm64", "3", "t1", "t2", "t3", "t4")
	s.pull("a", "multi", child, 1)

	for show, want := range map[ManifestsShow][]digest.Digest{
		ShowAll: {tagged, stray, sbom, untagged, index, child}, ShowTagged: {tagged, index}, ShowUntagged: {stray, untagged},
		ShowParts: {child}, ShowReferrers: {stray, sbom}, "": {tagged, stray, sbom, untagged, index, child},
	} {
		for n := 1; n < 8; n++ {
			var got []digest.Digest
			for after, pages := "", 0; pages < 8; pages++ {
				rows, next, total, err := s.ManifestPage(t.Context(), name("a"), show, after, n)
				if err != nil || total != int64(len(want)) {
					t.Fatalf("%s: total %d, %v", show, total, err)
				}
				for _, r := range rows {
					got = append(got, r.Digest)
				}
				if after = next; after == "" {
					break
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s by %d: %v, want %v", show, n, got, want)
			}
		}
	}
	var rows []ManifestRow
	s.statements("ManifestPage", 4, func() { rows, _, _, _ = s.ManifestPage(t.Context(), name("a"), ShowAll, "", 10) })
	byDigest := make(map[digest.Digest]ManifestRow)
	for _, r := range rows {
		byDigest[r.Digest] = r
	}
	if r := byDigest[child]; len(r.Parents) != 1 || r.Parents[0] != (Parent{index, "latest"}) || r.UntaggedSince.IsZero() || r.LastUsed.IsZero() || r.TagCount != 0 || r.PullSize < 1050 {
		t.Errorf("child %+v", r)
	}
	if r := byDigest[tagged]; !slices.Equal(r.Tags, []string{"t1", "t2", "t3"}) || r.TagCount != 4 || !r.UntaggedSince.IsZero() || r.Kind != "image" || !slices.Equal(r.Platforms, []string{"linux/arm64"}) {
		t.Errorf("tagged %+v", r)
	}
	if a, b := byDigest[sbom], byDigest[stray]; a.Subject != index || !a.SubjectHere || b.Subject == "" || b.SubjectHere || a.Kind != "sbom" || a.ArtifactType != spdxType {
		t.Errorf("referrers %+v %+v", a, b)
	}
	if _, _, _, err := s.ManifestPage(t.Context(), name("a"), "some", "", 1); !errors.Is(err, ErrSort) {
		t.Errorf("show: %v", err)
	}
	for _, after := range []string{"x", cursor{Sort: "all", Key: "x"}.String(), cursor{Sort: "parts", Key: "1"}.String()} {
		if _, _, _, err := s.ManifestPage(t.Context(), name("a"), ShowAll, after, 1); !errors.Is(err, ErrCursor) {
			t.Errorf("cursor: %v", err)
		}
	}
	if _, _, _, err := s.ManifestPage(t.Context(), name("no"), ShowAll, "", 1); !errors.Is(err, ErrNameUnknown) {
		t.Errorf("unknown: %v", err)
	}
}

func TestDetail(t *testing.T) {
	s := newShelf(t)
	small, large := s.image("a", "amd64", "1"), s.image("a", "arm64", "2")
	attestation := s.artifact("a", toto, toto, `,"annotations":{"x":"slsa"}`)
	absent := sum([]byte("absent"))
	index := s.index("a", []string{"multi", "v1"}, small.String(), large.String(), "attestation "+attestation.String(), absent.String())
	s.index("a", []string{"outer"}, index.String())
	s.artifact("a", spdxType, "x/y", subjectOf(index))
	s.artifact("a", spdxType, "x/z", subjectOf(index))
	s.artifact("a", "", sigType, "", cosignTag(index, ".sig"))
	listed := s.artifact("a", "application/vnd.cncf.notary.signature", "x/y", "")
	s.index("a", []string{cosignTag(index, "")}, listed.String())
	s.image("b", "amd64", "1", "b")
	s.pull("a", "multi", index, 2)

	var v ManifestDetail
	s.statements("Detail", 5, func() { v = must[ManifestDetail](t)(s.Detail(t.Context(), name("a"), oci.Reference{Tag: tag("v1")})) })
	if v.Digest != index || sum(v.Raw) != index || !v.Described || v.Facts.Kind != "image" || !slices.Equal(v.Tags, []string{"multi", "v1"}) || v.TagCount != 2 ||
		v.LastUsed.IsZero() || !v.UntaggedSince.IsZero() || len(v.Parents) != 1 || v.Parents[0].Tag != "outer" {
		t.Errorf("detail %+v", v)
	}
	if len(v.Children) != 3 || v.Children[large].Platforms[0] != "linux/arm64" || v.Children[attestation].Kind != "attestation" ||
		v.Children[attestation].Provides[0] != "provenance" || v.Children[small].PullSize < 1050 || v.Children[small].CreatedAt.IsZero() {
		t.Errorf("children %+v", v.Children)
	}
	var got []string
	for _, r := range v.Referrers {
		got = append(got, fmt.Sprint(r.Kind, r.Provides, r.Count))
	}
	if want := []string{"sbom[sbom] 2", "signature[signature] 1", "signature[signature] 1"}; !slices.Equal(got, want) {
		t.Errorf("referrers %v, want %v", got, want)
	}
	if d := must[ManifestDetail](t)(s.Detail(t.Context(), name("a"), oci.Reference{Digest: small})); d.Facts.Config == nil || d.UntaggedSince.IsZero() || d.Parents[0].Digest != index {
		t.Errorf("child %+v", d)
	}
	if _, err := s.Detail(t.Context(), name("a"), oci.Reference{Tag: tag("no")}); !errors.Is(err, ErrManifestUnknown) {
		t.Errorf("unknown tag: %v", err)
	}
	if _, err := s.Detail(t.Context(), name("no"), oci.Reference{Tag: tag("no")}); !errors.Is(err, ErrNameUnknown) {
		t.Errorf("unknown name: %v", err)
	}
}

// TestDetailDescribes: looking at a manifest whose config came later describes it for good.
func TestDetailDescribes(t *testing.T) {
	dir := t.TempDir()
	s := &shelf{Store: open(t, testingOptions(dir)), clock: newClock(s0), t: t}
	config := configOf("arm64", "1")
	dgst := putAs(t, s.Store, "a", imageType, realImage(sum([]byte(config)), ""), "1")
	ref := oci.Reference{Digest: dgst}
	if v := must[ManifestDetail](t)(s.Detail(t.Context(), name("a"), ref)); v.Described || v.Facts.Kind != "image" || storedFacts(t, s.Store, "a", dgst) != "" {
		t.Errorf("without its config: %+v", v.Facts)
	}
	pushed(t, s.Store, "a", config)
	shut(t, s.Store)
	o := testingOptions(dir)
	o.ReadOnly = true
	s.Store = open(t, o)
	if v := must[ManifestDetail](t)(s.Detail(t.Context(), name("a"), ref)); !v.Described || v.Facts.Config == nil || storedFacts(t, s.Store, "a", dgst) != "" {
		t.Errorf("read-only: %+v", v.Facts)
	}
	shut(t, s.Store)
	s.Store = open(t, testingOptions(dir))
	s.statements("Detail", 5, func() {
		if v := must[ManifestDetail](t)(s.Detail(t.Context(), name("a"), ref)); !v.Described {
			t.Errorf("with its config: %+v", v.Facts)
		}
	})
	if got := storedFacts(t, s.Store, "a", dgst); !strings.HasPrefix(got, "image linux/arm64") {
		t.Errorf("not kept: %q", got)
	}
	if v := must[RepositoryDetail](t)(s.Summary(t.Context(), name("a"))); v.Kind != "image" {
		t.Errorf("kind of the repository %q", v.Kind)
	}
}
