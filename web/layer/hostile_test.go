package layer

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

func sumOf(block []byte) (sum int) {
	for i, c := range block {
		if i >= 148 && i < 156 {
			c = ' '
		}
		sum += int(c)
	}
	return sum
}

// rawHeader returns a header that no good program writes. size is the field as it is.
func rawHeader(flag byte, name, size string) []byte {
	b := make([]byte, tarBlock)
	copy(b, name)
	copy(b[100:], "0000644\x00")
	copy(b[124:136], size)
	copy(b[136:], "00000000000\x00")
	b[156] = flag
	copy(b[257:], "ustar\x0000")
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sumOf(b)))
	return b
}

func octal(n int) string { return fmt.Sprintf("%011o\x00", n) }

// rawFile returns a header and content, padded.
func rawFile(flag byte, name, content string) []byte {
	b := append(rawHeader(flag, name, octal(len(content))), content...)
	return append(b, make([]byte, -len(b)&(tarBlock-1))...)
}

func paxRecord(key, value string) string {
	n := len(key) + len(value) + 3
	for length := n; ; length++ {
		if s := fmt.Sprintf("%d %s=%s\n", length, key, value); len(s) == length {
			return s
		}
	}
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

var tarEnd = make([]byte, 2*tarBlock)

// TestHostile: archives that are made to hurt give a page: what was read, and a sentence.
func TestHostile(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	first := rawFile('0', "first", "1")
	var huge, sparseMap strings.Builder
	var empties bytes.Buffer
	for range 3 << 20 {
		huge.WriteByte(byte('a' + random.IntN(26)))
	}
	for i := range 300_000 {
		empties.Write(rawHeader('0', fmt.Sprint("file", i), octal(0)))
	}
	fmt.Fprintln(&sparseMap, 1<<20)
	for range 200_000 {
		fmt.Fprintln(&sparseMap, random.Int64())
	}
	endlessPAX := bytes.Repeat(rawFile('x', "pax", paxRecord("comment", huge.String()[:1<<19])), 20)
	inner := gzipOf(t, tarOf(t, regular("inside", "x")), 0)
	zeros := make([]byte, 64<<20)
	for _, c := range []struct {
		name    string
		blob    []byte
		want    error // nil: nothing is wrong
		entries int
	}{
		{"traversal", tarOf(t, regular("../../../../etc/passwd", "x"), link(tar.TypeSymlink, "a", "../../../.."), regular("a/../../b", "x"), regular("..", "")), nil, 4},
		{"gzip bomb", gzipOf(t, join(first, rawHeader('0', "bomb", octal(len(zeros))), zeros, tarEnd), 0), ErrLimit, 2},
		{"zstd bomb", zstdOf(t, join(first, rawHeader('0', "bomb", octal(len(zeros))), zeros, tarEnd), 0), ErrLimit, 2},
		{"gzip bomb behind the end", gzipOf(t, join(first, tarEnd, zeros), 0), ErrLimit, 1},
		{"bomb of members", bytes.Repeat(gzipOf(t, zeros[:1<<20], 0), 66), ErrLimit, 0},
		{"gzip in gzip", gzipOf(t, inner, 0), ErrNotTar, 0},
		{"gzip in zstd", zstdOf(t, inner, 0), ErrNotTar, 0},
		{"a file that is a layer", tarOf(t, regular("layer.tar.gz", string(inner))), nil, 1},
		{"text in gzip", gzipOf(t, []byte(strings.Repeat("text ", 1000)), 0), ErrNotTar, 0},
		{"short text in gzip", gzipOf(t, []byte("text"), 0), ErrNotTar, 0},
		{"wrong magic", []byte("\x1f\x8b\x09" + strings.Repeat("x", 1000)), ErrNotTar, 0},
		{"nothing in gzip", gzipOf(t, nil, 0), nil, 0},
		{"nothing in zstd", zstdOf(t, nil, 0), nil, 0},
		{"only skippable frames", []byte("\x50\x2a\x4d\x18\x02\x00\x00\x00ab\x50\x2a\x4d\x18\x00\x00\x00\x00"), nil, 0},
		{"a skippable frame that ends early", []byte("\x50\x2a\x4d\x18\xff\xff\xff\xffab"), ErrDamaged, 0},
		{"huge name", join(first, rawFile('L', "././@LongLink", huge.String()), rawFile('0', "x", "")), ErrLimit, 1},
		{"huge PAX", join(first, rawFile('x', "pax", paxRecord("path", huge.String())), rawFile('0', "x", "")), ErrLimit, 1},
		{"endless PAX", join(first, endlessPAX, rawFile('0', "x", ""), tarEnd), ErrLimit, 1},
		{"endless PAX in gzip", gzipOf(t, join(first, endlessPAX), 0), ErrLimit, 1},
		{"300,000 files", empties.Bytes(), ErrLimit, 200_000},
		{"negative size", join(first, rawHeader('0', "x", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")), ErrDamaged, 1},
		{"enormous size", join(first, rawHeader('0', "x", "\x80\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff"), []byte("x")), ErrDamaged, 2},
		{"negative size in PAX", join(first, rawFile('x', "pax", paxRecord("size", "-5")), rawFile('0', "x", "")), ErrDamaged, 1},
		{"no number", join(first, rawHeader('0', "x", "xyzxyzxyzxy\x00")), ErrDamaged, 1},
		{"huge sparse map", join(first, sparseFile(sparseMap.String(), "", 1<<40)), ErrDamaged, 1},
		{"not an archive from the second file on", join(first, []byte(huge.String()[:4096])), ErrDamaged, 1},
		{"global PAX", join(rawFile('g', "pax", paxRecord("comment", "x")), first, tarEnd), nil, 1},
		{"unknown type", join(rawFile('W', "odd", "content"), tarEnd), nil, 1},
		{"no end", first, nil, 1},
		{"cut in the padding", first[:513], nil, 1},
		{"garbage behind gzip", append(gzipOf(t, join(first, tarEnd), 0), "garbage"...), ErrDamaged, 1},
		{"garbage behind zstd", append(zstdOf(t, join(first, tarEnd), 0), "garbage"...), ErrDamaged, 1},
		{"deep path", tarOf(t, regular(strings.Repeat("d/", 100_000)+"x", "1"), regular("ok", "")), nil, 2},
	} {
		start := time.Now()
		x, err := Scan(t.Context(), bytes.NewReader(c.blob), int64(len(c.blob)), Limits{}, nil)
		if !errors.Is(err, c.want) || (c.want == nil) != (err == nil) || len(x.Entries) != c.entries {
			t.Errorf("%s: %v after %d entries, want %v after %d", c.name, err, len(x.Entries), c.want, c.entries)
		}
		if err != nil && (x.Problem != err.Error() || len(x.Problem) > 500 || strings.Contains(x.Problem, "layer:")) {
			t.Errorf("%s: the sentence is %q", c.name, x.Problem)
		}
		if len(x.Entries) < 1000 {
			use(t, x, c.blob)
		}
		t.Logf("%-40s %6d ms  %s", c.name, time.Since(start).Milliseconds(), x.Problem)
	}
}

// use does with an index all that pages do, and fails when something does not hold. Of its files it reads some.
func use(t testing.TB, x *Index, blob []byte) {
	t.Helper()
	if _, err := x.Dir("/"); err != nil {
		t.Errorf("the root: %v", err)
	}
	for i := range min(len(x.Entries), 20) {
		e := &x.Entries[i]
		r, err := x.Open(t.Context(), bytes.NewReader(blob), e)
		if err != nil {
			// ErrNotTar: of an index that is of another blob.
			if !errors.Is(err, ErrNotFile) && !errors.Is(err, ErrLinkUnknown) && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNotTar) && !errors.Is(err, ErrLimit) {
				t.Errorf("%.100q: %v", e.Path, err)
			}
			continue
		}
		n, err := io.Copy(io.Discard, io.LimitReader(r, 4<<20))
		if err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNotTar) && !errors.Is(err, ErrLimit) {
			t.Errorf("%.100q: %v", e.Path, err)
		}
		if e.HasContent() && (n > e.Size || err == nil && n < min(e.Size, 4<<20)) {
			t.Errorf("%.100q: %d bytes of %d, %v", e.Path, n, e.Size, err)
		}
		r.Close()
	}
	tree := Merge([]*Index{x, x})
	checkTree(t, tree)
}

// sparseFile returns a file of the PAX format 1.0: a map, and what is not a hole.
func sparseFile(layout, data string, size int64) []byte {
	records := paxRecord("GNU.sparse.major", "1") + paxRecord("GNU.sparse.minor", "0") +
		paxRecord("GNU.sparse.name", "sparse") + paxRecord("GNU.sparse.realsize", fmt.Sprint(size))
	layout += strings.Repeat("\x00", -len(layout)&(tarBlock-1))
	return join(rawFile('x', "pax", records), rawFile('0', "GNUSparseFile.0/sparse", layout+data))
}

// oldSparse returns a file of the old GNU format, with one piece of data at an offset.
func oldSparse(name string, offset int, data string, size int) []byte {
	b := rawHeader('S', name, octal(len(data)))
	copy(b[257:], "ustar  \x00")
	clear(b[345:])
	copy(b[386:], octal(offset))
	copy(b[398:], octal(len(data)))
	copy(b[483:], octal(size))
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sumOf(b)))
	b = append(b, data...)
	return append(b, make([]byte, -len(b)&(tarBlock-1))...)
}

