package store

import (
	"context"
	"sync"
	"time"
)

// A reclaim is what collection could free, for the error of a full disk.
type reclaim struct {
	wait time.Duration      // reclaimWait, but in tests
	asks chan chan struct{} // holds one, which is closed when it was answered

	mu     sync.Mutex
	find   func(context.Context) (int64, error) // nil: nobody can tell
	asked  time.Time                            // when it was last asked for
	answer chan struct{}                        // closed when that was answered
	bytes  int64                                // what find last said
	found  time.Time                            // when it said so
}

const (
	// reclaimEvery is how often a full disk makes the store ask what collection could free, which may walk all of it.
	reclaimEvery = time.Minute
	// reclaimMax bounds how long that may take.
	reclaimMax = 5 * time.Second
	// reclaimWait is how long a refused push waits for it while nothing is known: clients show the first error.
	reclaimWait = 500 * time.Millisecond
	// reclaimKept is how long an answer is told.
	reclaimKept = 10 * time.Minute
)

// SetReclaimable gives the store a function that returns how many bytes `cubby gc --now` would free, for the error of a
// full disk. It may be called at any time; the function is run in the background by one goroutine, for which Close waits.
func (s *Store) SetReclaimable(bytes func(context.Context) (int64, error)) {
	r := &s.space.reclaim
	r.mu.Lock()
	defer r.mu.Unlock()
	r.find = bytes
}

// ask makes tend find out what could be freed, unless it just did. Only while nothing is known it waits a moment for the
// answer. The writer's goroutine must not call it.
func (r *reclaim) ask() {
	r.mu.Lock()
	if r.find != nil && time.Since(r.asked) > reclaimEvery {
		answer := make(chan struct{})
		select {
		case r.asks <- answer:
			r.asked, r.answer = time.Now(), answer
		default: // the last one was not taken up yet
		}
	}
	answer := r.answer
	r.mu.Unlock()
	if answer == nil || r.known() > 0 {
		return
	}
	select {
	case <-answer:
	case <-time.After(r.wait):
	}
}

// known returns what could be freed, or 0 when that is not known or was long ago.
func (r *reclaim) known() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.found) > reclaimKept {
		return 0
	}
	return r.bytes
}

// tend finds out what is asked for, until ctx is done.
func (r *reclaim) tend(ctx context.Context, s *Store) {
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.find, r.answer = nil, nil // what Close writes must not wait for an answer
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case answer := <-r.asks:
			r.look(ctx, s)
			close(answer)
		}
	}
}

// look asks the function. What it said before stays when it fails.
func (r *reclaim) look(ctx context.Context, s *Store) {
	r.mu.Lock()
	find := r.find
	r.mu.Unlock()
	limited, cancel := context.WithTimeout(ctx, reclaimMax)
	defer cancel()
	n, err := find(limited)
	if err != nil {
		if ctx.Err() == nil {
			s.log.Warn("what collection could free is not known", "err", err)
		}
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bytes, r.found = n, time.Now()
}
