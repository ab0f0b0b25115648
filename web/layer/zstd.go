package layer

import (
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// A zstdReader decompresses the frames of a zstd file one by one, to know where each begins.
type zstdReader struct {
	src    *source
	memory int64   // bytes a window may have
	points *points // nil: nobody wants to know
	dec    *zstd.Decoder
	open   bool // within a frame

	out int64 // bytes in the archive so far
	err error
}

// newZstdReader starts at a point, at which src is. Close it.
func newZstdReader(src *source, at point, memory int64, points *points) (*zstdReader, error) {
	// One goroutine, that of the caller: it ends with it, and a reader costs one core.
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(uint64(memory)), zstd.WithDecoderMaxWindow(uint64(memory)))
	if err != nil {
		return nil, err
	}
	return &zstdReader{src: src, memory: memory, points: points, dec: dec, out: at.out}, nil
}

func (z *zstdReader) Close() error {
	z.dec.Close()
	return nil
}

func (z *zstdReader) Read(p []byte) (n int, err error) {
	for n == 0 && z.err == nil && len(p) > 0 {
		if !z.open {
			z.err = z.nextFrame()
			continue
		}
		n, err = z.dec.Read(p)
		z.out += int64(n)
		if err == io.EOF {
			z.open, err = false, nil
		}
		z.err = err
	}
	return n, z.err
}

// nextFrame starts a frame, or returns io.EOF behind the last. It passes over those that have no content.
func (z *zstdReader) nextFrame() error {
	for {
		b, err := z.src.buf.Peek(zstd.HeaderMaxSize)
		if err != nil && err != io.EOF {
			return err
		}
		if len(b) == 0 {
			return io.EOF
		}
		var h zstd.Header
		if err := h.Decode(b); err != nil {
			return fmt.Errorf("zstd: no header of a frame where one should be: %w", err)
		}
		if !h.Skippable {
			return z.startFrame(h)
		}
		if err := z.src.skip(int64(h.HeaderSize) + int64(h.SkippableSize)); err != nil {
			return err
		}
	}
}

func (z *zstdReader) startFrame(h zstd.Header) error {
	window := h.WindowSize
	if h.SingleSegment {
		window = h.FrameContentSize
	}
	if window > uint64(z.memory) {
		return limitError("reading this layer would take %d MiB of memory, and it may take %d", window>>20, z.memory>>20)
	}
	if h.DictionaryID != 0 {
		return errors.New("zstd: a frame wants a dictionary")
	}
	if z.points != nil {
		z.points.add(point{out: z.out, in: z.src.offset()})
	}
	z.open = true
	return z.dec.Reset(&frameReader{src: z.src, left: int64(h.HeaderSize), checksum: h.HasCheckSum})
}

// A frameReader gives the bytes of one frame. It reads the lengths of the blocks, to end where the frame does.
type frameReader struct {
	src      *source
	left     int64 // bytes of the part that is being read
	last     bool  // it is the last block, or the checksum
	checksum bool  // one follows the last block
}

func (f *frameReader) Read(p []byte) (int, error) {
	for f.left == 0 {
		switch {
		case !f.last:
			if err := f.nextBlock(); err != nil {
				return 0, err
			}
		case f.checksum:
			f.left, f.checksum = 4, false
		default:
			return 0, io.EOF
		}
	}
	if int64(len(p)) > f.left {
		p = p[:f.left]
	}
	n, err := f.src.buf.Read(p)
	f.left -= int64(n)
	return n, noEOF(err)
}

// nextBlock reads how long a block is (RFC 8878, section 3.1.1.2).
func (f *frameReader) nextBlock() error {
	b, err := f.src.buf.Peek(3)
	if err != nil {
		return noEOF(err)
	}
	h := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16
	f.last = h&1 != 0
	f.left = 3 + int64(h>>3)
	if h>>1&3 == 1 { // one byte, repeated
		f.left = 3 + 1
	}
	return nil
}
