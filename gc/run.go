package gc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"cubby/gc/policy"
	"cubby/store"
	"cubby/store/oci"
)

// A Collector runs collections of one store, one at a time.
type Collector struct {
	Store *store.Store
	Timer Timer
	Log   *slog.Logger
	// Policy returns what is in force, or why nobody can know; then collection is refused. nil: no policy.
	Policy func(context.Context) (*policy.Policy, error)

	// turn holds one token: who has it collects.
	turn chan struct{}
}

// NewCollector returns a collector with the machine's clock.
func NewCollector(st *store.Store, log *slog.Logger) *Collector {
	c := &Collector{Store: st, Timer: SystemTimer{}, Log: log, turn: make(chan struct{}, 1)}
	c.turn <- struct{}{}
	return c
}

// A Request is a collection that somebody asked for.
type Request struct {
	Cause  string // "schedule" or "command", for the log
	DryRun bool   // plan only
	Force  bool   // also with an implausible clock
	// Repository is the only one from which anything goes; zero: from all.
	Repository oci.Name
	// Policy is tried in a dry run instead of what is in force; nil: what is.
	Policy *policy.Policy
	// End ends keep times, and leases older than an hour, in these repositories. nil: none.
	End func(oci.Name) bool

	// Agree is asked whether to carry out the plan; an error ends it, and nothing is recorded. nil: yes.
	Agree    func(*Plan) error
	Waiting  func()                // told when another collection runs first; may be nil
	Planned  func(*Plan)           // told what will be done; may be nil
	Progress func(done, total int) // may be nil
}

// Run plans, and unless it is a dry run executes and records it. A refusal wraps ErrRefused.
func (c *Collector) Run(ctx context.Context, q Request) (*Plan, Result, error) {
	if err := c.takeTurn(ctx, q.Waiting); err != nil {
		return nil, Result{}, err
	}
	defer func() { c.turn <- struct{}{} }()
	start := c.Timer.Now()
	began := time.Now()
	plan, result, err := c.run(ctx, q)
	if q.DryRun || errors.Is(err, errNotAgreed) {
		return plan, result, err
	}
	run := store.CollectionRun{
		StartedAt: start, Duration: time.Since(began), Cause: q.Cause, Outcome: "done",
		Tags: result.Tags, Manifests: result.Manifests, Blobs: result.Blobs, Bytes: result.Bytes,
	}
	switch {
	case errors.Is(err, ErrRefused):
		run.Outcome, run.Reason = "refused", err.Error()
		c.Log.Error("collection refused", "err", err)
	case err != nil:
		run.Outcome, run.Reason = "failed", err.Error()
		c.Log.Error("collection failed", "err", err)
	default:
		c.Log.Info("collected", "tags", result.Tags, "manifests", result.Manifests, "blobs", result.Blobs, "bytes", result.Bytes, "dur", run.Duration.String())
	}
	if logErr := c.Store.LogCollection(run); logErr != nil {
		err = errors.Join(err, fmt.Errorf("record collection: %w", logErr))
	}
	return plan, result, err
}

