// Package layer tells what is inside a layer: a blob that is a tar archive, plain or compressed by gzip or zstd.
//
// Scan reads a blob once and returns an Index: what the archive holds, and points at which decompression can start.
// With it any file is read without what lies before it (Index.Open), directories are listed (Index.Dir), and the layers
// of an image become its file system (Merge). An Index is small, and can be stored.
//
// Blobs are a stranger's. Nothing is ever extracted: a path in an archive is a label, and this package opens no file at
// all, it reads an io.ReaderAt. Limits bound what a blob may cost. What is read is what Go's archive/tar reads, as it is
// in Docker, containerd and Podman: a listing that saw more, or other things, than those who extract would mislead.
//
// The tables of contents that eStargz and zstd:chunked add to an archive are not used. They are what the builder says of
// the archive, and nothing makes it true; the points they give are members and frames, which Scan finds by itself.
//
// # Limitations
//
// A zstd frame can only be read from its start. Most builders write a layer as one frame, and then a file costs the
// decompression of what lies before it.
package layer

import (
	"errors"
	"fmt"
	"io"
	"time"
)

// A Format is how a blob is packed.
type Format byte

// Formats. FormatUnknown is none of the others.
const (
	FormatUnknown Format = iota
	FormatTar
	FormatGzip // a tar, or claimed to be one, in gzip
	FormatZstd // the same in zstd
)

func (f Format) String() string {
	switch f {
	case FormatTar:
		return "tar"
	case FormatGzip:
		return "tar+gzip"
	case FormatZstd:
		return "tar+zstd"
	}
	return "unknown"
}

// Limits bound what Scan spends on a blob. A field that is zero is DefaultLimits'.
type Limits struct {
	Entries      int           // in the archive
	Names        int64         // bytes of names, links and PAX records of one entry
	Uncompressed int64         // bytes of the archive
	Ratio        int64         // uncompressed to compressed bytes, judged from RatioFrom on
	RatioFrom    int64         // uncompressed bytes
	Time         time.Duration // of the scan, by the clock
	Memory       int64         // bytes of the window of a zstd frame
	Index        int64         // bytes that the Index takes in memory, without its seek points
}

// DefaultLimits let pass what people build, and stop what is made to hurt.
var DefaultLimits = Limits{
	Entries:      200_000,
	Names:        1 << 20,
	Uncompressed: 8 << 30,
	Ratio:        200,
	RatioFrom:    64 << 20,
	Time:         time.Minute,
	Memory:       64 << 20,
	Index:        64 << 20,
}

// memoryMin is the smallest window that zstd has, in bytes.
const memoryMin = 1 << 10

func (l Limits) orDefault() Limits {
	d := DefaultLimits
	if l.Entries > 0 {
		d.Entries = l.Entries
	}
	if l.Time > 0 {
		d.Time = l.Time
	}
	for _, f := range []struct {
		to   *int64
		from int64
	}{
		{&d.Names, l.Names}, {&d.Uncompressed, l.Uncompressed}, {&d.Ratio, l.Ratio}, {&d.RatioFrom, l.RatioFrom},
		{&d.Memory, l.Memory}, {&d.Index, l.Index},
	} {
		if f.from > 0 {
			*f.to = f.from
		}
	}
	// More could not be stored.
	d.Entries, d.Index = min(d.Entries, decodeEntriesMax), min(d.Index, decodeMemoryMax)
	d.Memory = min(max(d.Memory, memoryMin), decodeMemoryMax)
	return d
}

// These errors say what is wrong with a blob, or with a question about it. Their text is a sentence for a page.
var (
	// ErrNotTar says that a blob is no tar archive, nor one in gzip or zstd.
	ErrNotTar = errors.New("this is not a tar archive")
	// ErrLimit says that reading was given up: see LimitError.
	ErrLimit = errors.New("this layer is too much to look into")
	// ErrDamaged says that a blob ends early or is not what its format wants: see DamagedError.
	ErrDamaged = errors.New("this layer is damaged")
	// ErrNotFile says that an entry has no content.
	ErrNotFile = errors.New("this is not a file")
	// ErrLinkUnknown says that a hard link leads to no file of its layer.
	ErrLinkUnknown = errors.New("this hard link leads to a file that is not in this layer")
	// ErrPathUnknown says that nothing has a path.
	ErrPathUnknown = errors.New("nothing here has this path")
	// ErrIndexInvalid says that bytes are not an Index that this version wrote. Scan again.
	ErrIndexInvalid = errors.New("this is not an index of a layer")
)

