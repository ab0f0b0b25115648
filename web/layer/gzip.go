package layer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/flate"
)

// These errors say what is wrong with gzip data.
var (
	errGzipHeader   = errors.New("gzip: no header of a member where one should be")
	errGzipChecksum = errors.New("gzip: the content does not have its checksum")
)

// gzipNameMax bounds the name and the comment of a member in bytes.
const gzipNameMax = 64 << 10

// A gzipReader decompresses the members of a gzip file. It is not compress/gzip because that tells nobody where its
// members and blocks begin.
type gzipReader struct {
	src    *source
	points *points // nil: nobody wants to know
	flate  io.Reader

	out     int64 // bytes in the archive before this member
	size    int64 // bytes of this member so far
	crc     uint32
	partial bool // begun in the middle of a member, so that its checksum cannot be known
	err     error
}

// newGzipReader starts at a point, at which src is.
func newGzipReader(src *source, at point, points *points) *gzipReader {
	z := &gzipReader{src: src, points: points, out: at.out}
	if at.window == nil {
		z.err = z.nextMember()
		return z
	}
	z.partial = true
	z.flate = flate.NewReaderOpts(src.buf, flate.WithResumeFrom(flate.InflateCheckpoint{BitOffset: at.bit, Window: at.window}))
	return z
}

func (z *gzipReader) Read(p []byte) (n int, err error) {
	for n == 0 && z.err == nil && len(p) > 0 {
		n, err = z.flate.Read(p)
		z.size += int64(n)
		if !z.partial {
			z.crc = crc32.Update(z.crc, crc32.IEEETable, p[:n])
		}
		if err == io.EOF {
			if err = z.endMember(); err == nil {
				err = z.nextMember()
			}
		}
		z.err = err
	}
	return n, z.err
}

// endMember reads what comes after the content of a member.
func (z *gzipReader) endMember() error {
	var b [8]byte
	if _, err := io.ReadFull(z.src.buf, b[:]); err != nil {
		return noEOF(err)
	}
	crc, size := binary.LittleEndian.Uint32(b[:4]), binary.LittleEndian.Uint32(b[4:])
	if !z.partial && (crc != z.crc || size != uint32(z.size)) {
		return errGzipChecksum
	}
	z.out += z.size
	z.size, z.crc, z.partial = 0, 0, false
	return nil
}

// nextMember starts a member, or returns io.EOF behind the last.
func (z *gzipReader) nextMember() error {
	start := z.src.offset()
	if err := z.readHeader(); err != nil {
		return err
	}
	if z.points == nil {
		if again, ok := z.flate.(flate.Resetter); ok {
			return again.Reset(z.src.buf, nil)
		}
		z.flate = flate.NewReader(z.src.buf)
		return nil
	}
	z.points.add(point{out: z.out, in: start})
	// A new one for every member: a reader that is reset forgets what it calls.
	z.flate = flate.NewReaderOpts(z.src.buf, flate.WithEobCallback(z.block(z.out, z.src.offset())))
	return nil
}

// block returns what is called between the blocks of a member whose content begins at the offsets.
//
// The offset in the blob that flate tells is too large: klauspost/compress 1.20.4 counts bytes twice that it had read ahead
// of a stored block. By how much is known where it has read nothing ahead, as after a stored block: there its offset must
// be that of what was taken from the source. Elsewhere it is less, so the largest difference so far is the error.
func (z *gzipReader) block(out, in int64) func(flate.InflateCheckpoint) {
	excess := int64(0)
	return func(c flate.InflateCheckpoint) {
		excess = max(excess, in+c.CompressedOffset-z.src.offset())
		at := point{out: out + c.UncompressedOffset, in: in + c.CompressedOffset - excess, bit: c.BitOffset}
		if c.Final || len(c.Window) == 0 || !z.points.wants(at.out, true) {
			return
		}
		at.window = append([]byte(nil), c.Window...) // the reader goes on using its own
		z.points.add(at)
	}
}

// Flags of a member (RFC 1952, section 2.3.1).
const (
	gzipHeaderCRC = 1 << 1
	gzipExtra     = 1 << 2
	gzipName      = 1 << 3
	gzipComment   = 1 << 4
	gzipReserved  = 7 << 5
)

// readHeader reads the header of a member. io.EOF says that there is none.
func (z *gzipReader) readHeader() error {
	var b [10]byte
	if n, err := io.ReadFull(z.src.buf, b[:]); err != nil {
		if n > 0 && b[0] != 0x1f {
			err = errGzipHeader
		}
		return err // io.EOF only when there was not a byte
	}
	flags := b[3]
	if b[0] != 0x1f || b[1] != 0x8b || b[2] != 8 || flags&gzipReserved != 0 {
		return errGzipHeader
	}
	if flags&gzipExtra != 0 {
		var n [2]byte
		if _, err := io.ReadFull(z.src.buf, n[:]); err != nil {
			return noEOF(err)
		}
		if _, err := z.src.buf.Discard(int(binary.LittleEndian.Uint16(n[:]))); err != nil {
			return noEOF(err)
		}
	}
	for _, flag := range []byte{gzipName, gzipComment} {
		if flags&flag != 0 {
			if err := z.skipString(); err != nil {
				return err
			}
		}
	}
	if flags&gzipHeaderCRC != 0 {
		if _, err := z.src.buf.Discard(2); err != nil {
			return noEOF(err)
		}
	}
	return nil
}

func (z *gzipReader) skipString() error {
	for range gzipNameMax {
		c, err := z.src.buf.ReadByte()
		if err != nil {
			return noEOF(err)
		}
		if c == 0 {
			return nil
		}
	}
	return fmt.Errorf("gzip: a name of more than %d bytes", gzipNameMax)
}
