package web

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"cubby/store"
	"cubby/store/oci"
	"cubby/web/layer"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// filesRows is how many files of a directory stand on one page.
	filesRows = 500
	// pathShown bounds the bytes of a path that a page links to, and nameShown those of a name that it shows. Archives may
	// have names of a megabyte.
	pathShown = 2048
	nameShown = 255
	// lostRows is how many files are listed that are stored for nothing.
	lostRows = 50
	// refreshIndexing is after how many seconds the page that waits for an index loads itself again.
	refreshIndexing = "2"
)

// filesData is what the pages of files show: of a whole image, or of one layer.
type filesData struct {
	Head    *manifestHead // of an image; nil: of one layer
	Name    oci.Name
	Parts   []namePart
	Digest  digest.Digest // of the layer
	Title   string        // of the file or directory
	Crumbs  []fileCrumb
	Notes   []string // what is wrong, sentences
	Waiting *progress
	Dir     *dirData
	File    *fileData
	Waste   *wasteData // at the root of an image
	Deleted int        // layer that took it away, from 1; 0: it is there
}

type fileCrumb struct{ Text, Path string }

// dirData is a directory.
type dirData struct {
	Path   string // of the page
	Query  string
	Rows   []fileRow
	Total  int // that match
	Page   int // from 1
	Pages  int
	Bytes  int64
	Files  int
	Merged bool
}

// A fileRow is a file in a directory.
type fileRow struct {
	Name    string
	Link    string // path of its page, or ""
	What    string // directory, file, …
	Dir     bool
	Target  string // of a link
	Mode    string
	Owner   string
	Size    int64
	Sized   bool
	At      time.Time
	Layer   int    // from 1
	Deleted int    // layer that took it away, from 1
	Note    string // of a whiteout
}

// wasteData is what an image holds and does not show.
type wasteData struct {
	layer.Waste
	Percent int64 // that is seen of all
	Rows    []lostRow
	More    int
}

type lostRow struct {
	Path   string
	Link   string
	Size   int64
	Layer  int
	Reason string
}

// A fileSet is where files are shown from.
type fileSet struct {
	base  string // path of the page of its root
	tree  *layer.Tree
	blobs []store.PresentBlob // of its layers
	index []*layer.Index
	layer func(i int) string // path of the page of a layer's root
}

// filesPage shows the files of an image.
func (h *Handler) filesPage(w http.ResponseWriter, r *request) error {
	head, err := h.manifestHead(r, "files")
	if err != nil {
		return err
	}
	ld := layersData{Head: head, Files: true}
	if ld.choose() {
		v := h.view(w, r, "Files · "+r.route.ref.String()+" · "+r.route.name.String(), &ld)
		v.Section = "repositories"
		return h.render(w, r, http.StatusOK, "layers", v)
	}
	d := filesData{Head: &head, Name: r.route.name, Parts: head.Parts, Digest: head.Digest}
	base := head.ByDigest + "/-/files"
	ds := readDescriptors(head.Raw)
	digests := make([]digest.Digest, len(ds.Layers))
	for i, l := range ds.Layers {
		digests[i] = l.Digest
	}
	present, err := h.Store.Present(r.Context(), r.route.name, digests)
	if err != nil {
		return err
	}
	blobs, missing := presentLayers(ds.Layers, present)
	if missing > 0 {
		d.Notes = append(d.Notes, plural(int64(missing), "layer of this image is", "layers of this image are")+" not stored here, so its files cannot be shown together. The others can be looked into one by one.")
		return h.showFiles(w, r, d, nil)
	}
	tree, wait, err := h.tree(r, head.Digest, blobs)
	switch {
	case errors.Is(err, errTreeMax):
		d.Notes = append(d.Notes, sentence(err))
		return h.showFiles(w, r, d, nil)
	case err != nil:
		return err
	case wait != nil:
		d.Waiting = wait
		return h.showFiles(w, r, d, nil)
	}
	for i, x := range tree.layers {
		d.Notes = append(d.Notes, notes(fmt.Sprintf("Layer %d: ", i+1), x)...)
	}
	if tree.Omitted > 0 {
		d.Notes = append(d.Notes, plural(int64(tree.Omitted), "file is", "files are")+" left out: too deep, or too many.")
	}
	set := &fileSet{base: base, tree: tree.Tree, blobs: blobs, index: tree.layers, layer: layerPaths(r.route.name, ds.Layers)}
	if r.route.arg == "" {
		d.Waste = set.waste(tree.Waste)
	}
	return h.showFiles(w, r, d, set)
}

