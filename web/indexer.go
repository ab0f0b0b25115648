package web

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"cubby/store"
	"cubby/web/layer"

	"github.com/opencontainers/go-digest"
)

const (
	// indexesMax bounds the bytes of memory of all indexes and file systems that are kept for the next look.
	indexesMax = 128 << 20
	// indexJobs is how many layers of one viewer may wait to be looked into: an image has some dozens.
	indexJobs = 2 * layersMax
	// largeKept is for how long an index is kept that takes more than all may: the page that waits for it asks again, and
	// then for the next directory.
	largeKept = time.Minute
	// costsKept bounds the indexes of which it is known what they take.
	costsKept = 10_000
	// indexWait is how long a page waits before it shows how far it has got.
	indexWait = time.Second
)

// An indexer finds out what layers hold: once for each, whoever asks, one at a time, and viewers by turns. What it finds
// out is stored beside the blob, and kept in memory for a while.
type indexer struct {
	store *store.Store
	turns turns
	trees *cache[digest.Digest, *imageTree] // by manifest
	known *cache[digest.Digest, *indexed]   // by blob

	costs *cache[digest.Digest, costed] // by blob

	mu    sync.Mutex
	jobs  map[digest.Digest]*indexJob // guarded by mu; of those that are not done
	large *indexed                    // guarded by mu; the last one that is too large to be kept, for largeKept
}

// A costed says what the index of a file takes in memory. It is kept when the index is not.
type costed struct {
	of   store.PresentBlob
	cost int64 // bytes
}

func newIndexer(st *store.Store) *indexer {
	return &indexer{
		store: st, turns: turns{most: indexJobs}, jobs: make(map[digest.Digest]*indexJob),
		trees: newCache[digest.Digest, *imageTree](indexesMax / 2), known: newCache[digest.Digest, *indexed](indexesMax / 2),
		costs: newCache[digest.Digest, costed](costsKept),
	}
}

// An indexed is what a file holds.
type indexed struct {
	*layer.Index
	of store.PresentBlob
}

// An indexJob finds out what one layer holds.
type indexJob struct {
	of    store.PresentBlob
	read  atomic.Int64  // bytes of the blob
	done  chan struct{} // closed at the end; then the others do not change
	index *layer.Index
	err   error
}

