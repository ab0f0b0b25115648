package store

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
)

func TestReferrerTree(t *testing.T) {
	s := newShelf(t)
	child := s.image("a", "amd64", "1")
	// An entry may refer to the manifest beside it; it is no referrer of the index.
	beside := s.artifact("a", "x/beside", "x/y", subjectOf(child))
	index := s.index("a", []string{"1"}, child.String(), beside.String())
	sbom := s.artifact("a", spdxType, "x/y", subjectOf(index)+`,"annotations":{"k":"v"}`)
	ofChild := s.artifact("a", spdxType, "x/z", subjectOf(child))
	ofSBOM := s.artifact("a", "application/vnd.cncf.notary.signature", "x/y", subjectOf(sbom))
	signature := s.artifact("a", "", sigType, "", cosignTag(index, ".sig"))
	listed := s.artifact("a", "x/listed", "x/y", "")
	// What has a subject of its own is not attached by the list: neither here nor in Detail.
	other := s.artifact("a", "x/other", "x/y", subjectOf(sum([]byte("other"))))
	s.index("a", []string{cosignTag(child, "")}, listed.String(), other.String())
	if v := must[ManifestDetail](t)(s.Detail(t.Context(), name("a"), oci.Reference{Digest: child})); len(v.Referrers) != 3 {
		t.Errorf("referrers %+v", v.Referrers)
	}
	s.artifact("b", spdxType, "x/y", subjectOf(index)) // elsewhere

	var rows []ReferrerRow
	s.statements("ReferrerTree", 2, func() {
		var more bool
		var err error
		if rows, more, err = s.ReferrerTree(t.Context(), name("a"), index, 10); err != nil || more {
			t.Fatal(more, err)
		}
	})
	line := func(dgst, subject digest.Digest, tag string, depth int) string {
		return fmt.Sprint(dgst, subject, tag, depth)
	}
	var got []string
	for _, r := range rows {
		got = append(got, line(r.Digest, r.Subject, r.Tag, r.Depth))
	}
	want := []string{line(sbom, index, "", 1), line(ofChild, child, "", 1), line(signature, index, cosignTag(index, ".sig"), 1),
		line(listed, child, cosignTag(child, ""), 1), line(ofSBOM, sbom, "", 2)}
	if !slices.Equal(got, want) {
		t.Errorf("tree\n%v\nwant\n%v", got, want)
	}
	if rows[0].Annotations["k"] != "v" || rows[0].Kind != "sbom" || rows[0].Provides[0] != "sbom" {
		t.Errorf("row %+v", rows[0])
	}
	if rows, more, err := s.ReferrerTree(t.Context(), name("a"), index, 4); err != nil || len(rows) != 4 || !more {
		t.Errorf("%d of 5, more %v, %v", len(rows), more, err)
	}
	if rows, more, err := s.ReferrerTree(t.Context(), name("no"), index, 4); err != nil || len(rows) != 0 || more {
		t.Errorf("%d of none, %v", len(rows), err)
	}
}

// TestReferrersAreDeep: a long chain of referrers ends at the bound.
func TestReferrersAreDeep(t *testing.T) {
	s := newShelf(t)
	first := s.image("a", "amd64", "1", "1")
	for at, i := first, 0; i < 12; i++ {
		at = s.artifact("a", spdxType, "x/y", subjectOf(at))
	}
	rows, _, err := s.ReferrerTree(t.Context(), name("a"), first, 100)
	if err != nil || len(rows) != referrersDepth || rows[len(rows)-1].Depth != referrersDepth {
		t.Errorf("%d levels, %v", len(rows), err)
	}
}

// TestEffects compares what is said to be freed with what deleting and collecting it frees.
func TestEffects(t *testing.T) {
	s := newShelf(t)
	size := func(repo string, all ...digest.Digest) (sum int64) {
		for _, dgst := range all {
			m, err := s.Manifest(t.Context(), name(repo), oci.Reference{Digest: dgst}, false)
			if err != nil {
				t.Fatal(err)
			}
			sum += m.Size
		}
		return sum
	}
	config := func(architecture, n string) int64 { return int64(len(configOf(architecture, n))) }
	layer := pushed(t, s.Store, "a", "layer")
	only, shared := s.image("a", "amd64", "only"), s.image("a", "amd64", "shared")
	index := s.index("a", []string{"1", "alias"}, only.String(), shared.String())
	stays := s.image("a", "ppc64le", "stays", "stays")
	held := s.artifact("a", "x/held", "x/held", subjectOf(stays)) // as its referrer
	holds := s.index("a", []string{"holds"}, held.String())
	outer := s.index("a", []string{"other"}, shared.String())
	sbom := s.artifact("a", spdxType, "x/y", subjectOf(index))
	nested := s.artifact("a", "application/vnd.cncf.notary.signature", "x/y", subjectOf(sbom))
	tagged := s.artifact("a", spdxType, "x/t", subjectOf(index), "kept")
	elsewhere := s.image("a", "arm64", "elsewhere", "e")
	s.image("b", "arm64", "elsewhere", "e")

	for _, tt := range []struct {
		ref       oci.Reference
		tags      []string
		parents   int
		referrers int64
		frees     int64
	}{
		// The layer is in every image; content and the empty config of the referrers are held by the tagged one.
		{oci.Reference{Tag: tag("1")}, []string{"alias"}, 0, 2, size("a", index, only, sbom, nested) + config("amd64", "only")},
		{oci.Reference{Digest: index}, []string{"1", "alias"}, 0, 2, size("a", index, only, sbom, nested) + config("amd64", "only")},
		{oci.Reference{Tag: tag("other")}, nil, 0, 0, size("a", outer)},
		{oci.Reference{Tag: tag("holds")}, nil, 0, 0, size("a", holds)},
		{oci.Reference{Tag: tag("kept")}, nil, 0, 0, size("a", tagged)},
		{oci.Reference{Tag: tag("e")}, nil, 0, 0, size("a", elsewhere)},
		{oci.Reference{Digest: shared}, nil, 2, 0, size("a", shared) + config("amd64", "shared")},
	} {
		s.statements("EffectsOf", 3, func() {
			e := must[Effects](t)(s.EffectsOf(t.Context(), name("a"), tt.ref))
			if !slices.Equal(e.Tags, tt.tags) || e.TagCount != len(tt.tags) || len(e.Parents) != tt.parents || e.Referrers != tt.referrers || e.Frees != tt.frees {
				t.Errorf("%s: %+v, want %+v", tt.ref, e, tt)
			}
		})
	}
	// With the rest gone, the last one frees the layer too.
	for _, dgst := range []digest.Digest{index, only, outer, elsewhere, stays} {
		if err := s.DeleteManifest(t.Context(), name("a"), dgst, Condition{}, Actor{}); err != nil {
			t.Fatal(err)
		}
	}
	if e := must[Effects](t)(s.EffectsOf(t.Context(), name("a"), oci.Reference{Digest: shared})); e.Frees != size("a", shared)+config("amd64", "shared")+int64(len("layer")) {
		t.Errorf("the last holder of %s frees %d", layer, e.Frees)
	}
	if _, err := s.EffectsOf(t.Context(), name("a"), oci.Reference{Tag: tag("no")}); !errors.Is(err, ErrManifestUnknown) {
		t.Errorf("unknown: %v", err)
	}
}
