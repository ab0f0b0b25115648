package store

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
)

func TestPresent(t *testing.T) {
	dir := t.TempDir()
	s := open(t, testingOptions(dir))
	a, elsewhere, short := pushed(t, s, "a", "aaaa"), pushed(t, s, "b", "elsewhere"), pushed(t, s, "a", "short")
	path := filepath.Join(dir, dirBlobs, blobPath(short))
	if err := os.Truncate(path, 1); err != nil {
		t.Fatal(err)
	}
	all, err := s.Present(t.Context(), name("a"), []digest.Digest{a, elsewhere, short, sum([]byte("none")), a})
	if err != nil || len(all) != 1 || all[a].Size != 4 {
		t.Fatalf("present: %v, %v", all, err)
	}
	b, err := s.OpenPresent(all[a])
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if got, err := io.ReadAll(b); err != nil || string(got) != "aaaa" || b.Digest != a || b.Size != 4 {
		t.Errorf("content %q of %s, %v", got, b.Digest, err)
	}
	pushed(t, s, "b", "aaaa") // replaces the file
	again, err := s.Present(t.Context(), name("a"), []digest.Digest{a})
	if err != nil || again[a].SameFile(all[a]) || !again[a].SameFile(again[a]) {
		t.Errorf("another file is the same: %v, %v", again, err)
	}
	if _, err := s.OpenPresent(all[a]); !errors.Is(err, ErrBlobUnknown) {
		t.Errorf("of the file before: %v, want ErrBlobUnknown", err)
	}
	if err := s.DeleteBlob(t.Context(), name("a"), a, Actor{}); err != nil {
		t.Fatal(err)
	}
	if gone, err := s.Present(t.Context(), name("a"), []digest.Digest{a}); err != nil || len(gone) > 0 {
		t.Errorf("still present: %v, %v", gone, err)
	}
	pushed(t, s, "a", "short") // heals it for the check at the end
}
