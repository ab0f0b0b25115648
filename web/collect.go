package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"cubby/store"
)

// errRunning says that one collection at a time is enough.
var errRunning = errors.New("a collection that was started here is still under way")

// errWaiting says that a collection that runs must end first.
var errWaiting = errors.New("a collection runs at the moment; load this page again when it is done")

// A collection is the one that somebody started in a page, which goes on after the request that began it.
type collection struct {
	mu      sync.Mutex
	started time.Time // zero: there was none
	running bool
	now     bool // keep times ended
	done    int
	total   int
	plan    Plan
	err     error
	took    time.Duration
}

// collectData is what the page before a collection shows, and the list of past ones.
type collectData struct {
	Now     bool // the plan ends keep times
	Plan    Plan
	Shown   []PlanLine
	Problem string // why nothing can be collected
	Runs    []store.CollectionRun
	Running bool
	Next    time.Time
}

const runsShown = 30

// collectPage shows what a collection would do now. It is the plan that the collection goes by.
func (h *Handler) collectPage(w http.ResponseWriter, r *request) error {
	d := collectData{Now: r.URL.Query().Get("now") == "1"}
	h.run.mu.Lock()
	d.Running = h.run.running
	h.run.mu.Unlock()
	var err error
	if !d.Running {
		d.Plan, err = h.plan(r, d.Now)
	}
	if errors.Is(err, ErrRefused) || errors.Is(err, errWaiting) {
		d.Problem, err = sentence(err), nil
	}
	if err != nil {
		return err
	}
	d.Shown = d.Plan.Lines[:min(len(d.Plan.Lines), planShown)]
	if d.Runs, err = h.Store.Collections(r.Context(), runsShown); err != nil {
		return err
	}
	if h.Every > 0 && len(d.Runs) > 0 {
		d.Next = d.Runs[0].StartedAt.Add(h.Every)
	}
	v := h.view(w, r, "Collection", &d)
	v.Section = "storage"
	return h.render(w, r, http.StatusOK, "collect", v)
}

// planWait is how long a page waits for another collection to end before it plans one.
const planWait = 5 * time.Second

func (h *Handler) plan(r *request, now bool) (p Plan, err error) {
	err = h.unlessWaiting(r, func(ctx context.Context) (err error) {
		p, err = h.Collector.Plan(ctx, now)
		return err
	})
	return p, err
}

// unlessWaiting runs what has to wait while a collection runs, which may be for minutes.
func (h *Handler) unlessWaiting(r *request, run func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(r.Context(), planWait)
	defer cancel()
	err := run(ctx)
	if errors.Is(err, context.DeadlineExceeded) && r.Context().Err() == nil {
		return errWaiting
	}
	return err
}

// collect starts a collection and leads to the page that tells how it goes.
func (h *Handler) collect(w http.ResponseWriter, r *request) error {
	now := r.PostForm.Get("now") == "1"
	if err := h.start(now, r.PostForm.Get("plan"), r.actor()); err != nil {
		return err
	}
	redirect(w, r, "/-/storage/gc/running")
	return nil
}

func (h *Handler) start(now bool, fingerprint string, by store.Actor) error {
	h.run.mu.Lock()
	defer h.run.mu.Unlock()
	if h.run.running {
		return errRunning
	}
	if h.ctx.Err() != nil {
		return fmt.Errorf("%w: the server is stopping", store.ErrReadOnly)
	}
	h.run.started, h.run.running, h.run.now = h.now(), true, now
	h.run.done, h.run.total, h.run.plan, h.run.err = 0, 0, Plan{}, nil
	h.working.Go(func() {
		var plan Plan
		err := guarded(func() (err error) {
			plan, err = h.Collector.Collect(h.ctx, now, fingerprint, by, func(done, total int) {
				h.run.mu.Lock()
				defer h.run.mu.Unlock()
				h.run.done, h.run.total = done, total
			})
			return err
		})
		if err != nil && !errors.Is(err, ErrRefused) && !errors.Is(err, ErrPlanChanged) {
			h.Log.Error("collection that a page started failed", "err", err)
		}
		h.run.mu.Lock()
		defer h.run.mu.Unlock()
		h.forgetKept()
		h.run.running, h.run.plan, h.run.err, h.run.took = false, plan, err, h.now().Sub(h.run.started)
	})
	return nil
}

// collectionData is what the page of one collection shows.
type collectionData struct {
	Running     bool
	Started     time.Time
	Done, Total int
	Now         bool
	Plan        Plan // of the one that was started here, when it is done
	Shown       []PlanLine
	Problem     string
	Took        time.Duration
	Run         *store.CollectionRun // of a past one
}

// refreshEvery is after how many seconds the page of a running collection loads itself again, also without JavaScript.
const refreshEvery = "2"

func (h *Handler) collectionPage(w http.ResponseWriter, r *request) error {
	var d collectionData
	title := "Collection"
	if r.route.id > 0 {
		run, err := h.Store.Collection(r.Context(), r.route.id)
		if err != nil {
			return err
		}
		d.Run, d.Started, d.Took = &run, run.StartedAt, run.Duration
	} else {
		h.run.mu.Lock()
		if h.run.started.IsZero() {
			h.run.mu.Unlock()
			return store.ErrCollectionUnknown
		}
		d = collectionData{Running: h.run.running, Started: h.run.started, Done: h.run.done, Total: h.run.total, Now: h.run.now, Plan: h.run.plan, Took: h.run.took}
		if err := h.run.err; err != nil {
			d.Problem = sentence(err)
			if errors.Is(err, ErrPlanChanged) {
				d.Problem = sentence(ErrPlanChanged)
			} else if !errors.Is(err, ErrRefused) && !errors.Is(err, context.Canceled) {
				d.Problem = "It failed; the server has logged why."
			}
		}
		h.run.mu.Unlock()
		d.Shown = d.Plan.Lines[:min(len(d.Plan.Lines), planShown)]
	}
	if d.Running {
		title = "Collecting"
		w.Header().Set("Refresh", refreshEvery)
	}
	v := h.view(w, r, title, &d)
	v.Section = "storage"
	return h.render(w, r, http.StatusOK, "collection", v)
}
