package layer

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// fuzzLimits keep a run short.
var fuzzLimits = Limits{Uncompressed: 16 << 20, Time: 5 * time.Second, Memory: 8 << 20, Entries: 5000}

// fuzzed makes a blob of bytes: as they are, or with the checksums of headers made right, since chance does not find them,
// and compressed, since it does not find those of gzip and zstd either.
func fuzzed(t testing.TB, raw []byte, packing byte) []byte {
	if packing%4 == 0 {
		return raw
	}
	raw = bytes.Clone(raw)
	for b := raw; len(b) >= tarBlock; b = b[tarBlock:] {
		if string(b[257:262]) == "ustar" {
			copy(b[148:], fmt.Sprintf("%06o\x00 ", sumOf(b[:tarBlock])))
		}
	}
	switch packing % 4 {
	case 2:
		return gzipOf(t, raw, 1000)
	case 3:
		return zstdOf(t, raw, 1000)
	}
	return raw
}

// FuzzScan: whatever a blob is, nothing panics, what is listed can be asked for, stored and merged, and where Go's own
// packages read an archive to its end, so does Scan, with the same files.
func FuzzScan(f *testing.F) {
	raw := tarOf(f, dir("d/"), regular("d/a", strings.Repeat("text ", 300)), link(tar.TypeLink, "b", "d/a"), link(tar.TypeSymlink, "l", "d"),
		regular("l/.wh.a", ""), regular("d/.wh..wh..opq", ""))
	for _, blob := range packings(f, raw) {
		f.Add(blob, byte(0))
	}
	for packing := range byte(4) {
		f.Add(raw, packing)
	}
	f.Add(join(rawFile('0', "a", "1"), sparseFile("2\n1000\n3\n5000\n4\n", "abcdefg", 6000), oldSparse("old", 600, "xyz", 700), tarEnd), byte(1))
	f.Add(join(rawFile('x', "pax", paxRecord("path", "long")+paxRecord("size", "3")), rawFile('0', "a", "abc")), byte(1))
	f.Add(gzipOf(f, raw[:900], 100), byte(0))
	f.Fuzz(func(t *testing.T, raw []byte, packing byte) {
		blob := fuzzed(t, raw, packing)
		x, err := Scan(t.Context(), bytes.NewReader(blob), int64(len(blob)), fuzzLimits, nil)
		if err != nil && !errors.Is(err, ErrLimit) && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNotTar) {
			t.Fatalf("an error of no kind: %v", err)
		}
		use(t, x, blob)
		for i := range min(len(x.Entries), 20) {
			e := &x.Entries[i]
			if r, openErr := x.Open(t.Context(), bytes.NewReader(blob), e); openErr == nil {
				_, openErr = io.Copy(io.Discard, io.LimitReader(r, 4<<20))
				if err == nil && openErr != nil {
					t.Errorf("%q of a whole archive: %v", e.Path, openErr)
				}
				r.Close()
			}
		}
		encoded, err2 := x.MarshalBinary()
		if err2 != nil {
			t.Fatal(err2)
		}
		var again Index
		if err := again.UnmarshalBinary(encoded); err != nil {
			t.Fatalf("what was stored is not read: %v", err)
		}
		sameIndex(t, &again, x)
		if !errors.Is(err, ErrLimit) {
			compareWithStandard(t, x, blob, err)
		}
	})
}

// compareWithStandard fails when archive/tar and compress/gzip read a blob whole, and Scan did not, or saw other files.
func compareWithStandard(t *testing.T, x *Index, blob []byte, scanned error) {
	if scanned != nil && strings.Contains(scanned.Error(), errGzipHeader.Error()) {
		return // the reserved flags, which compress/gzip passes over and RFC 1952, 2.3.1.2 wants refused
	}
	var r io.Reader = bytes.NewReader(blob)
	switch x.Format {
	case FormatGzip:
		z, err := gzip.NewReader(r)
		if err != nil {
			return
		}
		r = z
	case FormatTar:
	default:
		return
	}
	whole, err := io.ReadAll(io.LimitReader(r, 32<<20))
	if err != nil || len(whole) == 32<<20 || len(whole) > 0 && !isTar(whole) {
		return
	}
	var paths []string
	for archive := tar.NewReader(bytes.NewReader(whole)); ; {
		h, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if paths = append(paths, h.Name); len(x.Entries) >= len(paths) && x.Entries[len(paths)-1].HasContent() && !x.Entries[len(paths)-1].Sparse {
			b, err := io.ReadAll(archive)
			e := &x.Entries[len(paths)-1]
			if err == nil && (int64(len(b)) != e.Size || !bytes.Equal(b, whole[e.Offset:e.Offset+e.Size])) {
				t.Errorf("%q has other content", h.Name)
			}
		}
	}
	var got []string
	for _, e := range x.Entries {
		got = append(got, e.Path)
	}
	if scanned != nil || !slices.Equal(got, paths) || x.Uncompressed != int64(len(whole)) {
		t.Errorf("%v after %q, want %q; %d bytes of %d", scanned, got, paths, x.Uncompressed, len(whole))
	}
}

