package gc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cubby/store"
	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
)

// A fastClock makes a day of every collection, for all goroutines alike.
type fastClock struct{ seconds atomic.Int64 }

func (c *fastClock) Now() time.Time { return time.Unix(c.seconds.Load(), 0) }
func (c *fastClock) Uptime() (string, time.Duration, error) {
	return "boot", time.Duration(c.seconds.Load()) * time.Second, nil
}

// TestCollectWhilePushing: clients push, tag, mount and delete the same few digests while collection runs without a
// pause and keeps nothing. What was acknowledged under a tag is complete for as long as nobody deletes it (T-4).
func TestCollectWhilePushing(t *testing.T) {
	clock := &fastClock{}
	clock.seconds.Store(1_700_000_000)
	st, err := store.Open(t.Context(), store.Options{Dir: t.TempDir(), Role: store.RoleServe, Create: true, Now: clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	collector := NewCollector(st, slog.New(slog.DiscardHandler))
	collector.Timer = clock
	collector.Policy = keepNothing

	const workers, rounds = 6, 60
	ctx := context.WithoutCancel(t.Context())
	var failed atomic.Pointer[error]
	fail := func(err error) { failed.CompareAndSwap(nil, &err) }
	var pushing sync.WaitGroup
	for id := range workers {
		c := &client{ctx: ctx, st: st, id: id, random: rand.New(rand.NewPCG(uint64(id), 7))}
		pushing.Go(func() {
			for range rounds {
				if err := c.round(); err != nil {
					fail(fmt.Errorf("client %d: %w", c.id, err))
					return
				}
			}
		})
	}
	done := make(chan struct{})
	go func() {
		pushing.Wait()
		close(done)
	}()
	runs := 0
	for running := true; running; runs++ {
		select {
		case <-done:
			running = false
		default:
		}
		clock.seconds.Add(int64(25 * time.Hour / time.Second))
		if _, _, err := collector.Run(ctx, Request{Cause: "command", Force: true}); err != nil {
			t.Fatal(err)
		}
	}
	if err := failed.Load(); err != nil {
		t.Error(*err)
	}
	report, err := st.Check(ctx, true, nil)
	if err != nil || len(report.Problems) > 0 || report.Orphans > 0 {
		t.Errorf("check: %+v, %v", report, err)
	}
	t.Logf("%d collections beside %d pushes", runs, workers*rounds)
}

// A client owns its tags; the content it shares with the others.
type client struct {
	ctx    context.Context
	st     *store.Store
	id     int
	random *rand.Rand
}

// round pushes an image, tags it, and sees that it is whole. Being told to push again is part of the protocol.
func (c *client) round() error {
	repo := name(fmt.Sprint("r", c.random.IntN(2)))
	tagName := tag(fmt.Sprintf("c%d-%d", c.id, c.random.IntN(2)))
	config, layer := fmt.Sprint("config ", c.random.IntN(3)), fmt.Sprint("layer ", c.random.IntN(3))
	for _, content := range []string{config, layer} {
		if err := c.push(repo, content); err != nil {
			return err
		}
	}
	body := []byte(imageBody(sum([]byte(config)), "", sum([]byte(layer))))
	m, err := oci.ParseManifest(typeImage, body)
	if err != nil {
		return err
	}
	_, err = c.st.PutManifest(c.ctx, store.ManifestPut{Name: repo, Digest: sum(body), Manifest: m, Tags: []oci.Tag{tagName}, Sparse: store.SparseIndex})
	if errors.Is(err, store.ErrManifestBlobUnknown) {
		return nil // a day or more went by since the push
	}
	if err != nil {
		return err
	}
	if c.random.IntN(4) == 0 {
		return c.st.DeleteTag(c.ctx, repo, tagName, store.Condition{}, store.Actor{})
	}
	got, err := c.st.Manifest(c.ctx, repo, oci.Reference{Tag: tagName}, true)
	if err != nil {
		return fmt.Errorf("tag %s that was just acknowledged: %w", tagName, err)
	}
	if got.Digest != sum(body) {
		return fmt.Errorf("tag %s is at %s", tagName, got.Digest)
	}
	for _, content := range []string{config, layer} {
		b, err := c.st.OpenBlob(c.ctx, repo, sum([]byte(content)))
		if err != nil {
			return fmt.Errorf("blob of tag %s: %w", tagName, err)
		}
		b.Close()
	}
	return nil
}

// push asks for a blob first, like a real client, tries a mount, and uploads it if need be.
func (c *client) push(repo oci.Name, content string) error {
	dgst := sum([]byte(content))
	_, err := c.st.StatBlob(c.ctx, repo, dgst, true)
	if err == nil {
		return nil
	}
	if !errors.Is(err, store.ErrBlobUnknown) {
		return err
	}
	if err := c.st.MountBlob(c.ctx, name(fmt.Sprint("r", c.random.IntN(2))), repo, dgst); err == nil || !errors.Is(err, store.ErrBlobUnknown) {
		return err
	}
	id, err := c.st.StartUpload(repo, "p", digest.SHA256)
	if err != nil {
		return err
	}
	return c.st.FinishUpload(c.ctx, repo, "p", id, 0, strings.NewReader(content), dgst)
}