func layerPaths(name oci.Name, layers []v1.Descriptor) func(int) string {
	return func(i int) string { return blobPath(name, layers[i].Digest) + "/files" }
}

// layerFilesPage shows the files of one layer.
func (h *Handler) layerFilesPage(w http.ResponseWriter, r *request) error {
	d := filesData{Name: r.route.name, Parts: nameParts(r.route.name), Digest: r.route.digest}
	present, err := h.Store.Present(r.Context(), r.route.name, []digest.Digest{r.route.digest})
	if err != nil {
		return err
	}
	b, ok := present[r.route.digest]
	if !ok {
		return fmt.Errorf("blob %s of %s: %w", r.route.digest, r.route.name, store.ErrBlobUnknown)
	}
	all, wait, err := h.layers(r, []store.PresentBlob{b})
	if err != nil {
		return err
	}
	if wait != nil {
		d.Waiting = wait
		return h.showFiles(w, r, d, nil)
	}
	d.Notes = notes("", all[0])
	base := blobPath(r.route.name, r.route.digest) + "/files"
	return h.showFiles(w, r, d, &fileSet{base: base, tree: all[0].Tree(), blobs: []store.PresentBlob{b}, index: all})
}

// notes says what is wrong with a layer.
func notes(prefix string, x *layer.Index) (all []string) {
	if x.Problem != "" {
		all = append(all, sentence(errors.New(prefix+x.Problem)))
	}
	if x.Unterminated && x.Problem == "" {
		all = append(all, sentence(errors.New(prefix+"this archive has no end: it may have been cut between two files")))
	}
	return all
}

// showFiles shows what the route's path names, or why there is nothing to show.
func (h *Handler) showFiles(w http.ResponseWriter, r *request, d filesData, set *fileSet) error {
	d.Title = shortText(layer.Clean(r.route.arg), nameShown)
	title := "Files"
	if d.Title != "" {
		title = d.Title
	}
	if set != nil {
		n, err := set.find(r.route.arg)
		if err != nil {
			return err
		}
		d.Crumbs = set.crumbs(n)
		if n.DeletedBy >= 0 {
			d.Deleted = n.DeletedBy + 1
		}
		if r.URL.Query().Has("download") {
			return h.sendFile(w, r, set, n)
		}
		if n.IsDir() {
			d.Dir = set.dir(n, d.Head != nil, r.URL.Query())
		} else if d.File, err = h.readFile(r, set, n); err != nil {
			return err
		}
	}
	v := h.view(w, r, title+" · "+shortDigest(d.Digest)+" · "+r.route.name.String(), &d)
	v.Section = "repositories"
	if d.Waiting != nil {
		w.Header().Set("Refresh", refreshIndexing)
	}
	return h.render(w, r, http.StatusOK, "files", v)
}

// find returns what has a path, or had it.
func (s *fileSet) find(path string) (*layer.Node, error) {
	n, err := s.tree.Lookup(path)
	if errors.Is(err, layer.ErrPathUnknown) {
		if was, err := s.tree.LookupDeleted(path); err == nil {
			return was, nil
		}
	}
	return n, err
}

// path returns the path of the page of a file, or "" when it is too long for a page.
func (s *fileSet) path(path string) string {
	if len(path) > pathShown {
		return ""
	}
	if path == "" {
		return s.base
	}
	var b strings.Builder
	b.WriteString(s.base)
	for name := range strings.SplitSeq(path, "/") {
		b.WriteByte('/')
		b.WriteString(url.PathEscape(name))
	}
	return b.String()
}

func (s *fileSet) crumbs(n *layer.Node) []fileCrumb {
	all := []fileCrumb{{"/", s.base}}
	path := n.Path()
	if path == "" || len(path) > pathShown {
		return all
	}
	at := 0
	for name := range strings.SplitSeq(path, "/") {
		at += len(name)
		all = append(all, fileCrumb{shortText(name, nameShown), s.path(path[:at])})
		at++
	}
	return all
}

// dir lists a directory, what was taken away from it last.
func (s *fileSet) dir(n *layer.Node, merged bool, q url.Values) *dirData {
	path := n.Path()
	d := &dirData{Path: s.path(path), Query: shortText(strings.TrimSpace(q.Get("q")), nameShown), Bytes: n.Bytes, Files: n.Files, Merged: merged}
	var all []*layer.Node
	for _, list := range [][]*layer.Node{n.Dir(), n.Deleted()} {
		for _, child := range list {
			if d.Query == "" || strings.Contains(strings.ToLower(child.Name), strings.ToLower(d.Query)) {
				all = append(all, child)
			}
		}
	}
	d.Total = len(all)
	d.Pages = max((d.Total+filesRows-1)/filesRows, 1)
	d.Page = clampPage(q.Get("page"), d.Pages)
	from := (d.Page - 1) * filesRows
	for _, child := range all[from:min(from+filesRows, d.Total)] {
		d.Rows = append(d.Rows, s.row(path, child, merged))
	}
	return d
}

