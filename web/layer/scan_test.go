package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestDetect(t *testing.T) {
	raw := tarOf(t, regular("a", "content"))
	v7 := bytes.Clone(raw)
	copy(v7[257:265], make([]byte, 8)) // no magic: the checksum has to tell
	copy(v7[148:156], make([]byte, 8))
	copy(v7[148:156], fmt.Sprintf("%06o\x00 ", sumOf(v7[:512])))
	for _, c := range []struct {
		name string
		blob []byte
		want Format
	}{
		{"tar", raw, FormatTar},
		{"old tar", v7, FormatTar},
		{"empty tar", make([]byte, 1024), FormatTar},
		{"gzip", gzipOf(t, raw, 0), FormatGzip},
		{"zstd", zstdOf(t, raw, 0), FormatZstd},
		{"zstd behind a skippable frame", zstdOf(t, raw, 1000), FormatZstd},
		{"nothing", nil, FormatUnknown},
		{"short", []byte{0x1f}, FormatUnknown},
		{"zip", append([]byte("PK\x03\x04"), make([]byte, 2000)...), FormatUnknown},
		{"text", bytes.Repeat([]byte("not a tar\n"), 100), FormatUnknown},
		{"tar with a wrong checksum", append([]byte("x"), raw[1:]...), FormatUnknown},
		{"spaces", bytes.Repeat([]byte(" "), 1024), FormatUnknown},
	} {
		got, err := Detect(bytes.NewReader(c.blob), int64(len(c.blob)))
		if err != nil || got != c.want {
			t.Errorf("%s: %v, %v, want %v", c.name, got, err, c.want)
		}
	}
}

func TestScan(t *testing.T) {
	device := link(tar.TypeChar, "dev/null", "")
	device.Devmajor, device.Devminor = 1, 3
	owned := regular("etc/shadow", "root:*")
	owned.Uid, owned.Gid, owned.Uname, owned.Gname, owned.Mode = 1000, 42, "me", "shadow", 0o4640
	owned.PAXRecords = map[string]string{"SCHILY.xattr.user.a": "1", "SCHILY.xattr.user.b": "2"}
	long := strings.Repeat("long/", 60) + "name"
	raw := tarOf(t, dir("etc/"), owned, link(tar.TypeSymlink, "etc/mtab", "/proc/mounts"), link(tar.TypeLink, "etc/shadow-", "etc/shadow"),
		device, link(tar.TypeFifo, "run/pipe", ""), regular(long, "deep"), regular("etc/.wh.passwd", ""), regular("usr/.wh..wh..opq", ""),
		regular("../../etc/cron", "up"), regular("/abs", "absolute"), regular("caf\xe9", "latin"), regular("empty", ""))
	for name, blob := range packings(t, raw) {
		x := scan(t, blob)
		if x.Uncompressed != int64(len(raw)) || x.Size != int64(len(blob)) || x.Problem != "" || x.Unterminated {
			t.Errorf("%s: %d of %d bytes, %q, %v", name, x.Uncompressed, len(raw), x.Problem, x.Unterminated)
		}
		var got []string
		for _, e := range x.Entries {
			got = append(got, fmt.Sprintf("%c%04o %d:%d %s %q %d", e.Type, e.Mode, e.UID, e.GID, e.User, e.Path, e.Size))
			if end := e.Offset + e.Size; end > int64(len(raw)) {
				t.Errorf("%s: %s ends at %d of %d", name, e.Path, end, len(raw))
			}
		}
		want := []string{
			`d0755 0:0  "etc/" 0`, `-4640 1000:42 me "etc/shadow" 6`, `l0777 0:0  "etc/mtab" 0`, `h0777 0:0  "etc/shadow-" 0`,
			`c0777 0:0  "dev/null" 0`, `p0777 0:0  "run/pipe" 0`, `-0644 0:0  "` + long + `" 4`, `-0644 0:0  "etc/.wh.passwd" 0`,
			`-0644 0:0  "usr/.wh..wh..opq" 0`, `-0644 0:0  "../../etc/cron" 2`, `-0644 0:0  "/abs" 8`, `-0644 0:0  "caf\xe9" 5`,
			`-0644 0:0  "empty" 0`,
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s:\n%s\nwant\n%s", name, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if e := x.Entries[1]; e.Xattrs != 2 || !e.ModTime().Equal(testTime) || e.Group != "shadow" {
			t.Errorf("%s: %+v", name, e)
		}
		if e := x.Entries[4]; e.Major != 1 || e.Minor != 3 {
			t.Errorf("%s: %+v", name, e)
		}
		if p, ok := x.Entries[7].Whiteout(); !ok || p != "etc/passwd" {
			t.Errorf("%s: whiteout of %q, %v", name, p, ok)
		}
		if p, ok := x.Entries[8].Opaque(); !ok || p != "usr" {
			t.Errorf("%s: opaque %q, %v", name, p, ok)
		}
		for path, want := range map[string]string{
			"etc/shadow": "root:*", "etc/shadow-": "root:*", long: "deep", "etc/cron": "up", "abs": "absolute", "caf\xe9": "latin", "empty": "",
		} {
			if got, err := read(t, x, blob, path); err != nil || got != want {
				t.Errorf("%s: %s is %q, %v, want %q", name, path, got, err, want)
			}
		}
		for path, want := range map[string]error{"etc": ErrNotFile, "dev/null": ErrNotFile, "etc/mtab": ErrNotFile} {
			if _, err := read(t, x, blob, path); !errors.Is(err, want) {
				t.Errorf("%s: %s: %v, want %v", name, path, err, want)
			}
		}
	}
}

