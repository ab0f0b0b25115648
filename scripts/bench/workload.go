package main

import (
	"context"
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
)

// What the servers hold and are sent.
const (
	largeSize    = 256 << 20
	layerSize    = 16 << 10
	imageLayers  = 5
	tagsHeld     = 3000
	namesHeld    = 1500
	pageHeld     = 100
	tinyImages   = 2000
	manifestType = "application/vnd.oci.image.manifest.v1+json"
)

// A workload is one thing that clients do, over and over.
type workload struct {
	name    string
	unit    string // what is counted
	clients int
	static  bool   // a server of files can do it too
	needs   string // what prepare makes for it, "" when it needs only the image
	limit   string // what of the disk limits it, "" when that is not measured
	op      func(l *load, c *conn, i uint64) (bytes int64, err error)
}

// The values of limit.
const (
	limitWrite = "write"
	limitBlobs = "blobs"
)

// The values of needs.
const (
	needsLarge = "large"
	needsTags  = "tags"
	needsNames = "names"
)

var workloads = []workload{
	{"pull of a blob of 256 MiB", "MB", 2, true, needsLarge, "", (*load).pullLarge},
	{"push of a blob of 256 MiB", "MB", 1, false, needsLarge, limitWrite, (*load).pushLarge},
	{"push of images of 5 × 16 KiB", "images", 8, false, "", limitBlobs, (*load).pushImage},
	{"manifest by tag", "requests", 8, true, "", "", (*load).pullManifest},
	{"HEAD of a blob", "requests", 8, true, "", "", (*load).headBlob},
	{"blob of 16 KiB", "requests", 8, true, "", "", (*load).pullBlob},
	{"100 of 3 000 tags", "requests", 8, false, needsTags, "", (*load).listTags},
	{"100 of 1 500 repositories", "requests", 8, false, needsNames, "", (*load).listNames},
	{"tag a manifest anew", "requests", 8, false, needsTags, "", (*load).retag},
}

// A blob is content and its digest.
type blob struct {
	raw  []byte
	dgst digest.Digest
}

func newBlob(raw []byte) blob { return blob{raw, oci.SumDigest(digest.SHA256, raw)} }

// An image is a manifest and what it names.
type image struct {
	blobs    []blob
	manifest blob
}

// newImage returns an image that has a configuration and layers of random bytes.
func newImage(rng *rand.ChaCha8, config, size, layers int) image {
	var i image
	for n := range layers + 1 {
		raw := make([]byte, size)
		if n == 0 {
			raw = make([]byte, config)
		}
		_, _ = rng.Read(raw) // it has no errors
		i.blobs = append(i.blobs, newBlob(raw))
	}
	text := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.example.config","digest":%q,"size":%d},"layers":[`,
		manifestType, i.blobs[0].dgst, config)
	for n, layer := range i.blobs[1:] {
		if n > 0 {
			text = append(text, ',')
		}
		text = fmt.Appendf(text, `{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":%d}`, layer.dgst, size)
	}
	i.manifest = newBlob(append(text, "]}"...))
	return i
}

// A load is what one server is asked.
type load struct {
	server *running
	image  image // of bench/pull:latest
	large  largeBlob
	pushed atomic.Uint64 // how much was pushed, so that each push is of something else
}

func newRandom(seed uint64) *rand.ChaCha8 {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	return rand.NewChaCha8(key)
}

// newLoad returns the load for a server that has just started. Loads of different servers are equal.
func newLoad(server *running, large largeBlob) *load {
	return &load{server: server, image: newImage(newRandom(1), layerSize, layerSize, imageLayers), large: large}
}

// A largeBlob can be made another one cheaply: only its end changes.
type largeBlob struct {
	blob
	hashed []byte // the state of the hash before the end
}

// largeEnd is how many bytes of a large blob change.
const largeEnd = 64

func newLarge() (largeBlob, error) {
	raw := make([]byte, largeSize)
	_, _ = newRandom(0).Read(raw) // it has no errors
	h := sha256.New()
	h.Write(raw[:largeSize-largeEnd])
	hashed, err := h.(encoding.BinaryMarshaler).MarshalBinary()
	return largeBlob{newBlob(raw), hashed}, err
}

// another returns the nth other blob, in the same memory.
func (l largeBlob) another(n uint64) (blob, error) {
	end := l.raw[largeSize-largeEnd:]
	binary.LittleEndian.PutUint64(end, n)
	h := sha256.New()
	if err := h.(encoding.BinaryUnmarshaler).UnmarshalBinary(l.hashed); err != nil {
		return blob{}, err
	}
	h.Write(end)
	return blob{l.raw, digest.NewDigest(digest.SHA256, h)}, nil
}

