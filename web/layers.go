package web

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"time"

	"cubby/store"
	"cubby/store/oci"
	"cubby/web/layer"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// layersMax bounds the layers of an image that are shown and looked into; clients take no more than 127.
const layersMax = 256

// layersData is what the page of an image's layers shows.
type layersData struct {
	Head     manifestHead
	Choices  []platformItem // of an index, one of which has layers
	Files    bool           // the viewer wants files, not layers
	Problem  string         // why nothing is shown
	Rows     []layerRow     // the lowest first
	Steps    []layerRow     // the history alone, when it does not fit the layers
	Disagree string         // why it does not
	Bar      []barPart
	Size     int64 // bytes, compressed
	Unpacked int64 // bytes of the layers of which it is known; 0: of none
	Unknown  int   // layers of which it is not
	Base     *store.BaseImage
	BaseName string // what the image itself says
	BaseLink string
	Waste    *layer.Waste // nil: not known yet
}

// A layerRow is a step of how an image was made, with the layer that it made, if any.
type layerRow struct {
	v1.Descriptor
	Number   int  // of the layer, from 1; 0: the step made none
	NoFiles  bool // of a step alone: it says that it made none
	Lines    []string
	Comment  string
	At       time.Time
	Here     bool
	Known    bool  // what it holds
	Unpacked int64 // bytes, if known
	Problem  string
	Percent  int64 // of all bytes
	Images   int64 // others that have it too
	Many     bool  // there are more
	BaseEnd  bool  // the base image ends here
}

// A barPart is a layer in the picture of sizes. The picture is 1000 wide.
type barPart struct {
	X, Width float64
	Series   int // of the colours
	Label    string
}

func (h *Handler) layersPage(w http.ResponseWriter, r *request) error {
	head, err := h.manifestHead(r, "layers")
	if err != nil {
		return err
	}
	d := layersData{Head: head}
	v := h.view(w, r, "Layers · "+r.route.ref.String()+" · "+r.route.name.String(), &d)
	v.Section = "repositories"
	if all := d.choose(); !all {
		done, err := h.costly(r)
		if err != nil {
			return err
		}
		defer done()
		if err := h.readLayers(r, &d); err != nil {
			return err
		}
	}
	return h.render(w, r, http.StatusOK, "layers", v)
}

// choose lists the images of an index, or says that there are no layers. It reports whether that is all.
func (d *layersData) choose() bool {
	if d.Head.Index {
		m := manifestData{Head: d.Head}
		m.read(d.Head.Raw)
		d.Choices = m.Platforms
		return true
	}
	ds := readDescriptors(d.Head.Raw)
	switch n := len(ds.Layers); {
	case d.Head.Facts.Kind != oci.KindContainer:
		d.Problem = "This is no container image. Its files are on the overview."
	case n == 0:
		d.Problem = "This image has no layers."
	case n > layersMax:
		d.Problem = fmt.Sprintf("This image has %d layers, more than the %d that are shown.", n, layersMax)
	}
	return d.Problem != ""
}

func (h *Handler) readLayers(r *request, d *layersData) error {
	ds := readDescriptors(d.Head.Raw)
	digests := make([]digest.Digest, len(ds.Layers))
	for i, l := range ds.Layers {
		digests[i] = l.Digest
	}
	want := digests
	if ds.Config != nil {
		want = append(slices.Clone(digests), ds.Config.Digest)
	}
	present, err := h.Store.Present(r.Context(), r.route.name, want)
	if err != nil {
		return err
	}
	shared, err := h.Store.SharedBlobs(r.Context(), digests)
	if err != nil {
		return err
	}
	layers := make([]layerRow, len(ds.Layers))
	for i, l := range ds.Layers {
		d.Size += l.Size
		layers[i] = layerRow{Descriptor: l, Number: i + 1}
		b, here := present[l.Digest]
		layers[i].Here = here
		if x := h.indexer.found(b); here && x != nil {
			layers[i].Known, layers[i].Unpacked, layers[i].Problem = true, x.Uncompressed, x.Problem
			d.Unpacked += x.Uncompressed
		} else {
			d.Unknown++
		}
		layers[i].share(r, shared[l.Digest])
	}
	for i := range layers {
		layers[i].Percent = int64(d.part(layers[i].Size) * 100)
	}
	d.bar(layers)
	d.match(layers)
	d.base(r)
	if ds.Config != nil {
		if b, ok := present[ds.Config.Digest]; ok {
			if err := h.findBase(r, d, b); err != nil {
				return err
			}
		}
	}
	if blobs, missing := presentLayers(ds.Layers, present); missing == 0 {
		if t := h.indexer.tree(d.Head.Digest, blobs); t != nil {
			d.Waste = &t.Waste
		}
	}
	return nil
}

