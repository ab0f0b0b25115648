package layer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
)

// An archive gives the uncompressed bytes of a blob, from a point on.
type archive struct {
	src    *source
	r      io.Reader
	closer io.Closer // nil: nothing to close
	limits *Limits   // nil: nobody pays for more than was scanned

	out    int64  // offset of the next byte
	head   []byte // was read to be looked at, and comes first
	stop   int64  // where the headers of an entry must have ended
	failed error  // a limit that was broken
}

// errStop says that the headers of an entry are too long.
var errStop = errors.New("layer: headers are too long")

// openArchive starts at a point. points, if not nil, get to know where else one could.
func openArchive(src *source, format Format, at point, memory int64, points *points) (*archive, error) {
	a := &archive{src: src, out: at.out, stop: math.MaxInt64}
	switch format {
	case FormatTar:
		a.r = src.buf
	case FormatGzip:
		a.r = newGzipReader(src, at, points)
	case FormatZstd:
		z, err := newZstdReader(src, at, memory, points)
		if err != nil {
			return nil, err
		}
		a.r, a.closer = z, z
	default:
		return nil, ErrNotTar
	}
	return a, nil
}

// openAt starts at any offset in the archive, behind the nearest seek point.
func openAt(ctx context.Context, r io.ReaderAt, x *Index, out int64) (*archive, error) {
	at := before(x.points, out)
	if x.Format == FormatTar {
		at = point{out: out, in: out}
	}
	a, err := openArchive(newSource(ctx, r, x.Size, at.in), x.Format, at, x.memory, nil)
	if err != nil {
		return nil, err
	}
	if _, err := io.CopyN(io.Discard, a, out-at.out); err != nil {
		a.Close()
		return nil, a.explain(noEOF(err), "")
	}
	return a, nil
}

func (a *archive) Close() error {
	if a.closer == nil {
		return nil
	}
	return a.closer.Close()
}

func (a *archive) Read(p []byte) (int, error) {
	if a.failed != nil {
		return 0, a.failed
	}
	if err := a.src.alive(); err != nil {
		return 0, err
	}
	if left := a.stop - a.out; int64(len(p)) > left {
		if p = p[:max(left, 0)]; len(p) == 0 {
			a.failed = errStop
			return 0, errStop
		}
	}
	if len(a.head) > 0 {
		n := copy(p, a.head)
		a.head = a.head[n:]
		a.out += int64(n)
		return n, nil
	}
	n, err := a.r.Read(p)
	a.out += int64(n)
	if a.limits != nil {
		a.failed = a.check()
	}
	if a.failed != nil {
		return n, a.failed
	}
	return n, err
}

// check tells whether the blob is a bomb.
func (a *archive) check() error {
	if a.out > a.limits.Uncompressed {
		return limitError("this layer has more than %d MiB when uncompressed", a.limits.Uncompressed>>20)
	}
	if a.out > a.limits.RatioFrom && a.out > a.limits.Ratio*a.src.offset() {
		return limitError("this layer grows more than %d times when uncompressed", a.limits.Ratio)
	}
	return nil
}

// peek returns the first bytes, fewer only where there are no more. Call it before the first Read.
func (a *archive) peek(n int) ([]byte, error) {
	b := make([]byte, n)
	read := 0
	for read < n {
		m, err := a.r.Read(b[read:])
		read += m
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	a.head = b[:read]
	return a.head, nil
}

// explain makes of what went wrong what to tell.
func (a *archive) explain(err error, after string) error {
	switch {
	case a.src.failed != nil && errors.Is(a.src.failed, ErrLimit):
		return a.src.failed
	case a.src.failed != nil:
		return fmt.Errorf("read layer: %w", a.src.failed)
	case a.failed != nil:
		return a.failed
	case errors.Is(err, ErrLimit):
		return err
	}
	return &DamagedError{Offset: a.src.offset(), Uncompressed: a.out, After: after, Err: err}
}