// FuzzSeek: from every block of whatever compress/flate can read, the rest comes out that comes out from the beginning.
func FuzzSeek(f *testing.F) {
	random := rand.New(rand.NewPCG(7, 8))
	for level := range 10 { // text, and noise that is stored
		var raw []byte
		for range 4 {
			raw = append(raw, noise(random, 20_000)...)
			for range 40_000 {
				raw = append(raw, byte(random.Uint32()))
			}
		}
		blob := gzipLevel(f, raw, level)
		f.Add(blob[10:len(blob)-8], true)
	}
	f.Add([]byte("\x00\x03\x00\xfc\xffabc\x4b\x4c\x4a\x06\x00\x00\x00\xff\xff\x03\x00"), false)
	f.Fuzz(func(t *testing.T, deflated []byte, twice bool) {
		src := bytes.NewReader(deflated)
		content, err := io.ReadAll(io.LimitReader(flate.NewReader(src), 1<<20))
		if err != nil || len(content) == 1<<20 {
			return
		}
		blob := append([]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"), deflated[:len(deflated)-src.Len()]...)
		blob = binary.LittleEndian.AppendUint32(blob, crc32.ChecksumIEEE(content))
		blob = binary.LittleEndian.AppendUint32(blob, uint32(len(content)))
		if twice {
			blob, content = append(blob, blob...), append(content, content...)
		}
		for i, at := range everyPoint(t, blob) {
			if i > 100 {
				break
			}
			got, err := io.ReadAll(newGzipReader(newSource(t.Context(), bytes.NewReader(blob), int64(len(blob)), at.in), at, nil))
			if err != nil || !bytes.Equal(got, content[at.out:]) {
				t.Fatalf("point %d, at %d: %d bytes, want %d, %v", i, at.out, len(got), len(content[at.out:]), err)
			}
		}
	})
}

// FuzzUnmarshal: damaged bytes are refused, and what is taken can be used.
func FuzzUnmarshal(f *testing.F) {
	raw := synthetic(f, 5, 100)
	for _, blob := range packings(f, raw) {
		encoded, err := scan(f, blob).MarshalBinary()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(encoded)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var x Index
		if err := x.UnmarshalBinary(data); err == nil {
			use(t, &x, raw)
		} else if !errors.Is(err, ErrIndexInvalid) {
			t.Errorf("%v", err)
		}
	})
}

// FuzzDecode is FuzzUnmarshal behind the checksum.
func FuzzDecode(f *testing.F) {
	raw := join(sparseFile("1\n0\n1\n", "x", 50), synthetic(f, 5, 100))
	for _, blob := range packings(f, raw) {
		var b bytes.Buffer
		e := encoder{w: bufio.NewWriter(&b)}
		e.index(scan(f, blob))
		e.w.Flush()
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var x Index
		if err := x.decode(bytes.NewReader(data)); err == nil {
			use(t, &x, raw)
			use(t, &x, gzipOf(t, raw, 0))
		} else if !errors.Is(err, ErrIndexInvalid) {
			t.Errorf("%v", err)
		}
	})
}

// FuzzMerge makes layers of a text: a line for a file, and for a link what follows an arrow; a lone dash ends a layer.
func FuzzMerge(f *testing.F) {
	f.Add("a/b\na/c\nl > a\n-\na/.wh.b\nl/d\n-\na\nh >> l\n")
	f.Add("d/e/f\n-\nd/.wh..wh..opq\nd/e\n-\n.wh.d\n-\nd/e/f/g\n.. > x\n")
	f.Add("l > l/l\nl/l/l\nm > ../m/n\nm/o\n-\n.wh.l\n.wh...\n.wh.\n.wh..wh.x\n")
	f.Fuzz(func(t *testing.T, text string) {
		var layers []*Index
		x := &Index{}
		for line := range strings.Lines(text) {
			line = strings.TrimSuffix(line, "\n")
			path, target, hard := strings.Cut(line, " >> ")
			e := Entry{Path: path, Link: target, Type: TypeHardlink}
			if !hard {
				var soft bool
				if e.Path, e.Link, soft = strings.Cut(line, " > "); soft {
					e.Type = TypeSymlink
				} else if e.Type, e.Size = TypeFile, int64(len(line)); strings.HasSuffix(line, "/") {
					e.Type, e.Size = TypeDir, 0
				}
			}
			if line == "-" {
				layers = append(layers, x)
				x = &Index{}
				continue
			}
			x.Entries = append(x.Entries, e)
		}
		layers = append(layers, x)
		checkTree(t, Merge(layers))
		for _, x := range layers {
			checkTree(t, x.Tree())
		}
	})
}

// FuzzSniff: no header breaks a viewer, and text is text.
func FuzzSniff(f *testing.F) {
	for _, c := range kinds(f) {
		f.Add([]byte(c.head), c.whole)
	}
	f.Fuzz(func(t *testing.T, head []byte, whole bool) {
		k := Sniff(head, whole)
		if k.Text && (k.Image != nil || k.ELF != nil || bytes.ContainsAny(head, "\x00\x1b\x7f")) {
			t.Errorf("%q is %+v", head, k)
		}
	})
}