// TestSparse: files with holes are read with them, one after the other and after others.
func TestSparse(t *testing.T) {
	a := sparseFile("2\n1000\n3\n5000\n4\n", "abcdefg", 6000)
	raw := join(rawFile('0', "before", "1"), a, oldSparse("old", 600, "xyz", 700), sparseFile("1\n0\n0\n", "", 50), rawFile('0', "after", "2"), tarEnd)
	want := make([]byte, 6000)
	copy(want[1000:], "abc")
	copy(want[5000:], "defg")
	old := make([]byte, 700)
	copy(old[600:], "xyz")
	for name, blob := range packings(t, raw) {
		x := scan(t, blob)
		if len(x.Entries) != 5 || !x.Entries[1].Sparse || !x.Entries[2].Sparse || x.Entries[1].Size != 6000 || x.Entries[4].Sparse || x.Unterminated {
			t.Fatalf("%s: %+v", name, x.Entries)
		}
		for i, want := range []string{"1", string(want), string(old), string(make([]byte, 50)), "2"} {
			r, err := x.Open(t.Context(), bytes.NewReader(blob), &x.Entries[i])
			if err != nil {
				t.Fatalf("%s: %s: %v", name, x.Entries[i].Path, err)
			}
			got, err := io.ReadAll(r)
			if err != nil || string(got) != want {
				t.Errorf("%s: %s is %q, %v", name, x.Entries[i].Path, got, err)
			}
			r.Close()
		}
	}
	// A hole of an exabyte costs what is read of it.
	hole := sparseFile("1\n1152921504606846975\n1\n", "x", 1<<60)
	x := scan(t, join(hole, tarEnd))
	use(t, x, join(hole, tarEnd))
}

