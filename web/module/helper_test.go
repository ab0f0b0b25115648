package module

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"testing"
)

// An entry is what a test puts into an archive.
type entry struct {
	name, content string
	change        func(h *zip.FileHeader)
}

// stored has an entry not compressed: bombs compress too well to be read at all.
func stored(h *zip.FileHeader) { h.Method = zip.Store }

// archive returns a zip of some entries.
func archive(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.name, Method: zip.Deflate}
		if e.change != nil {
			e.change(h)
		}
		f, err := w.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte(e.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// open opens an archive that is none of the bad ones.
func open(t testing.TB, b []byte) *Package {
	t.Helper()
	p, err := Open(t.Context(), bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// load returns the root module of some files: names and contents by turns.
func load(t testing.TB, files ...string) *Module {
	t.Helper()
	var entries []entry
	for i := 0; i < len(files); i += 2 {
		entries = append(entries, entry{name: files[i], content: files[i+1], change: stored})
	}
	m, err := open(t, archive(t, entries...)).Load("")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// endOf returns where the last record of an archive without a comment is.
func endOf(b []byte) int { return len(b) - endSize }

// directoryOf returns where the directory is.
func directoryOf(b []byte) int { return int(binary.LittleEndian.Uint32(b[endOf(b)+16:])) }

// with returns a copy with other bytes at a place.
func with(b []byte, at int, replacement ...byte) []byte {
	b = bytes.Clone(b)
	copy(b[at:], replacement)
	return b
}
