package store

import (
	"context"
	"errors"
	"testing"
	"time"
)

const (
	fullText    = "disk full: 12 MiB of 1.0 GiB free, pushes need 32 MiB"
	canFreeText = fullText + "; 41 GiB can go: cubby gc --now"
)

// wantFull asks whether pushes are taken, and fails the test unless a full disk is the answer, in these words.
func wantFull(t *testing.T, s *Store, when, want string) {
	t.Helper()
	if err := s.Writable(); !errors.Is(err, ErrFull) || err.Error() != want {
		t.Errorf("%s: %v, want %s", when, err, want)
	}
}

// makeOld puts the last question, and the last answer, before now.
func (r *reclaim) makeOld(asked, found time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked, r.found = time.Now().Add(-asked), time.Now().Add(-found)
}

// answered waits for the answer to the last question.
func (r *reclaim) answered() {
	r.mu.Lock()
	answer := r.answer
	r.mu.Unlock()
	<-answer
}

// TestReclaimable: the error of a full disk tells what collection could free, asked for once a minute.
func TestReclaimable(t *testing.T) {
	s := open(t, testingOptions(t.TempDir()))
	r := &s.space.reclaim
	r.wait = time.Hour
	asked, fail := 0, make(chan error)
	s.SetReclaimable(func(context.Context) (int64, error) {
		if asked++; asked > 1 {
			return 0, <-fail
		}
		return 41 << 30, nil
	})
	fakeSpace(s, 300<<20)
	if err := s.Writable(); err != nil || asked > 0 {
		t.Fatalf("room: %v, asked %d times", err, asked)
	}
	fakeSpace(s, 12<<20)
	for range 3 {
		wantFull(t, s, "full", canFreeText)
	}
	if asked != 1 {
		t.Errorf("asked %d times, want once", asked)
	}
	r.makeOld(2*reclaimEvery, 2*reclaimEvery)
	wantFull(t, s, "a minute later", canFreeText) // without waiting for the second answer
	fail <- errors.New("busy")
	r.answered()
	if asked != 2 {
		t.Errorf("a minute later asked %d times, want twice", asked)
	}
	wantFull(t, s, "after an answer that failed", canFreeText)
	r.makeOld(0, reclaimKept)
	wantFull(t, s, "long after the last answer", fullText)
}

// TestReclaimableSlow: nobody waits for an answer that takes long, and there is one question at a time, which ends with
// the store.
func TestReclaimableSlow(t *testing.T) {
	s := open(t, testingOptions(t.TempDir()))
	r := &s.space.reclaim
	r.wait = time.Millisecond
	begun, ended := make(chan struct{}, 2), make(chan error, 2)
	s.SetReclaimable(func(ctx context.Context) (int64, error) {
		begun <- struct{}{}
		<-ctx.Done()
		ended <- context.Cause(ctx)
		return 0, ctx.Err()
	})
	fakeSpace(s, 12<<20)
	wantFull(t, s, "nothing is known", fullText)
	<-begun
	r.makeOld(2*reclaimEvery, 2*reclaimEvery)
	for range 3 {
		wantFull(t, s, "meanwhile", fullText)
	}
	if len(begun)+len(ended) > 0 {
		t.Errorf("%d questions were put and %d ended while the first had no answer", len(begun), len(ended))
	}
	shut(t, s)
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("the question ended with %v, want that the store was closed", err)
		}
	default:
		t.Error("the question outlived the store")
	}
	r.wait = time.Hour
	r.makeOld(2*reclaimEvery, 2*reclaimEvery)
	r.ask() // waits for nothing any more
}
