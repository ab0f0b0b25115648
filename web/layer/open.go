package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
)

// linksMax is how many links are followed one after the other.
const linksMax = 40

// Open returns the content of an entry of this Index: not more than its size. Who reads to the end is told by ErrDamaged
// when it is not what was scanned. A hard link is followed within the layer;
// ErrLinkUnknown says that it leads out of it, and ErrNotFile that there is no content. r must be the blob that was
// scanned. The context is that of all reads; the caller closes.
func (x *Index) Open(ctx context.Context, r io.ReaderAt, e *Entry) (io.ReadCloser, error) {
	e, err := x.follow(e)
	if err != nil {
		return nil, err
	}
	if e.Size == 0 {
		return &content{Reader: &io.LimitedReader{}}, nil
	}
	if e.Sparse {
		return x.openSparse(ctx, r, e)
	}
	a, err := openAt(ctx, r, x, e.Offset)
	if err != nil {
		return nil, err
	}
	c := &content{Reader: a, archive: a, left: e.Size, path: e.Path}
	if e.Sum != [SumSize]byte{} {
		c.hash, c.sum = sha256.New(), e.Sum
	}
	return c, nil
}

// follow returns the file that an entry is or links to.
func (x *Index) follow(e *Entry) (*Entry, error) {
	for range linksMax {
		if e.HasContent() {
			return e, nil
		}
		if e.Type != TypeHardlink {
			return nil, fmt.Errorf("%s: %w", short(e.Path), ErrNotFile)
		}
		n, err := x.Lookup(e.Link)
		if err != nil || n.Entry == nil {
			return nil, fmt.Errorf("%s: %w", short(e.Path), ErrLinkUnknown)
		}
		e = n.Entry
	}
	return nil, fmt.Errorf("%s: %w", short(e.Path), ErrLinkUnknown)
}

// openSparse reads headers up to that of the entry: only they tell where the holes are.
func (x *Index) openSparse(ctx context.Context, r io.ReaderAt, e *Entry) (io.ReadCloser, error) {
	a, err := openAt(ctx, r, x, e.from)
	if err != nil {
		return nil, err
	}
	for t := tar.NewReader(a); ; {
		if _, err := t.Next(); err != nil {
			a.Close()
			return nil, a.explain(noEOF(err), e.Path)
		}
		if a.out == e.Offset {
			return &content{Reader: t, archive: a, left: e.Size, path: e.Path}, nil
		}
		if a.out > e.Offset {
			a.Close()
			return nil, a.explain(io.ErrUnexpectedEOF, e.Path)
		}
	}
}

// A content is the bytes of a file.
type content struct {
	io.Reader
	archive *archive // nil: there is nothing to read
	left    int64    // bytes
	path    string
	hash    hash.Hash // of what was read; nil: nothing to compare it with
	sum     [SumSize]byte
}

// errSum says that a file is not what was scanned: r is another blob, or a seek point leads astray.
var errSum = errors.New("the content does not have its checksum")

func (c *content) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, io.EOF
	}
	if err := c.archive.src.alive(); err != nil { // holes need no reading
		return 0, c.archive.explain(err, c.path)
	}
	if int64(len(p)) > c.left {
		p = p[:c.left]
	}
	n, err := c.Reader.Read(p)
	c.left -= int64(n)
	if c.hash != nil {
		c.hash.Write(p[:n])
	}
	if c.left == 0 {
		return n, c.checkSum()
	}
	if err != nil {
		return n, c.archive.explain(noEOF(err), c.path)
	}
	return n, nil
}

func (c *content) checkSum() error {
	if c.hash == nil {
		return nil
	}
	var sum [sha256.Size]byte
	if c.hash.Sum(sum[:0]); !bytes.Equal(sum[:SumSize], c.sum[:]) {
		return c.archive.explain(errSum, c.path)
	}
	return nil
}

// Close frees what reading took.
func (c *content) Close() error {
	if c.archive == nil {
		return nil
	}
	return c.archive.Close()
}