// A LimitError says which limit a blob broke. It is ErrLimit.
type LimitError struct {
	Text string
}

func (e *LimitError) Error() string { return e.Text }

// Is reports whether target is ErrLimit.
func (e *LimitError) Is(target error) bool { return target == ErrLimit }

func limitError(format string, args ...any) error {
	return &LimitError{fmt.Sprintf(format, args...)}
}

// A DamagedError says where a blob is damaged. It is ErrDamaged.
type DamagedError struct {
	Offset       int64  // in the blob, about: decompression reads ahead
	Uncompressed int64  // in the archive
	After        string // the path of the last entry that was read, or ""
	Err          error
}

func (e *DamagedError) Error() string {
	what := "is damaged"
	if errors.Is(e.Err, io.ErrUnexpectedEOF) {
		what = "ends early"
	}
	where := fmt.Sprintf("byte %d", e.Offset)
	if e.Uncompressed != e.Offset {
		where += fmt.Sprintf(", or byte %d when uncompressed", e.Uncompressed)
	}
	if e.After != "" {
		where += fmt.Sprintf(", after %q", short(e.After))
	}
	return fmt.Sprintf("this layer %s at %s: %v", what, where, e.Err)
}

// Is reports whether target is ErrDamaged.
func (e *DamagedError) Is(target error) bool { return target == ErrDamaged }

func (e *DamagedError) Unwrap() error { return e.Err }

// shortMax is how many bytes of a stranger's path an error says.
const shortMax = 100

func short(path string) string {
	if len(path) > shortMax {
		return path[:shortMax] + "…"
	}
	return path
}

// tarBlock is the unit of tar archives in bytes.
const tarBlock = 512

// Detect tells how a blob is packed by its first bytes, never by what it is called. It does not look inside.
func Detect(r io.ReaderAt, size int64) (Format, error) {
	head := make([]byte, min(size, 2*tarBlock))
	if n, err := r.ReadAt(head, 0); n < len(head) {
		return FormatUnknown, err
	}
	return detect(head), nil
}

// detect tells the format of what begins with head.
func detect(head []byte) Format {
	switch {
	case len(head) >= 3 && head[0] == 0x1f && head[1] == 0x8b && head[2] == 8:
		return FormatGzip
	case len(head) >= 4 && string(head[:4]) == "\x28\xb5\x2f\xfd":
		return FormatZstd
	case len(head) >= 4 && head[0]&0xf0 == 0x50 && string(head[1:4]) == "\x2a\x4d\x18": // skippable
		return FormatZstd
	case isTar(head):
		return FormatTar
	}
	return FormatUnknown
}

// isTar reports whether a block is a header by its checksum, which every kind of tar has, or the end of an archive.
func isTar(head []byte) bool {
	if len(head) < tarBlock {
		return false
	}
	block := head[:tarBlock]
	var unsigned, signed int64
	zero := true
	for i, c := range block {
		zero = zero && c == 0
		if i >= 148 && i < 156 { // the checksum itself counts as spaces
			c = ' '
		}
		unsigned += int64(c)
		signed += int64(int8(c)) // as old programs wrote it
	}
	if zero {
		return true
	}
	sum, digits := int64(0), 0
	for _, c := range block[148:156] {
		if c >= '0' && c <= '7' {
			sum, digits = sum<<3|int64(c-'0'), digits+1
		} else if digits > 0 || c != ' ' && c != 0 {
			break
		}
	}
	return digits > 0 && (sum == unsigned || sum == signed)
}