// PageLink returns the path of another page of the same directory.
func (d *dirData) PageLink(page int) string {
	q := url.Values{"page": {strconv.Itoa(page)}}
	if d.Query != "" {
		q.Set("q", d.Query)
	}
	return d.Path + "?" + q.Encode()
}

func (s *fileSet) row(dir string, n *layer.Node, merged bool) fileRow {
	path := n.Name
	if dir != "" {
		path = dir + "/" + n.Name
	}
	row := fileRow{Name: shortText(n.Name, nameShown), Link: s.path(path), What: "directory", Dir: n.IsDir(), Layer: n.Layer + 1, Size: n.Bytes, Sized: true}
	if n.DeletedBy >= 0 {
		row.Deleted = n.DeletedBy + 1
	}
	e := n.Entry
	if e == nil {
		return row
	}
	row.What, row.Mode, row.Owner = typeText(e.Type), modeText(e), ownerText(e)
	if e.MTime > 0 {
		row.At = e.ModTime()
	}
	row.Target = shortText(e.Link, nameShown)
	row.Sized = n.IsDir() || e.HasContent() || e.Type == layer.TypeHardlink
	if !merged {
		if gone, ok := e.Whiteout(); ok {
			row.Note = "takes away " + shortText(gone, nameShown)
		} else if dir, ok := e.Opaque(); ok {
			row.Note = "takes away all that was in " + shortText("/"+dir, nameShown)
		}
	}
	return row
}

// waste lists what is stored for nothing.
func (s *fileSet) waste(w layer.Waste) *wasteData {
	d := &wasteData{Waste: w, Percent: 100, More: max(len(w.Lost)-lostRows, 0)}
	if w.Stored > 0 {
		d.Percent = w.Visible * 100 / w.Stored
	}
	for _, l := range w.Lost[:min(len(w.Lost), lostRows)] {
		in := fileSet{base: s.layer(l.Layer)}
		reason := fmt.Sprintf("%s in layer %d", l.Reason, l.By+1)
		if l.Reason == layer.ReasonMetadata || l.Reason == layer.ReasonSame {
			reason = fmt.Sprintf("stored again in layer %d: %s", l.By+1, l.Reason)
		}
		d.Rows = append(d.Rows, lostRow{Path: shortText("/"+l.Path, nameShown), Link: in.path(l.Path), Size: l.Entry.Size, Layer: l.Layer + 1, Reason: reason})
	}
	return d
}

// shortText cuts a stranger's text that is too long for its place.
func shortText(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return string(wholeRunes([]byte(s[:most]))) + "…"
}

func typeText(t layer.Type) string {
	switch t {
	case layer.TypeFile:
		return "file"
	case layer.TypeDir:
		return "directory"
	case layer.TypeSymlink:
		return "symbolic link"
	case layer.TypeHardlink:
		return "hard link"
	case layer.TypeChar:
		return "character device"
	case layer.TypeBlock:
		return "block device"
	case layer.TypeFIFO:
		return "FIFO"
	}
	return "file of an unknown type"
}

// modeText returns permissions as ls shows them.
func modeText(e *layer.Entry) string {
	b := []byte("?rwxrwxrwx")
	switch e.Type {
	case layer.TypeFile, layer.TypeHardlink, layer.TypeOther:
		b[0] = '-'
	default:
		b[0] = byte(e.Type)
	}
	for i := range 9 {
		if e.Mode&(1<<(8-i)) == 0 {
			b[i+1] = '-'
		}
	}
	for _, s := range []struct {
		bit         uint16
		at          int
		with, alone byte
	}{{0o4000, 3, 's', 'S'}, {0o2000, 6, 's', 'S'}, {0o1000, 9, 't', 'T'}} {
		if e.Mode&s.bit == 0 {
			continue
		}
		if b[s.at] == 'x' {
			b[s.at] = s.with
		} else {
			b[s.at] = s.alone
		}
	}
	return string(b)
}

// ownerText returns the names of an owner, or numbers where it has none.
func ownerText(e *layer.Entry) string {
	user, group := shortText(e.User, 32), shortText(e.Group, 32)
	if user == "" {
		user = strconv.Itoa(e.UID)
	}
	if group == "" {
		group = strconv.Itoa(e.GID)
	}
	return user + ":" + group
}
