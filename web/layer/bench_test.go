package layer

import (
	"bytes"
	"io"
	"sync"
	"testing"
)

// benchLayer is an archive of 20,000 files and about 300 MB, made once; compressed it is about 100 MB.
var benchLayer = sync.OnceValue(func() map[string][]byte {
	t := &testing.B{}
	raw := synthetic(t, 20_000, 14_500)
	return map[string][]byte{"tar": raw, "gzip": gzipOf(t, raw, 0), "estargz": gzipOf(t, raw, 64<<10), "zstd": zstdOf(t, raw, 0), "chunked": zstdOf(t, raw, 64<<10)}
})

func benchmarkEach(b *testing.B, run func(b *testing.B, blob []byte)) {
	for _, name := range []string{"tar", "gzip", "estargz", "zstd", "chunked"} {
		b.Run(name, func(b *testing.B) { run(b, benchLayer()[name]) })
	}
}

func BenchmarkScan(b *testing.B) {
	benchmarkEach(b, func(b *testing.B, blob []byte) {
		var x *Index
		for b.Loop() {
			x = scan(b, blob)
		}
		encoded, err := x.MarshalBinary()
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(x.Uncompressed)
		b.ReportMetric(float64(x.Size)/1e6, "MB-blob")
		b.ReportMetric(float64(len(encoded))/1e6, "MB-index")
		b.ReportMetric(float64(x.SeekPoints()), "points")
	})
}

func BenchmarkOpenLast(b *testing.B) {
	benchmarkOpen(b, func(x *Index) *Entry { return &x.Entries[len(x.Entries)-1] })
}

// BenchmarkOpenFarthest opens the file that is farthest from the seek point before it.
func BenchmarkOpenFarthest(b *testing.B) {
	benchmarkOpen(b, func(x *Index) *Entry {
		far := func(e *Entry) int64 { return e.Offset - before(x.points, e.Offset).out }
		best := &x.Entries[0]
		for i := range x.Entries {
			if e := &x.Entries[i]; far(e) > far(best) {
				best = e
			}
		}
		return best
	})
}

func benchmarkOpen(b *testing.B, choose func(*Index) *Entry) {
	benchmarkEach(b, func(b *testing.B, blob []byte) {
		x := scan(b, blob)
		e := choose(x)
		for b.Loop() {
			r, err := x.Open(b.Context(), bytes.NewReader(blob), e)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, r); err != nil {
				b.Fatal(err)
			}
			r.Close()
		}
	})
}

func BenchmarkTree(b *testing.B) {
	x := scan(b, benchLayer()["tar"])
	for b.Loop() {
		plant([]*Index{x}, false)
	}
}

func BenchmarkDir(b *testing.B) {
	x := scan(b, benchLayer()["tar"])
	x.Tree()
	for b.Loop() {
		if _, err := x.Dir("usr/lib/package-7/part3"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMerge(b *testing.B) {
	x := scan(b, benchLayer()["tar"])
	for b.Loop() {
		Merge([]*Index{x, x, x})
	}
}

func BenchmarkUnmarshal(b *testing.B) {
	encoded, err := scan(b, benchLayer()["gzip"]).MarshalBinary()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := new(Index).UnmarshalBinary(encoded); err != nil {
			b.Fatal(err)
		}
	}
}
