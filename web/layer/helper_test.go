package layer

import (
	"archive/tar"
	"bytes"
	standard "compress/gzip"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// A file is one of an archive that a test makes.
type file struct {
	tar.Header
	content string
}

func regular(path, content string) file {
	return file{tar.Header{Typeflag: tar.TypeReg, Name: path, Mode: 0o644}, content}
}

func dir(path string) file {
	return file{tar.Header{Typeflag: tar.TypeDir, Name: path, Mode: 0o755}, ""}
}

func link(flag byte, path, target string) file {
	return file{tar.Header{Typeflag: flag, Name: path, Linkname: target, Mode: 0o777}, ""}
}

var testTime = time.Unix(1_700_000_000, 0)

// tarOf returns an archive.
func tarOf(t testing.TB, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := f.Header
		h.Size = int64(len(f.content))
		if h.ModTime.IsZero() {
			h.ModTime = testTime
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatalf("%q: %v", h.Name, err)
		}
		if _, err := io.WriteString(w, f.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// gzipOf compresses into members of so many bytes each; 0: one member.
func gzipOf(t testing.TB, raw []byte, member int) []byte {
	t.Helper()
	var b bytes.Buffer
	for first := true; first || len(raw) > 0; first = false {
		n := len(raw)
		if member > 0 {
			n = min(n, member)
		}
		w := gzip.NewWriter(&b)
		w.Name = "layer.tar"
		w.Write(raw[:n])
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		raw = raw[n:]
	}
	return b.Bytes()
}

// gzipLevel compresses into one member as compress/gzip does, which stores what does not compress.
func gzipLevel(t testing.TB, raw []byte, level int) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := standard.NewWriterLevel(&b, level)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(raw)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// zstdOf compresses into frames of so many bytes each, with skippable frames around them; 0: one frame.
func zstdOf(t testing.TB, raw []byte, frame int) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	if frame == 0 {
		return w.EncodeAll(raw, nil)
	}
	skippable := []byte("\x5a\x2a\x4d\x18\x03\x00\x00\x00abc")
	b := bytes.Clone(skippable)
	for len(raw) > 0 {
		n := min(len(raw), frame)
		b = append(w.EncodeAll(raw[:n], b), skippable...)
		raw = raw[n:]
	}
	return b
}

// packings are all ways in which an archive can be packed.
func packings(t testing.TB, raw []byte) map[string][]byte {
	return map[string][]byte{
		"tar": raw, "gzip": gzipOf(t, raw, 0), "gzip members": gzipOf(t, raw, 1000),
		"zstd": zstdOf(t, raw, 0), "zstd frames": zstdOf(t, raw, 1000),
	}
}

func scan(t testing.TB, blob []byte) *Index {
	t.Helper()
	x, err := Scan(t.Context(), bytes.NewReader(blob), int64(len(blob)), Limits{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func read(t testing.TB, x *Index, blob []byte, path string) (string, error) {
	t.Helper()
	n, err := x.Lookup(path)
	if err != nil {
		t.Fatal(err)
	}
	r, err := x.Open(t.Context(), bytes.NewReader(blob), n.Entry)
	if err != nil {
		return "", err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	return string(b), err
}

// names returns those of a listing, directories with a slash.
func names(list []*Node) string {
	var b strings.Builder
	for _, n := range list {
		fmt.Fprint(&b, n.Name)
		if n.IsDir() {
			b.WriteByte('/')
		}
		b.WriteByte(' ')
	}
	return strings.TrimSpace(b.String())
}

// noise makes bytes that compress about as well as those of real layers do: words, and between them noise.
func noise(random *rand.Rand, n int) string {
	var b strings.Builder
	b.Grow(n + 64)
	for b.Len() < n {
		if random.IntN(4) == 0 {
			for range 1 + random.IntN(24) {
				b.WriteByte(byte(random.Uint32()))
			}
			continue
		}
		fmt.Fprintf(&b, "word%d of_line ", random.IntN(3000))
	}
	return b.String()[:n]
}

// synthetic returns an archive like that of a real layer: so many files in nested directories.
func synthetic(t testing.TB, count, size int) []byte {
	random := rand.New(rand.NewPCG(1, 2))
	var files []file
	for i := range count {
		n := random.IntN(2 * size)
		files = append(files, regular(fmt.Sprintf("usr/lib/package-%d/part%d/file-%d.txt", i/100, i/10%10, i), noise(random, n)))
	}
	return tarOf(t, files...)
}
