package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// indexes returns the names of the files below index/.
func indexes(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, dirIndex))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// keep stores an index of a blob of the repository a.
func keep(t *testing.T, s *Store, dgst digest.Digest, index string) {
	t.Helper()
	b, err := s.OpenBlob(t.Context(), name("a"), dgst)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := s.PutLayerIndex(t.Context(), b, []byte(index)); err != nil {
		t.Fatal(err)
	}
}

func TestLayerIndex(t *testing.T) {
	dir := t.TempDir()
	s := open(t, testingOptions(dir))
	dgst := pushed(t, s, "a", "layer")
	want := func(step, index string) {
		t.Helper()
		if got, err := s.LayerIndex(dgst); err != nil || string(got) != index {
			t.Errorf("%s: index %q, %v; want %q", step, got, err, index)
		}
	}
	opened := func() *Blob {
		t.Helper()
		b, err := s.OpenBlob(t.Context(), name("a"), dgst)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.Close() })
		return b
	}
	put := func(b *Blob, index string) {
		t.Helper()
		if err := s.PutLayerIndex(t.Context(), b, []byte(index)); err != nil {
			t.Fatal(err)
		}
	}
	want("new", "")
	first := opened()
	put(first, "one")
	put(first, "two")
	want("replaced", "two")
	if use, err := s.DiskUse(t.Context()); err != nil || use.Indexes != 3 || use.Disk != use.Blobs+use.Database+3 {
		t.Errorf("disk use %+v, %v", use, err)
	}
	pushed(t, s, "b", "layer")
	want("the file was replaced", "")
	if err := s.PutLayerIndex(t.Context(), first, []byte("x")); !errors.Is(err, ErrBlobUnknown) {
		t.Errorf("of the file before: %v, want ErrBlobUnknown", err)
	}
	last := opened()
	put(last, "three")
	if err := s.DeleteBlob(t.Context(), name("a"), dgst, Actor{}); err != nil {
		t.Fatal(err)
	}
	want("another repository has it", "three")
	if err := s.DeleteBlob(t.Context(), name("b"), dgst, Actor{}); err != nil {
		t.Fatal(err)
	}
	want("gone", "")
	if left := indexes(t, dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if err := s.PutLayerIndex(t.Context(), last, []byte("x")); !errors.Is(err, ErrBlobUnknown) {
		t.Errorf("of a blob that went: %v, want ErrBlobUnknown", err)
	}
}

// TestSweepLayerIndexes: what a crash leaves behind goes with the next sweep, and nothing else.
func TestSweepLayerIndexes(t *testing.T) {
	dir := t.TempDir()
	s := open(t, testingOptions(dir))
	dgst := pushed(t, s, "a", "layer")
	keep(t, s, dgst, "kept")
	old := time.Now().Add(-2 * orphanAge)
	for file, at := range map[string]time.Time{
		"sha256-" + sum([]byte("none")).Encoded():           old,
		"sha256-" + sum([]byte("none")).Encoded() + ".new":  old,
		"sha256-" + sum([]byte("young")).Encoded() + ".new": time.Now(),
		"sha256-" + dgst.Encoded():                          old,
		"sha256-" + dgst.Encoded() + ".new":                 old,
		"notes.txt":                                         old, // somebody else's
	} {
		path := filepath.Join(dir, dirIndex, file)
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		remove bool
		left   int
	}{{false, 6}, {true, 3}} {
		if _, _, err := s.SweepOrphans(t.Context(), tt.remove); err != nil {
			t.Fatal(err)
		}
		if got := indexes(t, dir); len(got) != tt.left {
			t.Errorf("remove %v: left %v, want %d", tt.remove, got, tt.left)
		}
	}
}

// TestLayerIndexReadOnly: what is there is read, nothing is kept.
func TestLayerIndexReadOnly(t *testing.T) {
	dir := t.TempDir()
	s := open(t, testingOptions(dir))
	dgst := pushed(t, s, "a", "layer")
	keep(t, s, dgst, "kept")
	shut(t, s)
	o := testingOptions(dir)
	o.Create, o.ReadOnly = false, true
	s = open(t, o)
	if got, err := s.LayerIndex(dgst); err != nil || string(got) != "kept" {
		t.Errorf("index %q, %v", got, err)
	}
	b, err := s.OpenBlob(t.Context(), name("a"), dgst)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := s.PutLayerIndex(t.Context(), b, []byte("x")); !errors.Is(err, ErrReadOnly) {
		t.Errorf("put: %v, want ErrReadOnly", err)
	}
}
