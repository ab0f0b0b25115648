package layer

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"strings"
	"time"
	"unsafe"
)

// Scan reads a blob of size bytes once and returns what it holds. progress, if not nil, is told now and then how many
// bytes of the blob are read.
//
// With an error the Index holds what was read before it: ErrNotTar, ErrDamaged and ErrLimit are what is wrong with the
// blob, and Problem keeps them; any other is of r or ctx, and another try may go well.
func Scan(ctx context.Context, r io.ReaderAt, size int64, limits Limits, progress func(done, total int64)) (*Index, error) {
	limits = limits.orDefault()
	x := &Index{Size: size, memory: limits.Memory}
	var err error
	if x.Format, err = Detect(r, size); err != nil {
		return x, fmt.Errorf("read layer: %w", err)
	}
	if x.Format == FormatUnknown {
		return x, x.problem(ErrNotTar)
	}
	src := newSource(ctx, r, size, 0)
	src.deadline, src.limit, src.progress = time.Now().Add(limits.Time), limits.Time, progress
	points := newPoints()
	a, err := openArchive(src, x.Format, point{}, limits.Memory, points)
	if err != nil {
		return x, err
	}
	defer a.Close()
	a.limits = &limits
	s := scanner{archive: a, limits: limits, index: x, hash: sha256.New(), buf: make([]byte, 64<<10), names: map[string]string{}}
	err = s.run()
	x.Uncompressed, x.points = a.out, points.list
	return x, x.problem(err)
}

// namesKept is how many names of users and groups are looked out for to keep each once.
const namesKept = 1000

// errTarHeader is tar.ErrHeader in words for a page.
var errTarHeader = errors.New("tar: no header of a file where one should be")

// A scanner fills an Index.
type scanner struct {
	archive *archive
	tar     *tar.Reader
	limits  Limits
	index   *Index
	hash    hash.Hash
	buf     []byte
	names   map[string]string // of users and groups, each once
	memory  int64             // bytes of the index so far
	count   int               // entries, those that are kept and those that are not

	end      int64 // of the entry before, with its padding, in the archive
	inexact  bool  // that entry is sparse, and ends at end or later
	lastPath string
}

func (s *scanner) run() error {
	if err := s.checkHead(); err != nil {
		return err
	}
	s.tar = tar.NewReader(s.archive)
	for {
		more, err := s.next()
		if err != nil {
			return s.explain(err)
		}
		if !more {
			break
		}
	}
	s.archive.stop = math.MaxInt64
	s.index.Unterminated = !s.inexact && s.archive.out <= s.end
	// To the end, for the size of the archive and because checksums come last.
	if _, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{s.archive}, s.buf); err != nil {
		return s.explain(err)
	}
	return nil
}

// checkHead tells whether what was compressed is an archive.
func (s *scanner) checkHead() error {
	head, err := s.archive.peek(tarBlock)
	if err != nil {
		return s.explain(err)
	}
	if len(head) == 0 || isTar(head) {
		return nil
	}
	if inner := detect(head); inner != FormatUnknown {
		return fmt.Errorf("%w: it is compressed twice", ErrNotTar)
	}
	return fmt.Errorf("%w: it is compressed, but what is inside is none", ErrNotTar)
}

// next reads one entry. It reports whether there was one.
func (s *scanner) next() (bool, error) {
	const blocks = 16 * tarBlock // of the headers themselves
	s.archive.stop = s.end + s.limits.Names + blocks
	if s.inexact {
		s.archive.stop = math.MaxInt64
	}
	from := s.end
	h, err := s.tar.Next()
	s.archive.stop = math.MaxInt64
	if err == io.EOF {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if s.count++; s.count > s.limits.Entries {
		return false, limitError("this layer holds more than %d files", s.limits.Entries)
	}
	if namesSize(h) > s.limits.Names {
		return false, s.namesError()
	}
	sparse := isSparse(h)
	if !sparse {
		s.end = s.archive.out
	}
	s.inexact = sparse
	if h.Typeflag == tar.TypeXGlobalHeader { // says something of no file, and clients ignore it
		return true, nil
	}
	e := s.entry(h)
	e.Offset, e.Sparse = s.archive.out, sparse
	if sparse {
		e.from = from
	}
	s.lastPath = e.Path
	if s.memory += entrySize(&e); s.memory > s.limits.Index {
		return false, limitError("the list of what this layer holds takes more than %d MiB", s.limits.Index>>20)
	}
	s.index.Entries = append(s.index.Entries, e)
	if e.HasContent() && !sparse {
		s.end = e.Offset + (e.Size+tarBlock-1)/tarBlock*tarBlock
		return true, s.sum(&s.index.Entries[len(s.index.Entries)-1])
	}
	return true, nil
}

// sum reads the content of an entry.
func (s *scanner) sum(e *Entry) error {
	if e.Size == 0 {
		return nil
	}
	s.hash.Reset()
	if _, err := io.CopyBuffer(s.hash, struct{ io.Reader }{s.tar}, s.buf); err != nil {
		return noEOF(err)
	}
	var sum [sha256.Size]byte
	copy(e.Sum[:], s.hash.Sum(sum[:0]))
	return nil
}

func (s *scanner) explain(err error) error {
	if err == errStop || errors.Is(err, tar.ErrFieldTooLong) {
		return s.namesError()
	}
	if err == tar.ErrHeader {
		err = errTarHeader
	}
	return s.archive.explain(err, s.lastPath)
}

func (s *scanner) namesError() error {
	return limitError("the names of a file in this layer, after %q, take more than %d KiB", short(s.lastPath), s.limits.Names>>10)
}

// entry returns what a header says.
func (s *scanner) entry(h *tar.Header) Entry {
	e := Entry{
		Path: h.Name, Link: h.Linkname, User: s.intern(h.Uname), Group: s.intern(h.Gname), MTime: h.ModTime.Unix(),
		UID: h.Uid, GID: h.Gid, Mode: uint16(h.Mode & 0o7777), Type: typeOf(h.Typeflag),
	}
	if e.HasContent() {
		e.Size = h.Size
	}
	if e.Type == TypeChar || e.Type == TypeBlock {
		e.Major, e.Minor = int32(h.Devmajor), int32(h.Devminor)
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "SCHILY.xattr.") && e.Xattrs < math.MaxUint16 {
			e.Xattrs++
		}
	}
	return e
}

func (s *scanner) intern(name string) string {
	if known, ok := s.names[name]; ok {
		return known
	}
	if len(s.names) < namesKept {
		s.names[name] = name
	}
	return name
}

func typeOf(flag byte) Type {
	switch flag {
	case tar.TypeReg, '\x00', tar.TypeCont, tar.TypeGNUSparse:
		return TypeFile
	case tar.TypeDir:
		return TypeDir
	case tar.TypeSymlink:
		return TypeSymlink
	case tar.TypeLink:
		return TypeHardlink
	case tar.TypeChar:
		return TypeChar
	case tar.TypeBlock:
		return TypeBlock
	case tar.TypeFifo:
		return TypeFIFO
	}
	return TypeOther
}

func isSparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

func namesSize(h *tar.Header) int64 {
	n := len(h.Name) + len(h.Linkname) + len(h.Uname) + len(h.Gname)
	for key, value := range h.PAXRecords {
		n += len(key) + len(value)
	}
	return int64(n)
}

// entrySize is how many bytes an entry takes in memory.
func entrySize(e *Entry) int64 {
	return int64(unsafe.Sizeof(*e)) + int64(len(e.Path)+len(e.Link)+len(e.User)+len(e.Group))
}