func TestOpenHardlink(t *testing.T) {
	raw := tarOf(t, link(tar.TypeLink, "early", "file"), regular("file", "x"), link(tar.TypeLink, "second", "./early"),
		link(tar.TypeLink, "out", "elsewhere"), link(tar.TypeLink, "self", "self"), link(tar.TypeLink, "to-dir", "d"), dir("d/"))
	x := scan(t, raw)
	for path, want := range map[string]error{"early": nil, "second": nil, "out": ErrLinkUnknown, "self": ErrLinkUnknown, "to-dir": ErrNotFile} {
		got, err := read(t, x, raw, path)
		if !errors.Is(err, want) || err == nil && got != "x" {
			t.Errorf("%s: %q, %v, want %v", path, got, err, want)
		}
	}
}

// TestDir: what is only implied is there, directories come first, and names are in the order people look for them.
func TestDir(t *testing.T) {
	x := scan(t, tarOf(t, regular("b10", ""), regular("B9", ""), regular("a", ""), dir("zoo/"), regular("./lib/x/y", "123"), regular("lib/x2", ""), regular("b09", "")))
	for path, want := range map[string]string{
		"": "lib/ zoo/ a B9 b09 b10", "/": "lib/ zoo/ a B9 b09 b10", "lib": "x/ x2", "lib/./x/": "y", "/lib/../zoo": "",
	} {
		if list, err := x.Dir(path); err != nil || names(list) != want {
			t.Errorf("%q: %s, %v, want %s", path, names(list), err, want)
		}
	}
	for _, path := range []string{"a", "no", "lib/x/y/z"} {
		if _, err := x.Dir(path); !errors.Is(err, ErrPathUnknown) {
			t.Errorf("%q: %v", path, err)
		}
	}
	n, err := x.Lookup("lib")
	if err != nil || n.Entry != nil || n.Bytes != 3 || n.Files != 2 || n.Path() != "lib" {
		t.Errorf("%+v, %v", n, err)
	}
}

// A counter counts what is read of a blob.
type counter struct {
	io.ReaderAt
	bytes int64
}

func (c *counter) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.ReaderAt.ReadAt(p, off)
	c.bytes += int64(n)
	return n, err
}

// TestSeek: every file of a large archive is what it is, and reading the last does not read what lies before.
func TestSeek(t *testing.T) {
	raw := synthetic(t, 100, 60_000)
	for name, blob := range map[string][]byte{
		"tar": raw, "gzip": gzipOf(t, raw, 0), "gzip members": gzipOf(t, raw, 600_000), "long gzip members": gzipOf(t, raw, 6_000_000),
		"zstd frames": zstdOf(t, raw, 600_000),
	} {
		x := scan(t, blob)
		if name != "tar" && x.SeekPoints() < 1 {
			t.Errorf("%s: %d seek points", name, x.SeekPoints())
		}
		for i := range x.Entries {
			e := &x.Entries[i]
			if i%19 != 0 && i < len(x.Entries)-1 {
				continue
			}
			c := &counter{ReaderAt: bytes.NewReader(blob)}
			r, err := x.Open(t.Context(), c, e)
			if err != nil {
				t.Fatalf("%s: %s: %v", name, e.Path, err)
			}
			got, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(got, raw[e.Offset:e.Offset+e.Size]) {
				t.Fatalf("%s: %s: %d bytes, want %d, %v", name, e.Path, len(got), e.Size, err)
			}
			if r.Close(); c.bytes > 3<<20 {
				t.Errorf("%s: %s took %d of %d bytes", name, e.Path, c.bytes, len(blob))
			}
		}
	}
}

