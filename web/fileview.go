package web

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"cubby/store"
	"cubby/web/layer"
)

const (
	// readTime bounds the time to reach a file and read what a page shows of it. A layer that is one zstd frame is
	// decompressed from its start.
	readTime = 20 * time.Second
	// readWaiting is how many views of files of one viewer may wait for their turn.
	readWaiting = 8
	// downloadsMax bounds the files of layers that are sent at the same time, and downloadsOwn those of one viewer: each
	// holds the window of a decompressor, and its client may be slow.
	downloadsMax = 8
	downloadsOwn = 2
)

// fileData is what a page shows of a file.
type fileData struct {
	Row      fileRow
	Xattrs   int
	Major    int32
	Minor    int32
	Device   bool
	Leads    string // path of the page that a symbolic link leads to
	LeadsTo  string // its path in the image
	Download string // path, or "" when there is nothing to download
	Size     int64
	Layer    string // path of the page of the layer that it comes from
	Problem  string // why its content is not shown

	Kind  layer.Kind
	Lines []line
	Hex   string
	Cut   bool // there is more than is shown
	Empty bool
}

// readFile reads what a page shows of a file.
func (h *Handler) readFile(r *request, set *fileSet, n *layer.Node) (*fileData, error) {
	p := n.Path()
	d := &fileData{Row: set.row(path.Dir("/" + p)[1:], n, set.layer != nil), Layer: set.layerOf(n)}
	if e := n.Entry; e != nil {
		d.Xattrs, d.Major, d.Minor = int(e.Xattrs), e.Major, e.Minor
		d.Device = e.Type == layer.TypeChar || e.Type == layer.TypeBlock
		if e.Type == layer.TypeSymlink {
			if to, err := set.tree.Resolve(p); err == nil && n.DeletedBy < 0 {
				d.LeadsTo = shortText("/"+to.Path(), nameShown)
				d.Leads = set.path(to.Path())
			}
			return d, nil
		}
	}
	i, e := n.Content()
	if e == nil {
		if n.Entry.Type == layer.TypeHardlink {
			d.Problem = sentence(layer.ErrLinkUnknown)
		}
		return d, nil
	}
	d.Size, d.Empty = e.Size, e.Size == 0
	d.Download = set.path(p)
	if d.Download != "" {
		d.Download += "?download=1"
	}
	if d.Empty {
		return d, nil
	}
	head, err := h.head(r, set, i, e)
	if problem := damage(err); problem != "" {
		d.Problem = problem
	} else if err != nil {
		return nil, err
	}
	d.show(head, int64(len(head)) == e.Size)
	return d, nil
}

// layerOf returns the path of the page of the layer that a file of an image comes from.
func (s *fileSet) layerOf(n *layer.Node) string {
	if s.layer == nil || n.Entry == nil {
		return ""
	}
	in := fileSet{base: s.layer(n.Layer)}
	if p := in.path(layer.Clean(n.Entry.Path)); p != "" {
		return p
	}
	return in.base
}

// damage returns a sentence about what is wrong with the blob, or "" when it is something else.
func damage(err error) string {
	switch {
	case errors.Is(err, layer.ErrDamaged), errors.Is(err, layer.ErrLimit), errors.Is(err, layer.ErrNotTar), errors.Is(err, layer.ErrLinkUnknown):
		return sentence(err)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("Reading this file took longer than %v: its layer has to be decompressed up to it. It can be downloaded.", readTime)
	}
	return ""
}

// head returns the beginning of a file.
func (h *Handler) head(r *request, set *fileSet, i int, e *layer.Entry) ([]byte, error) {
	done, err := h.reads.take(r.Context(), r.who.Quota())
	if err != nil {
		return nil, err
	}
	defer done()
	ctx, cancel := context.WithTimeout(r.Context(), readTime)
	defer cancel()
	c, err := h.openFile(ctx, set, i, e)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	head, err := io.ReadAll(io.LimitReader(c, textMax))
	if r.Context().Err() == nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = ctx.Err()
	}
	return head, err
}

