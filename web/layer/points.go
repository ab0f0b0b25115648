package layer

import "sort"

// How far seek points are apart in the archive, at least, and how many there are, at most. A point in the middle of a
// gzip member needs a window of 32 KiB, one at the start of a member or frame nothing: so there may be more of those.
// Points get sparser in archives for which there would be too many.
const (
	windowGap  = 4 << 20
	windowsMax = 256
	startGap   = 256 << 10
	startsMax  = 1 << 14
	windowSize = 32 << 10
)

// A point is where decompression can start.
type point struct {
	out    int64  // offset in the archive, in bytes
	in     int64  // offset in the blob, in bytes
	bit    uint8  // offset in the byte at in; 0 at the start of a member or frame
	window []byte // the bytes before out that the next may repeat; nil at the start of a member or frame
}

// A points collects seek points in their order.
type points struct {
	list            []point
	windows, starts int // how many there are
	windowGap       int64
	startGap        int64
}

func newPoints() *points { return &points{windowGap: windowGap, startGap: startGap} }

// wants reports whether a point would be kept.
func (p *points) wants(out int64, window bool) bool {
	last := int64(0) // where decompression can always start
	if n := len(p.list); n > 0 {
		last = p.list[n-1].out
	}
	if window {
		return out-last >= p.windowGap
	}
	return out-last >= p.startGap
}

func (p *points) add(at point) {
	if !p.wants(at.out, at.window != nil) {
		return
	}
	p.append(at)
	for p.windows > windowsMax || p.starts > startsMax {
		p.thin()
	}
}

func (p *points) append(at point) {
	p.list = append(p.list, at)
	if at.window != nil {
		p.windows++
	} else {
		p.starts++
	}
}

// thin doubles the gaps of the kind there are too many of.
func (p *points) thin() {
	if p.windows > windowsMax {
		p.windowGap *= 2
	}
	if p.starts > startsMax {
		p.startGap *= 2
	}
	all := p.list
	p.list, p.windows, p.starts = nil, 0, 0
	for _, at := range all {
		if p.wants(at.out, at.window != nil) {
			p.append(at)
		}
	}
}

// before returns the last of the points that is not behind an offset in the archive. The start of the blob is one.
func before(list []point, out int64) point {
	i := sort.Search(len(list), func(i int) bool { return list[i].out > out })
	if i == 0 {
		return point{}
	}
	return list[i-1]
}
