package layer

import (
	"bufio"
	"context"
	"errors"
	"io"
	"time"
)

// readAhead is how many bytes of a blob are read at once.
const readAhead = 64 << 10

// progressStep is after how many bytes of a blob progress is told again.
const progressStep = 1 << 20

// A source reads a blob from an offset on. Each of its reads asks whether to go on, so that input that gives no output
// cannot keep decompression busy.
type source struct {
	ctx      context.Context
	r        io.ReaderAt
	size     int64
	next     int64     // offset of the next read
	deadline time.Time // zero: none
	limit    time.Duration
	progress func(done, total int64)
	told     int64
	failed   error // of r itself, or because of which reading stopped; nothing is wrong with the blob then
	buf      *bufio.Reader
}

func newSource(ctx context.Context, r io.ReaderAt, size, offset int64) *source {
	s := &source{ctx: ctx, r: r, size: size, next: offset}
	s.buf = bufio.NewReaderSize(s, readAhead)
	return s
}

// alive tells whether reading may go on.
func (s *source) alive() error {
	if s.failed != nil {
		return s.failed
	}
	if err := s.ctx.Err(); err != nil {
		s.failed = err
	} else if !s.deadline.IsZero() && time.Now().After(s.deadline) {
		s.failed = limitError("reading this layer took longer than %v", s.limit)
	}
	return s.failed
}

func (s *source) Read(p []byte) (int, error) {
	if err := s.alive(); err != nil {
		return 0, err
	}
	if s.next >= s.size {
		return 0, io.EOF
	}
	if left := s.size - s.next; int64(len(p)) > left {
		p = p[:left]
	}
	n, err := s.r.ReadAt(p, s.next)
	s.next += int64(n)
	if n == len(p) {
		err = nil // io.EOF is allowed, and said next time
	} else if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF // shorter than its size
	} else {
		s.failed = err
	}
	if s.progress != nil && (s.next-s.told >= progressStep || s.next == s.size) {
		s.told = s.next
		s.progress(s.next, s.size)
	}
	return n, err
}

// offset is that of the first byte that was not taken from buf.
func (s *source) offset() int64 { return s.next - int64(s.buf.Buffered()) }

// skip moves on by n bytes without reading them.
func (s *source) skip(n int64) error {
	if at := s.offset(); n > s.size-at {
		s.next = s.size
		s.buf.Reset(s)
		return io.ErrUnexpectedEOF
	}
	if n <= int64(s.buf.Buffered()) {
		_, err := s.buf.Discard(int(n))
		return err
	}
	s.next = s.offset() + n
	s.buf.Reset(s)
	return s.alive()
}

// noEOF makes the end of input an error where more is needed.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
