//go:build faults

package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"cubby/scripts/figures"
	"cubby/scripts/process"
)

// Sizes of TestTags. Each group of clients works on the tags of a repository of its own, all at once. Each tag has
// manifests that no other tag of its repository gets, so that what is done to it depends on nothing else; all
// repositories have the same ones, of blobs from one pool.
const (
	groupClients = 10
	groupTags    = 4
	tagManifests = 3
	tagCalls     = 160 // of one tag; the check of a history takes time that is exponential in it, when nothing helps
	poolBlobs    = 50

	checkMax = 20 * time.Second // of one history
)

// TestTags lets many clients put, read and delete the same tags and manifests, push, mount and delete blobs of one pool,
// and collects all the time. What each client saw must be what one registry that does one thing after another could
// have answered: the histories of the tags are linearizable. CUBBY_SIZE is the number of clients.
func TestTags(t *testing.T) {
	groups := max(1, figures.Size(t, 100)/groupClients)
	seed := figures.Seed(t)
	dir := process.Dir(t)
	s := process.Program(t, "--gc-every", "0").Start(t, dir)
	all := newTagContent(seed)

	clients := make([]*tagClient, 0, groups*groupClients)
	errs := make(chan error, groups*groupClients)
	var running sync.WaitGroup
	began := time.Now()
	for group := range groups {
		for range groupClients {
			c := &tagClient{
				Client: process.NewClient(s.URL), tagContent: all, id: len(clients), groups: groups, began: began,
				random: rand.New(rand.NewPCG(seed, uint64(len(clients))+1)),
			}
			clients = append(clients, c)
			running.Go(func() {
				defer c.Close()
				if err := c.run(group); err != nil {
					errs <- fmt.Errorf("client %d: %w", c.id, err)
				}
			})
		}
	}
	done := make(chan struct{})
	go func() { defer close(done); running.Wait() }()
	collections := collectUntil(t, dir, done)
	took := time.Since(began)
	close(errs)
	unexpected := len(errs)
	for err := range errs {
		t.Error(err)
	}
	problems := process.Program(t).Problems(t, dir)
	for _, problem := range problems {
		t.Error("check: ", problem)
	}
	requests, calls, times := 0, make(map[string][]porcupine.Operation), []time.Duration{}
	for _, c := range clients {
		requests, times = requests+len(c.times), append(times, c.times...)
		for _, call := range c.calls {
			key := call.Input.(tagCall).String()
			calls[key] = append(calls[key], call)
		}
	}
	violations := 0
	if unexpected == 0 { // or else there are calls of which nobody knows what they did
		violations = checkHistories(t, calls)
	}
	slices.Sort(times)
	figures.Row{ID: "T-4", Test: "clients put, read and delete the same tags, manifests and blobs while everything is collected; the history of each tag is checked for linearizability", Seed: seed, Figures: []figures.Figure{
		figures.Count("clients", len(clients)), figures.Count("requests", requests), figures.Count("of unexpected status", unexpected),
		figures.Count("collections", collections), figures.Count("tags checked", len(calls)),
		figures.Count("violations", violations), figures.Count("problems in the end", len(problems)),
		figures.Time("p99", times[len(times)*99/100]), figures.Count("requests a second", int(float64(requests)/took.Seconds())),
	}}.Report(t)
}

// collectUntil collects every 200 ms until done, as far as a collection takes no longer.
func collectUntil(t *testing.T, dir string, done <-chan struct{}) (collections int) {
	t.Helper()
	next := time.NewTicker(200 * time.Millisecond)
	defer next.Stop()
	for {
		select {
		case <-done:
			return collections
		case <-next.C:
			process.Program(t, "gc", "--now", "--data", dir).Want(t, 0)
			collections++
		}
	}
}

