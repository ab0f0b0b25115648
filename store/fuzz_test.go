package store

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzOpen: a database with any bytes changed or cut off is opened or refused with a sentence, and a check of it ends.
func FuzzOpen(f *testing.F) {
	made := f.TempDir()
	s, err := Open(f.Context(), testingOptions(made))
	if err != nil {
		f.Fatal(err)
	}
	if err := s.Close(); err != nil {
		f.Fatal(err)
	}
	files := make(map[string][]byte)
	for _, name := range []string{fileDB, filepath.Join(dirBlobs, fileSentinel)} {
		if files[name], err = os.ReadFile(filepath.Join(made, name)); err != nil {
			f.Fatal(err)
		}
	}
	f.Add(uint32(0), []byte("x"), uint32(0))
	f.Add(uint32(16), []byte{0xff, 0xff}, uint32(0)) // page size
	f.Add(uint32(60), []byte{0, 0, 0, 1}, uint32(0)) // schema version
	f.Add(uint32(60), []byte{0xff}, uint32(0))       // a negative one
	f.Add(uint32(68), []byte{0, 0, 0, 0}, uint32(0)) // whose database it is
	f.Add(uint32(100), []byte{0, 0, 0, 0, 0, 0, 0, 0}, uint32(0))
	f.Add(uint32(0), []byte(nil), uint32(5000))
	f.Fuzz(func(t *testing.T, at uint32, put []byte, cut uint32) {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, dirBlobs), 0o700); err != nil {
			t.Fatal(err)
		}
		for name, content := range files {
			if name == fileDB {
				content = append([]byte(nil), content...)
				copy(content[int(at)%len(content):], put)
				content = content[:len(content)-int(cut)%len(content)]
			}
			if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		o := testingOptions(dir)
		s, err := Open(t.Context(), o)
		if err != nil {
			if text := err.Error(); text == "" || strings.Contains(text, "panic") || strings.Contains(text, "runtime error") {
				t.Fatalf("it is refused with %q", text)
			}
			return
		}
		if _, err := s.Check(t.Context(), true, nil); err != nil && strings.Contains(err.Error(), "panic") {
			t.Error(err)
		}
		_ = s.Close() // a damaged database may not take what is to be noted
	})
}
