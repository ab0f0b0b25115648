package module

import (
	"archive/zip"
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"unicode/utf8"
)

// A Package is the archive of a module package, as its directory tells. It is not safe for concurrent use.
type Package struct {
	Files []File // by name

	entries map[string]*zip.File // those that may be read
	src     *source
	read    int64 // uncompressed bytes so far
}

// Open reads the directory of an archive. What it wraps of ErrNotZip, ErrLimit and ErrDamaged is a sentence for people;
// anything else is a failure to read r. The context is that of everything that is read later.
func Open(ctx context.Context, r io.ReaderAt, size int64) (*Package, error) {
	p := &Package{src: &source{ctx: ctx, r: r}, entries: make(map[string]*zip.File)}
	end, err := p.src.findEnd(size)
	if err != nil {
		return nil, err
	}
	headers, err := p.src.directory(end)
	if err != nil {
		return nil, err
	}
	if err := p.src.checkPlaces(headers, end.directory); err != nil {
		return nil, err
	}
	// The library reads headers from where the directory begins until something is none: that is the end, as was seen.
	z, err := zip.NewReader(p.src, size)
	if err != nil || len(z.File) != len(headers) {
		return nil, p.src.explain(err, "its directory cannot be read")
	}
	for _, f := range z.File {
		if strings.HasSuffix(f.Name, "/") {
			continue
		}
		problem := problemOf(f)
		p.Files = append(p.Files, File{f.Name, int64(f.UncompressedSize64), problem})
		if problem == "" {
			p.entries[f.Name] = f
		}
	}
	slices.SortFunc(p.Files, func(a, b File) int { return cmp.Compare(a.Name, b.Name) })
	return p, nil
}

// A source reads a blob until its context ends, and remembers what failed.
type source struct {
	ctx    context.Context
	r      io.ReaderAt
	failed error
}

func (s *source) ReadAt(b []byte, at int64) (int, error) {
	if s.failed == nil {
		s.failed = s.ctx.Err()
	}
	if s.failed != nil {
		return 0, s.failed
	}
	n, err := s.r.ReadAt(b, at)
	if err != nil && err != io.EOF {
		s.failed = err
	}
	return n, err
}

// explain returns why the archive cannot be read: that the blob cannot, or what is wrong with it.
func (s *source) explain(err error, format string, args ...any) error {
	switch {
	case s.failed != nil:
		return fmt.Errorf("read module package: %w", s.failed)
	case err == nil:
		return fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, args...))
	}
	return fmt.Errorf("%w: %s: %s", ErrDamaged, fmt.Sprintf(format, args...), strings.TrimPrefix(err.Error(), "zip: "))
}

// An end is what the last record of an archive says.
type end struct {
	directory int64 // where it begins
	size      int64 // of the directory, in bytes
	entries   int
	at        int64 // of this record
}

const (
	endSize   = 22 // bytes, without the comment
	endSign   = "PK\x05\x06"
	end64Sign = "PK\x06\x07" // of what points to the last record of zip64, in front of this one
	end64Size = 20
)