// prepare gives the server what workloads pull. A server of files finds it in its directory.
func (l *load) prepare(ctx context.Context, selected []workload) error {
	needs := func(what string) bool {
		return slices.ContainsFunc(selected, func(w workload) bool { return w.needs == what })
	}
	if l.server.static {
		files := map[string]blob{"manifests/latest": l.image.manifest, "blobs/" + l.image.blobs[1].dgst.String(): l.image.blobs[1]}
		if needs(needsLarge) {
			files["blobs/"+l.large.dgst.String()] = l.large.blob
		}
		for path, content := range files {
			path = filepath.Join(l.server.dir, "v2/bench/pull", path)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				return err
			}
			if err := os.WriteFile(path, content.raw, 0o644); err != nil {
				return err
			}
		}
		return nil
	}
	c, err := dial(l.server.addr)
	if err != nil {
		return err
	}
	defer c.close()
	if err := l.push(c, "bench/pull", l.image, "latest"); err != nil {
		return err
	}
	if needs(needsLarge) {
		if err := l.pushBlob(c, "bench/pull", l.large.blob); err != nil {
			return err
		}
	}
	if needs(needsTags) {
		if err := l.push(c, "bench/tags", l.image, "latest"); err != nil {
			return err
		}
		if err := l.each(ctx, tagsHeld, func(c *conn, i uint64) error {
			return l.putManifest(c, "bench/tags", l.image.manifest, "v"+strconv.FormatUint(i, 10))
		}); err != nil {
			return err
		}
	}
	if !needs(needsNames) {
		return nil
	}
	tiny := newImage(newRandom(2), 100, 100, 0)
	return l.each(ctx, namesHeld, func(c *conn, i uint64) error {
		return l.push(c, fmt.Sprintf("names/n%05d", i), tiny, "latest")
	})
}

// each calls f with the numbers below n, with eight clients.
func (l *load) each(ctx context.Context, n uint64, f func(c *conn, i uint64) error) error {
	var next atomic.Uint64
	return l.clients(ctx, 8, func(c *conn) error {
		for i := next.Add(1) - 1; i < n; i = next.Add(1) - 1 {
			if err := f(c, i); err != nil {
				return err
			}
		}
		return nil
	})
}

// clients runs f for each of some connections and returns the first error.
func (l *load) clients(ctx context.Context, n int, f func(c *conn) error) error {
	errs := make([]error, n)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var group sync.WaitGroup
	for i := range n {
		c, err := dial(l.server.addr)
		if err != nil {
			errs[i] = err
			cancel()
			break
		}
		defer context.AfterFunc(ctx, c.close)()
		defer c.close()
		group.Go(func() {
			if errs[i] = f(c); errs[i] != nil {
				cancel()
			}
		})
	}
	group.Wait()
	for _, err := range errs {
		if err != nil {
			return fmt.Errorf("%s: %w", l.server.name, err)
		}
	}
	return ctx.Err()
}

// want asks and refuses every other status.
func want(c *conn, status int, method, path, header string, body []byte) (answer, error) {
	a, err := c.do(method, path, header, body)
	if err == nil && a.status != status {
		err = fmt.Errorf("status %d, not %d", a.status, status)
	}
	if err != nil {
		return a, fmt.Errorf("%s %s: %w", method, path, err)
	}
	return a, nil
}

// pushBlob does what clients do: open a session, send everything.
func (l *load) pushBlob(c *conn, name string, b blob) error {
	a, err := want(c, 202, "POST", "/v2/"+name+"/blobs/uploads/", "", nil)
	if err != nil {
		return err
	}
	separator := "?"
	if slices.Contains([]byte(a.location), '?') {
		separator = "&"
	}
	_, err = want(c, 201, "PUT", a.location+separator+"digest="+b.dgst.String(), "Content-Type: application/octet-stream\r\n", b.raw)
	return err
}

func (l *load) putManifest(c *conn, name string, manifest blob, tag string) error {
	_, err := want(c, 201, "PUT", "/v2/"+name+"/manifests/"+tag, "Content-Type: "+manifestType+"\r\n", manifest.raw)
	return err
}

func (l *load) push(c *conn, name string, i image, tag string) error {
	for _, b := range i.blobs {
		if err := l.pushBlob(c, name, b); err != nil {
			return err
		}
	}
	return l.putManifest(c, name, i.manifest, tag)
}

