package layer

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/klauspost/compress/zstd"
)

// An index is stored as indexMagic, a byte for the version, and a zstd frame with a checksum. In the frame numbers are
// varints, and a path is what it shares with the path before, and the rest.
const (
	indexMagic   = "layer"
	indexVersion = 1
	// indexWindow is the memory that the frame wants for decompression, in bytes.
	indexWindow = 1 << 20
)

// Limits of what is decoded, so that damaged bytes cannot ask for more than any layer has.
const (
	decodeEntriesMax = 2_000_000
	decodeMemoryMax  = 256 << 20
	decodePointsMax  = 2*startsMax + 2*windowsMax
	decodeStringMax  = 4 << 20
)

// MarshalBinary encodes an Index.
func (x *Index) MarshalBinary() ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(indexMagic)
	b.WriteByte(indexVersion)
	z, err := zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(indexWindow), zstd.WithEncoderCRC(true))
	if err != nil {
		return nil, err
	}
	e := encoder{w: bufio.NewWriterSize(z, 64<<10)}
	e.index(x)
	if err := e.w.Flush(); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// UnmarshalBinary decodes an Index. Anything that MarshalBinary of this version did not write is ErrIndexInvalid.
func (x *Index) UnmarshalBinary(data []byte) error {
	rest, ok := bytes.CutPrefix(data, []byte(indexMagic))
	if !ok || len(rest) == 0 || rest[0] != indexVersion {
		return ErrIndexInvalid
	}
	// As a stream, not at once: memory is taken for what is there, not for what is promised.
	z, err := zstd.NewReader(struct{ io.Reader }{bytes.NewReader(rest[1:])}, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(indexWindow), zstd.WithDecoderMaxMemory(decodeMemoryMax))
	if err != nil {
		return err
	}
	defer z.Close()
	return x.decode(z)
}

// decode reads what is in the frame, to its end, where the checksum is.
func (x *Index) decode(r io.Reader) error {
	d := decoder{r: bufio.NewReaderSize(r, 64<<10)}
	d.index(x)
	if d.err == nil {
		if _, err := d.r.ReadByte(); err != io.EOF {
			d.fail(cmp.Or(err, errors.New("there is more than an index")))
		}
	}
	if d.err != nil {
		*x = Index{}
		return fmt.Errorf("%w: %w", ErrIndexInvalid, d.err)
	}
	return nil
}

// An encoder writes the parts of an Index. Errors are those of w, which keeps them.
type encoder struct {
	w    *bufio.Writer
	buf  [binary.MaxVarintLen64]byte
	last Entry
}

func (e *encoder) uint(n uint64) { e.w.Write(binary.AppendUvarint(e.buf[:0], n)) }
func (e *encoder) int(n int64)   { e.w.Write(binary.AppendVarint(e.buf[:0], n)) }

func (e *encoder) text(s string) {
	e.uint(uint64(len(s)))
	e.w.WriteString(s)
}

func (e *encoder) bool(b bool) {
	if b {
		e.w.WriteByte(1)
	} else {
		e.w.WriteByte(0)
	}
}

func (e *encoder) index(x *Index) {
	e.w.WriteByte(byte(x.Format))
	e.int(x.Size)
	e.int(x.Uncompressed)
	e.text(x.Problem)
	e.bool(x.Unterminated)
	e.int(x.memory)
	e.uint(uint64(len(x.Entries)))
	for i := range x.Entries {
		e.entry(&x.Entries[i])
	}
	e.uint(uint64(len(x.points)))
	var last point
	for _, p := range x.points {
		e.int(p.out - last.out)
		e.int(p.in - last.in)
		e.w.WriteByte(p.bit)
		e.uint(uint64(len(p.window)))
		e.w.Write(p.window)
		last = p
	}
}

func (e *encoder) entry(n *Entry) {
	shared := 0
	for shared < min(len(n.Path), len(e.last.Path)) && n.Path[shared] == e.last.Path[shared] {
		shared++
	}
	e.uint(uint64(shared))
	e.text(n.Path[shared:])
	e.w.WriteByte(byte(n.Type))
	e.uint(uint64(n.Mode))
	e.int(int64(n.UID))
	e.int(int64(n.GID))
	e.text(n.User)
	e.text(n.Group)
	e.text(n.Link)
	e.int(n.Size)
	e.int(n.Offset - e.last.Offset)
	e.int(n.MTime - e.last.MTime)
	e.int(int64(n.Major))
	e.int(int64(n.Minor))
	e.uint(uint64(n.Xattrs))
	e.bool(n.Sparse)
	e.int(n.from)
	summed := n.Sum != [SumSize]byte{}
	e.bool(summed)
	if summed {
		e.w.Write(n.Sum[:])
	}
	e.last = *n
}