// TestSeekStored: seek points lie right among blocks that are stored because they do not compress, too.
func TestSeekStored(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	var files []file
	for i := range 40 {
		content := []byte(noise(random, 20_000+random.IntN(100_000)))
		if i%2 == 0 {
			for k := range content {
				content[k] = byte(random.Uint32())
			}
		}
		files = append(files, regular(fmt.Sprint(i), string(content)))
	}
	raw := tarOf(t, files...)
	for _, level := range []int{0, 1, 6} {
		blob := gzipLevel(t, raw, level)
		x := scan(t, blob)
		if x.points = everyPoint(t, blob); len(x.points) < 40 {
			t.Fatalf("%d points", len(x.points))
		}
		for i := range x.Entries {
			if got, err := read(t, x, blob, x.Entries[i].Path); err != nil || got != files[i].content {
				t.Fatalf("level %d: file %d: %d bytes, %v", level, i, len(got), err)
			}
		}
		if level == 1 { // what is read wrong does not go unseen
			x.points[30].bit ^= 1
			e := &x.Entries[0]
			for e.Offset < x.points[30].out {
				e = &x.Entries[slices.IndexFunc(x.Entries, func(f Entry) bool { return f.Offset == e.Offset })+1]
			}
			if before(x.points, e.Offset).out == x.points[30].out {
				if _, err := read(t, x, blob, e.Path); !errors.Is(err, ErrDamaged) {
					t.Errorf("from a wrong place: %v", err)
				}
			}
		}
	}
}

// everyPoint returns all seek points there could be.
func everyPoint(t testing.TB, blob []byte) []point {
	points := newPoints()
	points.windowGap = 1
	src := newSource(t.Context(), bytes.NewReader(blob), int64(len(blob)), 0)
	all := []point{}
	z := newGzipReader(src, point{}, points)
	buf := make([]byte, 1000)
	for {
		_, err := z.Read(buf)
		all = append(all, points.list...)
		points.list, points.windows = nil, 0
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestPointsThin: there are never more seek points than may be, and they stay in order.
func TestPointsThin(t *testing.T) {
	p := newPoints()
	for i := range int64(3 * windowsMax) {
		p.add(point{out: i * windowGap, in: i, window: []byte{1}})
		p.add(point{out: i*windowGap + startGap, in: i})
	}
	for i := range int64(2 * startsMax) {
		p.add(point{out: 3*windowsMax*windowGap + i*startGap, in: i})
	}
	windows := 0
	for i, at := range p.list {
		if at.window != nil {
			windows++
		}
		if i > 0 && at.out <= p.list[i-1].out {
			t.Fatalf("point %d: %d after %d", i, at.out, p.list[i-1].out)
		}
	}
	if windows > windowsMax || windows != p.windows || p.starts > startsMax || windows+p.starts != len(p.list) || p.starts < startsMax/2 {
		t.Errorf("%d windows, %d, %d starts, %d in all", windows, p.windows, p.starts, len(p.list))
	}
}

func TestProgress(t *testing.T) {
	blob := synthetic(t, 100, 40_000)
	var last int64
	calls := 0
	_, err := Scan(t.Context(), bytes.NewReader(blob), int64(len(blob)), Limits{}, func(done, total int64) {
		if calls++; done <= last || total != int64(len(blob)) {
			t.Errorf("%d of %d after %d", done, total, last)
		}
		last = done
	})
	if err != nil || last != int64(len(blob)) || calls < 3 {
		t.Errorf("%d of %d in %d calls, %v", last, len(blob), calls, err)
	}
}

// failing fails from an offset on.
type failing struct {
	io.ReaderAt
	from int64
	err  error
}

func (f failing) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > f.from {
		return 0, f.err
	}
	return f.ReaderAt.ReadAt(p, off)
}

// TestScanFails: what is not the blob's fault is not called damage, and not kept.
func TestScanFails(t *testing.T) {
	raw := synthetic(t, 50, 20_000)
	broken := errors.New("the disk is broken")
	for name, blob := range packings(t, raw) {
		r := failing{bytes.NewReader(blob), int64(len(blob)) / 2, broken}
		x, err := Scan(t.Context(), r, int64(len(blob)), Limits{}, nil)
		if !errors.Is(err, broken) || errors.Is(err, ErrDamaged) || x.Problem != "" {
			t.Errorf("%s: %v, %q", name, err, x.Problem)
		}
		ctx, cancel := context.WithCancel(t.Context())
		x, err = Scan(ctx, bytes.NewReader(blob), int64(len(blob)), Limits{}, func(done, total int64) { cancel() })
		if name != "gzip members" && name != "zstd frames" && name != "zstd" && name != "gzip" { // these may be read by then
			if !errors.Is(err, context.Canceled) || x.Problem != "" {
				t.Errorf("%s: %v, %q", name, err, x.Problem)
			}
		}
		whole := scan(t, blob)
		cancelled, cancelNow := context.WithCancel(t.Context())
		cancelNow()
		if _, err := whole.Open(cancelled, bytes.NewReader(blob), &whole.Entries[40]); name != "tar" && !errors.Is(err, context.Canceled) {
			t.Errorf("%s: open: %v", name, err)
		}
		if _, err := whole.Open(t.Context(), failing{bytes.NewReader(blob), 0, broken}, &whole.Entries[40]); name != "tar" && !errors.Is(err, broken) {
			t.Errorf("%s: open: %v", name, err)
		}
		short := int64(len(blob)) / 2
		if _, err := Scan(t.Context(), bytes.NewReader(blob[:short]), int64(len(blob)), Limits{}, nil); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: a file shorter than its size: %v", name, err)
		}
	}
}