func (c *Collector) takeTurn(ctx context.Context, waiting func()) error {
	select {
	case <-c.turn:
		return nil
	default:
	}
	if waiting != nil {
		waiting()
	}
	select {
	case <-c.turn:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *Collector) run(ctx context.Context, q Request) (*Plan, Result, error) {
	if err := c.Store.CheckSentinel(); err != nil {
		return nil, Result{}, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	rules, err := c.policy(ctx)
	if q.Policy != nil && q.DryRun {
		rules, err = q.Policy, nil
	}
	if err != nil {
		return nil, Result{}, err
	}
	reason, err := ObserveClock(ctx, c.Store, c.Timer, q.Force, !q.DryRun)
	if err != nil {
		return nil, Result{}, err
	}
	if reason != "" && !q.Force {
		return nil, Result{}, fmt.Errorf("%w: %s; if the clock is right now, run cubby gc --force", ErrRefused, reason)
	}
	if !q.DryRun {
		// What clients asked for in the last seconds counts.
		if err := c.Store.FlushUses(); err != nil {
			return nil, Result{}, err
		}
	}
	plan, err := NewPlan(ctx, c.Store, Options{Now: c.Timer.Now(), Policy: rules, Repository: q.Repository, End: q.End, KeptTags: q.DryRun})
	if err != nil {
		return nil, Result{}, err
	}
	if q.Planned != nil {
		q.Planned(plan)
	}
	if q.DryRun {
		return plan, Result{}, nil
	}
	if q.Agree != nil {
		if err := q.Agree(plan); err != nil {
			return plan, Result{}, fmt.Errorf("%w: %w", errNotAgreed, err)
		}
	}
	result, err := plan.Execute(ctx, c.Store, q.Progress)
	return plan, result, err
}

// Reclaimable returns how many bytes a collection without keep times (`cubby gc --now`) would free.
func (c *Collector) Reclaimable(ctx context.Context) (bytes int64, err error) {
	rules, err := c.policy(ctx)
	if err != nil {
		return 0, err
	}
	plan, err := NewPlan(ctx, c.Store, Options{Now: c.Timer.Now(), Policy: rules, End: func(oci.Name) bool { return true }})
	if err != nil {
		return 0, err
	}
	return plan.Frees, nil
}

// errNotAgreed says that whoever asked for a collection does not want what it would do.
var errNotAgreed = errors.New("nothing was collected")

// policy returns what is in force. Without knowing it, what it keeps or protects would go.
func (c *Collector) policy(ctx context.Context) (*policy.Policy, error) {
	if c.Policy == nil {
		return nil, nil
	}
	p, err := c.Policy(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return p, nil
}

// Remove plans to remove tags at once, and does it when agree returns nil, telling each of every tag whether it went. No
// collection runs meanwhile. By age only while the clock is plausible.
func (c *Collector) Remove(ctx context.Context, s Selection, by store.Actor, agree func(*Removal) error, each func(t TagItem, gone bool)) error {
	if err := c.takeTurn(ctx, nil); err != nil {
		return err
	}
	defer func() { c.turn <- struct{}{} }()
	rules, err := c.policy(ctx)
	if err != nil {
		return err
	}
	if s.Pushed > 0 {
		reason, err := ObserveClock(ctx, c.Store, c.Timer, false, false)
		if err != nil {
			return err
		}
		if reason != "" {
			return fmt.Errorf("%w: %s; nothing is removed by age until then", ErrRefused, reason)
		}
	}
	removal, err := PlanRemoval(ctx, c.Store, c.Timer.Now(), rules, s)
	if err != nil {
		return err
	}
	if err := agree(removal); err != nil {
		return err
	}
	return removal.Execute(ctx, c.Store, by, each)
}

const (
	// tick is how often the schedule and the clock are looked at.
	tick = 10 * time.Minute
	// firstTick is how long a server settles before the first look.
	firstTick = time.Minute
)

// Schedule collects whenever the last run is at least every ago, until ctx is done. It goes by the recorded runs, so
// a machine that is off at night still cleans.
func (c *Collector) Schedule(ctx context.Context, every time.Duration) {
	timer := time.NewTimer(firstTick)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if err := c.scheduled(ctx, every); err != nil && ctx.Err() == nil && !errors.Is(err, ErrRefused) {
			c.Log.Error("scheduled collection", "err", err)
		}
		timer.Reset(tick)
	}
}

func (c *Collector) scheduled(ctx context.Context, every time.Duration) error {
	last, err := c.Store.Collections(ctx, 1)
	if err != nil {
		return err
	}
	// A clock that went back makes the last run lie in the future; the run refuses and says so.
	if since := c.Timer.Now(); len(last) > 0 && !last[0].StartedAt.After(since) && since.Sub(last[0].StartedAt) < every {
		_, err := ObserveClock(ctx, c.Store, c.Timer, false, true)
		return err
	}
	_, _, err = c.Run(ctx, Request{Cause: "schedule"})
	return err
}