// A decoder reads the parts of an Index. After its first error it gives zeros.
type decoder struct {
	r      *bufio.Reader
	err    error
	last   Entry
	names  map[string]string // of users and groups, each once
	memory int64             // bytes that entries took so far
}

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = noEOF(err)
	}
}

// must fails unless what was read is possible.
func (d *decoder) must(ok bool, what string) {
	if !ok && d.err == nil {
		d.fail(errors.New(what + " is not possible"))
	}
}

func (d *decoder) uint(limit uint64) uint64 {
	if d.err != nil {
		return 0
	}
	n, err := binary.ReadUvarint(d.r)
	if err != nil {
		d.fail(err)
		return 0
	}
	if n > limit {
		d.must(false, "a number")
		return 0
	}
	return n
}

func (d *decoder) int() int64 {
	if d.err != nil {
		return 0
	}
	n, err := binary.ReadVarint(d.r)
	if err != nil {
		d.fail(err)
		return 0
	}
	return n
}

func (d *decoder) byte() byte {
	if d.err != nil {
		return 0
	}
	b, err := d.r.ReadByte()
	if err != nil {
		d.fail(err)
	}
	return b
}

func (d *decoder) bool() bool {
	b := d.byte()
	d.must(b <= 1, "a flag")
	return b == 1
}

// bytes reads as many as are said, growing with what is there.
func (d *decoder) bytes(limit uint64) []byte {
	n := d.uint(limit)
	if n == 0 || d.err != nil {
		return nil
	}
	if n <= 4096 {
		b := make([]byte, n)
		if _, err := io.ReadFull(d.r, b); err != nil {
			d.fail(err)
		}
		return b
	}
	b, err := io.ReadAll(io.LimitReader(d.r, int64(n)))
	if err == nil && uint64(len(b)) < n {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		d.fail(err)
	}
	return b
}

func (d *decoder) text() string { return string(d.bytes(decodeStringMax)) }

// name reads a text that many entries share.
func (d *decoder) name() string {
	b := d.bytes(decodeStringMax)
	if known, ok := d.names[string(b)]; ok {
		return known
	}
	s := string(b)
	if len(d.names) < namesKept {
		d.names[s] = s
	}
	return s
}

func (d *decoder) index(x *Index) {
	*x = Index{Format: Format(d.byte()), Size: d.int(), Uncompressed: d.int(), Problem: d.text(), Unterminated: d.bool(), memory: d.int()}
	d.must(x.Format <= FormatZstd, "the format")
	d.must(x.Size >= 0 && x.Uncompressed >= 0, "a size")
	d.must(x.memory >= memoryMin && x.memory <= decodeMemoryMax, "the memory of a window")
	d.names = map[string]string{}
	for n := d.uint(decodeEntriesMax); n > 0 && d.err == nil; n-- {
		x.Entries = append(x.Entries, d.entry(x))
	}
	var last point
	for n := d.uint(decodePointsMax); n > 0 && d.err == nil; n-- {
		p := point{out: last.out + d.int(), in: last.in + d.int(), bit: d.byte(), window: d.bytes(windowSize)}
		d.must(p.out >= last.out && p.out <= x.Uncompressed && p.in >= last.in && p.in < x.Size, "the order of seek points")
		d.must(p.bit < 8 && (p.bit == 0 || p.window != nil), "a seek point")
		x.points = append(x.points, p)
		last = p
	}
}

func (d *decoder) entry(x *Index) Entry {
	shared := d.uint(uint64(len(d.last.Path)))
	n := Entry{Path: d.last.Path[:shared] + d.text()}
	n.Type = Type(d.byte())
	n.Mode = uint16(d.uint(math.MaxUint16))
	n.UID, n.GID = int(d.int()), int(d.int())
	n.User, n.Group = d.name(), d.name()
	n.Link = d.text()
	n.Size = d.int()
	n.Offset = d.last.Offset + d.int()
	n.MTime = d.last.MTime + d.int()
	n.Major, n.Minor = int32(d.int()), int32(d.int())
	n.Xattrs = uint16(d.uint(math.MaxUint16))
	n.Sparse, n.from = d.bool(), d.int()
	if d.bool() && d.err == nil {
		if _, err := io.ReadFull(d.r, n.Sum[:]); err != nil {
			d.fail(err)
		}
	}
	switch n.Type {
	case TypeFile, TypeDir, TypeSymlink, TypeHardlink, TypeChar, TypeBlock, TypeFIFO, TypeOther:
	default:
		d.must(false, "a type")
	}
	d.must(n.Size >= 0 && n.Offset >= 0 && n.Offset <= x.Uncompressed && n.from >= 0 && n.from <= n.Offset, "where a file is")
	d.memory += entrySize(&n)
	d.must(d.memory <= decodeMemoryMax, "the size of the index")
	d.last = n
	return n
}