// findEnd reads the last record. Nothing may follow it: two readers would not agree on where the archive ends.
func (s *source) findEnd(size int64) (e end, err error) {
	tail := make([]byte, min(size, endSize+1<<16+end64Size))
	if _, err := s.ReadAt(tail, size-int64(len(tail))); err != nil && err != io.EOF {
		return e, s.explain(err, "it cannot be read")
	}
	i := bytes.LastIndex(tail, []byte(endSign))
	if i < 0 || len(tail)-i < endSize {
		if s.beginsLikeZip() {
			return e, fmt.Errorf("%w: its end is missing", ErrDamaged)
		}
		return e, ErrNotZip
	}
	e.at = size - int64(len(tail)) + int64(i)
	b := tail[i:]
	u16, u32 := binary.LittleEndian.Uint16, binary.LittleEndian.Uint32
	e.entries, e.size, e.directory = int(u16(b[10:])), int64(u32(b[12:])), int64(u32(b[16:]))
	switch comment := int(u16(b[20:])); {
	case comment > len(b)-endSize:
		return e, fmt.Errorf("%w: its comment is cut off", ErrDamaged)
	case comment < len(b)-endSize:
		return e, fmt.Errorf("%w: %d bytes follow after its end", ErrDamaged, len(b)-endSize-comment)
	case i >= end64Size && bytes.HasPrefix(tail[i-end64Size:], []byte(end64Sign)) || e.entries == 0xffff || e.size == 0xffffffff || e.directory == 0xffffffff:
		return e, fmt.Errorf("%w: it is in the form zip64, which is for archives of 4 GiB and more", ErrLimit)
	case u16(b[4:]) != 0 || u16(b[6:]) != 0 || int(u16(b[8:])) != e.entries:
		return e, fmt.Errorf("%w: it is one part of several", ErrDamaged)
	case e.entries > entriesMax:
		return e, fmt.Errorf("%w: it has %d entries, and %d are the most", ErrLimit, e.entries, entriesMax)
	case e.size > directoryMax:
		return e, fmt.Errorf("%w: its directory has %d bytes, and %d are the most", ErrLimit, e.size, directoryMax)
	case e.directory+e.size != e.at:
		return e, fmt.Errorf("%w: its directory is not where its end says", ErrDamaged)
	}
	return e, nil
}

func (s *source) beginsLikeZip() bool {
	b := make([]byte, 4)
	n, _ := s.ReadAt(b, 0)
	return n == 4 && string(b) == localSign
}

// A header is what the directory says of an entry, as far as the library does not tell.
type header struct {
	name       string
	at         int64 // where its own header is
	compressed int64
	method     uint16
	end        int64 // where its content ends
}

const (
	headerSize = 46
	headerSign = "PK\x01\x02"
	localSize  = 30
	localSign  = "PK\x03\x04"
)

// directory reads the headers of all entries. Names are there once: of two, each reader takes another.
func (s *source) directory(e end) (all []header, err error) {
	b := make([]byte, e.size)
	if _, err := s.ReadAt(b, e.directory); err != nil && err != io.EOF {
		return nil, s.explain(err, "its directory cannot be read")
	}
	seen := make(map[string]bool, e.entries)
	u16, u32 := binary.LittleEndian.Uint16, binary.LittleEndian.Uint32
	for len(b) > 0 {
		if len(b) < headerSize || string(b[:4]) != headerSign || len(all) == e.entries {
			return nil, fmt.Errorf("%w: its directory does not have the %d entries that its end says", ErrDamaged, e.entries)
		}
		h := header{method: u16(b[10:]), compressed: int64(u32(b[20:])), at: int64(u32(b[42:]))}
		name, whole := int(u16(b[28:])), headerSize+int(u16(b[28:]))+int(u16(b[30:]))+int(u16(b[32:]))
		if whole > len(b) {
			return nil, fmt.Errorf("%w: its directory is cut off", ErrDamaged)
		}
		h.name = string(b[headerSize : headerSize+name])
		switch size := int64(u32(b[24:])); {
		case size == 0xffffffff || h.compressed == 0xffffffff || h.at == 0xffffffff:
			return nil, fmt.Errorf("%w: %s is in the form zip64, which is for files of 4 GiB and more", ErrLimit, short(h.name))
		case u16(b[34:]) != 0:
			return nil, fmt.Errorf("%w: %s is in another part of it", ErrDamaged, short(h.name))
		case seen[h.name]:
			return nil, fmt.Errorf("%w: %s is there twice, and which one counts depends on who reads it", ErrDamaged, short(h.name))
		}
		seen[h.name] = true
		all = append(all, h)
		b = b[whole:]
	}
	if len(all) != e.entries {
		return nil, fmt.Errorf("%w: its directory does not have the %d entries that its end says", ErrDamaged, e.entries)
	}
	return all, nil
}