// TestLimits: each limit is a sentence of its own, and what was read before it is there.
func TestLimits(t *testing.T) {
	var many []file
	for i := range 300 {
		many = append(many, regular(fmt.Sprintf("%03d", i), ""))
	}
	count := tarOf(t, many...)
	noisy := synthetic(t, 60, 40_000)
	zeros := tarOf(t, regular("first", "1"), regular("zeros", strings.Repeat("\x00", 8<<20)), regular("last", "1"))
	long := tarOf(t, regular("first", "1"), regular(strings.Repeat("x", 3000), ""))
	for _, c := range []struct {
		name   string
		blob   []byte
		limits Limits
		want   string
		least  int // entries
	}{
		{"entries", count, Limits{Entries: 200}, "more than 200 files", 200},
		{"entries in gzip", gzipOf(t, count, 0), Limits{Entries: 200}, "more than 200 files", 200},
		{"names", long, Limits{Names: 2048}, "names of a file in this layer, after \"first\"", 1},
		{"uncompressed", noisy, Limits{Uncompressed: 1 << 20}, "more than 1 MiB when uncompressed", 5},
		{"uncompressed gzip", gzipOf(t, noisy, 0), Limits{Uncompressed: 1 << 20}, "more than 1 MiB when uncompressed", 5},
		{"uncompressed zstd", zstdOf(t, noisy, 0), Limits{Uncompressed: 1 << 20}, "more than 1 MiB when uncompressed", 5},
		{"ratio of gzip", gzipOf(t, zeros, 0), Limits{RatioFrom: 1 << 20}, "grows more than 200 times", 2},
		{"ratio of zstd", zstdOf(t, zeros, 0), Limits{RatioFrom: 1 << 20}, "grows more than 200 times", 2},
		{"index", count, Limits{Index: 10 << 10}, "takes more than", 10},
		{"time", noisy, Limits{Time: 1}, "took longer than 1ns", 0},
		{"time of gzip", gzipOf(t, noisy, 0), Limits{Time: 1}, "took longer than 1ns", 0},
		{"memory", zstdOf(t, noisy, 0), Limits{Memory: 1 << 20}, "would take 2 MiB of memory, and it may take 1", 0},
	} {
		x, err := Scan(t.Context(), bytes.NewReader(c.blob), int64(len(c.blob)), c.limits, nil)
		if !errors.Is(err, ErrLimit) || !strings.Contains(err.Error(), c.want) || len(x.Entries) < c.least || x.Problem != err.Error() {
			t.Errorf("%s: %v after %d entries, want %q after %d; %q", c.name, err, len(x.Entries), c.want, c.least, x.Problem)
		}
	}
	if x, err := Scan(t.Context(), bytes.NewReader(zeros), int64(len(zeros)), Limits{}, nil); err != nil || len(x.Entries) != 3 {
		t.Errorf("zeros that are not compressed: %v, %d entries", err, len(x.Entries))
	}
	if got := (Limits{Entries: 5, Time: time.Second}).orDefault(); got.Entries != 5 || got.Time != time.Second || got.Ratio != 200 {
		t.Errorf("%+v", got)
	}
}
