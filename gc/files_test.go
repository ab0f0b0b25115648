package gc

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
)

func (w *world) file(dgst digest.Digest) string {
	return filepath.Join(w.st.Dir(), "blobs", dgst.Algorithm().String(), dgst.Encoded()[:2], dgst.Encoded())
}

// orphan makes a blob file that no row claims.
func (w *world) orphan(dgst digest.Digest) {
	w.Helper()
	path := w.file(dgst)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		w.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("orphan"), 0o600); err != nil {
		w.Fatal(err)
	}
}

// age sets the time of a file back.
func (w *world) age(dgst digest.Digest, d time.Duration) {
	w.Helper()
	then := time.Now().Add(-d)
	if err := os.Chtimes(w.file(dgst), then, then); err != nil {
		w.Fatal(err)
	}
}

func (w *world) hasFile(dgst digest.Digest) bool {
	w.Helper()
	_, err := os.Stat(w.file(dgst))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.Fatal(err)
	}
	return err == nil
}
