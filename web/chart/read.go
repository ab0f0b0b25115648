package chart

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// ErrSlow says that reading took too long. On a machine with less to do it may not.
var ErrSlow = errors.New("it took too long")

// Read reads an archive of size bytes. Its error is of r or ctx, or ErrSlow: what is wrong with the archive stands in the Chart.
func Read(ctx context.Context, r io.Reader, size int64) (*Chart, error) {
	c := &Chart{}
	if size > CompressedMax {
		c.problem("The archive has more than %d MiB, so it is not opened.", CompressedMax>>20)
		return c, nil
	}
	limited, cancel := context.WithTimeout(ctx, timeMax*time.Second)
	defer cancel()
	in := &source{ctx: limited, r: r}
	a := archive{chart: c, in: in, at: make(map[string]int)}
	err := a.read()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case limited.Err() != nil:
		return nil, fmt.Errorf("read chart: %w", ErrSlow)
	case in.failed != nil:
		return nil, fmt.Errorf("read chart: %w", in.failed)
	case err != nil:
		c.Problems = append(c.Problems, err.Error())
	}
	a.tell()
	c.arrange()
	return c, nil
}

func (c *Chart) problem(format string, args ...any) {
	c.Problems = append(c.Problems, fmt.Sprintf(format, args...))
}

// A source counts what is read, and ends it with its context.
type source struct {
	ctx    context.Context
	r      io.Reader
	n      int64
	failed error
}

func (s *source) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := s.r.Read(p)
	s.n += int64(n)
	if err != nil && err != io.EOF {
		s.failed = err
	}
	return n, err
}

// A limit is an error whose text is a sentence for the page.
type limit string

func (l limit) Error() string { return string(l) }

// An archive is one that is being read.
type archive struct {
	chart *Chart
	in    *source
	zip   io.Reader
	out   int64 // bytes uncompressed so far
	kept  int64 // bytes
	at    map[string]int
	odd   int // entries that are no files of a chart
	twice []string
}

// Read uncompresses, as long as that is no bomb.
func (a *archive) Read(p []byte) (int, error) {
	n, err := a.zip.Read(p)
	if a.out += int64(n); a.out > UncompressedMax {
		return 0, limit(fmt.Sprintf("The archive holds more than %d MiB; what follows is not shown.", UncompressedMax>>20))
	}
	if a.out > ratioFrom && a.out > ratioMax*a.in.n {
		return 0, limit(fmt.Sprintf("The archive grows more than %d times when it is opened; what follows is not shown.", ratioMax))
	}
	return n, err
}

func (a *archive) read() error {
	in := bufio.NewReader(a.in)
	if head, err := in.Peek(2); err != nil || head[0] != 0x1f || head[1] != 0x8b {
		return limit("The archive is not compressed with gzip, so it is no chart that helm can read.")
	}
	z, err := gzip.NewReader(in)
	if err != nil {
		return limit("The archive cannot be read: it does not begin as gzip does.")
	}
	a.zip = z
	entries := tar.NewReader(a)
	for n := 0; ; n++ {
		h, err := entries.Next()
		if err == io.EOF {
			return nil
		}
		if err == nil && n == entriesMax {
			err = limit(fmt.Sprintf("The archive has more than %d entries; the rest is not shown.", entriesMax))
		}
		if err == nil {
			err = a.entry(h, entries)
		}
		if err != nil {
			return broken(err, n)
		}
	}
}

// broken returns what to tell about an archive that ends before its end.
func broken(err error, entries int) error {
	if l, ok := errors.AsType[limit](err); ok {
		return l
	}
	if entries == 0 {
		return limit("The archive cannot be read: it holds no tar, or is damaged at its beginning.")
	}
	return limit("The archive is damaged; what follows is not shown.")
}

// entry takes a file.
func (a *archive) entry(h *tar.Header, r io.Reader) error {
	switch h.Typeflag {
	case tar.TypeDir, tar.TypeXGlobalHeader:
		return nil
	case tar.TypeReg:
	default:
		a.odd++
		return nil
	}
	name, ok := fileName(h.Name)
	if !ok {
		a.odd++
		return nil
	}
	f := File{Name: name, Size: h.Size}
	var err error
	if f.Text, f.Problem, err = a.text(h, r); err != nil {
		return err
	}
	if i, ok := a.at[name]; ok {
		// Of two files helm takes the values and so on of the last.
		if len(a.twice) < 3 {
			a.twice = append(a.twice, name)
		}
		a.kept -= int64(len(a.chart.Files[i].Text))
		a.chart.Files[i] = f
		return nil
	}
	a.at[name] = len(a.chart.Files)
	a.chart.Files = append(a.chart.Files, f)
	return nil
}

// text returns the text of a file that is one.
func (a *archive) text(h *tar.Header, r io.Reader) (text, problem string, err error) {
	if h.Size > fileMax {
		return "", fmt.Sprintf("It has more than %d MiB, so it is not shown.", fileMax>>20), nil
	}
	if a.kept+h.Size > keptMax {
		return "", fmt.Sprintf("The chart has more than %d MiB of text; this is not shown.", keptMax>>20), nil
	}
	b, err := io.ReadAll(io.LimitReader(r, fileMax))
	if err != nil {
		return "", "", err
	}
	s := strings.TrimPrefix(string(b), "\uFEFF")
	if !isText(s) {
		return "", "It is not a text.", nil
	}
	a.kept += int64(len(s))
	return s, "", nil
}

// tell says what of the archive was passed over.
func (a *archive) tell() {
	for _, name := range a.twice {
		a.chart.problem("The archive has %s twice; the last one is shown.", name)
	}
	if a.odd > 0 {
		a.chart.problem("%d of its entries are not shown: links, devices, or names that helm refuses.", a.odd)
	}
}

// fileName returns the path of an entry within the chart, if helm takes such a path and people can read it.
func fileName(s string) (string, bool) {
	s = strings.ReplaceAll(s, `\`, "/")
	if len(s) > nameMax || !utf8.ValidString(s) || strings.HasPrefix(s, "/") || strings.Contains(s, ":") && windowsDrive(s) || strings.ContainsFunc(s, deceives) {
		return "", false
	}
	for part := range strings.SplitSeq(s, "/") {
		if part == ".." {
			return "", false
		}
	}
	_, name, ok := strings.Cut(path.Clean(s), "/")
	return name, ok && name != ""
}

func windowsDrive(s string) bool { return len(s) > 1 && s[1] == ':' }

// deceives reports whether a character of a name shows nothing, or turns the direction of writing.
func deceives(c rune) bool {
	return c == utf8.RuneError || unicode.In(c, unicode.C, unicode.Zl, unicode.Zp)
}

// isText reports whether a page can show it.
func isText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(c rune) bool { return c < 0x20 && c != '\n' && c != '\r' && c != '\t' && c != '\f' })
}
