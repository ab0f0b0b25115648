package process

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Sizes of a workload. Workers share content, so that the same digests are pushed and deleted through several
// repositories at once; each has two repositories of its own, so that what must be in them is known exactly, and a few
// blobs of its own, whose files come and go.
const (
	workers    = 8
	blobCount  = 16
	ownCount   = 6
	imageCount = 12
	indexCount = 6
)

var tags = []string{"latest", "v1", "v2", "v3"}

// A Workload pushes, retags, mounts and deletes at random, and knows of every acknowledged write what it must have
// come to. After the server was killed, Verify compares.
type Workload struct {
	blobs, images, indexes []Content
	workers                []*worker
}

// A worker does one write after another.
type worker struct {
	w     *Workload
	rng   *rand.Rand
	names [2]string // its repositories
	c     *Client
	end   *End

	own      []Content          // blobs that only it pushes
	byDigest map[string]Content // and all that are shared

	held    state  // what every acknowledged write has come to
	pending *state // what the write in flight would make of it; nil when none is
	acked   int
}

// A state is what a worker's repositories hold.
type state [2]holding

type holding struct {
	content map[string]bool   // digests of blobs and manifests
	tags    map[string]string // tag → digest
}

func (s state) clone() state {
	for i, h := range s {
		s[i] = holding{maps.Clone(h.content), maps.Clone(h.tags)}
	}
	return s
}

// NewWorkload returns a workload that does the same for the same seed, as far as the server answers in time.
func NewWorkload(seed uint64) *Workload {
	rng := rand.New(rand.NewPCG(seed, 0))
	w := &Workload{blobs: []Content{Blob([]byte{})}}
	for range blobCount {
		w.blobs = append(w.blobs, randomBlob(rng, 1+rng.IntN(1<<(4+rng.IntN(13))))) // at most 64 KiB, most far smaller
	}
	w.blobs = append(w.blobs, randomBlob(rng, 300<<10)) // more than a server's buffer
	pick := func(from []Content) Content { return from[rng.IntN(len(from))] }
	for range imageCount {
		w.images = append(w.images, Image(pick(w.blobs), pick(w.blobs), pick(w.blobs)))
	}
	for range indexCount {
		w.indexes = append(w.indexes, Index(pick(w.images), pick(w.images)))
	}
	for i := range workers {
		one := &worker{w: w, rng: rand.New(rand.NewPCG(seed, uint64(i)+1)), byDigest: make(map[string]Content)}
		for range ownCount {
			one.own = append(one.own, randomBlob(one.rng, 1000))
		}
		for _, c := range slices.Concat(w.blobs, w.images, w.indexes, one.own) {
			one.byDigest[c.Digest] = c
		}
		for j := range one.names {
			one.names[j] = fmt.Sprintf("worker%d/repo%d", i, j)
			one.held[j] = holding{make(map[string]bool), make(map[string]string)}
		}
		w.workers = append(w.workers, one)
	}
	return w
}

func randomBlob(rng *rand.Rand, size int) Content {
	raw := make([]byte, size)
	for i := range raw {
		raw[i] = byte(rng.Uint32())
	}
	return Blob(raw)
}

// Acked returns how many writes were acknowledged.
func (w *Workload) Acked() (n int) {
	for _, one := range w.workers {
		n += one.acked
	}
	return n
}

// An End is how far the end of a workload's server is.
type End struct{ stage atomic.Int32 }

const (
	ending  = 1 + iota // what is sent may fail
	cutting            // what was sent may be answered though it is lost
	cut                // what is sent from now on must not be acknowledged unless it holds
)

// Kill kills the server. Every acknowledgement counts, however late it comes.
func (e *End) Kill(s *Server) {
	e.stage.Store(ending)
	s.Kill()
}

// Cut cuts the power of the server's disk. Where the cut is a shutdown of the file system, Linux lets an fsync that is on
// its way succeed although its transaction is lost. A power cut leaves nobody to hear of that: whatever is acknowledged
// during the cut is as if it was not. What is sent after it counts.
func (e *End) Cut(power func() error) error {
	e.stage.Store(cutting)
	defer e.stage.Store(cut)
	return power()
}