// TestTruncated: however much of an archive there is, what is there is listed, and it is said that there is more.
func TestTruncated(t *testing.T) {
	raw := tarOf(t, dir("a/"), regular("a/one", strings.Repeat("1", 700)), regular("a/two", strings.Repeat("2", 2000)), regular("a/three", "3"))
	whole := scan(t, raw)
	for n := 0; n < len(raw); n += tarBlock {
		x, err := Scan(t.Context(), bytes.NewReader(raw[:n]), int64(n), Limits{}, nil)
		headers := 0
		inside := n == 0
		for _, e := range whole.Entries {
			if e.Offset <= int64(n) {
				headers++
			}
			inside = inside || int64(n) >= e.Offset && int64(n) < e.Offset+e.Size
		}
		if len(x.Entries) != headers || (err != nil) != inside || err == nil && x.Unterminated != (n <= len(raw)-2*tarBlock) {
			t.Errorf("%d bytes: %v, %d entries of %d, unterminated %v", n, err, len(x.Entries), headers, x.Unterminated)
		}
		use(t, x, raw[:n])
	}
	for name, blob := range packings(t, synthetic(t, 30, 3000)) {
		for n := range len(blob) {
			if n%509 != 0 && n > 200 && n < len(blob)-200 || name == "tar" {
				continue
			}
			x, err := Scan(t.Context(), bytes.NewReader(blob[:n]), int64(n), Limits{}, nil)
			if err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNotTar) || err == nil && !x.Unterminated && n < len(blob)-2000 {
				t.Errorf("%s: %d of %d bytes: %v, unterminated %v", name, n, len(blob), err, x.Unterminated)
			}
			var damaged *DamagedError
			if errors.As(err, &damaged) && (damaged.Offset > int64(n) || damaged.Uncompressed != x.Uncompressed) {
				t.Errorf("%s: %d bytes: %+v", name, n, damaged)
			}
			if n%4072 == 0 {
				use(t, x, blob[:n])
			}
		}
	}
}

// TestFlipped: a changed bit in compressed data is found by a checksum, wherever it is in the content.
func TestFlipped(t *testing.T) {
	raw := synthetic(t, 10, 3000)
	for name, blob := range packings(t, raw) {
		if name == "tar" || strings.HasPrefix(name, "zstd") { // a tar has no checksum
			continue
		}
		for at := 40; at < len(blob)-8; at += 97 {
			bad := bytes.Clone(blob)
			bad[at] ^= 4
			x, err := Scan(t.Context(), bytes.NewReader(bad), int64(len(bad)), Limits{}, nil)
			if err == nil && !sameEntries(x, scan(t, blob)) {
				t.Errorf("%s: byte %d is wrong, and nobody said so", name, at)
			}
		}
	}
}

func sameEntries(a, b *Index) bool { return fmt.Sprint(a.Entries) == fmt.Sprint(b.Entries) }
