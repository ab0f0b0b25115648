package store

import (
	"iter"
	"testing"
	"time"
)

// gather returns what a view yields.
func gather[T any](t *testing.T, items iter.Seq2[T, error]) (all []T) {
	t.Helper()
	for v, err := range items {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, v)
	}
	return all
}

// TestTwoKeys: what one key of collection frees and the other holds, in the transaction that would remove it, stays.
func TestTwoKeys(t *testing.T) {
	c := newClock(time.Unix(1_000_000, 0))
	o := testingOptions(t.TempDir())
	o.Now = c.Now
	s := open(t, o)
	named, loose := mustPush(t, s, "a", "named"), mustPush(t, s, "a", "loose")
	mustPut(t, s, "a", imageOf(named))
	c.set(c.now.Add(100 * Lease))
	var manifests []UntaggedManifest
	var blobs []LooseBlob
	err := s.View(t.Context(), func(v *View) error {
		manifests = gather(t, v.Untagged())
		for _, b := range gather(t, v.BlobsOf(manifests[0].ID)) {
			blobs = append(blobs, b.LooseBlob)
		}
		blobs = append(blobs, gather(t, v.LooseBlobs())...)
		return nil
	})
	if err != nil || len(manifests) != 1 || len(blobs) != 2 || blobs[0].Digest != named || blobs[1].Digest != loose {
		t.Fatalf("view: %+v, %+v, %v", manifests, blobs, err)
	}
	exec := func(query string, args ...any) {
		t.Helper()
		if err := s.w.do(anything, func(t *tx) error {
			_, err := t.exec(query, args...)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	const setRefs = `UPDATE repository_blobs SET refs = ? WHERE blob = ?`
	for i, tt := range []struct {
		what         string
		stored, real int64
	}{
		{"counted by nothing, named", 0, 1},
		{"counted, named by nothing", 1, 0},
	} {
		exec(setRefs, tt.stored, blobs[i].ID)
		removed, _, err := s.CollectBlobs(t.Context(), blobs[i:i+1], c.now)
		if err != nil || removed[0] {
			t.Errorf("blob that is %s: removed %v, %v", tt.what, removed, err)
		}
		exec(setRefs, tt.real, blobs[i].ID)
	}
	const setManifestRefs = `UPDATE manifests SET refs = ? WHERE id = ?`
	exec(setManifestRefs, 1, manifests[0].ID)
	if removed, err := s.CollectManifests([][]UntaggedManifest{manifests}, Lease); err != nil || removed[0] {
		t.Errorf("manifest that is counted, named by nothing: removed %v, %v", removed, err)
	}
	exec(setManifestRefs, 0, manifests[0].ID)
}

// TestLeaseIsAskedAgain: a blob that is pushed between the plan of a collection and its removal has a new lease.
func TestLeaseIsAskedAgain(t *testing.T) {
	c := newClock(time.Unix(1_000_000, 0))
	o := testingOptions(t.TempDir())
	o.Now = c.Now
	s := open(t, o)
	dgst := mustPush(t, s, "a", "content")
	c.set(c.now.Add(100 * Lease))
	var planned []LooseBlob
	err := s.View(t.Context(), func(v *View) error {
		planned = gather(t, v.LooseBlobs())
		return nil
	})
	if err != nil || len(planned) != 1 || planned[0].KeepUntil.After(c.now) {
		t.Fatalf("view: %+v, %v", planned, err)
	}
	mustPush(t, s, "a", "content")
	if removed, _, err := s.CollectBlobs(t.Context(), planned, c.now); err != nil || removed[0] {
		t.Errorf("removed %v, %v", removed, err)
	}
	if _, err := read(t, s, "a", dgst); err != nil {
		t.Error(err)
	}
}