// presentLayers returns the blobs of layers, and how many are not here.
func presentLayers(layers []v1.Descriptor, present map[digest.Digest]store.PresentBlob) (blobs []store.PresentBlob, missing int) {
	for _, l := range layers {
		b, ok := present[l.Digest]
		if !ok {
			missing++
		}
		blobs = append(blobs, b)
	}
	return blobs, missing
}

// share counts the other images that have a layer, of those that the viewer may see.
func (l *layerRow) share(r *request, uses []store.BlobUse) {
	seen := 0
	for _, u := range uses {
		if r.who.Sees(u.Name) {
			l.Images += u.Manifests
			seen++
		}
	}
	l.Many = seen == store.SharedMax // else it would tell of repositories that are hidden
	l.Images = max(l.Images-1, 0)    // this one
}

// part returns how much of all bytes some are. Descriptors say what they like: it is between 0 and 1 whatever they say.
func (d *layersData) part(size int64) float64 {
	if d.Size <= 0 || size <= 0 {
		return 0
	}
	return min(float64(size)/float64(d.Size), 1)
}

// bar makes the picture of sizes.
func (d *layersData) bar(layers []layerRow) {
	const series = 6
	x := 0.0
	for i, l := range layers {
		width := d.part(l.Size) * 1000
		if width >= 1 {
			d.Bar = append(d.Bar, barPart{X: x, Width: max(width-2, 1), Series: i%series + 1, Label: fmt.Sprintf("Layer %d: %s", l.Number, size(l.Size))})
		}
		x += width
	}
}

// match puts layers beside the steps that made them. When that is not certain both are listed, and nothing is guessed.
func (d *layersData) match(layers []layerRow) {
	c := d.Head.Facts.Config
	if c == nil {
		d.Rows, d.Disagree = layers, "The configuration of this image is not stored here or cannot be read, so nothing says how its layers were made."
		return
	}
	var steps []layerRow
	made := 0
	for _, e := range c.History {
		steps = append(steps, layerRow{NoFiles: e.Empty, Lines: instruction(e.CreatedBy), Comment: e.Comment, At: e.CreatedAt})
		if !e.Empty {
			made++
		}
	}
	switch {
	case len(c.History) == 0:
		d.Rows, d.Disagree = layers, "This image has no history, so nothing says how its layers were made."
	case made != len(layers) || c.Truncated && len(c.History) >= historyMax:
		d.Rows, d.Steps = layers, steps
		d.Disagree = fmt.Sprintf("The history speaks of %s and the image has %s. Which step made which layer is not certain, so both are listed.", plural(int64(made), "layer", "layers"), plural(int64(len(layers)), "layer", "layers"))
	default:
		next := 0
		for i, e := range c.History {
			row := steps[i]
			if !e.Empty {
				l := layers[next]
				l.Lines, l.Comment, l.At = row.Lines, row.Comment, row.At
				row = l
				next++
			}
			d.Rows = append(d.Rows, row)
		}
	}
	if c.DiffIDs != len(layers) {
		d.Disagree = cmp.Or(d.Disagree, fmt.Sprintf("The configuration names %d layers and the manifest %d: clients will refuse this image.", c.DiffIDs, len(layers)))
	}
}

// historyMax is how many steps of a history are kept: oci.Facts has no more.
const historyMax = 1000

// base says what the image itself says of the image that it is built on.
func (d *layersData) base(r *request) {
	m := manifestData{Head: d.Head}
	m.base(r)
	d.BaseName, d.BaseLink = m.BaseName, m.BaseLink
}

// diffMax bounds the bytes of a configuration that is read for its layers.
const diffMax = 1 << 20

// findBase finds an image here whose layers are the first ones of this image.
func (h *Handler) findBase(r *request, d *layersData, config store.PresentBlob) error {
	if config.Size > diffMax {
		return nil
	}
	raw, err := h.readPresent(config)
	if err != nil {
		return err
	}
	chain := oci.ChainIDs(oci.DiffIDs(raw))
	layers := 0
	for _, row := range d.Rows {
		if row.Number > 0 {
			layers++
		}
	}
	if len(chain) != layers {
		return nil
	}
	images, err := h.Store.BaseImages(r.Context(), chain)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(images, func(b store.BaseImage) bool { return r.who.Sees(b.Name) })
	if i < 0 {
		return nil
	}
	d.Base = &images[i]
	for i := range d.Rows {
		if d.Rows[i].Number == d.Base.Layers {
			d.Rows[i].BaseEnd = true
		}
	}
	return nil
}
