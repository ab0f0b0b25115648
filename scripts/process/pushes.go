package process

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"
)

// pushers is how many clients of Pushes there are.
const pushers = 4

// Pushes is a workload that every registry can take: clients push images that share nothing, and delete nothing.
type Pushes struct{ clients []*pusher }

type pusher struct {
	rng    *rand.Rand
	name   string // its repository
	images int
	acked  int
	writes []write // those that are not known to be lost
}

// A write is something that was sent.
type write struct {
	path    string // where it is read
	content Content
	acked   bool
}

// NewPushes returns a workload that does the same for the same seed, as far as the server answers in time.
func NewPushes(seed uint64) *Pushes {
	w := &Pushes{}
	for i := range pushers {
		w.clients = append(w.clients, &pusher{rng: rand.New(rand.NewPCG(seed, uint64(i))), name: fmt.Sprintf("pusher%d/app", i)})
	}
	return w
}

// Interrupt is that of Workload.
func (w *Pushes) Interrupt(t *testing.T, s *Server, after time.Duration, end func(*End)) {
	t.Helper()
	interrupt(t, w.run, s, after, end)
}

// run lets every client push until the server is gone. A push that fails before the end began is an error.
func (w *Pushes) run(url string, end *End) error {
	errs := make([]error, len(w.clients))
	var running sync.WaitGroup
	for i, p := range w.clients {
		running.Go(func() {
			c := NewClient(url)
			defer c.Close()
			err := error(nil)
			for err == nil {
				err = p.pushImage(c, end)
			}
			if end.stage.Load() < ending {
				errs[i] = err
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

func (p *pusher) pushImage(c *Client, end *End) error {
	p.images++
	config, layer := randomBlob(p.rng, 100+p.rng.IntN(2000)), randomBlob(p.rng, 1+p.rng.IntN(64<<10))
	for _, blob := range []Content{config, layer} {
		answer, err := c.must(http.StatusAccepted, http.MethodPost, "/v2/"+p.name+"/blobs/uploads/", nil)
		if err != nil {
			return err
		}
		if err := p.send(c, end, WithDigest(answer.Header.Get("Location"), blob.Digest), "/v2/"+p.name+"/blobs/"+blob.Digest, blob); err != nil {
			return err
		}
	}
	path := fmt.Sprintf("/v2/%s/manifests/v%d", p.name, p.images)
	return p.send(c, end, path, path, Image(config, layer))
}

// send puts content and notes what came of it.
func (p *pusher) send(c *Client, end *End, to, path string, content Content) error {
	var headers []string
	if content.MediaType != "" {
		headers = []string{"Content-Type", content.MediaType}
	}
	sent := end.stage.Load()
	answer, err := c.Do(http.MethodPut, to, content.Raw, headers...)
	if err == nil && answer.Status != http.StatusCreated {
		err = &answerError{http.MethodPut + " " + path, answer, http.StatusCreated}
	}
	if err == nil && end.doubts(sent) {
		err = errInDoubt
	}
	if err == nil {
		p.acked++
	}
	p.writes = append(p.writes, write{path, content, err == nil})
	return err
}

// Acked returns how many writes were acknowledged.
func (w *Pushes) Acked() (n int) {
	for _, p := range w.clients {
		n += p.acked
	}
	return n
}

// Verify reads back everything that was sent. lost were acknowledged and are not served, wrong are served with other
// bytes, acknowledged or not. Both are forgotten then.
func (w *Pushes) Verify(url string) (lost, wrong []string) {
	c := NewClient(url)
	defer c.Close()
	for _, p := range w.clients {
		var whole []write
		for _, one := range p.writes {
			// An answer that is cut is one that does not come.
			answer, err := c.Do(http.MethodGet, one.path, nil)
			switch {
			case err == nil && answer.Status == http.StatusOK && bytes.Equal(answer.Body, one.content.Raw):
				whole = append(whole, one)
			case err == nil && answer.Status == http.StatusOK:
				wrong = append(wrong, fmt.Sprintf("%s has %d bytes, not %d", one.path, len(answer.Body), len(one.content.Raw)))
			case one.acked:
				lost = append(lost, fmt.Sprintf("%s: %d, %v", one.path, answer.Status, err))
			}
		}
		p.writes = whole
	}
	return lost, wrong
}
