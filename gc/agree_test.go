package gc

import (
	"errors"
	"testing"
	"time"

	"cubby/store/oci"
)

// TestAgree: who was shown a plan gets that, or nothing and no record of it.
func TestAgree(t *testing.T) {
	w := newWorld(t, t.TempDir())
	first, second := w.image("a", "1", "one"), w.image("a", "2", "two")
	w.untag("a", "one")
	w.pass(2 * time.Hour)
	all := func(oci.Name) bool { return true }
	shown := ""
	if _, _, err := w.collector.Run(t.Context(), Request{DryRun: true, End: all, Planned: func(p *Plan) { shown = p.Fingerprint() }}); err != nil {
		t.Fatal(err)
	}
	w.untag("a", "two")
	w.pass(2 * time.Hour)
	changed := errors.New("changed")
	agree := func(p *Plan) error {
		if p.Fingerprint() != shown {
			return changed
		}
		return nil
	}
	if _, r, err := w.collector.Run(t.Context(), Request{Cause: "page", End: all, Agree: agree}); !errors.Is(err, changed) || r != (Result{}) {
		t.Errorf("%+v, %v", r, err)
	}
	runs, err := w.st.Collections(t.Context(), 10)
	if err != nil || len(runs) != 0 || !w.hasManifest("a", first) || !w.hasManifest("a", second) {
		t.Errorf("what was not agreed to left %+v, %v", runs, err)
	}
	if _, _, err := w.collector.Run(t.Context(), Request{DryRun: true, End: all, Planned: func(p *Plan) { shown = p.Fingerprint() }}); err != nil {
		t.Fatal(err)
	}
	if _, r, err := w.collector.Run(t.Context(), Request{Cause: "page", End: all, Agree: agree}); err != nil || r.Manifests != 2 {
		t.Errorf("%+v, %v", r, err)
	}
}
