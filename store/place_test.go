package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestMoved: when what a store was opened with is not there any more, nothing is collected or written, and what is held
// open is still read.
func TestMoved(t *testing.T) {
	for _, name := range []string{"blobs", "cubby.db", "lock"} {
		t.Run(name, func(t *testing.T) {
			dir, away := t.TempDir(), filepath.Join(t.TempDir(), "away")
			s, err := Open(t.Context(), testingOptions(dir))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() }) // its error is that nothing can be noted
			dgst := mustPush(t, s, "a", "content")
			if err := s.CheckSentinel(); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(filepath.Join(dir, name), away); err != nil {
				t.Fatal(err)
			}
			if err := s.CheckSentinel(); !errors.Is(err, ErrReadOnly) {
				t.Errorf("collection is not refused: %v", err)
			}
			if _, err := push(t, s, "a", []byte("other")); !errors.Is(err, ErrReadOnly) {
				t.Errorf("push: %v", err)
			}
			if b, err := read(t, s, "a", dgst); err != nil || string(b) != "content" {
				t.Errorf("read: %q, %v", b, err)
			}
		})
	}
}
