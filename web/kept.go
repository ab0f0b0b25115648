package web

import (
	"context"
	"errors"
	"sync"
	"time"
)

// A keptView is what is kept for undo, as the storage page shows it.
type keptView struct {
	At      time.Time // when that was found out; zero: not yet
	Problem string    // why nobody can tell
	Bytes   int64
	Until   time.Time
	Lines   []PlanLine // the first of what is kept
	More    int        // of them
}

// kept remembers the plan of a collection for the storage page: making one looks at everything that has no tag, which
// may take a second where there is much.
type kept struct {
	mu    sync.Mutex
	view  keptView
	ready chan struct{} // closed when the look that is under way is done; nil when there is none
}

const (
	// keptFor is how long a plan is shown without making a new one.
	keptFor = 30 * time.Second
	// keptWait is how long a page waits for the plan, and keptLines how many of its lines it shows.
	keptWait  = 300 * time.Millisecond
	keptLines = 20
)

// whatIsKept returns what is kept for undo. In a large store the first answer may be that it is not known yet.
func (h *Handler) whatIsKept(ctx context.Context) keptView {
	h.kept.mu.Lock()
	age := h.now().Sub(h.kept.view.At)
	if h.kept.ready == nil && (age < 0 || age > keptFor) && h.ctx.Err() == nil {
		h.kept.ready = make(chan struct{})
		h.working.Go(h.lookAtKept)
	}
	ready := h.kept.ready
	h.kept.mu.Unlock()
	if ready != nil {
		wait, cancel := context.WithTimeout(ctx, keptWait)
		defer cancel()
		select {
		case <-ready:
		case <-wait.Done():
		}
	}
	h.kept.mu.Lock()
	defer h.kept.mu.Unlock()
	return h.kept.view
}

func (h *Handler) lookAtKept() {
	var plan Plan
	err := guarded(func() (err error) {
		plan, err = h.Collector.Plan(h.ctx, false)
		return err
	})
	v := keptView{At: h.now(), Bytes: plan.Kept, Until: plan.KeptUntil}
	switch {
	case errors.Is(err, ErrRefused), errors.Is(err, context.Canceled):
		v.Problem = sentence(err)
	case err != nil:
		h.Log.Error("plan of a collection failed", "err", err)
		v.Problem = "Nobody can tell what is kept; the server has logged why."
	}
	for _, l := range plan.Lines {
		switch {
		case l.Remove || l.Until.IsZero():
		case len(v.Lines) < keptLines:
			v.Lines = append(v.Lines, l)
		default:
			v.More++
		}
	}
	h.kept.mu.Lock()
	defer h.kept.mu.Unlock()
	h.kept.view = v
	close(h.kept.ready)
	h.kept.ready = nil
}

// forgetKept makes the next look at what is kept a new one, because something was removed or restored here.
func (h *Handler) forgetKept() {
	h.kept.mu.Lock()
	defer h.kept.mu.Unlock()
	h.kept.view.At = time.Time{}
}
