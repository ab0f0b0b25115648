package web

import (
	"context"
	"errors"
	"slices"
	"sync"
)

// errTurns says that a viewer waits for too much already.
var errTurns = errors.New("you have asked for more than is looked into at once; wait a moment and load this page again")

// turns let one work after the other, of all who wait each viewer by turns: who asks for much waits for himself.
type turns struct {
	most int // how many of one viewer may wait

	mu      sync.Mutex
	taken   bool                       // guarded by mu
	order   []string                   // guarded by mu; viewers who wait, the next first
	waiting map[string][]chan struct{} // guarded by mu; what is closed when it is their turn
}

// take waits for a viewer's turn. Call done at its end. Errors are those of ctx, and errTurns.
func (t *turns) take(ctx context.Context, viewer string) (done func(), err error) {
	t.mu.Lock()
	if !t.taken {
		t.taken = true
		t.mu.Unlock()
		return sync.OnceFunc(t.pass), nil
	}
	if len(t.waiting[viewer]) >= t.most {
		t.mu.Unlock()
		return nil, errTurns
	}
	if t.waiting == nil {
		t.waiting = make(map[string][]chan struct{})
	}
	mine := make(chan struct{})
	if len(t.waiting[viewer]) == 0 {
		t.order = append(t.order, viewer)
	}
	t.waiting[viewer] = append(t.waiting[viewer], mine)
	t.mu.Unlock()
	select {
	case <-mine:
		return sync.OnceFunc(t.pass), nil
	case <-ctx.Done():
	}
	if !t.leave(viewer, mine) { // it came at the same moment
		t.pass()
	}
	return nil, ctx.Err()
}

// leave takes somebody who gave up out of the queue, if he still is there.
func (t *turns) leave(viewer string, mine chan struct{}) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.Index(t.waiting[viewer], mine)
	if i < 0 {
		return false
	}
	if t.waiting[viewer] = slices.Delete(t.waiting[viewer], i, i+1); len(t.waiting[viewer]) == 0 {
		delete(t.waiting, viewer)
		t.order = slices.DeleteFunc(t.order, func(v string) bool { return v == viewer })
	}
	return true
}

// pass gives the turn to the next, who then stands behind all others.
func (t *turns) pass() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.order) == 0 {
		t.taken = false
		return
	}
	viewer := t.order[0]
	next := t.waiting[viewer][0]
	t.order = t.order[1:]
	if rest := t.waiting[viewer][1:]; len(rest) > 0 {
		t.waiting[viewer] = rest
		t.order = append(t.order, viewer)
	} else {
		delete(t.waiting, viewer)
	}
	close(next)
}
