//go:build faults

package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"testing"
	"time"

	"cubby/scripts/process"
)

// A pulled is how pulls of a small image went, each on connections of its own.
type pulled struct {
	times  []time.Duration
	failed []error
}

func (p pulled) p99() time.Duration {
	if len(p.times) == 0 {
		return 0
	}
	slices.Sort(p.times)
	return p.times[len(p.times)*99/100]
}

const (
	pullEvery = 20 * time.Millisecond
	pullMax   = 30 * time.Second // of one request
)

// pullUntil pulls an image as a client does that knows nothing of others, until ctx is done.
func pullUntil(ctx context.Context, url, name, tag string, image process.Content, headers ...string) (p pulled) {
	next := time.NewTicker(pullEvery)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return p
		case <-next.C:
		}
		began := time.Now()
		if err := pullOnce(url, name, tag, image, headers); err != nil {
			p.failed = append(p.failed, err)
			continue
		}
		p.times = append(p.times, time.Since(began))
	}
}

// pullOnce comes from another address than the attackers, as others do.
func pullOnce(url, name, tag string, image process.Content, headers []string) error {
	c := process.NewClient(url)
	defer c.Close()
	c.HTTP.Timeout = pullMax
	c.HTTP.Transport.(*http.Transport).DialContext = (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}).DialContext
	paths := map[string]string{"manifests/" + tag: image.Digest}
	for _, dgst := range image.Names {
		paths["blobs/"+dgst] = dgst
	}
	for path, dgst := range paths {
		answer, err := c.Ask(http.MethodGet, "/v2/"+name+"/"+path, nil, headers, http.StatusOK)
		if err != nil {
			return err
		}
		if got := process.Digest(answer.Body); got != dgst {
			return fmt.Errorf("%s: got %s, want %s", path, got, dgst)
		}
	}
	return nil
}

// whilePulling pulls an image while attack runs, which ends when its context is done, and returns how that went.
func whilePulling(t *testing.T, limit time.Duration, pull func(context.Context) pulled, attack func(context.Context) error) pulled {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- attack(ctx) }()
	p := pull(ctx)
	if err := <-done; err != nil {
		t.Error(err)
	}
	return p
}