// found returns what is known in memory of a blob.
func (x *indexer) found(b store.PresentBlob) *layer.Index {
	if k, ok := x.known.get(b.Digest); ok && k.of.SameFile(b) {
		return k.Index
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if k := x.large; k != nil && k.of.Digest == b.Digest && k.of.SameFile(b) {
		return k.Index
	}
	return nil
}

// keep keeps what was found out, for a while if it is large.
func (x *indexer) keep(k *indexed) {
	cost := indexCost(k.Index)
	x.costs.put(k.of.Digest, costed{k.of, cost}, 1)
	if x.known.put(k.of.Digest, k, cost) {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.large = k
	time.AfterFunc(largeKept, func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		if x.large == k {
			x.large = nil
		}
	})
}

// tooLarge reports whether it is known of layers that they take more than is kept together.
func (x *indexer) tooLarge(blobs []store.PresentBlob) bool {
	sum := int64(0)
	for _, b := range blobs {
		if c, ok := x.costs.get(b.Digest); ok && c.of.SameFile(b) {
			sum += c.cost
		}
	}
	return sum > indexesMax/2
}

// job returns the job of a blob, which it starts if there is none.
func (x *indexer) job(h *Handler, viewer string, b store.PresentBlob) *indexJob {
	x.mu.Lock()
	defer x.mu.Unlock()
	if j := x.jobs[b.Digest]; j != nil && j.of.SameFile(b) {
		return j
	}
	j := &indexJob{of: b, done: make(chan struct{})}
	x.jobs[b.Digest] = j
	h.working.Go(func() {
		j.err = guarded(func() (err error) {
			j.index, err = x.run(h, viewer, j)
			return err
		})
		if j.err != nil && !errors.Is(j.err, context.Canceled) && !errors.Is(j.err, store.ErrBlobUnknown) && !errors.Is(j.err, errTurns) {
			h.Log.Error("layer not looked into", "digest", b.Digest, "err", j.err)
		}
		x.mu.Lock()
		if x.jobs[b.Digest] == j {
			delete(x.jobs, b.Digest)
		}
		x.mu.Unlock()
		close(j.done)
	})
	return j
}

// run takes what is stored of a blob, or reads it. It goes on when the viewer has left: the next one asks for the same.
func (x *indexer) run(h *Handler, viewer string, j *indexJob) (*layer.Index, error) {
	done, err := x.turns.take(h.ctx, viewer)
	if err != nil {
		return nil, err
	}
	defer done()
	if index := x.found(j.of); index != nil { // by a job that ended just before this one began
		return index, nil
	}
	b, err := x.store.OpenPresent(j.of)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	index, err := x.stored(j.of)
	if err != nil {
		h.Log.Debug("stored index of a layer not used", "digest", b.Digest, "err", err)
	}
	if index == nil {
		if index, err = x.scan(h, j, b); err != nil {
			return nil, err
		}
	}
	x.keep(&indexed{index, j.of})
	return index, nil
}

// stored returns what an earlier run has stored, or nil.
func (x *indexer) stored(b store.PresentBlob) (*layer.Index, error) {
	data, err := x.store.LayerIndex(b.Digest)
	if err != nil || data == nil {
		return nil, err
	}
	var index layer.Index
	if err := index.UnmarshalBinary(data); err != nil {
		return nil, err
	}
	return &index, nil
}

// scan reads a blob. What is wrong with it is a part of what was found out, and stored too: the next look would find the
// same. But a scan that took too long may be faster another time.
func (x *indexer) scan(h *Handler, j *indexJob, b *store.Blob) (*layer.Index, error) {
	started := time.Now()
	index, err := layer.Scan(h.ctx, b, b.Size, layer.DefaultLimits, func(done, _ int64) { j.read.Store(done) })
	if err != nil && index.Problem == "" {
		return nil, err
	}
	if errors.Is(err, layer.ErrLimit) && time.Since(started) >= layer.DefaultLimits.Time {
		return index, nil
	}
	data, err := index.MarshalBinary()
	if err == nil {
		err = x.store.PutLayerIndex(h.ctx, b, data)
	}
	if err != nil { // it is shown all the same
		h.Log.Debug("index of a layer not stored", "digest", b.Digest, "err", err)
	}
	return index, nil
}

// indexCost returns about how many bytes an index takes in memory, with the tree of its files.
func indexCost(x *layer.Index) int64 {
	const node = 400 // bytes of a file in a tree, and of its place in its directory
	return x.Memory() + int64(len(x.Entries))*node + 1<<10
}

// A progress tells how far looking into layers has got, in bytes.
type progress struct{ Done, Total int64 }

// Percent returns how much of it is done.
func (p *progress) Percent() int64 {
	if p.Total <= 0 {
		return 0
	}
	return min(p.Done*100/p.Total, 100)
}

// layers returns what blobs hold. When that is not known within a moment it returns how far it has got, and goes on.
func (h *Handler) layers(r *request, blobs []store.PresentBlob) (all []*layer.Index, p *progress, err error) {
	all = make([]*layer.Index, len(blobs))
	jobs := make([]*indexJob, len(blobs))
	for i, b := range blobs {
		if all[i] = h.indexer.found(b); all[i] == nil {
			jobs[i] = h.indexer.job(h, r.who.Quota(), b)
		}
	}
	wait, cancel := context.WithTimeout(r.Context(), indexWait)
	defer cancel()
	p = &progress{}
	ready := true
	for i, j := range jobs {
		p.Total += blobs[i].Size
		if j == nil {
			p.Done += blobs[i].Size
			continue
		}
		select {
		case <-j.done:
		case <-wait.Done():
		}
		select {
		case <-j.done:
			if j.err != nil {
				return nil, nil, j.err
			}
			all[i] = j.index
			p.Done += blobs[i].Size
		default:
			ready = false
			p.Done += j.read.Load()
		}
	}
	if err := r.Context().Err(); err != nil {
		return nil, nil, err
	}
	if ready {
		return all, nil, nil
	}
	return nil, p, nil
}

// An imageTree is the file system of an image.
type imageTree struct {
	*layer.Tree
	layers []*layer.Index
	of     []store.PresentBlob
}

// treeEntriesMax bounds the files of all layers of an image that are shown together.
const treeEntriesMax = 400_000

// errTreeMax says that an image is too large to be shown whole.
var errTreeMax = errors.New("this image holds more files than are shown together; its layers can be looked into one by one")

// tree returns the file system that layers make, of the manifest that names them. Like layers it may not be known yet.
func (h *Handler) tree(r *request, manifest digest.Digest, blobs []store.PresentBlob) (*imageTree, *progress, error) {
	if t := h.indexer.tree(manifest, blobs); t != nil {
		return t, nil, nil
	}
	// Before looking: what does not fit would be looked into again and again, and never be all there.
	if h.indexer.tooLarge(blobs) {
		return nil, nil, errTreeMax
	}
	all, p, err := h.layers(r, blobs)
	if err != nil || p != nil {
		return nil, p, err
	}
	entries, cost := 0, int64(0)
	for _, x := range all {
		entries += len(x.Entries)
		cost += indexCost(x)
	}
	if entries > treeEntriesMax || cost > indexesMax/2 { // what cannot be kept would be made anew for each page
		return nil, nil, errTreeMax
	}
	done, err := h.indexer.turns.take(r.Context(), r.who.Quota())
	if err != nil {
		return nil, nil, err
	}
	defer done()
	if t := h.indexer.tree(manifest, blobs); t != nil { // somebody else had the turn for it
		return t, nil, nil
	}
	t := &imageTree{Tree: layer.Merge(all), layers: all, of: blobs}
	h.indexer.trees.put(manifest, t, cost)
	return t, nil, nil
}

// tree returns what is kept of an image, if its layers are still the same files.
func (x *indexer) tree(manifest digest.Digest, blobs []store.PresentBlob) *imageTree {
	t, ok := x.trees.get(manifest)
	if !ok || len(t.of) != len(blobs) {
		return nil
	}
	for i := range blobs {
		if !t.of[i].SameFile(blobs[i]) {
			return nil
		}
	}
	return t
}