// checkPlaces reads the header in front of each content: it must be of the same name and kind, and no two contents may
// share bytes, or a small archive could be large.
func (s *source) checkPlaces(all []header, directory int64) error {
	u16 := binary.LittleEndian.Uint16
	b := make([]byte, localSize+nameMax)
	for i := range all {
		h := &all[i]
		want := b[:localSize+min(len(h.name), nameMax)]
		n, err := s.ReadAt(want, h.at)
		if err != nil && err != io.EOF {
			return s.explain(err, "%s cannot be read", short(h.name))
		}
		if n < len(want) || string(b[:4]) != localSign {
			return fmt.Errorf("%w: %s is not where its directory says", ErrDamaged, short(h.name))
		}
		if int(u16(b[26:])) != len(h.name) || string(want[localSize:]) != h.name[:len(want)-localSize] || u16(b[8:]) != h.method {
			return fmt.Errorf("%w: its directory says something else of %s than the entry itself", ErrDamaged, short(h.name))
		}
		h.end = h.at + localSize + int64(len(h.name)) + int64(u16(b[28:])) + h.compressed
	}
	byPlace := slices.SortedFunc(slices.Values(all), func(a, b header) int { return cmp.Compare(a.at, b.at) })
	for i, h := range byPlace {
		next, what := directory, "the directory"
		if i+1 < len(byPlace) {
			next, what = byPlace[i+1].at, short(byPlace[i+1].name)
		}
		if h.end > next {
			return fmt.Errorf("%w: %s and %s share bytes", ErrDamaged, short(h.name), what)
		}
	}
	return nil
}

// problemOf returns why an entry is not read, in the words of a page, or "".
func problemOf(f *zip.File) string {
	name := f.Name
	switch {
	case len(name) > nameMax:
		return "Its name is too long."
	case !utf8.ValidString(name):
		return "Its name is not UTF-8."
	case strings.ContainsFunc(name, func(c rune) bool { return c < 0x20 || c == 0x7f }):
		return "Its name has control characters."
	case strings.Contains(name, `\`):
		return "Its name has a backslash, which is a separator on some systems only."
	case !fs.ValidPath(name):
		return "Its name leads out of the package, or says the same as a shorter one."
	case f.Mode()&fs.ModeSymlink != 0:
		return "It is a link, which is not followed."
	case !f.Mode().IsRegular():
		return "It is not a file with content."
	case f.Flags&1 != 0:
		return "It is encrypted."
	case f.Method != zip.Store && f.Method != zip.Deflate:
		return fmt.Sprintf("It is compressed by method %d, which is not known here.", f.Method)
	case f.UncompressedSize64 > FileMax:
		return fmt.Sprintf("It has %d bytes, and %d are the most that are read.", f.UncompressedSize64, FileMax)
	case f.UncompressedSize64 > ratioFrom && f.UncompressedSize64/ratioMax > f.CompressedSize64:
		return "It becomes more than 400 times as large when it is unpacked."
	}
	return ""
}

// Read returns the content of a file.
func (p *Package) Read(name string) ([]byte, error) {
	f, ok := p.entries[name]
	if !ok {
		i, found := slices.BinarySearchFunc(p.Files, name, func(f File, name string) int { return cmp.Compare(f.Name, name) })
		if !found {
			return nil, fmt.Errorf("%s: %w", short(name), ErrFileUnknown)
		}
		return nil, fmt.Errorf("%s: %w: %s", short(name), ErrNotRead, p.Files[i].Problem)
	}
	if p.read += int64(f.UncompressedSize64); p.read > totalMax {
		return nil, fmt.Errorf("%w: %d bytes are the most that are unpacked", ErrLimit, totalMax)
	}
	r, err := f.Open()
	if err != nil {
		return nil, p.src.explain(err, "%s cannot be read", short(name))
	}
	defer r.Close()
	// What the directory says of the size may be a lie; the reader tells it only at the end.
	b, err := io.ReadAll(io.LimitReader(r, int64(f.UncompressedSize64)+1))
	if err == nil && int64(len(b)) != int64(f.UncompressedSize64) {
		return nil, p.src.explain(nil, "%s has not the size that its directory says", short(name))
	}
	if err != nil {
		return nil, p.src.explain(err, "%s cannot be read", short(name))
	}
	return b, nil
}

// short returns a name for a sentence.
func short(name string) string { return fmt.Sprintf("%.80q", name) }