// doubts returns whether nothing is known of a write that was sent at a stage and is acknowledged now.
func (e *End) doubts(sent int32) bool { return sent < cut && e.stage.Load() >= cutting }

// Interrupt lets every worker write to the server for some time, calls end, which must end the server, and fails the
// test when before that a connection fails, or an answer comes that cannot be.
func (w *Workload) Interrupt(t *testing.T, s *Server, after time.Duration, end func(*End)) {
	t.Helper()
	interrupt(t, w.Run, s, after, end)
}

func interrupt(t *testing.T, run func(url string, end *End) error, s *Server, after time.Duration, end func(*End)) {
	t.Helper()
	var e End
	done := make(chan error, 1)
	go func() { done <- run(s.URL, &e) }()
	select {
	case err := <-done:
		t.Fatalf("before the end: %v", err)
	case <-time.After(after):
	}
	end(&e)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// Run lets every worker write to the server until it is gone. A worker whose connection fails before the end began, or
// whose request is refused, is an error; later it does not know what came of the request.
func (w *Workload) Run(url string, end *End) error {
	errs := make([]error, len(w.workers))
	var running sync.WaitGroup
	for i, one := range w.workers {
		running.Go(func() {
			one.c, one.end = NewClient(url), end
			defer one.c.Close()
			err := error(nil)
			for err == nil {
				err = one.step()
			}
			if wrong, ok := err.(*answerError); ok && wrong.got.Status < http.StatusBadRequest || end.stage.Load() < ending {
				errs[i] = fmt.Errorf("worker %d: %w", i, err)
			}
		})
	}
	running.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// An answerError is an answer that the state of the repositories does not allow.
type answerError struct {
	what string
	got  Answer
	want int
}

func (e *answerError) Error() string {
	return fmt.Sprintf("%s: status %d, want %d: %s", e.what, e.got.Status, e.want, e.got.Body)
}

// errInDoubt ends a worker whose write was acknowledged during a power cut.
var errInDoubt = errors.New("acknowledged during a power cut")

// do sends a request that changes nothing that is remembered, or is refused.
func (k *worker) do(want int, method, path string, body []byte, headers ...string) (Answer, error) {
	answer, err := k.c.Do(method, path, body, headers...)
	if err == nil && answer.Status != want {
		err = &answerError{method + " " + path, answer, want}
	}
	return answer, err
}

// commit sends a write that makes next of the state. Until it is answered, either may hold.
func (k *worker) commit(next state, want int, method, path string, body []byte, headers ...string) error {
	k.pending = &next
	sent := k.end.stage.Load()
	if _, err := k.do(want, method, path, body, headers...); err != nil {
		return err
	}
	if k.end.doubts(sent) {
		return errInDoubt
	}
	k.held, k.pending = next, nil
	k.acked++
	return nil
}

// step does one random thing to one repository.
func (k *worker) step() error {
	i := k.rng.IntN(2)
	switch n := k.rng.IntN(100); {
	case n < 30: // each makes or removes a file
		own := k.pick(k.own)
		if k.held[0].content[own.Digest] {
			return k.deleteContent(0, "blobs", own)
		}
		return k.pushBlob(0, own)
	case n < 48:
		return k.pushBlob(i, k.pick(k.w.blobs))
	case n < 55:
		return k.mountBlob(i, k.pick(k.w.blobs))
	case n < 73:
		return k.putManifest(i, k.pick(k.w.images))
	case n < 80:
		return k.putManifest(i, k.pick(k.w.indexes))
	case n < 87:
		return k.deleteTag(i, tags[k.rng.IntN(len(tags))])
	case n < 94:
		return k.deleteContent(i, "manifests", k.pick(slices.Concat(k.w.images, k.w.indexes)))
	}
	return k.deleteContent(i, "blobs", k.pick(k.w.blobs))
}

func (k *worker) pick(from []Content) Content { return from[k.rng.IntN(len(from))] }

func (k *worker) path(i int, parts ...string) string {
	return "/v2/" + k.names[i] + "/" + strings.Join(parts, "/")
}

// pushBlob pushes in one of the three ways of the spec: end-4b, end-4a with end-6, and in chunks (end-5).
func (k *worker) pushBlob(i int, blob Content) error {
	next := k.held.clone()
	next[i].content[blob.Digest] = true
	uploads, digest := k.path(i, "blobs", "uploads")+"/", "?digest="+blob.Digest
	way := k.rng.IntN(3)
	if way == 0 {
		return k.commit(next, http.StatusCreated, http.MethodPost, uploads+digest, blob.Raw)
	}
	answer, err := k.do(http.StatusAccepted, http.MethodPost, uploads, []byte{})
	if err != nil {
		return err
	}
	location, rest := answer.Header.Get("Location"), blob.Raw
	for way == 2 && len(rest) > 1 {
		n := 1 + k.rng.IntN(len(rest)-1)
		start := len(blob.Raw) - len(rest)
		if _, err := k.do(http.StatusAccepted, http.MethodPatch, location, rest[:n], "Content-Range", fmt.Sprintf("%d-%d", start, start+n-1)); err != nil {
			return err
		}
		rest = rest[n:]
		way = k.rng.IntN(3)
	}
	return k.commit(next, http.StatusCreated, http.MethodPut, location+digest, rest)
}

// mountBlob mounts from the worker's other repository (end-11), or gets a session when it is not there.
func (k *worker) mountBlob(i int, blob Content) error {
	path := k.path(i, "blobs", "uploads") + "/?mount=" + blob.Digest + "&from=" + url.QueryEscape(k.names[1-i])
	if k.held[1-i].content[blob.Digest] {
		next := k.held.clone()
		next[i].content[blob.Digest] = true
		return k.commit(next, http.StatusCreated, http.MethodPost, path, []byte{})
	}
	answer, err := k.do(http.StatusAccepted, http.MethodPost, path, []byte{})
	if err == nil {
		_, err = k.do(http.StatusNoContent, http.MethodDelete, answer.Header.Get("Location"), nil)
	}
	return err
}

// putManifest puts under no, one or all tags at once. An image whose blobs are not all there is refused one time, and
// gets them pushed first the other times.
func (k *worker) putManifest(i int, m Content) error {
	path, headers := k.path(i, "manifests", m.Digest), []string{"Content-Type", m.MediaType}
	if m.MediaType == MediaTypeImage {
		for _, name := range m.Names {
			if k.held[i].content[name] {
				continue
			}
			if k.rng.IntN(4) == 0 {
				_, err := k.do(http.StatusNotFound, http.MethodPut, path, m.Raw, headers...)
				return err
			}
			if err := k.pushBlob(i, k.byDigest[name]); err != nil {
				return err
			}
		}
	}
	next := k.held.clone()
	next[i].content[m.Digest] = true
	switch tag := tags[k.rng.IntN(len(tags))]; k.rng.IntN(4) {
	case 0:
	case 1:
		path += "?" + url.Values{"tag": tags}.Encode()
		for _, tag := range tags {
			next[i].tags[tag] = m.Digest
		}
	default:
		path = k.path(i, "manifests", tag)
		next[i].tags[tag] = m.Digest
	}
	return k.commit(next, http.StatusCreated, http.MethodPut, path, m.Raw, headers...)
}

func (k *worker) deleteTag(i int, tag string) error {
	path := k.path(i, "manifests", tag)
	if k.held[i].tags[tag] == "" {
		_, err := k.do(http.StatusNotFound, http.MethodDelete, path, nil)
		return err
	}
	next := k.held.clone()
	delete(next[i].tags, tag)
	return k.commit(next, http.StatusAccepted, http.MethodDelete, path, nil)
}

// deleteContent deletes a blob or a manifest, which is refused while a manifest of the repository names it.
func (k *worker) deleteContent(i int, kind string, c Content) error {
	path := k.path(i, kind, c.Digest)
	if !k.held[i].content[c.Digest] {
		_, err := k.do(http.StatusNotFound, http.MethodDelete, path, nil)
		return err
	}
	for dgst := range k.held[i].content {
		if slices.Contains(k.byDigest[dgst].Names, c.Digest) {
			_, err := k.do(http.StatusMethodNotAllowed, http.MethodDelete, path, nil)
			return err
		}
	}
	next := k.held.clone()
	delete(next[i].content, c.Digest)
	maps.DeleteFunc(next[i].tags, func(_, dgst string) bool { return dgst == c.Digest })
	return k.commit(next, http.StatusAccepted, http.MethodDelete, path, nil)
}

// Verify reads back everything through the restarted server. lost are acknowledged writes that do not hold, corrupt is
// content that is not what its digest says. A write that was in flight may hold as a whole or not at all; from here on
// what was found is what must stay.
func (w *Workload) Verify(url string) (lost, corrupt []string, err error) {
	results := make([]struct {
		lost, corrupt []string
		err           error
	}, len(w.workers))
	var running sync.WaitGroup
	for i, one := range w.workers {
		running.Go(func() {
			r := &results[i]
			one.c = NewClient(url)
			defer one.c.Close()
			var found state
			if found, r.corrupt, r.err = one.observe(); r.err == nil {
				r.lost = one.settle(found)
			}
		})
	}
	running.Wait()
	for _, r := range results {
		if r.err != nil {
			return nil, nil, r.err
		}
		lost, corrupt = append(lost, r.lost...), append(corrupt, r.corrupt...)
	}
	return lost, corrupt, nil
}

// observe reads what the worker's repositories hold.
func (k *worker) observe() (found state, corrupt []string, err error) {
	for i := range found {
		found[i] = holding{make(map[string]bool), make(map[string]string)}
		for dgst, c := range k.byDigest {
			kind := "blobs"
			if c.MediaType != "" {
				kind = "manifests"
			}
			answer, err := k.c.Do(http.MethodGet, k.path(i, kind, dgst), nil)
			switch {
			case err != nil:
				return found, corrupt, err
			case answer.Status == http.StatusNotFound:
			case answer.Status != http.StatusOK || !bytes.Equal(answer.Body, c.Raw) || c.MediaType != "" && answer.Header.Get("Content-Type") != c.MediaType:
				corrupt = append(corrupt, fmt.Sprintf("%s of %s: status %d, %d bytes with %s", dgst, k.names[i], answer.Status, len(answer.Body), Digest(answer.Body)))
			default:
				found[i].content[dgst] = true
			}
		}
		for _, tag := range tags {
			answer, err := k.c.Do(http.MethodGet, k.path(i, "manifests", tag), nil)
			switch {
			case err != nil:
				return found, corrupt, err
			case answer.Status == http.StatusOK:
				found[i].tags[tag] = Digest(answer.Body)
			case answer.Status != http.StatusNotFound:
				corrupt = append(corrupt, fmt.Sprintf("tag %s of %s: status %d", tag, k.names[i], answer.Status))
			}
		}
	}
	return found, corrupt, nil
}

// settle compares what was found with what must hold, and takes it over.
func (k *worker) settle(found state) (lost []string) {
	lost = k.compare(k.held, found)
	if k.pending != nil {
		if other := k.compare(*k.pending, found); len(other) < len(lost) {
			lost = other
		}
	}
	k.held, k.pending = found, nil
	return lost
}

// compare lists where found differs from want.
func (k *worker) compare(want, found state) (diffs []string) {
	for i := range want {
		for dgst := range k.byDigest {
			if w, f := want[i].content[dgst], found[i].content[dgst]; w != f {
				diffs = append(diffs, fmt.Sprintf("%s of %s: there %t, want %t", dgst, k.names[i], f, w))
			}
		}
		for _, tag := range tags {
			if w, f := want[i].tags[tag], found[i].tags[tag]; w != f {
				diffs = append(diffs, fmt.Sprintf("tag %s of %s: %q, want %q", tag, k.names[i], f, w))
			}
		}
	}
	return diffs
}