func (l *load) pull(c *conn, method, path string, size int) (int64, error) {
	a, err := want(c, 200, method, "/v2/bench/pull/"+path, "Accept: "+manifestType+"\r\n", nil)
	if err == nil && method != "HEAD" && a.bytes != int64(size) {
		err = fmt.Errorf("%s has %d bytes, not %d", path, a.bytes, size)
	}
	return a.bytes, err
}

func (l *load) pullLarge(c *conn, _ uint64) (int64, error) {
	return l.pull(c, "GET", "blobs/"+l.large.dgst.String(), largeSize)
}

func (l *load) pullManifest(c *conn, _ uint64) (int64, error) {
	return l.pull(c, "GET", "manifests/latest", len(l.image.manifest.raw))
}

func (l *load) headBlob(c *conn, _ uint64) (int64, error) {
	return l.pull(c, "HEAD", "blobs/"+l.image.blobs[1].dgst.String(), layerSize)
}

func (l *load) pullBlob(c *conn, _ uint64) (int64, error) {
	return l.pull(c, "GET", "blobs/"+l.image.blobs[1].dgst.String(), layerSize)
}

func (l *load) pushLarge(c *conn, _ uint64) (int64, error) {
	b, err := l.large.another(l.pushed.Add(1))
	if err != nil {
		return 0, err
	}
	return largeSize, l.pushBlob(c, "bench/push", b)
}

func (l *load) pushImage(c *conn, _ uint64) (int64, error) {
	n := l.pushed.Add(1)
	i := newImage(newRandom(100+n), layerSize, layerSize, imageLayers)
	return (imageLayers + 1) * layerSize, l.push(c, fmt.Sprint("bench/push", n%8), i, "v"+strconv.FormatUint(n, 10))
}

func (l *load) listTags(c *conn, i uint64) (int64, error) {
	a, err := want(c, 200, "GET", "/v2/bench/tags/tags/list?n="+strconv.Itoa(pageHeld)+"&last=v"+strconv.FormatUint(i*37%tagsHeld, 10), "", nil)
	return a.bytes, err
}

func (l *load) listNames(c *conn, i uint64) (int64, error) {
	a, err := want(c, 200, "GET", "/v2/_catalog?n="+strconv.Itoa(pageHeld)+fmt.Sprintf("&last=names/n%05d", i*37%namesHeld), "", nil)
	return a.bytes, err
}

func (l *load) retag(c *conn, i uint64) (int64, error) {
	return 0, l.putManifest(c, "bench/tags", l.image.manifest, "v"+strconv.FormatUint(i%tagsHeld, 10))
}

// pushTiny pushes what is measured on the disk.
func (l *load) pushTiny(ctx context.Context) error {
	return l.each(ctx, tinyImages, func(c *conn, i uint64) error {
		return l.push(c, fmt.Sprint("tiny/n", i%20), newImage(newRandom(1_000_000+i), 200, 200, 1), "v"+strconv.FormatUint(i, 10))
	})
}

// A sample is one run of a workload.
type sample struct {
	rate     float64 // of the unit, per second
	p50, p99 time.Duration
	cost     time.Duration // processor time of the server, for each of the unit
}

// run runs a workload for some time, each client one operation after the other.
func (l *load) run(ctx context.Context, w workload, d time.Duration) (s sample, err error) {
	var mu sync.Mutex
	var times []time.Duration
	var bytes int64
	var next atomic.Uint64
	used, err := l.server.processor()
	if err != nil {
		return s, err
	}
	began := time.Now()
	err = l.clients(ctx, w.clients, func(c *conn) error {
		var mine []time.Duration
		var moved int64
		for last := began; last.Sub(began) < d; {
			n, err := w.op(l, c, next.Add(1))
			if err != nil {
				return err
			}
			now := time.Now()
			mine = append(mine, now.Sub(last))
			moved += n
			last = now
		}
		mu.Lock()
		defer mu.Unlock()
		times = append(times, mine...)
		bytes += moved
		return nil
	})
	took := time.Since(began)
	if err != nil {
		return s, err
	}
	after, err := l.server.processor()
	if err != nil {
		return s, err
	}
	units := float64(len(times))
	if w.unit == "MB" {
		units = float64(bytes) / 1e6
	}
	slices.Sort(times)
	return sample{
		rate: units / took.Seconds(), p50: times[len(times)/2], p99: times[len(times)*99/100],
		cost: time.Duration(float64(after-used) / units),
	}, nil
}
