package gc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSentinel: while the volume of the blobs is not mounted, or another is, nothing is removed, not by force either.
func TestSentinel(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.collect()
	w.image("a", "old", "latest")
	w.untag("a", "latest")
	w.pass(40 * dayTime)
	path := filepath.Join(w.st.Dir(), "blobs", "store.json")
	ours, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ content, want string }{
		{"", "is a volume not mounted?"},
		{`{"id":"another"}`, "belongs to another store"},
		{"{", "is damaged"},
	} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if tt.content != "" {
			if err := os.WriteFile(path, []byte(tt.content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		_, r, err := w.collector.Run(t.Context(), Request{Cause: "command", Force: true})
		if !errors.Is(err, ErrRefused) || !strings.Contains(fmt.Sprint(err), tt.want) || r != (Result{}) {
			t.Errorf("sentinel %q: %+v, %v", tt.content, r, err)
		}
		if err := os.WriteFile(path, ours, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if r := w.collect(); r.Manifests != 1 {
		t.Errorf("with its own sentinel: %+v", r)
	}
}

// TestDisagreement: a plan on which the two keys disagree is not carried out, not in part either.
func TestDisagreement(t *testing.T) {
	w := newWorld(t, t.TempDir())
	dgst := w.image("a", "old", "")
	w.pass(60 * dayTime)
	p, err := NewPlan(t.Context(), w.st, Options{Now: w.now})
	if err != nil || len(p.Manifests) != 1 {
		t.Fatalf("%+v, %v", p, err)
	}
	p.Disagreements = []string{"blob of a"}
	if r, err := p.Execute(t.Context(), w.st, nil); !errors.Is(err, ErrRefused) || r != (Result{}) || !w.hasManifest("a", dgst) {
		t.Errorf("%+v, %v", r, err)
	}
}