// A fileReader is an open file of a layer; closing it closes the layer too.
type fileReader struct {
	io.ReadCloser
	blob *store.Blob
}

func (f *fileReader) Close() error { return errors.Join(f.ReadCloser.Close(), f.blob.Close()) }

func (h *Handler) openFile(ctx context.Context, set *fileSet, i int, e *layer.Entry) (*fileReader, error) {
	b, err := h.Store.OpenPresent(set.blobs[i])
	if err != nil {
		return nil, err
	}
	c, err := set.index[i].Open(ctx, b, e)
	if err != nil {
		b.Close()
		return nil, err
	}
	return &fileReader{c, b}, nil
}

// show turns the beginning of a file into lines if it is text, else into a dump of it.
func (d *fileData) show(head []byte, whole bool) {
	d.Kind = layer.Sniff(head[:min(len(head), layer.SniffSize)], whole && len(head) <= layer.SniffSize)
	d.Cut = !whole
	if !whole {
		head = wholeRunes(head)
	}
	if !d.Kind.Text || !utf8.Valid(head) || bytes.IndexByte(head, 0) >= 0 {
		d.Kind.Text = false
		d.Cut = d.Cut || len(head) > hexMax
		d.Hex = hex.Dump(head[:min(len(head), hexMax)])
		return
	}
	n := 0
	for s := range strings.SplitSeq(strings.TrimSuffix(string(head), "\n"), "\n") {
		if n++; n > linesMax {
			d.Cut = true
			break
		}
		d.Lines = append(d.Lines, line{n, []piece{{Text: strings.TrimSuffix(s, "\r")}}})
	}
}

// slots let some do something at the same time, and no viewer too much of it.
type slots struct {
	mu  sync.Mutex
	all int            // guarded by mu
	of  map[string]int // guarded by mu; of each viewer who has one
}

// take takes a slot, or reports that there is none. Call free at its end.
func (s *slots) take(viewer string, most, own int) (free func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all >= most || s.of[viewer] >= own {
		return nil, false
	}
	if s.of == nil {
		s.of = make(map[string]int)
	}
	s.all++
	s.of[viewer]++
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.all--
		if s.of[viewer]--; s.of[viewer] == 0 {
			delete(s.of, viewer)
		}
	}), true
}

// sendFile sends a file of a layer, to be kept. It is checked while it is sent: what turns out to be damaged ends early.
func (h *Handler) sendFile(w http.ResponseWriter, r *request, set *fileSet, n *layer.Node) error {
	i, e := n.Content()
	if e == nil {
		return layer.ErrNotFile
	}
	free, ok := h.downloads.take(r.who.Quota(), downloadsMax, downloadsOwn)
	if !ok {
		return fmt.Errorf("%w: that many files are downloaded at the moment", errTurns)
	}
	defer free()
	c, err := h.openFile(r.Context(), set, i, e)
	if err != nil {
		return err
	}
	defer c.Close()
	// The first bytes before the header: what cannot be read at all is an error page.
	head := make([]byte, min(e.Size, layer.SniffSize))
	if _, err := io.ReadFull(c, head); err != nil {
		if problem := damage(err); problem != "" {
			return fmt.Errorf("%w: %s", errUnreadable, problem)
		}
		return err
	}
	blob := set.blobs[i].Digest
	attach(w.Header(), fileName(n.Name, blob), blob)
	w.Header().Del("ETag") // that of the blob
	w.Header().Set("Content-Length", strconv.FormatInt(e.Size, 10))
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return nil
	}
	_, err = io.Copy(w, io.MultiReader(bytes.NewReader(head), c))
	if err != nil {
		h.Log.Debug("file of a layer not sent whole", "digest", blob, "err", err)
		panic(http.ErrAbortHandler) // the only way to tell the client
	}
	return nil
}

// errUnreadable says that a file cannot be sent.
var errUnreadable = errors.New("this file cannot be read")