// checkHistories returns how many histories no order of their calls explains.
func checkHistories(t *testing.T, calls map[string][]porcupine.Operation) (violations int) {
	t.Helper()
	model := porcupine.Model{
		Init: func() any { return tagState{} },
		Step: func(state, input, output any) (bool, any) {
			return state.(tagState).step(input.(tagCall), output.(tagAnswer))
		},
	}
	for key, history := range calls {
		switch porcupine.CheckOperationsTimeout(model, history, checkMax) {
		case porcupine.Illegal:
			t.Errorf("%s: no order explains its %d calls", key, len(history))
			if violations++; violations > 1 {
				continue // one history is enough to read
			}
			slices.SortFunc(history, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
			for _, call := range history {
				in, out := call.Input.(tagCall), call.Output.(tagAnswer)
				t.Logf("client %d, %d to %d: %s %d: %+v", call.ClientId, call.Call, call.Return, in.what, in.manifest, out)
			}
		case porcupine.Unknown:
			t.Errorf("%s: its %d calls were not checked within %v", key, len(history), checkMax)
		}
	}
	return violations
}

// A tagCall is something done to a tag, or to one of its manifests by digest.
type tagCall struct {
	name     string
	tag      int
	what     what
	manifest int // from 1; 0: the call is about the tag alone
}

func (c tagCall) String() string { return fmt.Sprintf("%s:v%d", c.name, c.tag) }

type what string

const (
	putTag         what = "put tag"
	putManifest    what = "put manifest"
	readTag        what = "read tag"
	readManifest   what = "read manifest"
	deleteTag      what = "delete tag"
	deleteManifest what = "delete manifest"
)

// A tagAnswer says whether there was something to read or delete, and which manifest a tag was read as.
type tagAnswer struct {
	found    bool
	manifest int
}

// A tagState is what a tag points to, 0 for nothing, and which of its manifests are there.
type tagState struct {
	tag   int
	there [1 + tagManifests]bool
}

// step returns whether a call may be answered so, and the state after it. A manifest takes its tag with it.
func (s tagState) step(call tagCall, got tagAnswer) (bool, tagState) {
	before := s
	switch call.what {
	case putTag:
		s.tag, s.there[call.manifest] = call.manifest, true
		return true, s
	case putManifest:
		s.there[call.manifest] = true
		return true, s
	case readTag:
		return got == tagAnswer{s.tag != 0, s.tag}, s
	case readManifest:
		return got.found == s.there[call.manifest], s
	case deleteTag:
		s.tag = 0
		return got.found == (before.tag != 0), s
	case deleteManifest:
		s.there[call.manifest] = false
		if s.tag == call.manifest {
			s.tag = 0
		}
		return got.found == before.there[call.manifest], s
	}
	return false, s
}

// A tagContent is what the clients push.
type tagContent struct {
	pool      []process.Content
	manifests [groupTags][1 + tagManifests]process.Content // from 1
}

func newTagContent(seed uint64) *tagContent {
	random := rand.New(rand.NewPCG(seed, 0))
	all := new(tagContent)
	for i := range poolBlobs {
		all.pool = append(all.pool, process.RandomBlob(byte(i), 100+random.IntN(4000)))
	}
	for tag := range all.manifests {
		for i := 1; i <= tagManifests; i++ {
			// The first blob makes it one of its own.
			own := all.pool[tag*tagManifests+i-1]
			all.manifests[tag][i] = process.Image(own, all.pool[random.IntN(poolBlobs)], all.pool[random.IntN(poolBlobs)])
		}
	}
	return all
}

// A tagClient does one random call after another and keeps what it saw.
type tagClient struct {
	*process.Client
	*tagContent
	id, groups int
	random     *rand.Rand
	began      time.Time

	calls []porcupine.Operation
	times []time.Duration // of all requests
}

func (c *tagClient) run(group int) error {
	for range groupTags * tagCalls / groupClients {
		if err := c.step(repoName(group)); err != nil {
			return err
		}
	}
	return nil
}

func repoName(group int) string { return fmt.Sprintf("team/group%d", group) }

// ask is Client.Ask, and keeps the time.
func (c *tagClient) ask(method, path string, body []byte, headers []string, statuses ...int) (process.Answer, error) {
	sent := time.Now()
	answer, err := c.Ask(method, path, body, headers, statuses...)
	c.times = append(c.times, time.Since(sent))
	return answer, err
}

// step does one call to a tag of a repository, and sometimes something to a blob before it.
func (c *tagClient) step(name string) error {
	if c.random.IntN(5) == 0 {
		blob := c.pool[c.random.IntN(poolBlobs)]
		if err := c.touchBlob(name, blob); err != nil {
			return err
		}
	}
	tag, i := c.random.IntN(groupTags), 1+c.random.IntN(tagManifests)
	m, path := c.manifests[tag][i], "/v2/"+name+"/manifests/"
	byTag, byDigest := fmt.Sprintf("%sv%d", path, tag), path+c.manifests[tag][i].Digest
	call := tagCall{name: name, tag: tag, manifest: i}
	switch n := c.random.IntN(100); {
	case n < 20:
		return c.put(call, putTag, byTag, m)
	case n < 25:
		return c.put(call, putTag, fmt.Sprintf("%s?tag=v%d", byDigest, tag), m)
	case n < 30:
		return c.put(call, putManifest, byDigest, m)
	case n < 60:
		call.manifest = 0
		return c.record(call, readTag, c.readMethod(), byTag, http.StatusOK)
	case n < 70:
		return c.record(call, readManifest, c.readMethod(), byDigest, http.StatusOK)
	case n < 80:
		call.manifest = 0
		return c.record(call, deleteTag, http.MethodDelete, byTag, http.StatusAccepted)
	}
	return c.record(call, deleteManifest, http.MethodDelete, byDigest, http.StatusAccepted)
}

func (c *tagClient) readMethod() string {
	return []string{http.MethodGet, http.MethodHead}[c.random.IntN(2)]
}

// put puts a manifest. Without its blobs that is refused and no call; then they are pushed, until nobody deletes one
// before the manifest holds it.
func (c *tagClient) put(call tagCall, what what, path string, m process.Content) error {
	for {
		sent := time.Since(c.began)
		answer, err := c.ask(http.MethodPut, path, m.Raw, []string{"Content-Type", m.MediaType}, http.StatusCreated, http.StatusNotFound)
		if err != nil {
			return err
		}
		if answer.Status == http.StatusCreated {
			c.keep(call, what, sent, tagAnswer{found: true})
			return nil
		}
		for _, blob := range c.pool {
			if slices.Contains(m.Names, blob.Digest) {
				if err := c.pushBlob(call.name, blob); err != nil {
					return err
				}
			}
		}
	}
}

// record does a call that is answered with ok or 404.
func (c *tagClient) record(call tagCall, what what, method, path string, ok int) error {
	sent := time.Since(c.began)
	answer, err := c.ask(method, path, nil, nil, ok, http.StatusNotFound)
	if err != nil {
		return err
	}
	got := tagAnswer{found: answer.Status == ok}
	if got.found && what == readTag {
		got.manifest = slices.IndexFunc(c.manifests[call.tag][:], func(m process.Content) bool {
			return m.Digest == answer.Header.Get("Docker-Content-Digest")
		})
	}
	if got.found && method == http.MethodGet && process.Digest(answer.Body) != answer.Header.Get("Docker-Content-Digest") {
		return fmt.Errorf("%s %s: other bytes than those of %s", method, path, answer.Header.Get("Docker-Content-Digest"))
	}
	c.keep(call, what, sent, got)
	return nil
}

func (c *tagClient) keep(call tagCall, what what, sent time.Duration, got tagAnswer) {
	call.what = what
	c.calls = append(c.calls, porcupine.Operation{ClientId: c.id, Input: call, Call: int64(sent), Output: got, Return: int64(time.Since(c.began))})
}

// pushBlob mounts a blob from a repository where it may be, or pushes it.
func (c *tagClient) pushBlob(name string, blob process.Content) error {
	uploads := "/v2/" + name + "/blobs/uploads/"
	if c.random.IntN(2) == 0 {
		_, err := c.ask(http.MethodPost, uploads+"?digest="+blob.Digest, blob.Raw, nil, http.StatusCreated)
		return err
	}
	from := repoName(c.random.IntN(c.groups))
	answer, err := c.ask(http.MethodPost, uploads+"?mount="+blob.Digest+"&from="+from, []byte{}, nil, http.StatusCreated, http.StatusAccepted)
	if err != nil || answer.Status == http.StatusCreated {
		return err
	}
	_, err = c.ask(http.MethodPut, answer.Header.Get("Location")+"?digest="+blob.Digest, blob.Raw, nil, http.StatusCreated)
	return err
}

// touchBlob pushes, reads or deletes a blob. A manifest that names it keeps it.
func (c *tagClient) touchBlob(name string, blob process.Content) error {
	path := "/v2/" + name + "/blobs/" + blob.Digest
	switch c.random.IntN(3) {
	case 0:
		return c.pushBlob(name, blob)
	case 1:
		answer, err := c.ask(http.MethodGet, path, nil, nil, http.StatusOK, http.StatusNotFound)
		if err == nil && answer.Status == http.StatusOK && !bytes.Equal(answer.Body, blob.Raw) {
			err = fmt.Errorf("GET %s: other bytes", path)
		}
		return err
	}
	_, err := c.ask(http.MethodDelete, path, nil, nil, http.StatusAccepted, http.StatusNotFound, http.StatusMethodNotAllowed)
	return err
}
